"""A request that no guard is asked about is asked as if there were none, also beside those that are."""

from __future__ import annotations

import json
from typing import Any

from gomodel_asgi import Gateway, MemoryStore
from gomodel_asgi.guards import Guard
from gomodel_asgi.observers import Guarded
from gomodel_asgi.routing.request import RoutingRequest
from gomodel_asgi.testing import Answer, FakeProvider

from ..support.driving import ask
from ..support.guarding import SECRET, mask
from ..support.lab import ONCE
from ..support.seen import Seen, native

GUARDED = {"instructions": "Guard."}


def is_guarded(request: RoutingRequest) -> bool:
    return request.body.get("instructions") == "Guard."


def gateway_of(provider: FakeProvider, *, observers: Any = (), **options: Any) -> Gateway:
    guard = Guard("keys", input=mask, output=mask, when=is_guarded)
    return Gateway(providers=[native(provider)], guards=[guard], retries=ONCE, observers=observers, **options)


async def test_an_upstream_keeps_the_answers_that_no_guard_looks_at_and_no_others(provider: FakeProvider) -> None:
    store = MemoryStore()
    async with gateway_of(provider, store=store) as gateway:
        for kept in (True, False, True, False):
            provider.script(Answer(text=SECRET))
            answer = await ask(gateway, {"model": "m", "input": "Hello", **({} if kept else GUARDED)})
            body = provider.requests[-1].json()
            assert answer.status == 200 and body.get("store", True) is kept
            assert (SECRET in answer.content.decode()) is kept
            path = f"/v1/responses/{answer.json()['id']}"
            sent = len(provider.requests)
            again = await ask(gateway, path=path, method="GET")
            assert again.status == 200 and (len(provider.requests) > sent) is kept


async def test_a_turn_that_is_guarded_goes_on_from_one_that_is_not_and_masks_what_it_says(
    provider: FakeProvider,
) -> None:
    async with gateway_of(provider) as gateway:
        provider.script(Answer(text=f"It is {SECRET}."), Answer(text="Yes."), Answer(text="No."))
        first = (await ask(gateway, {"model": "m", "input": "Hello"})).json()
        second = await ask(gateway, {**GUARDED, "model": "m", "input": "Is it?", "previous_response_id": first["id"]})
        assert second.status == 200, second.content
        sent = json.dumps(provider.requests[-1].json())
        assert SECRET not in sent and "It is [key]." in sent
        third = await ask(gateway, {"model": "m", "input": "And?", "previous_response_id": second.json()["id"]})
        assert third.status == 200, third.content
        assert "Is it?" in json.dumps(provider.requests[-1].json())


async def test_when_is_asked_once_for_each_request(provider: FakeProvider) -> None:
    asked: list[str] = []

    def when(request: RoutingRequest) -> bool:
        asked.append(request.operation)
        return True

    seen = Seen()
    guard = Guard("keys", input=mask, output=mask, when=when)
    async with Gateway(providers=[native(provider)], guards=[guard], retries=ONCE, observers=[seen]) as gateway:
        first = (await ask(gateway, {"model": "m", "input": "Hello"})).json()
        await ask(gateway, {"model": "m", "input": "Hello", "previous_response_id": first["id"]})
    assert asked == ["create", "create"] and len(seen.of(Guarded)) >= 4
