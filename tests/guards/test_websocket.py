"""On a WebSocket each turn is guarded as a request is, and the connection keeps of it what the guards let pass."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.guards import Block, Guard, Texts
from gomodel_asgi.observers import Guarded
from gomodel_asgi.testing import Answer, FakeProvider

from ..support.guarding import MASKED, SAID, SECRET, broken, mask, refuse
from ..support.lab import ONCE, until
from ..support.seen import Seen, native, texts
from ..support.websocket_client import ENDS, connected
from ..support.websocket_upstream import running


def gateway_of(provider: FakeProvider, dialect: Any, *guards: Guard, **options: Any) -> Gateway:
    return Gateway(providers=[native(provider, dialect=dialect)], guards=guards, retries=ONCE, **options)


@pytest.mark.parametrize("hold", [20, "all"])
@pytest.mark.parametrize("store", [True, False])
async def test_a_turn_is_masked_both_ways_and_so_is_what_is_kept_of_it(
    provider: FakeProvider, dialect: str, hold: Any, store: bool
) -> None:
    seen = Seen()
    gateway = gateway_of(provider, dialect, Guard("keys", input=mask, output=mask, hold=hold), observers=[seen])
    async with gateway, connected(gateway) as client:
        provider.script(Answer(text=SAID), Answer(text="second"))
        await client.create(SAID, store=store)
        events = await client.until(*ENDS)
        first = events[-1]["response"]
        assert first["output"][0]["content"][0]["text"] == MASKED and SECRET not in json.dumps(events)
        said = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
        assert said == MASKED
        assert [event["sequence_number"] for event in events] == [*range(len(events))]
        await client.talk("And?", store=store, previous_response_id=first["id"])
    last = json.dumps(provider.requests[-1].json())
    assert last.count("[key]") == 2 and SECRET not in " ".join(json.dumps(one.json()) for one in provider.requests)
    assert SECRET not in texts(seen.records)
    assert [record.verdict for record in seen.of(Guarded)][:2] == ["replaced", "replaced"]


async def test_a_request_that_is_blocked_is_an_error_and_the_connection_stays(
    provider: FakeProvider, dialect: str
) -> None:
    gateway = gateway_of(provider, dialect, Guard("keys", input=refuse))
    async with gateway, connected(gateway) as client:
        await client.create(SAID)
        error = await client.error()
        assert (error["status"], error["error"]["code"]) == (400, "content_blocked")
        assert error["error"]["message"] == "No keys here." and not provider.requests
        assert (await client.talk("Hello"))["status"] == "completed"


async def test_a_reply_that_is_held_whole_and_blocked_is_an_error(provider: FakeProvider, dialect: str) -> None:
    gateway = gateway_of(provider, dialect, Guard("keys", output=refuse))
    async with gateway, connected(gateway) as client:
        provider.script(Answer(text=SAID))
        await client.create("Hello")
        error = await client.error()
        assert (error["status"], error["error"]["code"]) == (400, "content_blocked")
        assert (await client.talk("Hello"))["status"] == "completed"


async def test_a_reply_that_is_blocked_on_its_way_is_incomplete_and_goes_on_from_what_had_left(
    provider: FakeProvider, dialect: str
) -> None:
    gateway = gateway_of(provider, dialect, Guard("keys", output=refuse, hold=20))
    async with gateway, connected(gateway) as client:
        provider.script(Answer(text="Nothing of it is secret, until now: " + SECRET + " and more"))
        response = await client.talk("Hello", store=False)
        assert response["status"] == "incomplete"
        assert response["incomplete_details"] == {"reason": "content_filter"}
        await client.talk("And?", store=False, previous_response_id=response["id"])
    last = json.dumps(provider.requests[-1].json())
    assert "Nothing of it" in last and SECRET not in last


@pytest.mark.parametrize("stage", ["input", "output"])
async def test_a_turn_passes_no_guard_that_fails(provider: FakeProvider, dialect: str, stage: str) -> None:
    gateway = gateway_of(provider, dialect, Guard("keys", **{stage: broken}))  # type: ignore[arg-type]
    async with gateway, connected(gateway) as client:
        await client.create("Hello")
        error = await client.error()
        assert (error["status"], error["error"]["code"]) == (503, "guard_unavailable")


async def test_a_turn_that_is_guarded_masks_what_the_connection_kept_of_one_that_was_not(
    provider: FakeProvider, dialect: str
) -> None:
    guard = Guard("keys", input=mask, output=mask, when=lambda request: request.model == "guarded")
    gateway = gateway_of(provider, dialect, guard)
    async with gateway, connected(gateway) as client:
        provider.script(Answer(text=SAID))
        first = await client.talk(SAID, store=False)
        await client.talk("And?", model="guarded", store=False, previous_response_id=first["id"])
    assert SECRET not in json.dumps(provider.requests[-1].json())
    assert json.dumps(provider.requests[-1].json()).count("[key]") == 2


async def test_a_client_that_leaves_while_a_guard_is_asked_ends_its_turn(provider: FakeProvider, dialect: str) -> None:
    asked, cancelled = anyio.Event(), anyio.Event()

    async def endless(given: Texts) -> None:
        asked.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    gateway = gateway_of(provider, dialect, Guard("keys", output=endless, timeout=100))
    async with gateway, connected(gateway) as client:
        await client.create("Hello")
        await asked.wait()
        await client.leave()
        assert cancelled.is_set()
    await until(lambda: not provider.open_connections)


# Upstreams with a socket of their own...


def socketed(base_url: str) -> Provider:
    return Provider("up", base_url, websocket=True, api_key="sk-canary-house-key")


@pytest.mark.parametrize("dialect", ["responses"])
async def test_an_upstreams_own_socket_remembers_nothing_that_is_guarded(provider: FakeProvider, dialect: str) -> None:
    provider.script(Answer(text=SAID))
    gateway = Gateway(providers=[socketed(provider.base_url)], guards=[Guard("keys", output=mask)], retries=ONCE)
    async with gateway, connected(gateway) as client:
        first = await client.talk("Hello", store=False)
        await client.talk("And?", store=False, previous_response_id=first["id"])
    assert "[key]" in json.dumps(provider.requests[-1].json()), "asked over HTTP, with what was said before"


@pytest.mark.parametrize("dialect", ["responses"])
async def test_what_steers_a_response_passes_the_guards(dialect: str) -> None:
    with running() as upstream:
        gateway = Gateway(
            providers=[socketed(upstream.base_url)],
            guards=[Guard("keys", input=mask), Guard("strict", input=block_bombs)],
            retries=ONCE,
        )
        async with gateway, connected(gateway) as client:
            first = await client.talk("Hello", store=False)
            steer = {"type": "response.steer", "previous_response_id": first["id"]}
            await client.send({**steer, "input": SAID})
            assert (await client.event())["type"] == "response.steer.accepted"
            assert upstream.frames[-1]["input"] == MASKED
            await client.send({**steer, "input": "a bomb"})
            refused = await client.event()
            assert refused["type"] == "response.steer.failed" and refused["error"]["code"] == "content_blocked"
            assert len(upstream.frames) == 2


async def block_bombs(given: Texts) -> Block | None:
    return Block() if "bomb" in "".join(given.texts) else None
