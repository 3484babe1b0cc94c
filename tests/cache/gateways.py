"""A gateway with a cache in front of a fake upstream, and its client."""

from __future__ import annotations

from typing import Any

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.cache import ResponseCache
from gomodel_asgi.testing import Answer, FakeProvider, ToolCall

from ..support.driving import Caller, ask
from ..support.lab import ONCE

HELLO: dict[str, Any] = {"model": "m", "input": "Hello"}
KEPT_NOWHERE = HELLO | {"store": False}
SAID = Answer(reasoning="Hm.", text="Good day.", calls=(ToolCall("look", {"at": "it"}),))
LOOK = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}, "strict": False}


async def always(request: Any) -> bool:
    return True


def gateway_of(upstream: FakeProvider, *observers: Any, cache: ResponseCache | None = None, **options: Any) -> Gateway:
    house = Provider("house", upstream.base_url, dialect=upstream.dialect, api_key="sk-canary-house-key")
    options.setdefault("providers", [house])
    options.setdefault("tenant", lambda scope: dict(scope["headers"]).get(b"x-tenant", b"").decode() or None)
    cache = ResponseCache(when=always) if cache is None else cache
    return Gateway(observers=observers, cache=cache, retries=ONCE, **options)


async def asked(gateway: Gateway, body: Any, *headers: tuple[bytes, bytes], tenant: str = "") -> Caller:
    given = (b"content-type", b"application/json"), (b"x-tenant", tenant.encode()), *headers
    caller = await ask(gateway, body, headers=given)
    assert caller.raised is None
    return caller


def result(caller: Caller) -> str | None:
    return caller.headers.get("x-gomodel-cache")
