"""An upstream that sends bytes after a complete reply is reported to whoever observes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.contrib.opentelemetry import OpenTelemetryObserver, PropagatingTransport
from gomodel_asgi.contrib.prices import Priced
from gomodel_asgi.contrib.prometheus import PrometheusObserver
from gomodel_asgi.observers import AsyncObserver, KeepAliveLost, LoggingObserver, Record
from gomodel_asgi.transport import Http11Transport

from ..support.driving import ask
from ..support.scripted_upstream import Peer, Upstream, reply
from ..support.seen import KEY, Seen

BODY = {"model": "m", "input": "hi"}
ANSWER = reply(json.dumps({"id": "resp_1", "object": "response"}).encode(), b"content-type: application/json")


@pytest.fixture
def anyio_backend() -> str:
    """Elsewhere no connection is kept."""
    return "asyncio"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(ANSWER + ANSWER)

    served = Upstream(script)
    yield served
    served.close()
    assert served.errors == []


def gateway_of(upstream: Upstream, *observers: object, **options: object) -> Gateway:
    provider = Provider("p", f"http://127.0.0.1:{upstream.port}/v1", api_key=KEY)
    return Gateway(providers=[provider], observers=observers, **options)  # type: ignore[arg-type]


async def test_it_is_recorded_once_and_belongs_to_no_exchange(upstream: Upstream) -> None:
    seen = Seen()
    async with gateway_of(upstream, seen) as gateway:
        for _ in range(3):
            assert (await ask(gateway, BODY)).status == 200

    (lost,) = seen.of(KeepAliveLost)
    assert (lost.origin, lost.seconds) == (f"http://127.0.0.1:{upstream.port}", 600)
    assert (lost.context.exchange, lost.request_id, lost.tenant) == (0, "", None)
    assert KEY not in repr(lost)


async def test_every_gateway_of_a_transport_is_notified_also_through_one_that_wraps_it(upstream: Upstream) -> None:
    one, other, transport = Seen(), Seen(), PropagatingTransport(Http11Transport())
    gateways = [gateway_of(upstream, seen, transport=transport) for seen in (one, other)]

    for _ in range(2):
        await ask(gateways[0], BODY)

    assert len(one.of(KeepAliveLost)) == len(other.of(KeepAliveLost)) == 1
    await transport.aclose()


def test_a_sink_that_waits_is_notified_too(upstream: Upstream) -> None:
    """It needs a task to be notified in, and an event loop's callback has none."""
    kept: list[Record] = []

    async def sink(record: Record) -> None:
        await asyncio.sleep(0)
        kept.append(record)

    async def main() -> None:
        observer = AsyncObserver(sink)
        async with gateway_of(upstream, observer) as gateway:
            for _ in range(2):
                await ask(gateway, BODY)
        assert not observer.failed and not observer.dropped

    asyncio.run(main())
    assert [type(one) for one in kept].count(KeepAliveLost) == 1


async def test_prometheus_and_opentelemetry_count_it(upstream: Upstream) -> None:
    registry, reader = CollectorRegistry(), InMemoryMetricReader()
    telemetry = OpenTelemetryObserver(meter_provider=MeterProvider([reader], shutdown_on_exit=False))
    async with gateway_of(upstream, Priced(PrometheusObserver(registry), telemetry)) as gateway:
        for _ in range(3):
            await ask(gateway, BODY)

    origin = f"http://127.0.0.1:{upstream.port}"
    assert registry.get_sample_value("gomodel_keepalive_lost_total", {"origin": origin}) == 1
    data = reader.get_metrics_data()
    assert data is not None
    metrics = {one.name: one for one in data.resource_metrics[0].scope_metrics[0].metrics}
    (point,) = metrics["gomodel_asgi.upstream.keepalive_lost"].data.data_points
    assert (point.value, dict(point.attributes or {})) == (1, {"gomodel_asgi.upstream.origin": origin})  # type: ignore[union-attr]


async def test_a_line_is_logged(upstream: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    async with gateway_of(upstream, LoggingObserver()) as gateway:
        for _ in range(2):
            await ask(gateway, BODY)

    (entry,) = [one for one in caplog.records if vars(one).get("event") == "keepalive_lost"]
    assert entry.levelno == logging.WARNING
    assert entry.message.startswith(f"http://127.0.0.1:{upstream.port} sent bytes after a complete reply: ")
    assert vars(entry)["seconds"] == 600
