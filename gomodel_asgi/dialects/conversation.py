"""Reads `instructions` and `input` into turns.

Strategy: one walk over the items. Each item gives parts for one side, or an output for a call; `arrangement` makes
turns of them. An item that has no common form stays whole, for the dialect that has the same; what a client's own
machine sent back for such an item is the user's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import msgspec

from ..wire.json_scan import tree
from .arrangement import Entry, ListedOutput, arrange
from .base import NOTHING_SHOWN, Call, ShownFunctions
from .content import (
    CONTENT,
    Json,
    Opaque,
    Part,
    Reasoning,
    Role,
    Text,
    ToolCall,
    ToolKind,
    Turn,
    read_content,
    read_image,
)
from .emulations import output_as_text
from .hosted_items import replayed
from .tools import SEARCH, Tools, read_tools, searches_by_client
from .unsupported import ITEMS_AS_TEXT, Unsupported
from .values import expect, list_in, malformed, optional_string, string

MESSAGE_ROLES = frozenset(get_args(Role)) - {"tool"}
TOOL_CARRIERS = ("additional_tools", "tool_search_output")
ITEM_MEMBERS = ("instructions", "input")
RAW_ARGUMENTS = "raw_arguments"
"""The member that holds arguments which are no object."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """*turns* in order. *tools* are (path, tool) pairs that the items brought along (`additional_tools`)."""

    turns: tuple[Turn, ...]
    tools: tuple[tuple[str, Json], ...] = ()


def read_conversation(
    body: Mapping[str, Any], unsupported: Unsupported, shown: ShownFunctions = NOTHING_SHOWN
) -> Conversation:
    """Returns the turns of a request body, none of them empty; `instructions` come first, as a `system` turn.

    *shown* are the functions that stand for hosted tools.

    :raises InvalidRequest: an item is malformed, or there is none; *param* is the path of the value.
    """
    reader = _Reader(unsupported, "tools" in body and searches_by_client(body), shown)
    if (instructions := body.get("instructions")) is not None:
        reader.instructions(instructions)
    reader.input(body.get("input"))
    turns = arrange(reader.entries)
    if not turns:
        raise malformed("input", "must not be empty")
    return Conversation(turns, tuple(reader.tools))


def offered_tools(call: Call, hosted: Collection[str] = ()) -> Tools:
    """Returns the tools of a call that was translated before, to read its flat names."""
    unsupported = Unsupported(call.unsupported, refuses=False)
    return read_tools(call.body, unsupported, hosted=hosted, more=_carried_tools(call.body))


def _carried_tools(body: Mapping[str, Any]) -> list[tuple[str, Json]]:
    """`Conversation.tools` of a body that is known to be well-formed."""
    found: list[tuple[str, Json]] = []
    for name in ITEM_MEMBERS:
        for index, item in enumerate(list_in(body, name)):
            if isinstance(item, dict) and item.get("type") in TOOL_CARRIERS:
                path = f"{name}[{index}].tools"
                tools = list_in(item, "tools")
                if item["type"] == "tool_search_output":
                    tools = [tool for tool in tools if _is_carried(tool)]
                found += [(f"{path}[{at}]", tool) for at, tool in enumerate(tools)]
    return found


def _is_carried(tool: Any) -> bool:
    return isinstance(tool, dict) and tool.get("type") in ("function", "custom", "namespace")


class _Reader:
    def __init__(self, unsupported: Unsupported, searches: bool, shown: ShownFunctions) -> None:
        self.unsupported = unsupported
        self.shown = shown
        self.searches = searches
        """Whether the client runs the searches for tools: then they are calls like others."""
        self.entries: list[Entry] = []
        self.tools: list[tuple[str, Json]] = []

    def instructions(self, value: Any) -> None:
        if isinstance(value, list):
            self.items(value, "instructions")
        elif expect(value, str, "instructions"):
            self.add("system", Text("instructions", value))

    def input(self, value: Any) -> None:
        """Reads the member `input`.

        :raises InvalidRequest: it is neither text nor a list.
        """
        if isinstance(value, str):
            if value or not self.entries:
                self.add("user", Text("input", value))
        elif isinstance(value, list):
            self.items(value, "input")
        else:
            raise malformed("input", "is required" if value is None else "must be a string or an array of items")

    def items(self, values: list[Any], path: str) -> None:
        for index, value in replayed(values, self.shown):
            at = f"{path}[{index}]"
            item = expect(value, dict, at)
            READERS.get(self.kind(item, at), _Reader.opaque)(self, item, at)

    def kind(self, item: Json, path: str) -> str:
        """The item's type; one with a role and no type is a message, one with only an id a reference.

        :raises InvalidRequest: it has no type, and cannot be either.
        """
        if item.get("type") is not None:
            return string(item, "type", path)
        if "role" in item:
            return "message"
        if "id" in item:
            return "item_reference"
        raise malformed(f"{path}.type", "is required")

    def add(self, role: Role, *parts: Part) -> None:
        if parts:
            self.entries.append((role, parts))

    # One method for each type of item...

    def opaque(self, item: Json, path: str) -> None:
        """An item with no common form."""
        self.add("assistant", Opaque(path, item["type"], item))

    def message(self, item: Json, path: str) -> None:
        """Reads a message.

        :raises InvalidRequest: its role is unknown.
        """
        role = string(item, "role", path)
        if role not in MESSAGE_ROLES:
            raise malformed(f"{path}.role", f"must be one of {', '.join(sorted(MESSAGE_ROLES))}")
        phase = optional_string(item, "phase", path)
        self.add(role, *read_content(item.get("content"), f"{path}.content", phase))  # type: ignore[arg-type]

    def function_call(self, item: Json, path: str) -> None:
        self.call(item, path, "function", _json_text(item.get("arguments")))

    def custom_call(self, item: Json, path: str) -> None:
        self.call(item, path, "custom", string(item, "input", path))

    def call(self, item: Json, path: str, kind: ToolKind, arguments: str) -> None:
        namespace, name = optional_string(item, "namespace", path), string(item, "name", path)
        self.add("assistant", ToolCall(path, string(item, "call_id", path), name, arguments, kind, namespace))

    def output(self, item: Json, path: str) -> None:
        found = read_content(item.get("output"), f"{path}.output")
        parts = tuple(part for part in found if isinstance(part, CONTENT))
        self.entries.append(ListedOutput(path, string(item, "call_id", path), parts))

    def reasoning(self, item: Json, path: str) -> None:
        texts = _texts(item, "summary", path) or _texts(item, "content", path)
        self.add("assistant", Reasoning(path, texts, optional_string(item, "encrypted_content", path)))

    def reference(self, item: Json, path: str) -> None:
        """Refuses a reference: those that are known here have been replaced before.

        :raises InvalidRequest: always.
        """
        raise malformed(path, "refers to an item that is not stored here; send the item itself")

    def carrier(self, item: Json, path: str) -> None:
        """Tools that were added on the way are offered from the start."""
        tools = expect(item.get("tools"), list, f"{path}.tools")
        found = ((f"{path}.tools[{index}]", tool) for index, tool in enumerate(tools))
        self.tools.extend((at, expect(tool, dict, at)) for at, tool in found)

    # A search for tools: where the client does not run it, its tools are offered already...

    def search(self, item: Json, path: str) -> None:
        call_id = self.search_id(item)
        if call_id is None:
            self.unsupported.leave_out(ITEMS_AS_TEXT, path)
            return
        self.add("assistant", ToolCall(path, call_id, SEARCH, _json_text(item.get("arguments")), "search"))

    def searched(self, item: Json, path: str) -> None:
        # A search may have failed, or found what only its provider has: neither is a reason to refuse the conversation.
        found = [tool for tool in list_in(item, "tools") if _is_carried(tool)]
        item = {**item, "tools": found}
        self.carrier(item, path)
        call_id = self.search_id(item)
        if call_id is None:
            self.unsupported.leave_out(ITEMS_AS_TEXT, path)
            return
        names = ", ".join(str(tool.get("name")) for tool in item["tools"])
        self.entries.append(
            ListedOutput(path, call_id, (Text(path, f"Tools that are offered now: {names or 'none'}"),))
        )

    def search_id(self, item: Json) -> str | None:
        call_id = item.get("call_id")
        return call_id if self.searches and isinstance(call_id, str) else None

    def answer(self, item: Json, path: str) -> None:
        """What a client's own machine sent back for an item that has no common form."""
        output = item.get("output")
        if isinstance(output, dict) and any(isinstance(output.get(name), str) for name in ("image_url", "file_id")):
            image = read_image(output, f"{path}.output")
            self.add("user", Text(path, "[A screenshot:]"), replace(image, from_tool=True))
        else:
            self.add("user", Text(path, output_as_text(item)))


