"""What the Responses API refuses: members of a wrong type, and with `strict` what OpenAI alone does. Its prompts."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .api import Problems, invalid, missing, unknown
from .model import Message, Prompt, Role, Tool, objects, text_of

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
CALLS = {
    "function_call": ("function_call_output", "function call"),
    "custom_tool_call": ("custom_tool_call_output", "custom tool call"),
}
"""Type of a call → that of its output, and how messages call it."""


def check_types(body: Mapping[str, Any]) -> None:
    """Checks the types of the members.

    :raises Refused: one is wrong.
    """
    for name, type in TYPES.items():
        if body.get(name) is not None and not isinstance(body[name], type):
            raise invalid(f"Invalid type for '{name}'.", name, "invalid_type")


def check_request(body: Mapping[str, Any]) -> None:
    """Checks that a request for a response could be answered.

    :raises Refused: it names no model, or a member has a wrong type.
    """
    check_types(body)
    if body.get("model") is None:
        raise missing("model")


def at_openai(body: Mapping[str, Any], items: Iterable[Mapping[str, Any]]) -> Problems:
    """Yields what only OpenAI refuses: unknown members, calls without an output, outputs without a call. *items* are
    the whole conversation, history included."""
    yield from unknown(body, MEMBERS)
    items = list(items)
    for call, (output, name) in CALLS.items():
        called = {item.get("call_id") for item in items if item.get("type") == call}
        answered = {item.get("call_id") for item in items if item.get("type") == output}
        for id in sorted(map(str, answered - called)):
            yield invalid(f"No tool call found for {name} output with call_id {id}.", "input")
        for id in sorted(map(str, called - answered)):
            yield invalid(f"No tool output found for {name} {id}.", "input")


# Items of the Responses API as a prompt.


SEAL = "fake-sealed-"
TOOL_BEARERS = ("additional_tools", "tool_search_output")
"""Items that bring tools along."""
ROLES: Mapping[Any, Role] = {"assistant": "assistant", "system": "system", "developer": "system"}


def prompt_of(body: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> Prompt:
    """Returns the prompt of *body*; *items* are the whole conversation, history included."""
    bearers = [item for item in items if item.get("type") in TOOL_BEARERS]
    tools = tuple(tool for holder in (body, *bearers) for tool in tools_of(holder))
    limit = body.get("max_output_tokens")
    return Prompt(
        model=str(body.get("model")),
        instructions=text_of(body.get("instructions")),
        messages=tuple(map(message_of, items)),
        tools=tools,
        demanded=tuple(demanded(body.get("tool_choice"), tools)),
        schema=schema_of(body.get("text")),
        thinks=thinks(body.get("reasoning")),
        max_output_tokens=limit if isinstance(limit, int) else None,
        body=body,
    )


# The conversation...


def message_of(item: Mapping[str, Any]) -> Message:
    """Returns one item as a message."""
    kind = str(item.get("type", "message"))
    content = item.get("content") if "content" in item else item.get("output") or item.get("arguments")
    text, media = text_of(content), tuple(media_of(content))
    if kind.endswith("_output"):
        return Message("tool", text, media=media, call_id=item.get("call_id"))
    if kind == "compaction":
        return Message("system", content_of_opaque(item.get("encrypted_content")))
    if kind == "reasoning":
        thought = text or text_of(item.get("summary"))
        return Message("assistant", thought, reasoning=True)
    if kind != "message":
        shown = text or text_of(item.get("input"))
        return Message("assistant", shown, media=media, name=item.get("name"), call_id=item.get("call_id"))
    return Message(ROLES.get(item.get("role"), "user"), text, media=media)


def opaque_content(text: str) -> str:
    """Returns *text* as opaque content, which only the provider itself reads."""
    return SEAL + base64.urlsafe_b64encode(text.encode()).decode()


def content_of_opaque(value: Any) -> str:
    """Returns the text in *value*, or an empty one where another provider made it."""
    if not isinstance(value, str) or not value.startswith(SEAL):
        return ""
    try:
        return base64.urlsafe_b64decode(value.removeprefix(SEAL)).decode()
    except ValueError:
        return ""


def media_of(content: Any) -> Iterator[str]:
    """Yields the images and files in *content*."""
    for part in content if isinstance(content, list) else []:
        for name in ("image_url", "file_data", "file_url", "file_id"):
            if isinstance(part, Mapping) and isinstance(part.get(name), str):
                yield part[name]


# What may be called...


def tools_of(body: Mapping[str, Any], namespace: str | None = None) -> Iterator[Tool]:
    """Yields the functions and custom tools of a request, those in namespaces too."""
    for tool in objects(body, "tools"):
        if tool.get("type") == "namespace":
            yield from tools_of(tool, str(tool.get("name")))
        elif tool.get("type") in ("function", "custom") and isinstance(tool.get("name"), str):
            yield Tool(tool["name"], tool.get("parameters") or {}, tool["type"] == "custom", namespace)


def demanded(choice: Any, tools: Sequence[Tool]) -> Iterator[str]:
    """Yields the names of which `tool_choice` demands one."""
    named = choice if isinstance(choice, Mapping) else {}
    if named.get("type") == "allowed_tools":
        allowed = [tool.get("name") for tool in objects(named, "tools")]
        demands = named.get("mode") == "required"
    else:
        allowed = [named["name"]] if "name" in named else [tool.name for tool in tools]
        demands = choice == "required" or named.get("type") in ("function", "custom")
    if demands:
        yield from (tool.name for tool in tools if tool.name in allowed)


# The form of the answer...


def thinks(reasoning: Any) -> bool:
    """Returns whether the request asks for reasoning."""
    if not isinstance(reasoning, Mapping):
        return False
    return reasoning.get("effort") not in (None, "none") or reasoning.get("summary") is not None


def schema_of(options: Any) -> Mapping[str, Any] | None:
    """Returns the schema that `text.format` gives; an empty one for JSON without a schema."""
    form = options.get("format") if isinstance(options, Mapping) else None
    kind = form.get("type") if isinstance(form, Mapping) else None
    if kind == "json_schema" and isinstance(form, Mapping):
        schema = form.get("schema")
        # What is no schema is one that anything fits, as it is to JSON Schema.
        return schema if isinstance(schema, Mapping) and schema else {"type": "object"}
    return {} if kind == "json_object" else None
