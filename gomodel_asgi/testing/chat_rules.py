"""What the chat API refuses.

Always: what OpenAI and nearly all that speak its dialect refuse. With `strict`: what OpenAI alone refuses. With
`template`: what the chat templates of open models refuse (Qwen, MiniMax; vLLM and llama.cpp run them). The messages are
those of the services, as public bug reports quote them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .api import Problems, Refused, Settings, invalid, missing, refuse, unknown
from .model import Tool, media_type_of, objects

Json = Mapping[str, Any]

ROLES = ("developer", "system", "user", "assistant", "tool")
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
PARTS = {
    "system": ("text",),
    "developer": ("text",),
    "user": ("text", "image_url", "input_audio", "file", "document_url"),
    "assistant": ("text", "refusal", "thinking"),
    "tool": ("text",),
}
"""Which parts whose content may hold; `document_url` and `thinking` are Mistral's."""
SHAPES: Mapping[str, type] = {"text": str, "refusal": str, "document_url": str, "thinking": list}
"""What the member of a part is that is named like its type; of all others an object."""
ROUTERS = "openrouter:"
"""How the types of OpenRouter's own tools begin."""
IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")


def check(body: Json, settings: Settings) -> None:
    """:raises Refused: the request breaks a rule."""
    refuse(problems(body, settings))


