"""Items of tools that a target does not have, as text: what was asked and what came back.

History must never refuse a request, and a model that is not told what it has found searches again. What an item lacks
is left out, whatever it holds in its place: these are the client's own words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .base import payload_of
from .content import Audio, Content, File, Image, Json, Opaque, Text
from .hosted_items import (
    CALLS,
    NOTHING_SHOWN,
    RESPONSE,
    Shown,
    compact,
    is_hosted,
    objects,
    replayed,
    string,
    strings,
    words,
)
from .unsupported import FOREIGN_COMPACTION, MEDIA_OF_TOOLS, TOLD_ITEMS, UNKNOWN_ITEM, Unsupported

SILENT = frozenset(
    {"mcp_list_tools", "compaction_trigger", "configuration_update", "ghost_snapshot", "additional_tools"}
)
"""Types that only tell what was offered or set: a model that lacks them is none the wiser."""

HIDDEN = frozenset({"id", "type", "status", "call_id", "encrypted_content", "created_by", "result"})
"""Members of an item of unknown type that say nothing to a model, or are binary."""


def in_words(part: Opaque, unsupported: Unsupported) -> Text | None:
    """*part* as text of the assistant's, None where it has nothing to say or is left out.

    :raises InvalidRequest: its type is unknown, and emulations are refused.
    """
    if part.type in COMPACTIONS:
        return _compaction(part, unsupported)
    tell = WORDS.get(part.type)
    if tell is None and part.type not in SILENT:
        if not unsupported.emulates(UNKNOWN_ITEM, f"{part.path}.type", f"items of type `{part.type[:64]}`"):
            return None
        tell = _unknown
    text = tell(part.value) if tell is not None else ""
    if not text:
        unsupported.leave_out(TOLD_ITEMS, part.path)
    return Text(part.path, f"[{text}]") if text else None


def stand_in(part: Content, path: str, what: str, unsupported: Unsupported) -> Text | None:
    """Text for media of a tool's or of the assistant's that the target cannot take; *path* and *what* say why. None
    where it is left out.

    :raises InvalidRequest: emulations are refused.
    """
    if not unsupported.emulates(MEDIA_OF_TOOLS, path, what):
        return None
    kind = "image" if isinstance(part, Image) else "audio" if isinstance(part, Audio) else "file"
    name = part.url if isinstance(part, (Image, File)) and part.url else getattr(part, "filename", None)
    return Text(part.path, f"[{kind}{f' {name}' if name else ''}: cannot be shown to this model]")


def in_messages(items: list[Any], shown: Shown = NOTHING_SHOWN) -> list[Any]:
    """*items* for an upstream that reads items itself, but none of hosted tools: these as messages, or as calls of the
    functions that are *shown*."""
    found = []
    for _, item in replayed(items, shown):
        told = item if not is_hosted(item) else as_message(item)
        if told is not None:
            found.append(told)
    return found


def as_message(item: Json) -> Json | None:
    """A message that tells of *item*, whose type is a string; None where there is nothing to tell."""
    kind = item["type"]
    if kind.endswith("_output") or kind == RESPONSE:
        return _message("user", "input_text", answer_text(item))
    words = in_words(Opaque("input", kind, item), Unsupported("auto"))
    return None if words is None else _message("assistant", "output_text", words.text)


def _message(role: str, type: str, text: str) -> Json:
    return {"type": "message", "role": role, "content": [{"type": type, "text": text}]}


# One function for each type: a sentence without its full stop, empty where there is nothing to tell...


def _action(label: str) -> Callable[[Json], str]:
    """An item whose `action` or `operation` says what was done."""

    def words(item: Json) -> str:
        action = item.get("action") or item.get("actions") or item.get("operation")
        command = action.get("command") or action.get("commands") if isinstance(action, dict) else None
        lines = strings(command) if isinstance(command, list) else []
        return _labelled(label, " ".join(lines) or compact(action)) if action else ""

    return words


def _text_of(label: str, member: str) -> Callable[[Json], str]:
    """An item that tells all in one member."""
    return lambda item: _labelled(label, f"\n{string(item, member)}" if string(item, member).strip() else "")


def _compaction(part: Opaque, unsupported: Unsupported) -> Text:
    """The summary, if it was made through this gateway; else only that there was one."""
    blocks = objects((payload_of(part.value.get("encrypted_content")) or {}).get("blocks"))
    texts = (string(block, "content") for block in blocks if block.get("type") == "compaction")
    if summary := "\n".join(filter(None, texts)):
        return Text(part.path, f"[The conversation so far, in compact form:\n{summary}]")
    unsupported.leave_out(FOREIGN_COMPACTION, part.path)
    return Text(part.path, "[What was said before is in a form that only another provider can read.]")


def _unknown(item: Json) -> str:
    shown = {name: value for name, value in item.items() if name not in HIDDEN and value not in (None, "", [], {})}
    return _labelled(f"Item of type {item['type']}", compact(shown)) if shown else ""


WORDS: dict[str, Callable[[Json], str]] = {
    **dict.fromkeys(CALLS, words),
    "program": _text_of("Program that was run", "code"),
    "program_output": _text_of("Output of the program", "result"),
    "computer_call": _action("Used the computer"),
    "local_shell_call": _action("Ran a shell command"),
    "shell_call": _action("Ran shell commands"),
    "apply_patch_call": _action("Applied a patch"),
}
COMPACTIONS = frozenset({"compaction", "compaction_summary", "context_compaction"})
"""Codex writes the latter two."""


def answer_text(item: Json) -> str:
    """An output that answers to one of the calls above, or an approval, as the user's text."""
    if item.get("type") == "mcp_approval_response":
        verdict = "allowed" if item.get("approve") is True else "refused"
        return f"[The call was {verdict}{_found('Reason', filter(None, [string(item, 'reason')]))}]"
    output = item.get("output")
    if isinstance(output, list):
        streams = [[string(part, name) for name in ("stdout", "stderr", "text")] for part in objects(output)]
        output = "\n".join(text for texts in streams for text in texts if text)
    return f"[Output of {item['type'].removesuffix('_output')}:]\n{output if isinstance(output, str) else ''}".strip()


# Values of any shape...


def _labelled(label: str, text: str) -> str:
    return f"{label}: {text}" if text.strip() else ""


def _found(label: str, texts: Iterable[str]) -> str:
    joined = "\n".join(texts)
    return f"\n{label}:\n{joined}" if joined else ""