def _json_text(value: Any) -> str:
    """*value*, which should be JSON text, whatever a client made of it."""
    return value if isinstance(value, str) else "" if value is None else msgspec.json.encode(value).decode()


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
    "additional_tools": _Reader.carrier,
    "tool_search_call": _Reader.search,
    "tool_search_output": _Reader.searched,
    "computer_call_output": _Reader.answer,
    "local_shell_call_output": _Reader.answer,
    "shell_call_output": _Reader.answer,
    "apply_patch_call_output": _Reader.answer,
    "mcp_approval_response": _Reader.answer,
}


def arguments_json(call: ToolCall) -> bytes:
    """Returns a call's arguments as the JSON text of the object that the target's function takes.

    A custom call has `{"input": text}`, empty arguments are `{}`, and text that is no object becomes a member.
    """
    if call.kind == "custom":
        return msgspec.json.encode({"input": call.arguments})
    text = call.arguments.strip()
    if text in ("", "null"):
        return b"{}"
    if _is_object(text):
        return text.encode()
    return msgspec.json.encode({RAW_ARGUMENTS: call.arguments})


def arguments_object(call: ToolCall) -> msgspec.Raw:
    """Returns `arguments_json` for a member that takes an object; the client's own spelling is kept."""
    return msgspec.Raw(arguments_json(call))


def _is_object(text: str) -> bool:
    if not text.startswith("{"):
        return False
    try:
        tree(text)
    except ValueError:
        return False
    return True
