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

from .api import Refused, Settings
from .model import Tool, media_type_of, objects

# What OpenAI alone refuses in a chat request: members that it does not know, and settings of the wrong model.


Json = Mapping[str, Any]

MEMBERS = frozenset(
    "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages"
    " metadata modalities model moderation n parallel_tool_calls prediction presence_penalty prompt_cache_key"
    " prompt_cache_options prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier"
    " stop store stream stream_options temperature tool_choice tools top_logprobs top_p user verbosity"
    " web_search_options".split()
)
MESSAGE = {
    "system": frozenset({"role", "content", "name"}),
    "developer": frozenset({"role", "content", "name"}),
    "user": frozenset({"role", "content", "name"}),
    "assistant": frozenset({"role", "content", "name", "audio", "refusal", "tool_calls", "function_call"}),
    "tool": frozenset({"role", "content", "tool_call_id"}),
}
FUNCTION = frozenset({"name", "description", "parameters", "strict"})
REASONING = re.compile(r"(o\d|gpt-5)")


def check_strictly(body: Json, messages: Sequence[Json]) -> None:
    """:raises Refused: OpenAI would not take the request, which keeps all other rules."""
    check_known(body, MEMBERS, "")
    check_filled(body, "tools", "")
    for at, message in enumerate(messages):
        check_known(message, MESSAGE[message["role"]], f"messages[{at}].")
        check_filled(message, "tool_calls", f"messages[{at}].")
    for at, tool in enumerate(objects(body, "tools")):
        if tool.get("type") not in ("function", "custom"):
            raise Refused(400, f"Missing required parameter: 'tools[{at}].type'.", param=f"tools[{at}].type")
        if tool["type"] == "function":
            check_known(tool["function"], FUNCTION, f"tools[{at}].function.")
            if tool["function"].get("strict"):
                name = tool["function"]["name"]
                where = f"function '{name}'"
                check_schema(tool["function"].get("parameters"), where, f"tools[{at}].function.parameters")
    check_format(body.get("response_format"), messages)
    if REASONING.match(body["model"]):
        check_reasoning_model(body)


def check_known(value: Json, known: frozenset[str], path: str) -> None:
    """Checks that *value* has only members that are *known*.

    :raises Refused: it has another.
    """
    for name in value:
        if name not in known:
            raise Refused(400, f"Unknown parameter: '{path}{name}'.", code="unknown_parameter", param=path + name)


def check_filled(value: Json, name: str, path: str) -> None:
    """Checks that the list *name* is not empty where it is given.

    :raises Refused: it is.
    """
    if value.get(name) == []:
        message = f"Invalid '{path}{name}': empty array. Expected an array with minimum length 1."
        raise Refused(400, message, code="empty_array", param=path + name)


def check_format(form: Any, messages: Sequence[Json]) -> None:
    """Checks `response_format` against the messages.

    :raises Refused: JSON is wanted of messages that do not mention it, or a strict schema is open.
    """
    kind = form.get("type") if isinstance(form, Mapping) else None
    if kind == "json_object" and "json" not in json.dumps([message.get("content") for message in messages]).lower():
        message = (
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
        )
        raise Refused(400, message, param="messages")
    if kind == "json_schema" and form["json_schema"].get("strict"):
        where = f"response_format '{form['json_schema'].get('name')}'"
        check_schema(form["json_schema"].get("schema"), where, "response_format")


def check_schema(schema: Any, where: str, param: str, path: tuple[str, ...] = ()) -> None:
    """A strict schema closes every object and requires all its members.

    :raises Refused: it does not.
    """
    if not isinstance(schema, Mapping):
        return
    members = schema.get("properties")
    if schema.get("type") == "object":
        context = f"Invalid schema for {where}: In context={path!r}, "
        if schema.get("additionalProperties") is not False:
            problem = "'additionalProperties' is required to be supplied and to be false."
            raise Refused(400, context + problem, code="invalid_function_parameters", param=param)
        missing = [name for name in members or {} if name not in (schema.get("required") or [])]
        if missing:
            problem = (
                "'required' is required to be supplied and to be an array including every key in properties."
                f" Missing '{missing[0]}'."
            )
            raise Refused(400, context + problem, code="invalid_function_parameters", param=param)
    for holder in ("properties", "$defs", "definitions"):
        for name, member in (schema.get(holder) or {}).items():
            check_schema(member, where, param, (*path, holder, name))
    check_schema(schema.get("items"), where, param, (*path, "items"))
    for at, branch in enumerate(schema.get("anyOf") or []):
        check_schema(branch, where, param, (*path, "anyOf", str(at)))


def check_reasoning_model(body: Json) -> None:
    """Checks the settings that reasoning models do not take.

    :raises Refused: `max_tokens` or a temperature is set.
    """
    if body.get("max_tokens") is not None:
        message = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        raise Refused(400, message, code="unsupported_parameter", param="max_tokens")
    if body.get("temperature") not in (None, 1):
        message = (
            f"Unsupported value: 'temperature' does not support {body['temperature']} with this model."
            " Only the default (1) value is supported."
        )
        raise Refused(400, message, code="unsupported_value", param="temperature")


