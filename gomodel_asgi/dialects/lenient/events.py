"""The events of the Responses API as sloppy upstreams write them: what they are called, and what each brings."""

from __future__ import annotations

import re
from typing import Any

from ..reader import PREFIX, TERMINAL
from .slot import TextPlace
from .values import Json

STATES = frozenset({"created", "queued", "in_progress"})
ENDS = frozenset({*TERMINAL, "response.done", "response.cancelled"})
"""What says that the response has ended; the last two mean what its status says."""
PARTS = {
    "response.content_part": ("message", "content"),
    "response.reasoning_part": ("reasoning", "content"),  # vLLM's name
    "response.reasoning_summary_part": ("reasoning", "summary"),
}
"""What announces and ends a part: the item that it is of, and the member that it stands in."""
TEXTS = {
    "response.output_text": TextPlace("message", "content", "output_text"),
    "response.refusal": TextPlace("message", "content", "refusal"),
    "response.reasoning_text": TextPlace("reasoning", "content", "reasoning_text"),
    "response.reasoning": TextPlace("reasoning", "content", "reasoning_text"),  # Open Responses' name
    "response.reasoning_summary_text": TextPlace("reasoning", "summary", "summary_text"),
}
CALLS = {
    "response.function_call_arguments": ("function_call", "arguments"),
    "response.custom_tool_call_input": ("custom_tool_call", "input"),
    "response.mcp_call_arguments": ("mcp_call", "arguments"),
    "response.code_interpreter_call_code": ("code_interpreter_call", "code"),
}
"""What brings and ends the text of a call: its item, and the member that holds the text."""
PROGRESS = re.compile(r"response\.(\w+_call|mcp_list_tools|compaction)\.(\w+)")
"""How a hosted tool's call gets on."""


def type_of(name: str, event: Json) -> str | None:
    """The type of an event: its own word, else what it holds, else its *name*. An event that is named `error` is one,
    whatever type but one of this API's it names."""
    given = event.get("type")
    if isinstance(given, str) and given:
        return "error" if name == "error" and not given.startswith(PREFIX) else given
    if event.get("object") == "response":
        return ended_as(event.get("status"))
    if event.get("error") and not name.startswith(PREFIX):
        return "error"
    return name if name and name != "message" else None


def ended_as(status: Any) -> str:
    """The type of the event that a response in *status* comes in."""
    if status in ("queued", "in_progress"):
        return f"response.{status}"
    return f"response.{status}" if status in ("incomplete", "failed") else "response.completed"


def is_item(value: Any) -> bool:
    """Whether *value* is an item."""
    return isinstance(value, dict) and isinstance(value.get("type"), str) and value["type"] != ""


def item_of(value: Any) -> Json:
    """Returns *value*, which should be an item.

    :raises ValueError: it is none.
    """
    if not is_item(value):
        raise ValueError("an item without a type")
    item: Json = value
    return item


def without(event: Json, *names: str) -> Json:
    """Returns the members of *event* but for those of these *names*."""
    return {name: value for name, value in event.items() if name not in names}
