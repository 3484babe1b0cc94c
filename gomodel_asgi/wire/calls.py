"""The items of calls, and the table of how each type of item is written.

A free-text tool is offered to upstreams without such tools as a function `{"input": string}`. The model's answer is
JSON text, cut anywhere; `StringMember` returns the string's characters as soon as they are certain. A model may also
write something else: what that was is known at the end, and `rest` makes the best of it.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from .items import TEXT_OF_ITEM, DeltaFrame, Item, Json, Message, Reasoning, Writer, checked, delta_frame
from .json_scan import tree


class Call(Item):
    """An item with a text of its own: the arguments, the input or the code of a call."""

    def __init__(self, writer: Writer, index: int, value: Json, /, **event: Any) -> None:
        self.kind = TEXT_OF_ITEM[value["type"]]
        self.frame: DeltaFrame | None = None
        self.pieces: list[str] = []
        self.text_ended = False
        """Whether its text has ended."""
        super().__init__(writer, index, value, **event)

    @property
    def owned(self) -> tuple[str, ...]:
        """The member that holds its text, once some has come."""
        return (self.kind.field,) if self.pieces or self.text_ended else ()

    def text(self, delta: str, /, **event: Any) -> None:
        """Adds to its text.

        :raises TypeError: *delta* is no text.
        """
        if not checked(delta):
            return
        self.pieces.append(delta)
        if event:
            self.emit(self.kind.delta, **self.where, delta=delta, **event)
            return
        if self.frame is None:
            self.frame = delta_frame(self.kind.delta, self.where)
        self.writer.delta(self.frame, delta)

    def end_text(self, /, **event: Any) -> None:
        """Ends its text; further calls do nothing."""
        if not self.text_ended:
            self.text_ended = True
            text = self.value[self.kind.field] = "".join(self.pieces)
            self.emit(self.kind.done, **self.where, **{self.kind.field: text}, **event)

    def finish(self) -> None:
        """Ends its text, if it has any."""
        if self.pieces:
            self.end_text()

    def settle(self) -> None:
        """Makes `value` hold the text that has come, without events."""
        if self.pieces:
            self.value[self.kind.field] = "".join(self.pieces)
        super().settle()


class ClientCall(Call):
    """A call that the client answers: its text is written in any case, also an empty one."""

    def __init__(self, writer: Writer, index: int, value: Json, /, **event: Any) -> None:
        super().__init__(writer, index, value | {TEXT_OF_ITEM[value["type"]].field: ""}, **event)

    def finish(self) -> None:
        """Ends its text, also an empty one."""
        self.end_text()


class FunctionCall(ClientCall):
    """A call of a function tool; missing arguments are `{}`."""

    def arguments(self, delta: str) -> None:
        """Adds to the arguments' JSON text."""
        self.text(delta)

    def end_text(self, /, **event: Any) -> None:
        """Ends the arguments; missing ones become `{}`."""
        if not self.text_ended and not "".join(self.pieces).strip():
            self.text("{}")
        super().end_text(**{"name": self.value["name"], **event})


class CustomCall(ClientCall):
    """A call of a free-text tool. An upstream without such tools was given a function with one string member, `input`:
    its arguments are JSON text, out of which the string is taken as it comes."""

    def __init__(self, writer: Writer, index: int, value: Json, /, **event: Any) -> None:
        super().__init__(writer, index, value, **event)
        self.input = StringMember("input")

    def arguments(self, delta: str) -> None:
        """Adds to the wrapping function's arguments."""
        self.text(self.input.feed(checked(delta)))

    def finish(self) -> None:
        """Ends the input with what was still uncertain."""
        self.text(self.input.rest())
        super().finish()


class SearchCall(Item):
    """A search for deferred tools that the client runs. The upstream was given a function: its arguments are an object
    in the item, which no event shows before it is whole."""

    def __init__(self, writer: Writer, index: int, value: Json, **event: Any) -> None:
        super().__init__(writer, index, {"execution": "client", "arguments": {}, **value}, **event)
        self.pieces: list[str] = []

    def arguments(self, delta: str) -> None:
        """Adds to the arguments' JSON text."""
        self.pieces.append(checked(delta))

    def finish(self) -> None:
        """Puts the arguments into the item; text that is no object stands in `raw_arguments`."""
        if not self.pieces:
            return
        text = "".join(self.pieces)
        try:
            arguments = tree(text or "{}")
        except ValueError:
            arguments = None
        self.value["arguments"] = arguments if isinstance(arguments, dict) else {"raw_arguments": text}


AnyCall = FunctionCall | CustomCall | SearchCall
"""A call of a tool that the upstream was given as a function."""


CLASSES: dict[str, type[Item]] = {
    "message": Message,
    "reasoning": Reasoning,
    "function_call": FunctionCall,
    "custom_tool_call": CustomCall,
    "mcp_call": Call,
    "code_interpreter_call": Call,
}
"""How items are written, by their type; all others are `Item`s."""
CLIENT_CALLS = frozenset(
    {"apply_patch_call", "computer_call", "custom_tool_call", "function_call", "local_shell_call", "shell_call"}
)
"""Calls that a client answers, by their `call_id`."""
PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "code_interpreter_call": "ci",
    "compaction": "cmp",
    "file_search_call": "fs",
    "image_generation_call": "ig",
    "mcp_approval_request": "mcpr",
    "mcp_call": "mcp",
    "mcp_list_tools": "mcpl",
    "tool_search_call": "tsc",
    "web_search_call": "ws",
}
"""What ids begin with, by the item's type."""


# One string member of a JSON object that arrives in pieces.


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
        """Takes more JSON text. Returns what it adds to the string, possibly nothing yet."""
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
        """Returns what is left when no more text comes.

        A string that was cut off leaves at most an unpaired surrogate. Where no string has begun it is the member of an
        object that has it later or as another type (as JSON text), or else the whole text.
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
        unpaired, self.high_surrogate = self.high_surrogate, ""
        return REPLACEMENT if unpaired else ""

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
