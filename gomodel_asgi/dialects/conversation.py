"""Reads `instructions` and `input` into turns.

Strategy: one walk over the items. Each item gives parts for one side; parts of the same side that follow each other
are one turn, so that parallel calls stand together however the client listed them. Calls are remembered by `call_id`
and joined to their outputs; an output before or without its call is malformed, since no target could say whose it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import msgspec

from .content import read_content
from .losses import Losses, expect, malformed, optional_string, string
from .parts import Audio, File, Image, Json, Opaque, Part, Reasoning, Role, Text, ToolCall, ToolKind, ToolOutput, Turn

MESSAGE_ROLES = frozenset(get_args(Role)) - {"tool"}
TOOL_BEARERS = ("additional_tools", "tool_search_output")
JOINED = ("assistant", "tool")


@dataclass(frozen=True, slots=True)
class Conversation:
    """*turns* in order. *tools* are (path, tool) pairs that the items brought along (`additional_tools`)."""

    turns: tuple[Turn, ...]
    tools: tuple[tuple[str, Json], ...] = ()


def read_conversation(body: Mapping[str, Any], losses: Losses) -> Conversation:
    """The turns of a request body; instructions come first, as a `system` turn.

    :raises InvalidRequest: an item is malformed; *param* is the path of the value. Or it is a loss that is rejected.
    """
    reader = _Reader(losses)
    reader.instructions(body.get("instructions"))
    reader.input(body.get("input"))
    return Conversation(tuple(reader.turns), tuple(reader.tools))


def brought_tools(body: Mapping[str, Any]) -> tuple[tuple[str, Json], ...]:
    """`Conversation.tools` of a request body that is known to be well-formed: what a reply's translator needs."""
    items = body.get("input")
    bearers = [
        (index, item["tools"])
        for index, item in enumerate(items if isinstance(items, list) else ())
        if isinstance(item, dict) and item.get("type") in TOOL_BEARERS and isinstance(item.get("tools"), list)
    ]
    return tuple((f"input[{index}].tools[{at}]", tool) for index, tools in bearers for at, tool in enumerate(tools))


