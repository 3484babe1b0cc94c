"""What workers must share beside the store: its secret, and the key of its values."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from gomodel_asgi import Gateway, NoStore, Store
from gomodel_asgi.stores import Encrypted, PostgresStore, RedisStore
from gomodel_asgi.testing import FakeProvider

from ..support.databases import PostgresServer, RedisServer
from ..support.driving import Caller, ask
from ..support.remembering import provider_of, says
from ..support.tenants import of, tenant

SECRET, OTHER = "s" * 32, "o" * 32
KEY = bytes(range(32))

Connect = Callable[[str | None], Store]


@pytest.fixture
def chat() -> Iterator[FakeProvider]:
    with FakeProvider(name="chat").run_in_thread() as fake:
        yield fake


@pytest.fixture(params=["redis", "postgres"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """A worker's store with a secret of its own, on the data that all workers share."""
    name = f"t{os.urandom(8).hex()}"
    if request.param == "redis":
        redis: RedisServer = request.getfixturevalue("redis_server")
        return lambda secret: RedisStore(redis.url, namespace=name, secret=secret)
    postgres: PostgresServer = request.getfixturevalue("postgres_server")
    return lambda secret: PostgresStore(postgres.dsn, table=name, secret=secret)


Worker = Callable[[Store], Gateway]


@pytest.fixture
async def worker(chat: FakeProvider) -> AsyncIterator[Worker]:
    started: list[Gateway] = []

    def start(store: Store) -> Gateway:
        started.append(Gateway(providers=[provider_of("chat", chat)], store=store, tenant=tenant))
        return started[-1]

    yield start
    for gateway in started:
        await gateway.aclose()


async def say(gateway: Gateway, chat: FakeProvider, name: str = "acme", **members: Any) -> Caller:
    chat.clear()
    chat.script(says("chat", "I see."))
    return await ask(gateway, {"model": "m", "input": "hi", **members}, headers=of(name))


async def compacted(gateway: Gateway, chat: FakeProvider) -> dict[str, Any]:
    chat.clear()
    chat.script(says("chat", "Ada said hi."))
    body = {"model": "m", "input": "I am Ada."}
    caller = await ask(gateway, body, path="/v1/responses/compact", headers=of("acme"))
    return dict(caller.json()["output"][-1])


@pytest.mark.parametrize("secret", [SECRET, None])
async def test_workers_with_one_secret_are_one(
    connect: Connect, worker: Worker, chat: FakeProvider, secret: str | None
) -> None:
    first, second = worker(connect(secret)), worker(connect(secret))
    id = (await say(first, chat)).json()["id"]
    item = await compacted(first, chat)

    assert (await say(second, chat, previous_response_id=id)).status == 200
    assert (await say(second, chat, input=[item])).status == 200
    assert "Ada said hi." in chat.requests[-1]
    await first.forget("acme")
    assert (await ask(second, path=f"/v1/responses/{id}", method="GET", headers=of("acme"))).status == 404


async def test_workers_with_two_secrets_know_nothing_of_each_other(
    connect: Connect, worker: Worker, chat: FakeProvider
) -> None:
    first, second = worker(connect(SECRET)), worker(connect(OTHER))
    id = (await say(first, chat)).json()["id"]
    item = await compacted(first, chat)

    assert (await say(second, chat, previous_response_id=id)).error["code"] == "previous_response_not_found"
    assert (await say(first, chat, "other", input=[item])).error["code"] == "invalid_encrypted_content"
    refused = await say(second, chat, input=[item])
    assert (refused.status, refused.error["code"]) == (400, "invalid_encrypted_content")
    await second.forget("acme")
    assert (await ask(first, path=f"/v1/responses/{id}", method="GET", headers=of("acme"))).status == 200


async def test_values_sealed_with_another_key_are_absent(
    connect: Connect, worker: Worker, chat: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "gomodel_asgi.stores")
    first, same, other = (worker(Encrypted(connect(SECRET), key)) for key in (KEY, KEY, KEY[::-1]))
    id = (await say(first, chat)).json()["id"]
    item = await compacted(first, chat)

    assert (await say(same, chat, previous_response_id=id)).status == 200
    assert not [one for one in caplog.records if one.name == "gomodel_asgi.stores"]
    assert (await say(other, chat, previous_response_id=id)).error["code"] == "previous_response_not_found"
    assert "does not open with the key given" in caplog.text
    assert (await say(other, chat, input=[item])).status == 200, "a compaction is sealed with the secret, not the key"


async def test_compactions_are_bound_to_the_tenant_and_the_process_where_no_secret_is_shared(
    worker: Worker, chat: FakeProvider
) -> None:
    first, second = worker(NoStore()), worker(NoStore())
    item = await compacted(first, chat)

    assert (await say(first, chat, input=[item])).status == 200
    assert (await say(first, chat, "other", input=[item])).error["code"] == "invalid_encrypted_content"
    assert (await say(second, chat, input=[item])).error["code"] == "invalid_encrypted_content"
