"""What is brought about by other means where a target has no switch for it: by words to the model, or on the reply."""

from __future__ import annotations

import re
from typing import Literal

from .base import Call
from .tool_choice import Choice

JSON_ONLY = "Answer with one JSON object and nothing else: no words before or after it, and no code fence around it."

OPENING = re.compile(r"\s*(`{1,2}|```\s*\w*\s*)?")
CLOSING = re.compile(r"\s*`{0,3}\s*")
"""What is, or may yet become, a code fence before and behind an object."""


def single_call(call: Call) -> bool:
    """Whether only the first tool call of a turn is kept of the reply to *call*: what the client asks for with
    `parallel_tool_calls: false`, and not every target and model obeys. The model will ask again for the others."""
    return call.body.get("parallel_tool_calls") is False and call.unsupported != "drop"


def json_only(call: Call) -> bool:
    """Whether *call* asks for a JSON object of no schema, so that a fence around it is none of the answer."""
    text = call.body.get("text")
    format = text.get("format") if isinstance(text, dict) else None
    return isinstance(format, dict) and format.get("type") == "json_object" and call.unsupported != "drop"


def call_wanted(choice: Choice) -> str:
    """An instruction to call the tool that *choice* forces, or any of them."""
    which = f"the tool `{choice.forced}`" if choice.forced else "one of your tools"
    return f"Call {which} now, and do not answer in words alone."


class Unfenced:
    """Takes the code fence off a text that is one JSON object, as it comes in pieces.

    Only what may be a fence is held back: before the object and behind it. Any other text is given as it comes.
    """

    def __init__(self) -> None:
        self.place: Literal["before", "inside", "behind", "free"] = "before"
        """Where the next piece stands: around or inside the object, or in a text that is none."""
        self.held = ""
        self.depth = 0
        self.quoted = self.escaped = False

    def feed(self, text: str) -> str:
        """What *text* brings of the answer."""
        if self.place == "before":
            return self._before(text)
        if self.place == "inside":
            return self._inside(text)
        return self._behind(text) if self.place == "behind" else text

    def close(self) -> str:
        """What was held back and belongs to the answer after all. What is fed from now on is another text."""
        rest, self.held = self.held, ""
        fence = self.place == "behind" and CLOSING.fullmatch(rest) is not None
        self.place = "before"
        return "" if fence else rest

    def _before(self, text: str) -> str:
        self.held += text
        fence, brace, rest = self.held.partition("{")
        if not OPENING.fullmatch(fence):
            return self._all()
        if not brace:
            return ""
        self.place, self.held, self.depth = "inside", "", 0
        self.quoted = self.escaped = False
        return self._inside(brace + rest)

    def _inside(self, text: str) -> str:
        """Gives *text* up to the object's end."""
        for at, char in enumerate(text):
            if self.escaped:
                self.escaped = False
            elif self.quoted:
                self.escaped, self.quoted = char == "\\", char != '"'
            elif char == '"':
                self.quoted = True
            elif char in "{}":
                self.depth += 1 if char == "{" else -1
                if self.depth == 0:
                    self.place = "behind"
                    return text[: at + 1] + self._behind(text[at + 1 :])
        return text

    def _behind(self, text: str) -> str:
        self.held += text
        return "" if CLOSING.fullmatch(self.held) else self._all()

    def _all(self) -> str:
        """What was held back, and from now on everything."""
        text, self.held = self.held, ""
        self.place = "free"
        return text