class _Reader:
    def __init__(self, losses: Losses) -> None:
        self.losses = losses
        self.turns: list[Turn] = []
        self.tools: list[tuple[str, Json]] = []
        self.calls: dict[str, ToolCall] = {}
        self.opaque_calls: set[str] = set()

    def instructions(self, value: Any) -> None:
        if isinstance(value, list):
            self.items(value, "instructions")
        elif value is not None and expect(value, str, "instructions"):
            self.add("system", Text("instructions", value))

    def input(self, value: Any) -> None:
        if isinstance(value, str):
            self.add("user", Text("input", value))
        elif isinstance(value, list):
            self.items(value, "input")
        else:
            raise malformed("input", "is required" if value is None else "must be a string or an array of items")
        if not self.turns:
            raise malformed("input", "must not be empty")

    def items(self, values: list[Any], path: str) -> None:
        for index, value in enumerate(values):
            at = f"{path}[{index}]"
            item = expect(value, dict, at)
            kind = self.kind(item, at)
            reader = READERS.get(kind)
            if reader is None:
                self.opaque(item, at)
            else:
                reader(self, item, at)

    def kind(self, item: Json, path: str) -> str:
        """The item's type; one with a role and no type is a message, one with only an id a reference."""
        if item.get("type") is not None:
            return string(item, "type", path)
        if "role" in item:
            return "message"
        if "id" in item:
            return "item_reference"
        raise malformed(f"{path}.type", "is required")

    def add(self, role: Role, *parts: Part) -> None:
        if not parts:
            return
        last = self.turns[-1] if self.turns else None
        if last is not None and last.role == role and role in JOINED:
            self.turns[-1] = Turn(role, last.parts + parts, last.path)
        else:
            self.turns.append(Turn(role, parts, parts[0].path))

    # One method for each type of item...

    def opaque(self, item: Json, path: str) -> None:
        """An item with no common form; what answers to its `call_id` has none either."""
        if isinstance(item.get("call_id"), str):
            self.opaque_calls.add(item["call_id"])
        self.add("assistant", Opaque(path, item["type"], item))

    def message(self, item: Json, path: str) -> None:
        role = string(item, "role", path)
        if role not in MESSAGE_ROLES:
            raise malformed(f"{path}.role", f"must be one of {', '.join(sorted(MESSAGE_ROLES))}")
        phase = optional_string(item, "phase", path)
        self.add(role, *read_content(item.get("content"), f"{path}.content", phase))  # type: ignore[arg-type]

    def function_call(self, item: Json, path: str) -> None:
        self.call(item, path, "function", string(item, "arguments", path))

    def custom_call(self, item: Json, path: str) -> None:
        self.call(item, path, "custom", string(item, "input", path))

    def call(self, item: Json, path: str, kind: ToolKind, arguments: str) -> None:
        namespace, name = optional_string(item, "namespace", path), string(item, "name", path)
        call = ToolCall(path, string(item, "call_id", path), name, arguments, kind, namespace)
        self.calls[call.call_id] = call
        self.add("assistant", call)

    def output(self, item: Json, path: str) -> None:
        call_id = string(item, "call_id", path)
        call = self.calls.get(call_id)
        if call is None and call_id in self.opaque_calls:
            self.opaque(item, path)
            return
        if call is None:
            raise malformed(f"{path}.call_id", f"names no tool call before it ({call_id[:64]!r})")
        found = read_content(item.get("output"), f"{path}.output")
        parts = tuple(part for part in found if isinstance(part, (Text, Image, File, Audio)))
        self.add("tool", ToolOutput(path, call, parts))

    def reasoning(self, item: Json, path: str) -> None:
        texts = _texts(item, "summary", path) or _texts(item, "content", path)
        self.add("assistant", Reasoning(path, texts, optional_string(item, "encrypted_content", path)))

    def reference(self, item: Json, path: str) -> None:
        raise malformed(path, "refers to an item that is not stored here; send the item itself")

    def bearer(self, item: Json, path: str) -> None:
        """Tools that were found or added on the way are offered from the start. A search has no common form."""
        if item["type"] == "tool_search_output":
            self.losses.add(f"{path}.type", "items of type `tool_search_output`")
        tools = expect(item.get("tools"), list, f"{path}.tools")
        found = ((f"{path}.tools[{index}]", tool) for index, tool in enumerate(tools))
        self.tools.extend((at, expect(tool, dict, at)) for at, tool in found)


def _texts(item: Json, name: str, path: str) -> tuple[str, ...]:
    if item.get(name) is None:
        return ()
    parts = expect(item[name], list, f"{path}.{name}")
    at = [(expect(part, dict, f"{path}.{name}[{index}]"), index) for index, part in enumerate(parts)]
    return tuple(string(part, "text", f"{path}.{name}[{index}]") for part, index in at)


READERS: dict[str, Callable[[_Reader, Json, str], None]] = {
    "message": _Reader.message,
    "function_call": _Reader.function_call,
    "custom_tool_call": _Reader.custom_call,
    "function_call_output": _Reader.output,
    "custom_tool_call_output": _Reader.output,
    "reasoning": _Reader.reasoning,
    "item_reference": _Reader.reference,
    **dict.fromkeys(TOOL_BEARERS, _Reader.bearer),
}


def joined_text(parts: tuple[Part, ...], between: str = "") -> str:
    """The texts of *parts*, other parts passed over."""
    return between.join(part.text for part in parts if isinstance(part, Text))


def arguments_object(call: ToolCall) -> Json:
    """A call's arguments as the object that the target's function took: of a custom call `{"input": text}`.

    :raises InvalidRequest: they are not the JSON text of an object.
    """
    if call.kind == "custom":
        return {"input": call.arguments}
    try:
        value = msgspec.json.decode(call.arguments or "{}")
    except (ValueError, RecursionError):
        raise malformed(f"{call.path}.arguments", "is not JSON") from None
    return expect(value, dict, f"{call.path}.arguments")  # type: ignore[no-any-return]
