"""What an OpenAPI page says of the gateway's paths, beyond the models."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any, NamedTuple

from ..schema import (
    CompactedResponse,
    DeletedResponse,
    ErrorEnvelope,
    InputItemList,
    InputTokens,
    Response,
    ResponsesRequest,
)
from ..schema.items import Json, WireModel


class Operation(NamedTuple):
    """One method of one path. *model* is what it answers, *asks* whether its body is that of a response's request."""

    method: str
    path: str
    name: str
    description: str
    model: type[WireModel] | None = None
    asks: bool = False


ONE = "/responses/{response_id}"
TALK = "/conversations/{conversation_id}"

OPERATIONS = (
    Operation(
        "POST", "/responses", "create_response",
        'Create a model response. With `"stream": true` it comes as server-sent events.', Response, True,
    ),
    Operation(
        "POST", "/responses/compact", "compact_response",
        "Bring a conversation into compact form.", CompactedResponse, True,
    ),
    Operation(
        "POST", "/responses/input_tokens", "count_input_tokens",
        "Count the tokens of an input without answering it.", InputTokens, True,
    ),
    Operation("GET", ONE, "retrieve_response", "Give a stored response; `stream=true` replays its events.", Response),
    Operation("DELETE", ONE, "delete_response", "Delete a stored response.", DeletedResponse),
    Operation("POST", ONE + "/cancel", "cancel_response", "Cancel a response in the background.", Response),
    Operation("GET", ONE + "/input_items", "list_input_items", "List a response's input.", InputItemList),
    Operation("GET", "/models", "list_models", "List the models that the caller may name."),
    Operation("GET", "/models/{model}", "retrieve_model", "One of those models."),
    Operation("POST", "/conversations", "create_conversation", "Begin a conversation."),
    Operation("GET", TALK, "retrieve_conversation", "Give a conversation's metadata."),
    Operation("POST", TALK, "update_conversation", "Change a conversation's metadata."),
    Operation("DELETE", TALK, "delete_conversation", "Delete a conversation; its items stay."),
    Operation("GET", TALK + "/items", "list_conversation_items", "List a conversation's items."),
    Operation("POST", TALK + "/items", "create_conversation_items", "Add items to a conversation."),
    Operation("GET", TALK + "/items/{item_id}", "retrieve_conversation_item", "One item of a conversation."),
    Operation("DELETE", TALK + "/items/{item_id}", "delete_conversation_item", "Take an item out of a conversation."),
)  # fmt: skip
STREAMED = ("create_response", "retrieve_response")

HINTS: list[Json] = [
    {
        "name": "x-gomodel-provider",
        "in": "header",
        "required": False,
        "schema": {"type": "string"},
        "description": "Which provider should answer: the same hint as the body's `provider`. Sources must agree.",
    },
    {
        "name": "provider",
        "in": "query",
        "required": False,
        "schema": {"type": "string"},
        "description": "The same hint once more, for clients that can set neither body nor headers.",
    },
]

IN_PATH = {
    "response_id": "The `id` of a response.",
    "conversation_id": "The `id` of a conversation.",
    "item_id": "The `id` of an item.",
    "model": "The name of a model; it may hold slashes.",
}

ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorEnvelope, "description": "The request is malformed, or a hint is unknown or contradicted."},
    401: {"model": ErrorEnvelope, "description": "Authentication is required."},
    403: {"model": ErrorEnvelope, "description": "The caller may not do this."},
    404: {"model": ErrorEnvelope, "description": "No such model or response is known to the caller."},
    413: {"model": ErrorEnvelope, "description": "The body is too large."},
    415: {"model": ErrorEnvelope, "description": "The body is not `application/json` in UTF-8."},
    429: {"model": ErrorEnvelope, "description": "Too many requests; see `retry-after`."},
    500: {"model": ErrorEnvelope, "description": "The routing policy failed."},
    501: {"model": ErrorEnvelope, "description": "The provider cannot do this."},
    502: {"model": ErrorEnvelope, "description": "The provider failed, or refused the gateway's credential."},
    503: {"model": ErrorEnvelope, "description": "Overloaded, or shutting down; see `retry-after`."},
    504: {"model": ErrorEnvelope, "description": "The provider or the policy took too long."},
}

EXAMPLES: Json = {
    "text": {"summary": "A question", "value": {"model": "gpt-5-mini", "input": "Why is the sky blue?"}},
    "stream": {
        "summary": "The same as events",
        "value": {"model": "gpt-5-mini", "input": "Why is the sky blue?", "stream": True},
    },
    "hint": {
        "summary": "From a chosen provider",
        "value": {"model": "claude-sonnet-4-5", "input": "Why is the sky blue?", "provider": "claude"},
    },
    "tool": {
        "summary": "With a tool of yours",
        "value": {
            "model": "gpt-5-mini",
            "input": "Will I need an umbrella in Oslo?",
            "tools": [
                {
                    "type": "function",
                    "name": "forecast",
                    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
                }
            ],
        },
    },
}

STREAM = """Server-sent events, each with a `type` and a rising `sequence_number`: `response.created`,
`response.in_progress`, then `response.output_item.added`, deltas and `response.output_item.done` for each item, and one
of `response.completed`, `response.incomplete` and `response.failed` at the end. A failure in mid-stream is an `error`
event before `response.failed`. Lines that begin with a colon are heartbeats."""

EVENTS = """event: response.output_text.delta
data: {"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_1","output_index":0,"delta":"Light"}

"""


def documentation(operation: Operation) -> tuple[dict[int | str, dict[str, Any]], Json]:
    """Returns the *responses* and *openapi_extra* of a FastAPI route."""
    answer: dict[str, Any] = {"description": "The answer."}
    if operation.model is not None:
        answer["model"] = operation.model
    if operation.name in STREAMED:
        content = {"schema": {"type": "string", "description": STREAM}, "example": EVENTS}
        answer |= {"description": "The response, or its events.", "content": {"text/event-stream": content}}
    extra: Json = {"parameters": [*(HINTS if "/responses" in operation.path else ()), *_in_path(operation.path)]}
    if operation.asks:
        content = {"schema": request_schema(), "examples": EXAMPLES}
        extra["requestBody"] = {"required": True, "content": {"application/json": deepcopy(content)}}
    elif operation.method == "POST" and "/conversations" in operation.path:
        extra["requestBody"] = {"content": {"application/json": {"schema": {"type": "object"}}}}
    return {200: answer, **ERRORS}, extra


def _in_path(path: str) -> list[Json]:
    where = {"in": "path", "required": True, "schema": {"type": "string"}}
    return [{"name": name, **where, "description": IN_PATH[name]} for name in IN_PATH if f"{{{name}}}" in path]


@cache
def request_schema() -> Json:
    """Returns `ResponsesRequest` as JSON Schema that stands by itself: a page of the host's has components of its own,
    among which ours could collide.
    """
    whole = ResponsesRequest.model_json_schema()
    definitions = whole.pop("$defs")
    inlined: Json = _inlined(whole, definitions, ())
    return inlined


def _inlined(node: Any, definitions: Json, inside: tuple[str, ...]) -> Any:
    """Returns *node* with what it refers to put in its place; a definition inside itself becomes any object."""
    if isinstance(node, list):
        return [_inlined(one, definitions, inside) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" not in node:
        return {name: _inlined(one, definitions, inside) for name, one in node.items() if name != "discriminator"}
    name = node["$ref"].rpartition("/")[2]
    if name in inside:
        return {"type": "object"}
    around = {key: value for key, value in node.items() if key != "$ref"}
    return {**_inlined(definitions[name], definitions, (*inside, name)), **around}
