"""What is brought about by other means where a target has no switch for it: by words to the model, or on the reply."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Literal

from .base import NOTHING_SHOWN, Call, ShownFunctions, payload_in
from .content import Audio, Content, File, Image, Json, Opaque, Text
from .hosted_items import ALL, FAMILY_OF, HOSTED_CALLS, RESPONSE, compact, kind_of, replayed, words
from .members import Choice
from .unsupported import FOREIGN_COMPACTION, ITEMS_AS_TEXT, MEDIA_OF_TOOLS, UNKNOWN_ITEM, Unsupported
from .values import objects, string_in, strings

JSON_ONLY = "Answer with one JSON object and nothing else: no words before or after it, and no code fence around it."

OPENING = re.compile(r"\s*(`{1,2}|```\s*\w*\s*)?")
CLOSING = re.compile(r"\s*`{0,3}\s*")
"""What is, or may yet become, a code fence before and behind an object."""


def single_call(call: Call) -> bool:
    """Returns whether only the first tool call of a turn is kept of the reply to *call*.

    The client asks for that with `parallel_tool_calls: false`, which not every model obeys. The model will ask again
    for the other calls.
    """
    return call.body.get("parallel_tool_calls") is False and call.unsupported != "drop"


def json_only(call: Call) -> bool:
    """Returns whether *call* asks for a JSON object without a schema. A code fence around it is then no part of the
    answer."""
    text = call.body.get("text")
    format = text.get("format") if isinstance(text, dict) else None
    return isinstance(format, dict) and format.get("type") == "json_object" and call.unsupported != "drop"


def call_wanted(choice: Choice) -> str:
    """Returns an instruction to call the tool that *choice* forces, or any tool."""
    which = f"the tool `{choice.forced}`" if choice.forced else "one of your tools"
    return f"Call {which} now, and do not answer in words alone."


class Unfenced:
    """Takes the code fence off a text that is one JSON object, as it comes in pieces.

    Only what may be a fence is held back: before the object and behind it. Any other text passes as it comes.
    """

    def __init__(self) -> None:
        self.place: Literal["before", "inside", "behind", "free"] = "before"
        """Where the next piece stands: around or inside the object, or in a text that is none."""
        self.pending = ""
        self.depth = 0
        self.quoted = self.escaped = False

    def feed(self, text: str) -> str:
        """Returns what *text* adds to the answer."""
        if self.place == "before":
            return self._before(text)
        if self.place == "inside":
            return self._inside(text)
        return self._after(text) if self.place == "behind" else text

    def close(self) -> str:
        """Returns what was held back and belongs to the answer after all. The next `feed` begins another text."""
        rest, self.pending = self.pending, ""
        fence = self.place == "behind" and CLOSING.fullmatch(rest) is not None
        self.place = "before"
        return "" if fence else rest

    def _before(self, text: str) -> str:
        self.pending += text
        fence, brace, rest = self.pending.partition("{")
        if not OPENING.fullmatch(fence):
            return self._all()
        if not brace:
            return ""
        self.place, self.pending, self.depth = "inside", "", 0
        self.quoted = self.escaped = False
        return self._inside(brace + rest)

    def _inside(self, text: str) -> str:
        """Returns *text* up to the object's end."""
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
                    return text[: at + 1] + self._after(text[at + 1 :])
        return text

    def _after(self, text: str) -> str:
        self.pending += text
        return "" if CLOSING.fullmatch(self.pending) else self._all()

    def _all(self) -> str:
        """Returns what was held back; all further text passes."""
        text, self.pending = self.pending, ""
        self.place = "free"
        return text


# Items of tools that a target does not have, as text: the question and the result.
#
# History must never refuse a request, and a model that does not see what it has found searches again. What an item
# lacks is left out, whatever it holds in its place: these are the client's own words.


SILENT = frozenset(
    {"mcp_list_tools", "compaction_trigger", "configuration_update", "ghost_snapshot", "additional_tools"}
)
"""Types that only tell what was offered or set: a model that lacks them is none the wiser."""

HIDDEN = frozenset({"id", "type", "status", "call_id", "encrypted_content", "created_by", "result"})
"""Members of an item of unknown type that say nothing to a model, or are binary."""


def item_as_text(part: Opaque, unsupported: Unsupported) -> Text | None:
    """Returns *part* as text of the assistant's, None where it says nothing or is left out.

    :raises InvalidRequest: its type is unknown, and emulations are refused.
    """
    if part.type in COMPACTIONS:
        return _compaction(part, unsupported)
    describe = DESCRIPTIONS.get(part.type)
    if describe is None and part.type not in SILENT:
        if not unsupported.emulates(UNKNOWN_ITEM, f"{part.path}.type", f"items of type `{part.type[:64]}`"):
            return None
        describe = _unknown
    text = describe(part.value) if describe is not None else ""
    if not text:
        unsupported.leave_out(ITEMS_AS_TEXT, part.path)
    return Text(part.path, f"[{text}]") if text else None


