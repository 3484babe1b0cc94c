"""The event grammar as a table: which events bring which member of which item."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TextKind:
    """Text that comes in deltas into *field* of a part of type *part*, which stands in *container* of an item of type
    *item*; `<name>.delta` brings it and `<name>.done` ends it."""

    name: str
    item: str
    container: str
    part: str
    field: str

    @property
    def place(self) -> str:
        """The event member that numbers the parts of the container."""
        return PLACES[self.container]

    @property
    def part_events(self) -> str:
        """What the events that open and close the part are called, without `.added` and `.done`."""
        return PART_EVENTS[self.container]


@dataclass(frozen=True, slots=True)
class CallKind:
    """Text that comes in deltas into *field* of an item of type *item* itself. *due*: an item without such events has
    none in this API (hosted tools) or is given them (calls that the client answers)."""

    name: str
    item: str
    field: str
    due: bool = False


PLACES = {"content": "content_index", "summary": "summary_index"}
PART_EVENTS = {"content": "response.content_part", "summary": "response.reasoning_summary_part"}

TEXTS = {
    kind.name: kind
    for kind in (
        TextKind("response.output_text", "message", "content", "output_text", "text"),
        TextKind("response.refusal", "message", "content", "refusal", "refusal"),
        TextKind("response.reasoning_text", "reasoning", "content", "reasoning_text", "text"),
        TextKind("response.reasoning", "reasoning", "content", "reasoning_text", "text"),  # Open Responses' name
        TextKind("response.reasoning_summary_text", "reasoning", "summary", "summary_text", "text"),
    )
}
CALLS = {
    kind.name: kind
    for kind in (
        CallKind("response.function_call_arguments", "function_call", "arguments", due=True),
        CallKind("response.custom_tool_call_input", "custom_tool_call", "input", due=True),
        CallKind("response.mcp_call_arguments", "mcp_call", "arguments"),
        CallKind("response.code_interpreter_call_code", "code_interpreter_call", "code"),
    )
}
PARTS = {
    "response.content_part": "content",
    "response.reasoning_part": "content",  # vLLM's name
    "response.reasoning_summary_part": "summary",
}

TEXT_OF_PART = {kind.part: kind for kind in reversed(TEXTS.values())}  # reversed: OpenAI's names win
FIELD_OF_PART = {kind.part: kind.field for kind in TEXTS.values()}
CALL_OF_ITEM = {kind.item: kind for kind in CALLS.values()}
CONTAINERS = {"message": ("content",), "reasoning": ("summary", "content")}
"""The members of an item that hold parts, in the order in which they are told."""
DEFAULT_PARTS = {
    ("message", "content"): "output_text",
    ("reasoning", "content"): "reasoning_text",
    ("reasoning", "summary"): "summary_text",
}

PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"}
