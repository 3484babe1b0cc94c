"""A dialect of one's own: an upstream that speaks none of the known APIs, served as a complete Responses API.

    UPSTREAM=http://127.0.0.1:9000 uvicorn --app-dir examples own_dialect:app

The upstream here takes `POST /complete` with `{"engine", "prompt", "max", "live"}`. It answers `{"text", "tokens"}`, or
with `live` a stream of `data: {"piece"}` and at its end `data: {"tokens"}`. Errors are `{"problem": "…"}`.
"""

from __future__ import annotations

import json
import os
from typing import Any

from accounts import TokenBackend
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware

from gomodel_asgi import Gateway, GoModelMiddleware, Provider, policies
from gomodel_asgi.dialects import Call, Outgoing
from gomodel_asgi.errors import GatewayError, InvalidRequest, UpstreamRejected
from gomodel_asgi.wire.event_writer import Emitter
from gomodel_asgi.wire.items import Message
from gomodel_asgi.wire.usage import usage


class CompletionDialect:
    """Translates requests; it keeps nothing between calls. No network here: the gateway sends what `request` gives."""

    name = "completion"

    def request(self, call: Call) -> Outgoing:
        if call.body.get("tools") and call.unsupported != "drop":
            raise InvalidRequest("This provider has no tools.", param="tools", code="unsupported_parameter")
        body = {"engine": call.model, "prompt": _prompt(call.body), "live": call.stream}
        if call.body.get("max_output_tokens") is not None:
            body["max"] = call.body["max_output_tokens"]
        dropped = ("tools",) if call.body.get("tools") else ()
        return Outgoing("/complete", json.dumps(body).encode(), dropped=dropped, unsupported=dropped)

    def translator(self, call: Call, emitter: Emitter) -> CompletionTranslator:
        return CompletionTranslator(emitter)

    def error(self, status: int, body: bytes) -> GatewayError | None:
        try:
            problem = json.loads(body)["problem"]
        except (ValueError, KeyError, TypeError):
            return None
        return UpstreamRejected(str(problem), status=status)


class CompletionTranslator:
    """Tells the emitter what one reply says; the emitter writes the events, or the unary response."""

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter
        self.message: Message | None = None

    def feed(self, event: str, data: bytes) -> None:
        members = json.loads(data)
        text = members.get("piece", members.get("text"))
        if text is not None:
            if self.message is None:
                self.message = self.emitter.message()
            self.message.text(text)
        if "tokens" in members:
            self.emitter.usage(usage(input=members["tokens"][0], output=members["tokens"][1]), raw=members["tokens"])
            self.emitter.complete()

    def close(self) -> None:
        """A stream that ends without its `tokens` has been cut off: left open here, it is reported as truncated."""


def _prompt(body: Any) -> str:
    """The conversation as one text; content that is not text has no place in this API."""
    given = body.get("input") or ""
    turns = [{"role": "user", "content": given}] if isinstance(given, str) else given
    lines = [f"{turn.get('role', 'user')}: {_text(turn.get('content'), at)}" for at, turn in enumerate(turns)]
    return "\n".join(lines)


def _text(content: Any, at: int) -> str:
    parts = [{"text": content}] if isinstance(content, str) else content or []
    if not all(isinstance(part.get("text"), str) for part in parts):
        raise InvalidRequest("This provider reads text only.", param=f"input[{at}].content", code="unsupported_value")
    return "".join(part["text"] for part in parts)


upstream = Provider("inhouse", os.environ.get("UPSTREAM", "http://127.0.0.1:9000"), dialect=CompletionDialect())

app = Starlette(
    middleware=[
        Middleware(AuthenticationMiddleware, backend=TokenBackend()),
        Middleware(
            GoModelMiddleware,
            gateway=Gateway(providers=[upstream], policy=policies.authenticated(policies.hint)),
        ),
    ]
)