def problems(body: Json, settings: Settings) -> Problems:
    """Yields the rules that a request breaks."""
    if not isinstance(body.get("model"), str):
        yield invalid("you must provide a model parameter")
    messages = body.get("messages")
    if messages is None:
        yield missing("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        yield invalid("Invalid type for 'messages': expected an array of objects.", "messages", "invalid_type")
    elif not messages:
        yield invalid("Invalid 'messages': empty array. Expected at least one message.", "messages", "empty_array")
    else:
        for at, message in enumerate(messages):
            yield from of_message(message, f"messages[{at}]")
        yield from of_pairs(messages)
        yield from of_tools(body)
        yield from of_choice(body)
        if body["model"].startswith("deepseek"):
            yield from at_deepseek(messages)
        if settings.strict:
            yield from at_openai(body, messages)
        if settings.template:
            yield from in_template(messages)


# Messages...


def unsupported(value: object, allowed: Sequence[str], param: str) -> Refused:
    """Returns the refusal of a *value* that is none of those *allowed*."""
    listed = ", ".join(f"'{each}'" for each in allowed)
    return invalid(f"Invalid value: '{value}'. Supported values are: {listed}.", param, "invalid_value")


def of_message(message: Json, path: str) -> Problems:
    """Yields what is wrong with one message by itself: role, content, calls."""
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        yield unsupported(role, ROLES, f"{path}.role")
    calls = objects(message, "tool_calls")
    if content is None and not (role == "assistant" and (calls or message.get("refusal"))):
        yield invalid("Invalid value for 'content': expected a string, got null.", f"{path}.content")
    if isinstance(content, list):
        for at, part in enumerate(content):
            yield from of_part(part, str(role), f"{path}.content[{at}]")
    elif content is not None and not isinstance(content, str):
        yield invalid(f"Invalid type for '{path}.content'.", f"{path}.content", "invalid_type")
    for at, call in enumerate(calls):
        yield from of_call(call, f"{path}.tool_calls[{at}]")


def of_part(part: Any, role: str, path: str) -> Problems:
    """Yields what is wrong with one part of the content of a message of this *role*."""
    kind: Any = part.get("type") if isinstance(part, Mapping) else None
    if kind == "image_url" and role != "user":
        yield invalid(
            f"Invalid '{path}'. Image URLs are only allowed for messages with role 'user', but this message with role"
            f" '{role}' contains an image URL.", path, "invalid_value",
        )  # fmt: skip
    if kind not in PARTS[role]:
        yield unsupported(kind, PARTS[role], f"{path}.type")
    if not isinstance(part.get(kind), SHAPES.get(kind, Mapping)):
        yield missing(f"{path}.{kind}", path)
    if kind == "image_url":
        yield from of_image(part["image_url"].get("url"), f"{path}.image_url.url")


def of_image(url: Any, path: str) -> Problems:
    """Yields what is wrong with an image's URL."""
    if not isinstance(url, str):
        yield missing(path)
    if url.startswith("data:") and media_type_of(url) not in IMAGES:
        message = "You uploaded an unsupported image. Please make sure your image is valid."
        yield invalid(message, None, "invalid_image_format")
    if not url.startswith(("data:", "http://", "https://")):
        yield invalid(f"Invalid '{path}'. Expected a valid URL.", path, "invalid_value")


def of_call(call: Json, path: str) -> Problems:
    """Yields what is wrong with one tool call."""
    kind: Any = call.get("type")
    if not isinstance(call.get("id"), str) or not call["id"]:
        yield missing(f"{path}.id")
    if kind not in ("function", "custom") or not isinstance(call.get(kind), Mapping):
        yield missing(f"{path}.type")
    for member in ("name", "input" if kind == "custom" else "arguments"):
        if not isinstance(call[kind].get(member), str):
            yield invalid(f"Invalid type for '{path}.{kind}.{member}': expected a string.", path, "invalid_type")


def of_pairs(messages: Sequence[Json]) -> Problems:
    """Yields calls whose outputs do not stand directly after them, one for each."""
    open_ids: list[str] = []
    for at, message in enumerate(messages):
        if message["role"] == "tool":
            if message.get("tool_call_id") not in open_ids:
                yield invalid(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with"
                    " 'tool_calls'.", f"messages.[{at}].role",
                )  # fmt: skip
            open_ids.remove(message["tool_call_id"])
            continue
        yield from unanswered(open_ids, at)
        open_ids = [call["id"] for call in objects(message, "tool_calls")]
        if len(set(open_ids)) < len(open_ids):
            yield invalid(f"Duplicate value for 'tool_call_id' in messages[{at}].", f"messages.[{at}].tool_calls")
    yield from unanswered(open_ids, len(messages))


def unanswered(open_ids: Sequence[str], at: int) -> Problems:
    """Yields the calls that are open where message *at* begins."""
    if open_ids:
        yield invalid(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each"
            f" 'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(open_ids)}",
            f"messages.[{at}].role",
        )


# Tools...


def of_tools(body: Json) -> Problems:
    """Yields what is wrong with the tools; OpenRouter's own pass."""
    tools = body.get("tools")
    if tools is not None and not isinstance(tools, list):
        yield invalid("Invalid type for 'tools': expected an array.", "tools", "invalid_type")
    for at, tool in enumerate(tools or []):
        kind = kind_of(tool) if isinstance(tool, Mapping) else None
        if str(kind).startswith(ROUTERS):
            continue
        if kind not in ("function", "custom"):
            message = f"Invalid value: '{kind}'. Supported values are: 'function' and 'custom'."
            yield invalid(message, f"tools[{at}].type", "invalid_value")
        name, path = (tool.get(kind) or {}).get("name"), f"tools[{at}].{kind}.name"
        if not isinstance(name, str) or not NAME.fullmatch(name):
            message = f"Invalid '{path}': string does not match the pattern '^[a-zA-Z0-9_-]{{1,64}}$'."
            yield invalid(message, path, "invalid_value")


def of_choice(body: Json) -> Problems:
    """Yields members that name tools where there are none, or not the ones that are named."""
    tools, choice = body.get("tools"), body.get("tool_choice")
    for member in ("tool_choice", "parallel_tool_calls"):
        if body.get(member) is not None and not tools:
            yield invalid(f"'{member}' is only allowed when 'tools' are specified.", member)
    if choice in (None, "none", "auto", "required", "any"):  # Mistral says `any`
        return
    kind = kind_of(choice) if isinstance(choice, Mapping) else None
    value: Any = choice.get(kind) if isinstance(choice, Mapping) else None
    if not isinstance(value, Mapping) or kind not in ("function", "custom", "allowed_tools"):
        yield invalid(f"Invalid value: '{kind}'.", "tool_choice", "invalid_value")
    chosen = [value]
    if kind == "allowed_tools":
        chosen = [tool.get(str(tool.get("type"))) or {} for tool in objects(value, "tools")]
    offered = {tool.name for tool in tools_of(body)}
    for each in chosen:
        if each.get("name") not in offered:
            yield invalid(f"Tool choice '{each.get('name')}' not found in 'tools' parameter.", "tool_choice")


def kind_of(tool: Mapping[str, Any]) -> Any:
    """Returns the type of a tool or a choice; some servers take functions that do not say so."""
    return tool.get("type") or ("function" if "function" in tool else None)


def tools_of(body: Mapping[str, Any]) -> Iterator[Tool]:
    """Yields the functions and custom tools of a request; those that the server would run are none."""
    for tool in objects(body, "tools"):
        kind = kind_of(tool)
        if kind in ("function", "custom"):
            yield Tool(tool[kind]["name"], tool[kind].get("parameters") or {}, kind == "custom")


# Some servers and models...


def at_deepseek(messages: Sequence[Json]) -> Problems:
    """DeepSeek's models want back what they thought before they called a tool; an empty text will do."""
    for at, message in enumerate(messages):
        if objects(message, "tool_calls") and not isinstance(message.get("reasoning_content"), str):
            yield invalid(f"Missing `reasoning_content` field in the assistant message at message index {at}.")


def in_template(messages: Sequence[Json]) -> Problems:
    """One system message, at the beginning; a message of the user's; arguments that are an object. The refusals are
    those of vLLM."""
    problem = None
    calls = [call for message in messages for call in objects(message, "tool_calls") if call["type"] == "function"]
    if any(message["role"] in ("system", "developer") for message in messages[1:]):
        problem = "System message must be at the beginning."
    elif not any(message["role"] == "user" for message in messages):
        problem = "No user query found in messages."
    elif not all(is_object(call["function"]["arguments"]) for call in calls):
        problem = "Can only get item pairs from a mapping."
    if problem is not None:
        yield Refused(400, problem, type="BadRequestError")


def is_object(text: str) -> bool:
    """Returns whether *text* is a JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


# OpenAI alone: members that it does not know, strict schemas that are open, settings of the wrong model...


MEMBERS = frozenset(
    "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages"
    " metadata modalities model moderation n parallel_tool_calls prediction presence_penalty prompt_cache_key"
    " prompt_cache_options prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier"
    " stop store stream stream_options temperature tool_choice tools top_logprobs top_p user verbosity"
    " web_search_options".split()
)
NAMED = frozenset({"role", "content", "name"})
MESSAGE = {
    "system": NAMED,
    "developer": NAMED,
    "user": NAMED,
    "assistant": NAMED | {"audio", "refusal", "tool_calls", "function_call"},
    "tool": frozenset({"role", "content", "tool_call_id"}),
}
FUNCTION = frozenset({"name", "description", "parameters", "strict"})
REASONING = re.compile(r"(o\d|gpt-5)")


def at_openai(body: Json, messages: Sequence[Json]) -> Problems:
    """Yields what only OpenAI refuses in a request that keeps all other rules."""
    yield from unknown(body, MEMBERS)
    yield from empty(body, "tools", "")
    for at, message in enumerate(messages):
        yield from unknown(message, MESSAGE[message["role"]], f"messages[{at}].")
        yield from empty(message, "tool_calls", f"messages[{at}].")
    for at, tool in enumerate(objects(body, "tools")):
        if tool.get("type") not in ("function", "custom"):
            yield invalid(f"Missing required parameter: 'tools[{at}].type'.", f"tools[{at}].type")
        if tool["type"] == "function":
            function, path = tool["function"], f"tools[{at}].function."
            yield from unknown(function, FUNCTION, path)
            if function.get("strict"):
                where = f"function '{function['name']}'"
                yield from of_schema(function.get("parameters"), where, f"{path}parameters")
    yield from of_format(body.get("response_format"), messages)
    if REASONING.match(body["model"]):
        yield from of_reasoning_model(body)


def empty(value: Json, name: str, path: str) -> Problems:
    """Yields the list *name* where it is given without an element."""
    if value.get(name) == []:
        message = f"Invalid '{path}{name}': empty array. Expected an array with minimum length 1."
        yield invalid(message, path + name, "empty_array")


def of_format(form: Any, messages: Sequence[Json]) -> Problems:
    """Yields a `response_format` of JSON that no message mentions, or with a strict schema that is open."""
    kind = form.get("type") if isinstance(form, Mapping) else None
    if kind == "json_object" and "json" not in json.dumps([message.get("content") for message in messages]).lower():
        message = (
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
        )
        yield invalid(message, "messages")
    if kind == "json_schema" and form["json_schema"].get("strict"):
        where = f"response_format '{form['json_schema'].get('name')}'"
        yield from of_schema(form["json_schema"].get("schema"), where, "response_format")


def of_schema(schema: Any, where: str, param: str, path: tuple[str, ...] = ()) -> Problems:
    """Yields the objects of a strict schema that are open, or do not require all their members."""
    if not isinstance(schema, Mapping):
        return
    if schema.get("type") == "object":
        absent = [name for name in schema.get("properties") or {} if name not in (schema.get("required") or [])]
        problem = None
        if schema.get("additionalProperties") is not False:
            problem = "'additionalProperties' is required to be supplied and to be false."
        elif absent:
            problem = (
                "'required' is required to be supplied and to be an array including every key in properties."
                f" Missing '{absent[0]}'."
            )
        if problem is not None:
            message = f"Invalid schema for {where}: In context={path!r}, {problem}"
            yield invalid(message, param, "invalid_function_parameters")
    for holder in ("properties", "$defs", "definitions"):
        for name, member in (schema.get(holder) or {}).items():
            yield from of_schema(member, where, param, (*path, holder, name))
    yield from of_schema(schema.get("items"), where, param, (*path, "items"))
    for at, branch in enumerate(schema.get("anyOf") or []):
        yield from of_schema(branch, where, param, (*path, "anyOf", str(at)))


def of_reasoning_model(body: Json) -> Problems:
    """Yields the settings that reasoning models do not take."""
    if body.get("max_tokens") is not None:
        message = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        yield invalid(message, "max_tokens", "unsupported_parameter")
    if body.get("temperature") not in (None, 1):
        message = (
            f"Unsupported value: 'temperature' does not support {body['temperature']} with this model."
            " Only the default (1) value is supported."
        )
        yield invalid(message, "temperature", "unsupported_value")