# What nearly all of them refuse.


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


def invalid(message: str, param: str | None = None, code: str | None = None) -> Refused:
    """Returns the refusal of an invalid request."""
    return Refused(400, message, code=code, param=param)


def check(body: Json, settings: Settings) -> None:
    """:raises Refused: the request breaks a rule."""
    if not isinstance(body.get("model"), str):
        raise invalid("you must provide a model parameter")
    messages = check_list(body)
    for at, message in enumerate(messages):
        check_message(message, f"messages[{at}]")
    check_pairs(messages)
    check_tools(body)
    check_choice(body)
    if body["model"].startswith("deepseek"):
        check_deepseek(messages)
    if settings.strict:
        check_strictly(body, messages)
    if settings.template:
        check_template(messages)


def check_list(body: Json) -> Sequence[Json]:
    """Returns the messages.

    :raises Refused: there are none, or they are not a list of objects.
    """
    messages = body.get("messages")
    if messages is None:
        raise invalid("Missing required parameter: 'messages'.", "messages", "missing_required_parameter")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise invalid("Invalid type for 'messages': expected an array of objects.", "messages", "invalid_type")
    if not messages:
        raise invalid("Invalid 'messages': empty array. Expected at least one message.", "messages", "empty_array")
    return messages


# Messages...


def check_message(message: Json, path: str) -> None:
    """One message by itself.

    :raises Refused: its role, content or calls are not valid.
    """
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        allowed = ", ".join(f"'{each}'" for each in ROLES)
        raise invalid(f"Invalid value: '{role}'. Supported values are: {allowed}.", f"{path}.role", "invalid_value")
    calls = objects(message, "tool_calls")
    if content is None and not (role == "assistant" and (calls or message.get("refusal"))):
        raise invalid("Invalid value for 'content': expected a string, got null.", f"{path}.content")
    if isinstance(content, list):
        for at, part in enumerate(content):
            check_part(part, role, f"{path}.content[{at}]")
    elif content is not None and not isinstance(content, str):
        raise invalid(f"Invalid type for '{path}.content'.", f"{path}.content", "invalid_type")
    for at, call in enumerate(calls):
        check_call(call, f"{path}.tool_calls[{at}]")


def check_part(part: Any, role: str, path: str) -> None:
    """Checks one part of a content.

    :raises Refused: a message of this *role* cannot have it, or its member is missing.
    """
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "image_url" and role != "user":
        raise invalid(
            f"Invalid '{path}'. Image URLs are only allowed for messages with role 'user', but this message with role"
            f" '{role}' contains an image URL.", path, "invalid_value",
        )  # fmt: skip
    if kind not in PARTS[role]:
        allowed = ", ".join(f"'{each}'" for each in PARTS[role])
        raise invalid(f"Invalid value: '{kind}'. Supported values are: {allowed}.", f"{path}.type", "invalid_value")
    if not isinstance(part.get(kind), SHAPES.get(kind, Mapping)):
        raise invalid(f"Missing required parameter: '{path}.{kind}'.", path, "missing_required_parameter")
    if kind == "image_url":
        check_image(part["image_url"], f"{path}.image_url.url")


def check_image(image: Json, path: str) -> None:
    """Checks an image's URL.

    :raises Refused: it is no URL, or a data URL of another media type.
    """
    url = image.get("url")
    if not isinstance(url, str):
        raise invalid(f"Missing required parameter: '{path}'.", path, "missing_required_parameter")
    if url.startswith("data:") and media_type_of(url) not in IMAGES:
        message = "You uploaded an unsupported image. Please make sure your image is valid."
        raise invalid(message, None, "invalid_image_format")
    if not url.startswith(("data:", "http://", "https://")):
        raise invalid(f"Invalid '{path}'. Expected a valid URL.", path, "invalid_value")


def check_call(call: Json, path: str) -> None:
    """Checks one tool call.

    :raises Refused: its id, type, name or arguments are missing.
    """
    kind = call.get("type")
    if not isinstance(call.get("id"), str) or not call["id"]:
        raise invalid(f"Missing required parameter: '{path}.id'.", f"{path}.id", "missing_required_parameter")
    if kind not in ("function", "custom") or not isinstance(call.get(kind), Mapping):
        raise invalid(f"Missing required parameter: '{path}.type'.", f"{path}.type", "missing_required_parameter")
    for member in ("name", "input" if kind == "custom" else "arguments"):
        if not isinstance(call[kind].get(member), str):
            raise invalid(f"Invalid type for '{path}.{kind}.{member}': expected a string.", path, "invalid_type")


