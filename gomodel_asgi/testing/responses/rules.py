"""What the Responses API refuses: members of a wrong type, always; what only OpenAI itself refuses, where asked to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..refusals import Refused

TYPES: dict[str, type | tuple[type, ...]] = {
    "input": (str, list),
    "max_output_tokens": int,
    "metadata": dict,
    "model": str,
    "previous_response_id": str,
    "reasoning": dict,
    "text": dict,
    "tool_choice": (str, dict),
    "tools": list,
}
"""What the members of a request have to be, where they are not null."""

MEMBERS = frozenset(
    "access_programs background background_options client_metadata context_management conversation image include input"
    " instructions max_output_tokens max_tool_calls metadata model moderation parallel_tool_calls previous_response_id"
    " prompt prompt_cache_key prompt_cache_options prompt_cache_retention reasoning safety_identifier service_tier"
    " store stream stream_options temperature text tool_choice tools top_logprobs top_p truncation user".split()
)
"""Those of the SDK, and `client_metadata`, which Codex sends."""
CALLS = {"function_call_output": "function_call", "custom_tool_call_output": "custom_tool_call"}
NAMES = {"function_call": "function call", "custom_tool_call": "custom tool call"}


def check_types(body: Mapping[str, Any]) -> None:
    """Refuse a request whose members have a wrong type."""
    for name, type in TYPES.items():
        if body.get(name) is not None and not isinstance(body[name], type):
            raise Refused(400, f"Invalid type for '{name}'.", code="invalid_type", param=name)


def check_request(body: Mapping[str, Any]) -> None:
    """Refuse a request for a response that nobody could answer."""
    check_types(body)
    if body.get("model") is None:
        raise Refused(400, "Missing required parameter: 'model'.", code="missing_required_parameter", param="model")


def check_strictly(body: Mapping[str, Any], items: Iterable[Mapping[str, Any]]) -> None:
    """Refuse what OpenAI refuses: members that it does not know, calls without an output and outputs without a call.

    *items* are all that was said, history included.
    """
    for name in body:
        if name not in MEMBERS:
            raise Refused(400, f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)
    items = list(items)
    for given, wanted in CALLS.items():
        called = {item.get("call_id") for item in items if item.get("type") == wanted}
        answered = {item.get("call_id") for item in items if item.get("type") == given}
        for id in sorted(map(str, answered - called)):
            raise _unpaired(f"No tool call found for {NAMES[wanted]} output with call_id {id}.")
        for id in sorted(map(str, called - answered)):
            raise _unpaired(f"No tool output found for {NAMES[wanted]} {id}.")


def _unpaired(message: str) -> Refused:
    return Refused(400, message, param="input")
