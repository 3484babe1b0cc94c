"""Takes one string member out of a JSON object that arrives in pieces, without waiting for its end.

A free-text tool is offered to upstreams without such tools as a function `{"input": string}`. The model's answer is
JSON text, cut anywhere; this decoder gives the string's characters as soon as they are certain. A model may also write
something else: what that was is known at the end, and `rest` makes the best of it.
"""

from __future__ import annotations

import re

import msgspec

from .json_scan import tree

SIMPLE_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
PLAIN = re.compile(r'[^"\\]+')
UNICODE_ESCAPE = re.compile(r"\\u[0-9a-fA-F]{4}")
REPLACEMENT = "\ufffd"
LONGEST_OPENING = 1000  # characters up to the string; what needs more is read at its end


class StringMember:
    """`feed` takes JSON text in pieces and returns what has become known of the string member *name*."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.opening = re.compile(r'^\s*\{\s*"%s"\s*:\s*"' % re.escape(name))
        self.pending = ""
        self.later: list[str] = []
        self.inside = False
        self.ended = False
        self.high_surrogate = ""

    def feed(self, text: str) -> str:
        """More JSON text in; more of the string out, possibly nothing yet."""
        if self.ended:
            return ""
        if not self.inside and len(self.pending) > LONGEST_OPENING:
            self.later.append(text)
            return ""
        self.pending += text
        if not self.inside and not self._enter():
            return ""
        return "".join(self._characters())

    def rest(self) -> str:
        """What is left when no more text comes.

        Of a string that was cut off that is nothing but an unpaired surrogate. Where no string had begun it is the
        member of an object that has it later or as another type (as JSON text), or else the whole text.
        """
        if self.ended or self.inside:
            return self._unpaired()
        self.ended = True
        self.pending += "".join(self.later)
        try:
            value = tree(self.pending)
        except ValueError:
            return self.pending
        if not isinstance(value, dict):
            return value if isinstance(value, str) else self.pending
        if self.name not in value:
            return self.pending if value else ""
        found = value[self.name]
        return found if isinstance(found, str) else msgspec.json.encode(found).decode()

    def _enter(self) -> bool:
        match = self.opening.match(self.pending)
        if match is None:
            return False
        self.inside, self.pending = True, self.pending[match.end() :]
        return True

    def _characters(self) -> list[str]:
        found: list[str] = []
        at, text = 0, self.pending
        while at < len(text):
            if plain := PLAIN.match(text, at):
                found += self._unpaired(), plain.group()
                at = plain.end()
            elif text[at] == '"':
                found.append(self._unpaired())
                self.ended, at = True, len(text)
            else:
                length = 6 if text[at + 1 : at + 2] == "u" else 2
                if at + length > len(text):
                    break
                found.append(self._escape(text[at : at + length]))
                at += length
        self.pending = text[at:]
        return found

    def _unpaired(self) -> str:
        """A high surrogate whose other half did not follow is no character."""
        lost, self.high_surrogate = self.high_surrogate, ""
        return REPLACEMENT if lost else ""

    def _escape(self, escape: str) -> str:
        if UNICODE_ESCAPE.fullmatch(escape) is None:
            return self._unpaired() + SIMPLE_ESCAPES.get(escape[1], escape)
        unit = chr(int(escape[2:], 16))
        if self.high_surrogate and "\udc00" <= unit <= "\udfff":
            pair, self.high_surrogate = self.high_surrogate + unit, ""
            return pair.encode("utf-16", "surrogatepass").decode("utf-16")
        before = self._unpaired()
        if "\ud800" <= unit <= "\udbff":
            self.high_surrogate = unit
            return before
        return before + (REPLACEMENT if "\udc00" <= unit <= "\udfff" else unit)