def check_pairs(messages: Sequence[Json]) -> None:
    """The outputs of an assistant's calls stand directly after them, one for each.

    :raises Refused: they do not.
    """
    open_ids: list[str] = []
    for at, message in enumerate(messages):
        if message["role"] == "tool":
            if message.get("tool_call_id") not in open_ids:
                raise invalid(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with"
                    " 'tool_calls'.", f"messages.[{at}].role",
                )  # fmt: skip
            open_ids.remove(message["tool_call_id"])
            continue
        check_answered(open_ids, at)
        open_ids = [call["id"] for call in objects(message, "tool_calls")]
        if len(set(open_ids)) < len(open_ids):
            raise invalid(f"Duplicate value for 'tool_call_id' in messages[{at}].", f"messages.[{at}].tool_calls")
    check_answered(open_ids, len(messages))


def check_answered(open_ids: Sequence[str], at: int) -> None:
    """Checks that no call is open where message *at* begins.

    :raises Refused: one is.
    """
    if open_ids:
        raise invalid(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each"
            f" 'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(open_ids)}",
            f"messages.[{at}].role",
        )


# Tools...


def check_tools(body: Json) -> None:
    """Checks the list of tools.

    :raises Refused: it is no list, or a tool is not valid.
    """
    tools = body.get("tools")
    if tools is not None and not isinstance(tools, list):
        raise invalid("Invalid type for 'tools': expected an array.", "tools", "invalid_type")
    for at, tool in enumerate(tools or []):
        check_tool(tool, f"tools[{at}]")


def check_tool(tool: Any, path: str) -> None:
    """Checks one tool; OpenRouter's own pass.

    :raises Refused: its type or name is not valid.
    """
    kind = kind_of(tool) if isinstance(tool, Mapping) else None
    if str(kind).startswith(ROUTERS):
        return
    if kind not in ("function", "custom"):
        message = f"Invalid value: '{kind}'. Supported values are: 'function' and 'custom'."
        raise invalid(message, f"{path}.type", "invalid_value")
    name = (tool.get(kind) or {}).get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        message = f"Invalid '{path}.{kind}.name': string does not match the pattern '^[a-zA-Z0-9_-]{{1,64}}$'."
        raise invalid(message, f"{path}.{kind}.name", "invalid_value")


def check_choice(body: Json) -> None:
    """What names tools has some to name.

    :raises Refused: there are no tools, or not the ones that are named.
    """
    tools = body.get("tools")
    for member in ("tool_choice", "parallel_tool_calls"):
        if body.get(member) is not None and not tools:
            raise invalid(f"'{member}' is only allowed when 'tools' are specified.", member)
    offered = {tool.name for tool in tools_of(body)}
    for name in chosen(body.get("tool_choice")):
        if name not in offered:
            raise invalid(f"Tool choice '{name}' not found in 'tools' parameter.", "tool_choice")


def chosen(choice: Any) -> Iterator[Any]:
    """Yields the names in `tool_choice`.

    :raises Refused: `tool_choice` has no form that is known.
    """
    if choice in (None, "none", "auto", "required", "any"):  # Mistral says `any`
        return
    kind = kind_of(choice) if isinstance(choice, Mapping) else None
    value = choice.get(kind) if isinstance(choice, Mapping) else None
    if not isinstance(value, Mapping) or kind not in ("function", "custom", "allowed_tools"):
        raise invalid(f"Invalid value: '{kind}'.", "tool_choice", "invalid_value")
    if kind == "allowed_tools":
        yield from ((tool.get(str(tool.get("type"))) or {}).get("name") for tool in objects(value, "tools"))
    else:
        yield value.get("name")


# Some servers and models...


def check_deepseek(messages: Sequence[Json]) -> None:
    """DeepSeek's models want back what they thought before they called a tool; an empty text will do.

    :raises Refused: a call comes without it.
    """
    for at, message in enumerate(messages):
        if objects(message, "tool_calls") and not isinstance(message.get("reasoning_content"), str):
            raise invalid(f"Missing `reasoning_content` field in the assistant message at message index {at}.")


def check_template(messages: Sequence[Json]) -> None:
    """One system message, at the beginning; something that the user said; arguments that are an object.

    :raises Refused: the template would fail.
    """
    if any(message["role"] in ("system", "developer") for message in messages[1:]):
        raise template_error("System message must be at the beginning.")
    if not any(message["role"] == "user" for message in messages):
        raise template_error("No user query found in messages.")
    for message in messages:
        for call in objects(message, "tool_calls"):
            if call["type"] == "function" and not is_object(call["function"]["arguments"]):
                raise template_error("Can only get item pairs from a mapping.")


def template_error(message: str) -> Refused:
    """Returns the refusal of a chat template, as vLLM writes it."""
    return Refused(400, message, type="BadRequestError", code=None)


def is_object(text: str) -> bool:
    """Returns whether *text* is a JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def kind_of(tool: Mapping[str, Any]) -> Any:
    """Returns the type of a tool or a choice; some servers take functions that do not say so."""
    return tool.get("type") or ("function" if "function" in tool else None)


def tools_of(body: Mapping[str, Any]) -> Iterator[Tool]:
    """Yields the functions and custom tools of a request; those that the server would run are none."""
    for tool in objects(body, "tools"):
        kind = kind_of(tool)
        if kind in ("function", "custom"):
            yield Tool(tool[kind]["name"], tool[kind].get("parameters") or {}, kind == "custom")
