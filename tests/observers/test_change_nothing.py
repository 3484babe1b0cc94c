"""Whatever an observer does, the client sees the same."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from prometheus_client import CollectorRegistry

from gomodel_asgi import Provider, RoutingRequest, Target
from gomodel_asgi.contrib.opentelemetry import OpenTelemetryObserver
from gomodel_asgi.contrib.prices import Priced
from gomodel_asgi.contrib.prometheus import PrometheusObserver
from gomodel_asgi.observers import AsyncObserver, AttemptEnded, Ended, LoggingObserver, Record
from gomodel_asgi.testing import Answer, Cut, FakeProvider, Reply, Status

from ..support.driving import Caller, ask
from ..support.seen import KEY, Seen, gateway_of, native, texts

UNARY: dict[str, Any] = {"model": "m", "input": "Hello"}
STREAM = UNARY | {"stream": True}


def raising(record: Record) -> None:
    raise ValueError(f"something with {KEY}")


def trampling(record: Record) -> None:
    """Tries to steer by changing what it can reach."""
    raw = getattr(record, "raw_usage", None)
    if isinstance(raw, dict):
        raw.clear()
    record.labels["x"] = "y"  # type: ignore[index]


async def slow(record: Record) -> None:
    await anyio.sleep(3600)


OBSERVERS: dict[str, Callable[[], Any]] = {
    "raises": lambda: raising,
    "tramples": lambda: trampling,
    "waits for an hour": lambda: AsyncObserver(slow, farewell=0),
    "has no room": lambda: AsyncObserver(slow, queue=1, farewell=0),
}


def plain(caller: Caller) -> tuple[int, dict[str, str], bytes]:
    headers = {name: value for name, value in caller.headers.items() if "request-id" not in name}
    return caller.status, headers, caller.content


async def answers(provider: FakeProvider, observers: list[Any]) -> list[tuple[int, dict[str, str], bytes]]:
    """What a client gets of a good answer, a stream, a broken stream and failures."""
    provider.clear()
    found = []
    async with gateway_of(provider, *observers) as gateway:
        found.append(await ask(gateway, UNARY))
        found.append(await ask(gateway, STREAM))
        provider.fail_next(Cut(after_events=6))
        found.append(await ask(gateway, STREAM))
        for _ in range(2):
            provider.fail_next(Status(400))
            found.append(await ask(gateway, UNARY))
        found.append(await ask(gateway, b"{"))
    return [plain(caller) for caller in found]


@pytest.mark.parametrize("name", OBSERVERS)
async def test_an_observer_changes_nothing_that_the_client_sees(provider: FakeProvider, name: str) -> None:
    alone = await answers(provider, [])
    observed = await answers(provider, [OBSERVERS[name](), Seen()])

    assert masked(observed) == masked(alone)


def masked(found: list[tuple[int, dict[str, str], bytes]]) -> str:
    """The answers without what time puts into them."""
    text = repr(found)
    return "".join(part for part in text.split('"created_at":') for part in [part.lstrip("0123456789")])


async def test_what_an_observer_raises_is_logged_once_without_its_text(
    provider: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Seen()
    async with gateway_of(provider, raising, seen) as gateway:
        for _ in range(3):
            await ask(gateway, UNARY)

    errors = [entry for entry in caplog.records if entry.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert "ValueError" in errors[0].getMessage()
    assert len(seen.of(Ended)) == 3


# Observers run on the event loop and must not block it. Ours do not, and one that does is found like this:


@pytest.fixture
def blockbuster() -> Iterator[BlockBuster]:
    """Raises where anything blocks the event loop."""
    with blockbuster_ctx() as detector:
        yield detector


def blocking(record: Record) -> None:
    time.sleep(0.001)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_observer_that_blocks_is_caught(
    provider: FakeProvider, blockbuster: BlockBuster, caplog: pytest.LogCaptureFixture, anyio_backend: str
) -> None:
    async with gateway_of(provider, blocking) as gateway:
        assert (await ask(gateway, UNARY)).status == 200

    assert "raised BlockingError" in caplog.text


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_none_of_our_own_observers_blocks(
    provider: FakeProvider, blockbuster: BlockBuster, caplog: pytest.LogCaptureFixture, anyio_backend: str
) -> None:
    async def sink(record: Record) -> None:
        await anyio.lowlevel.checkpoint()

    ours = [
        Priced(PrometheusObserver(CollectorRegistry()), LoggingObserver()),
        OpenTelemetryObserver(),
        AsyncObserver(sink),
    ]
    async with gateway_of(provider, *ours) as gateway:
        for body in (UNARY, STREAM):
            assert (await ask(gateway, body)).status == 200

    assert not [entry for entry in caplog.records if entry.levelno >= logging.ERROR]


# Secrets...


async def test_no_record_holds_a_key_a_prompt_or_an_answer(provider: FakeProvider) -> None:
    """The client's key, the house's, a Target's, those in headers; what was asked and what was said."""
    provider.script(Answer(text="canary-answer", reasoning="canary-thought"))
    provider.fail_next(Cut(after_events=6))
    seen = Seen()
    house = Provider("fake", provider.base_url, api_key=KEY, headers={"x-extra": "canary-header"})
    async with gateway_of(provider, seen, providers=[house]) as gateway:
        credentials = [(b"authorization", b"Bearer canary-client"), (b"cookie", b"canary-cookie")]
        for _ in range(3):
            headers = [(b"content-type", b"application/json"), *credentials]
            asked = STREAM | {"input": "canary-prompt", "metadata": {"canary": "canary"}, "user": "canary-user"}
            await ask(gateway, asked, headers=headers)

    assert seen.records and "canary" not in texts(seen.records)


@pytest.mark.parametrize("dialect", ["responses", "chat", "anthropic", "gemini"])
async def test_a_key_that_an_upstream_quotes_is_blacked_out(dialect: str) -> None:
    with FakeProvider().run_in_thread() as provider:
        quoted = {"error": {"message": f"Incorrect API key: {KEY}.", "type": "invalid", "code": 401}}
        seen = Seen()
        one = native(provider, dialect=dialect)
        async with gateway_of(provider, seen, providers=[one]) as gateway:
            for status in (401, 400, 500):
                provider.script([Reply(json.dumps(quoted).encode(), status)] * 3)
                await ask(gateway, UNARY)
                provider.clear()

    assert len(seen.of(AttemptEnded)) >= 3
    assert all(one.detail for one in seen.of(AttemptEnded))
    assert "canary" not in texts(seen.records)


async def test_a_secret_in_a_targets_header_is_blacked_out_too(provider: FakeProvider) -> None:
    def route(request: RoutingRequest) -> Target:
        return Target("fake", headers={"x-second-key": "canary-in-a-header"})

    provider.script(Reply({"error": {"message": "canary-in-a-header is no key"}}, 401))
    seen = Seen()
    async with gateway_of(provider, seen, policy=route) as gateway:
        await ask(gateway, UNARY)

    assert "[redacted] is no key" in (seen.ended.detail or "")
    assert "canary" not in texts(seen.records)
