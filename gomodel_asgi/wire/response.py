"""The response object as JSON, with the events that a whole one could have come in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from ..errors import GatewayError, UpstreamRejected
from .items import PART_EVENTS, PLACES, TEXT_OF_ITEM, TEXT_OF_PART

Json = dict[str, Any]

DONE = b"data: [DONE]\n\n"
FRAME = b"event: %s\ndata: %s\n\n"
"""A server-sent event: its name, which is its type, and its JSON."""

DEFAULTS: Json = {
    "background": False,
    "frequency_penalty": 0.0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
}
"""Members of a response that repeat the request, and their values where the request is silent (Open Responses,
ResponseResource: all of them are required)."""


OPTIONAL_ECHO = ("conversation", "user", "prompt", "prompt_cache_retention")
REPEATED = frozenset({*DEFAULTS, *OPTIONAL_ECHO})


Reason = Literal["max_output_tokens", "max_messages", "content_filter", "steered"]
"""Why a response is incomplete (OpenAI, Responses API reference); SDKs take it for an enumeration."""


CODES = frozenset(
    {
        "server_error", "rate_limit_exceeded", "invalid_prompt", "data_residency_mismatch", "bio_policy",
        "misalignment_policy_violation", "vector_store_timeout", "invalid_image", "invalid_image_format",
        "invalid_base64_image", "invalid_image_url", "image_too_large", "image_too_small", "image_parse_error",
        "image_content_policy_violation", "invalid_image_mode", "image_file_too_large",
        "unsupported_image_media_type", "empty_image_file", "failed_to_download_image", "image_file_not_found",
        # Not among OpenAI's, but final to Codex, which repeats a request after any other.
        "context_length_exceeded", "insufficient_quota", "usage_not_included"
    },
)  # fmt: skip
"""The codes that a response's `error` may have (OpenAI, Responses API reference); SDKs take it for an enumeration."""


encode = msgspec.json.Encoder().encode


def frame(event: Mapping[str, Any]) -> bytes:
    """*event* as one server-sent event, named by its type."""
    return FRAME % (event["type"].encode(), encode(event))


def added(first: Json, second: Json) -> Json:
    """Returns the usage of two answers together; both are usage objects of one API."""
    found = dict(first)
    for name, value in second.items():
        known = found.get(name)
        if isinstance(value, dict):
            found[name] = added(known if isinstance(known, dict) else {}, value)
        elif isinstance(value, list):
            found[name] = [*known, *value] if isinstance(known, list) else value
        elif isinstance(value, int):
            found[name] = value + (known if isinstance(known, int) else 0)
        elif known is None:
            found[name] = value
    return found


def error_event(error: GatewayError, sequence_number: int) -> Json:
    """Returns an `error` event in both spellings: OpenAI's flat members, and the nested object of other clients."""
    nested = error.payload["error"]
    assert isinstance(nested, dict)
    flat = {"code": nested["code"], "message": nested["message"], "param": nested["param"]}
    return {"type": "error", "sequence_number": sequence_number, **flat, "error": nested}


def response_error(error: GatewayError) -> Json:
    """Returns the `error` member of a failed response; a code that clients do not know becomes `server_error`."""
    return {"code": error.code if error.code in CODES else "server_error", "message": error.message}


def response_object(
    id: str, created_at: int, model: str, echo: Mapping[str, Any], stamp: str | None, public: Collection[str] = ()
) -> Json:
    """Returns a response that has just begun, with every member that Open Responses requires. *public* are the labels
    of those servers of tools whose whole address may be shown."""
    repeated: Json = {}
    for name, value in echo.items():
        if value is not None and name in REPEATED:
            repeated[name] = value
    response: Json = {"provider": stamp} if stamp else {}
    response |= {"id": id, "object": "response", "created_at": created_at, "status": "in_progress"}
    response |= {"completed_at": None, "error": None, "incomplete_details": None, "model": model, "output": []}
    response |= DEFAULTS | repeated | {"usage": None}
    response["reasoning"] = DEFAULTS["reasoning"] | response["reasoning"]
    response["text"] = _echoed_text(response["text"]) if "text" in repeated else dict(DEFAULTS["text"])
    response["tools"] = [_echoed_tool(tool, public) for tool in response["tools"]] if "tools" in repeated else []
    return response


def _echoed_text(text: Any) -> Any:
    """*text* with the members of its format that Open Responses requires."""
    if not isinstance(text, dict):
        return text
    format = text.get("format") or DEFAULTS["text"]["format"]
    if isinstance(format, dict) and format.get("type") == "json_schema":
        format = {"description": None, **format, "strict": bool(format.get("strict"))}
    return {**text, "format": format}


def _echoed_tool(tool: Any, public: Collection[str]) -> Any:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        return scrubbed(tool, public)
    return {"description": None, "parameters": None, "strict": None, **tool}


# A finished response as the event stream that it could have come in.


