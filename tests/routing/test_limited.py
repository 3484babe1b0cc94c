"""`policies.limited`: a policy that is asked at a rate."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from limits.aio.storage import MemoryStorage, RedisStorage
from redis.asyncio import BlockingConnectionPool

from gomodel_asgi import Gateway, Target, policies
from gomodel_asgi.testing import FakeProvider

from ..support.databases import RedisServer
from ..support.driving import ask
from ..support.seen import native

HELLO = {"model": "m", "input": "Hello"}


class Asked:
    """A policy that counts how often it is asked."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self, request: Any) -> Target:
        self.count += 1
        return Target("fake")


def gateway_of(provider: FakeProvider, policy: Any) -> Gateway:
    return Gateway(providers=[native(provider)], policy=policy, tenant=lambda scope: scope.get("tenant"))


async def test_a_policy_is_asked_at_its_rate_and_not_more_often(provider: FakeProvider) -> None:
    policy = Asked()
    async with gateway_of(provider, policies.limited(policy, "2/minute")) as gateway:
        answers = [await ask(gateway, HELLO) for _ in range(4)]

    assert [answer.status for answer in answers] == [200, 200, 429, 429] and policy.count == 2
    assert answers[2].error["code"] == "rate_limit_exceeded"
    assert answers[2].error["message"].startswith("Rate limit reached: 2/minute. Please try again in ")
    assert 0 < int(answers[2].headers["retry-after"]) <= 60


async def test_keys_are_counted_apart_and_within_their_tenant(provider: FakeProvider) -> None:
    policy = policies.limited(Asked(), "1/minute", key=lambda request: request.headers.get("x-user"))
    async with gateway_of(provider, policy) as gateway:
        for tenant in ("a", "b"):
            for user in (b"1", b"2"):
                headers = [(b"content-type", b"application/json"), (b"x-user", user)]
                answers = [await ask(gateway, HELLO, tenant=tenant, headers=headers) for _ in range(2)]
                assert [answer.status for answer in answers] == [200, 429]


async def test_without_a_key_callers_are_counted_apart(provider: FakeProvider) -> None:
    async with gateway_of(provider, policies.limited(Asked(), "1/minute")) as gateway:
        assert [(await ask(gateway, HELLO, tenant=tenant)).status for tenant in "aab"] == [200, 429, 200]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_storage_of_the_hosts_counts_for_several_gateways(
    provider: FakeProvider, redis_server: RedisServer
) -> None:
    uri = f"async+redis+unix://{redis_server.socket}"
    pool: Any = BlockingConnectionPool.from_url(redis_server.url)
    storage = RedisStorage(uri, implementation="redispy", wrap_exceptions=True, connection_pool=pool)
    for expected in ([200, 200], [429, 429]):
        async with gateway_of(provider, policies.limited(Asked(), "2/hour", storage=storage)) as gateway:
            assert [(await ask(gateway, HELLO)).status for _ in range(2)] == expected
    await storage.reset()
    await pool.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_storage_that_does_not_answer_is_a_503(provider: FakeProvider) -> None:
    class Away(MemoryStorage):
        async def acquire_entry(self, *arguments: Any, **options: Any) -> bool:
            raise ConnectionError("redis://canary-secret@host is away")

    async with gateway_of(provider, policies.limited(Asked(), "2/hour", storage=Away())) as gateway:
        refused = await ask(gateway, HELLO)

    assert (refused.status, refused.error["code"]) == (503, "quota_unavailable")
    assert refused.headers["retry-after"] == "1" and b"canary" not in refused.content


def test_a_rate_that_is_none_is_refused_when_it_is_made() -> None:
    with pytest.raises(ValueError):
        policies.limited(Asked(), "often")


def test_without_the_extra_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "limits", None)
    with pytest.raises(ImportError, match="limits"):
        policies.limited(Asked(), "1/minute")


async def test_it_names_the_models_of_the_policy_that_it_bounds(provider: FakeProvider) -> None:
    policy = policies.limited(policies.model_map({"smart": Target("fake", model="m")}), "9/minute")
    async with gateway_of(provider, policy) as gateway:
        listed = await ask(gateway, path="/v1/models", method="GET")

    assert [model["id"] for model in listed.json()["data"]] == ["smart"]