def placeholder(part: Content, path: str, what: str, unsupported: Unsupported) -> Text | None:
    """Returns text that stands for media which the target cannot take, None where it is left out.

    It is media of a tool's or of the assistant's; *path* and *what* say what cannot be taken.

    :raises InvalidRequest: emulations are refused.
    """
    if not unsupported.emulates(MEDIA_OF_TOOLS, path, what):
        return None
    kind = "image" if isinstance(part, Image) else "audio" if isinstance(part, Audio) else "file"
    name = part.url if isinstance(part, (Image, File)) and part.url else getattr(part, "filename", None)
    return Text(part.path, f"[{kind}{f' {name}' if name else ''}: cannot be shown to this model]")


def in_messages(items: list[Any], shown: ShownFunctions = NOTHING_SHOWN, unread: frozenset[str] = ALL) -> list[Any]:
    """Returns *items* for an upstream that reads items itself, but none of hosted tools of the families *unread*.

    These become messages, and those of tools that are *shown* calls of their functions.
    """
    found = []
    for _, item in replayed(items, shown, unread):
        readable = as_message(item) if FAMILY_OF.get(kind_of(item)) in unread else item
        if readable is not None:
            found.append(readable)
    return found


def as_message(item: Json) -> Json | None:
    """Returns a message that describes *item*, whose type is a string; None where it says nothing."""
    kind = item["type"]
    if kind.endswith("_output") or kind == RESPONSE:
        return _message("user", "input_text", output_as_text(item))
    words = item_as_text(Opaque("input", kind, item), Unsupported("auto"))
    return None if words is None else _message("assistant", "output_text", words.text)


def _message(role: str, type: str, text: str) -> Json:
    return {"type": "message", "role": role, "content": [{"type": type, "text": text}]}


# One function for each type: a sentence without its full stop, empty where there is nothing to tell...


def _action(label: str) -> Callable[[Json], str]:
    """An item whose `action` or `operation` says what was done."""

    def words(item: Json) -> str:
        action = item.get("action") or item.get("actions") or item.get("operation")
        command = action.get("command") or action.get("commands") if isinstance(action, dict) else None
        lines = strings(command)
        return _labelled(label, " ".join(lines) or compact(action)) if action else ""

    return words


def _text_of(label: str, member: str) -> Callable[[Json], str]:
    """Returns the words of an item that has all in one member."""
    return lambda item: _labelled(label, f"\n{string_in(item, member)}" if string_in(item, member).strip() else "")


def _compaction(part: Opaque, unsupported: Unsupported) -> Text:
    """The summary, if it was made through this gateway; else only that there was one."""
    blocks = objects((payload_in(part.value.get("encrypted_content")) or {}).get("blocks"))
    texts = (string_in(block, "content") for block in blocks if block.get("type") == "compaction")
    if summary := "\n".join(filter(None, texts)):
        return Text(part.path, f"[The conversation so far, in compact form:\n{summary}]")
    unsupported.leave_out(FOREIGN_COMPACTION, part.path)
    return Text(part.path, "[What was said before is in a form that only another provider can read.]")


def _unknown(item: Json) -> str:
    shown = {name: value for name, value in item.items() if name not in HIDDEN and value not in (None, "", [], {})}
    return _labelled(f"Item of type {item['type']}", compact(shown)) if shown else ""


DESCRIPTIONS: dict[str, Callable[[Json], str]] = {
    **dict.fromkeys(HOSTED_CALLS, words),
    "program": _text_of("Program that was run", "code"),
    "program_output": _text_of("Output of the program", "result"),
    "computer_call": _action("Used the computer"),
    "local_shell_call": _action("Ran a shell command"),
    "shell_call": _action("Ran shell commands"),
    "apply_patch_call": _action("Applied a patch"),
}
COMPACTIONS = frozenset({"compaction", "compaction_summary", "context_compaction"})
"""Codex writes the latter two."""


def output_as_text(item: Json) -> str:
    """Returns the output of such a call, or an approval, as the user's text."""
    if item.get("type") == "mcp_approval_response":
        verdict = "allowed" if item.get("approve") is True else "refused"
        return f"[The call was {verdict}{_found('Reason', filter(None, [string_in(item, 'reason')]))}]"
    output = item.get("output")
    if isinstance(output, list):
        streams = [[string_in(part, name) for name in ("stdout", "stderr", "text")] for part in objects(output)]
        output = "\n".join(text for texts in streams for text in texts if text)
    return f"[Output of {item['type'].removesuffix('_output')}:]\n{output if isinstance(output, str) else ''}".strip()


# Values of any shape...


def _labelled(label: str, text: str) -> str:
    return f"{label}: {text}" if text.strip() else ""


def _found(label: str, texts: Iterable[str]) -> str:
    joined = "\n".join(texts)
    return f"\n{label}:\n{joined}" if joined else ""
