"""What a request may use is estimated from its bytes and from what it asks for, at the dearest model of its chain."""

from __future__ import annotations

import base64
import os
from typing import Any

import anyio
import pytest

from gomodel_asgi import Gateway, Target
from gomodel_asgi.errors import InvalidRequest, QuotaExceeded
from gomodel_asgi.observers import Usage
from gomodel_asgi.quotas.estimate import Weights
from gomodel_asgi.testing import FakeProvider, Stall

from ..support.driving import Caller, ask, encoded, scope_of
from ..support.lab import ONCE
from ..support.seen import native
from ..support.spending import done, left, month, released, settled
from ..support.websocket_client import connected

HELLO = {"model": "m", "input": "Hello"}


def tokens(body: Any) -> int:
    return -(-len(encoded(body)) // 4)


async def held(provider: FakeProvider, gateway: Gateway, body: Any, unit: str = "tokens", **options: Any) -> int:
    """What a request holds while its upstream works on it."""
    provider.fail_next(Stall())
    count = len(provider.requests)
    async with anyio.create_task_group() as group:
        caller = Caller(scope_of(**options), [encoded(body)])
        group.start_soon(caller.run, gateway)
        await provider.received(count + 1)
        amount = (await left(gateway, unit)).held
        await released(provider, lambda: caller.complete)
    return int(amount * (1_000_000 if unit == "money" else 1))


def gateway_of(provider: FakeProvider, quotas: Any = None, **options: Any) -> Gateway:
    options.setdefault("providers", [native(provider)])
    return Gateway(retries=ONCE, quotas=quotas or month(), **options)


async def test_the_output_counts_as_far_as_it_is_bounded_or_expected(provider: FakeProvider) -> None:
    async with gateway_of(provider) as gateway:
        for cap, output in ((None, 4096), (10, 10), (100_000, 4096)):
            body = HELLO | ({} if cap is None else {"max_output_tokens": cap})
            assert await held(provider, gateway, body) == tokens(body) + output


async def test_the_worst_counts_all_of_the_output(provider: FakeProvider) -> None:
    async with gateway_of(provider, month(reserve="worst")) as gateway:
        body = HELLO | {"max_output_tokens": 100_000}
        assert await held(provider, gateway, body) == tokens(body) + 100_000


async def test_a_cap_that_the_policy_sets_counts_and_not_the_clients(provider: FakeProvider) -> None:
    capped = Target("fake", params={"max_output_tokens": 50})
    async with gateway_of(provider, month(reserve="worst"), policy=lambda request: capped) as gateway:
        body = HELLO | {"max_output_tokens": 100_000}
        assert await held(provider, gateway, body) == tokens(body) + 50


async def test_the_most_that_a_model_is_asked_for_counts_where_that_is_known() -> None:
    async with FakeProvider(dialect="anthropic").serve() as provider:
        one = [native(provider, dialect="anthropic")]
        async with gateway_of(provider, month(reserve="worst"), providers=one) as gateway:
            body = HELLO | {"model": "claude-sonnet-4-5"}
            assert await held(provider, gateway, body) == tokens(body) + 64_000
            assert provider.requests[0].json()["max_tokens"] == 64_000


def capped(cap: str) -> str:
    return f'{{"model": "claude-sonnet-4-5", "input": "Hi", "max_output_tokens": {cap}}}'


@pytest.mark.parametrize("cap", ["9999999999", "2e5", "200000.0"])
async def test_the_worst_is_never_less_than_what_an_upstream_is_asked_for(cap: str) -> None:
    async with FakeProvider(dialect="anthropic").serve() as provider:
        one = [native(provider, dialect="anthropic")]
        async with gateway_of(provider, month(tokens=100_000, reserve="worst"), providers=one) as gateway:
            with pytest.raises(QuotaExceeded):
                await gateway.respond(capped(cap))
            assert not provider.requests


@pytest.mark.parametrize("cap", ["0", "-1", "1.5", "1e999", '"5"', "true", "[]", "1" * 100])
async def test_what_is_no_number_of_tokens_bounds_nothing(provider: FakeProvider, cap: str) -> None:
    for one in (native(provider), native(provider, dialect="anthropic")):
        async with gateway_of(provider, month(reserve="worst"), providers=[one]) as gateway:
            with pytest.raises(InvalidRequest) as refused:
                await gateway.respond(capped(cap))
            assert refused.value.param == "max_output_tokens" and not provider.requests


async def test_a_number_of_tokens_is_read_however_it_is_written(provider: FakeProvider) -> None:
    async with gateway_of(provider, month(reserve="worst")) as gateway:
        for cap in ("20", "20.0", "2e1"):
            assert await held(provider, gateway, capped(cap)) == tokens(capped(cap)) + 20


async def test_media_counts_a_thousand_tokens_a_piece(provider: FakeProvider) -> None:
    image = "data:image/png;base64," + base64.b64encode(os.urandom(60_000)).decode()
    content = [{"type": "input_image", "image_url": image, "detail": "auto"}]
    body = {"model": "m", "input": [{"role": "user", "content": content}], "max_output_tokens": 16}
    async with gateway_of(provider) as gateway:
        assert 1000 < await held(provider, gateway, body) < 1100


async def test_the_dearest_of_a_chain_counts(provider: FakeProvider) -> None:
    chain = Target("fake", model="cheap", fallbacks=(Target("fake", model="dear"), Target("fake", model="m")))
    async with gateway_of(provider, policy=lambda request: chain) as gateway:
        body = HELLO | {"max_output_tokens": 100}
        assert await held(provider, gateway, body, "money") == (tokens(body) + 100) * 10


async def test_what_was_said_before_counts_where_it_is_known_here() -> None:
    async with FakeProvider(dialect="chat").serve() as provider:
        one = [native(provider, dialect="chat")]
        async with gateway_of(provider, providers=one, store=None) as gateway:
            long = "word " * 2000
            id = (await ask(gateway, HELLO | {"input": long})).json()["id"]
            await settled(gateway)
            body = HELLO | {"previous_response_id": id, "max_output_tokens": 16}
            assert await held(provider, gateway, body) > len(long) // 4


async def test_what_a_connection_remembers_counts(provider: FakeProvider) -> None:
    async with FakeProvider(dialect="chat").serve() as chat:
        one = [native(chat, dialect="chat")]
        async with gateway_of(chat, providers=one) as gateway, connected(gateway) as client:
            long = "word " * 2000
            first = await client.talk(long, store=False)
            await settled(gateway)
            chat.fail_next(Stall())
            await client.create("go on", previous_response_id=first["id"], store=False, max_output_tokens=16)
            await chat.received(2)
            assert (await left(gateway)).held > len(long) // 4
            await released(chat, lambda: client.messages[-1]["text"].startswith('{"type":"response.completed"'))


async def test_a_compaction_is_estimated_as_any_request(provider: FakeProvider) -> None:
    async with gateway_of(provider) as gateway:
        amount = await held(provider, gateway, HELLO, path="/v1/responses/compact")
        assert amount == tokens(HELLO) + 4096


# Weights...


def test_tokens_weigh_what_the_host_says() -> None:
    usage = Usage(
        input_tokens=100, cached_tokens=60, cache_write_tokens=10, output_tokens=50, reasoning_tokens=20
    )  # fmt: skip
    assert Weights(None).tokens(usage) == 150
    assert Weights({"cached": 0.1}).tokens(usage) == 96
    assert Weights({"input": 0, "cached": 0, "cache_write": 0, "output": 0, "reasoning": 1}).tokens(usage) == 20
    assert Weights({"output": "4", "reasoning": 4, "cache_write": 1.25}).tokens(usage) == 90 + 13 + 200


def test_weights_are_exact_and_the_sum_is_rounded_up() -> None:
    usage = Usage(input_tokens=30, cached_tokens=30)
    assert Weights({"cached": 0.1}).tokens(usage) == 3
    assert Weights({"cached": 0.1}).tokens(Usage(input_tokens=1, cached_tokens=1)) == 1


async def test_cached_tokens_are_booked_at_their_weight(provider: FakeProvider) -> None:
    details = {"cached_tokens": 80}
    usage = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110, "input_tokens_details": details}
    provider.script(done(0, 0, usage=usage))
    async with gateway_of(provider, month(weights={"cached": 0.1})) as gateway:
        await ask(gateway, HELLO)
        assert (await settled(gateway))[0] == 20 + 8 + 10
