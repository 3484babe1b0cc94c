"""What Prometheus sees when it scrapes."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

import pytest
from prometheus_client import CollectorRegistry, start_http_server

from gomodel_asgi import RoutingRequest, Target
from gomodel_asgi.contrib.prices import Priced
from gomodel_asgi.contrib.prometheus import PrometheusObserver
from gomodel_asgi.observers import Completed, Context, Cost, RequestStarted, Usage
from gomodel_asgi.testing import FakeProvider, Status

from ..support.driving import ask
from ..support.seen import gateway_of, native

HELLO = {"model": "gpt-4o", "input": "Hello"}

Samples = dict[str, float]


@contextmanager
def scraped(registry: CollectorRegistry) -> Iterator[str]:
    """The text that the client library's own server gives."""
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=10) as reply:
            yield reply.read().decode()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def samples(registry: CollectorRegistry) -> Samples:
    with scraped(registry) as text:
        lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


async def test_a_scrape_shows_requests_tokens_and_cost(provider: FakeProvider) -> None:
    registry = CollectorRegistry()
    observer = Priced(PrometheusObserver(registry))
    async with gateway_of(provider, observer, providers=[native(provider, "openai")]) as gateway:
        usage = (await ask(gateway, HELLO)).json()["usage"]
        await ask(gateway, HELLO | {"stream": True})

    found = samples(registry)
    who = 'model="gpt-4o",provider="openai"'
    assert found[f'gomodel_requests_total{{error="",{LABELS},outcome="completed",{PROVIDER},status="200"}}'] == 2
    assert found[f'gomodel_tokens_total{{estimated="false",{who},type="input"}}'] == 2 * usage["input_tokens"]
    assert found[f'gomodel_tokens_total{{estimated="false",{who},type="output"}}'] == 2 * usage["output_tokens"]
    assert found[f"gomodel_cost_usd_total{{{who}}}"] > 0
    assert found[f"gomodel_first_event_seconds_count{{{who}}}"] == 2
    assert found['gomodel_attempt_seconds_count{error="",provider="openai"}'] == 2
    assert found['gomodel_policy_seconds_count{error=""}'] == 2
    assert found["gomodel_requests_in_flight"] == 0


LABELS = 'model="gpt-4o",operation="create"'
PROVIDER = 'provider="openai"'


async def test_failures_and_refusals_are_counted_by_what_they_were(provider: FakeProvider) -> None:
    for _ in range(3):
        provider.fail_next(Status(503))
    registry = CollectorRegistry()
    async with gateway_of(provider, PrometheusObserver(registry)) as gateway:
        await ask(gateway, HELLO)
        await ask(gateway, b"{")

    found = {name: value for name, value in samples(registry).items() if name.startswith("gomodel_requests_total")}
    assert sorted(re.findall(r'status="(\d+)"', name)[0] for name in found) == ["400", "503"]
    assert sum(value for name, value in samples(registry).items() if "attempt_seconds_count" in name) > 0


async def test_tenant_and_labels_of_the_target_can_be_labels(provider: FakeProvider) -> None:
    def route(request: RoutingRequest) -> Target:
        return Target("fake", labels={"team": "blue"})

    registry = CollectorRegistry()
    observer = PrometheusObserver(registry, labels=("tenant", "team"))
    async with gateway_of(provider, observer, policy=route, tenant=lambda scope: "acme") as gateway:
        await ask(gateway, HELLO)

    (name,) = [name for name in samples(registry) if name.startswith("gomodel_requests_total")]
    assert 'tenant="acme"' in name and 'team="blue"' in name


def test_labels_stay_bounded_however_many_values_there_are() -> None:
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry, labels=("tenant",), values=10)
    for number in range(1000):
        context = Context(number, "r", "create", f"tenant-{number}", target_model=f"model-{number}", provider="p")
        observer(Completed(context, status=200, outcome="completed", error=f"e-{number}", usage=Usage(input_tokens=1)))

    requests = [name for name in samples(registry) if name.startswith("gomodel_requests_total")]
    assert len(requests) == 11
    assert sum("other" in name for name in requests) == 1
    assert samples(registry)[requests[-1]] + samples(registry)[requests[0]] >= 2


def test_a_refused_request_cannot_name_a_model() -> None:
    registry = CollectorRegistry()
    context = Context(1, "r", "create", model="chosen-by-the-client")
    PrometheusObserver(registry)(Completed(context, status=403, outcome="failed", error="denied"))

    assert not any("chosen" in name for name in samples(registry))


def test_estimated_tokens_are_counted_apart_and_cost_is_added_up() -> None:
    registry = CollectorRegistry()
    observer, context = PrometheusObserver(registry), Context(1, "r", "create", provider="p", target_model="m")
    usage, cost = Usage(output_tokens=5, estimated=True), Cost(total=Decimal("0.5"))
    for _ in range(2):
        observer(Completed(context, status=200, outcome="completed", usage=usage, cost=cost))

    found = samples(registry)
    assert found['gomodel_tokens_total{estimated="true",model="m",provider="p",type="output"}'] == 10
    assert found['gomodel_cost_usd_total{model="m",provider="p"}'] == 1.0


def test_what_is_in_flight_is_shown() -> None:
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)
    observer(RequestStarted(Context(1, "r")))
    observer(RequestStarted(Context(2, "r")))
    observer(Completed(Context(1, "r"), status=200, outcome="completed"))

    assert samples(registry)["gomodel_requests_in_flight"] == 1


def test_two_observers_of_one_registry_are_refused() -> None:
    registry = CollectorRegistry()
    PrometheusObserver(registry)
    with pytest.raises(ValueError):
        PrometheusObserver(registry)