PREFIX = "response."
"""Begins the type of every event but `error`."""
TERMINAL = {"response.completed": "completed", "response.failed": "failed", "response.incomplete": "incomplete"}
"""The events that end a response, and the status that it then has."""
TERMINAL_OF_STATUS = {"incomplete": "response.incomplete", "failed": "response.failed", "cancelled": "response.failed"}
WHOLE_CALLS = ("function_call", "custom_tool_call")
CONTAINERS = {"message": "content", "reasoning": "summary"}
"""The member that holds the parts of an item, by its type."""


def events_of(response: Json) -> list[Json]:
    """Returns every event of *response*, numbered from 0, in the order of the event grammar."""
    events = [*_events(response)]
    return [{"type": event.pop("type"), "sequence_number": number, **event} for number, event in enumerate(events)]


def stream_of(response: Json) -> bytes:
    """Returns `events_of` as bytes, with `[DONE]`."""
    return b"".join(map(frame, events_of(response))) + DONE


def _events(response: Json) -> Iterator[Json]:
    begun = {**response, "status": "in_progress", "output": [], "usage": None, "error": None, "completed_at": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(response.get("output") or ()):
        yield from _item(index, item)
    if response.get("status") == "failed":
        error = response.get("error") or {}
        failure = UpstreamRejected(error.get("message") or "The response failed.", code=error.get("code"))
        event = error_event(failure, 0)
        yield {name: value for name, value in event.items() if name != "sequence_number"}
    yield {"type": TERMINAL_OF_STATUS.get(response.get("status", ""), "response.completed"), "response": response}


def _item(index: int, item: Json) -> Iterator[Json]:
    type, place = item.get("type", ""), {"item_id": item.get("id"), "output_index": index}
    begun = {**item, "status": "in_progress"}
    if container := CONTAINERS.get(type):
        begun[container] = []
    kind = TEXT_OF_ITEM[type] if type in WHOLE_CALLS else None
    if kind is not None:
        begun[kind.field] = ""
    yield {"type": "response.output_item.added", "output_index": index, "item": begun}
    if container:
        for number, part in enumerate(item.get(container) or ()):
            yield from _part({**place, PLACES[container]: number}, container, part)
    if kind is not None:
        text = item.get(kind.field, "")
        yield {"type": kind.delta, **place, "delta": text}
        yield {"type": kind.done, **place, "name": item.get("name"), kind.field: text}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _part(place: Json, container: str, part: Json) -> Iterator[Json]:
    kind = TEXT_OF_PART.get("summary_text" if container == "summary" else part.get("type", ""))
    listing = part.get("type") == "output_text"
    cleared = {**({} if kind is None else {kind.field: ""}), **({"annotations": []} if listing else {})}
    yield {"type": f"{PART_EVENTS[container]}.added", **place, "part": {**part, **cleared}}
    if kind is not None:
        text, lists = part.get(kind.field, ""), {"logprobs": part.get("logprobs") or []} if listing else {}
        yield {"type": kind.delta, **place, "delta": text, **lists}
        yield {"type": kind.done, **place, kind.field: text, **lists}
    yield {"type": f"{PART_EVENTS[container]}.done", **place, "part": part}


# A client's declaration of a tool as it may be shown, kept and logged: without what is secret in it.


SECRET = frozenset({"authorization", "domain_secrets"})
"""Members that are left out wherever they stand in a declaration."""


def scrubbed(tool: Any, public: Collection[str] = ()) -> Any:
    """*tool* without its credentials: `authorization` and `domain_secrets` gone, `headers` null, `server_url` without
    userinfo, query and fragment, and without its path, which may be a token, unless its label is *public*."""
    if not isinstance(tool, dict):
        return tool
    shown: Json = _without_secrets(tool)
    if shown.get("type") == "mcp":
        if shown.get("headers") is not None:
            shown["headers"] = None
        if shown.get("server_url") is not None:
            shown["server_url"] = shown_url(shown["server_url"], with_path=shown.get("server_label") in public)
    return shown


def shown_url(url: Any, *, with_path: bool) -> str | None:
    """Returns what may be shown of *url*: scheme, host and port, and its path if that is no secret; None if it is no
    URL."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return None
    if not parts.scheme or not parts.hostname:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}{parts.path if with_path else ''}"


def credentials_of(tool: Any, *, with_path: bool = False) -> tuple[str, ...]:
    """What `scrubbed` takes out of *tool*, as far as it is text: to black it out wherever somebody quotes it. The path
    of its `server_url` counts unless it may stay (*with_path*)."""
    if not isinstance(tool, dict):
        return ()
    headers = tool.get("headers")
    found = [tool.get("authorization"), *(headers.values() if isinstance(headers, dict) else ())]
    if isinstance(url := tool.get("server_url"), str) and shown_url(url, with_path=with_path) != url:
        found.append(url)
    container = tool.get("container")
    policy = container.get("network_policy") if isinstance(container, dict) else None
    secrets = policy.get("domain_secrets") if isinstance(policy, dict) else None
    found += [one.get("value") for one in secrets or () if isinstance(one, dict)] if isinstance(secrets, list) else []
    return tuple(value for value in found if isinstance(value, str))


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_secrets(member) for name, member in value.items() if name not in SECRET}
    return [_without_secrets(member) for member in value] if isinstance(value, list) else value
