"""Whatever was answered without an upstream names none: in records, log lines, metrics, spans and the ledger."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from gomodel_asgi import Gateway, Provider, RoutingRequest, Target
from gomodel_asgi.contrib.opentelemetry import OpenTelemetryObserver
from gomodel_asgi.contrib.prometheus import PrometheusObserver
from gomodel_asgi.ledger import JsonLines, Ledger
from gomodel_asgi.observers import BreakerChanged, Completed, Ended, LoggingObserver, PolicyDecided
from gomodel_asgi.quotas import Quota, Quotas
from gomodel_asgi.testing import FakeProvider, Scripted, Status

from ..support.driving import ask
from ..support.ledgers import rows_of
from ..support.seen import KEY, Seen, gateway_of


def stranger(request: RoutingRequest) -> Target:
    """Names a provider and a model for whatever is asked, as a policy does that was written for `create`."""
    return Target("fake", model="never-asked", labels={"plan": "free"})


NOT_ASKED: dict[str, tuple[str, str, Any, int]] = {
    "the list of models": ("GET", "/v1/models", b"", 200),
    "one model": ("GET", "/v1/models/none", b"", 404),
    "a response that nobody knows": ("GET", "/v1/responses/resp_none", b"", 404),
    "the items of one": ("GET", "/v1/responses/resp_none/input_items", b"", 404),
    "cancelling one": ("POST", "/v1/responses/resp_none/cancel", b"", 404),
    "deleting one": ("DELETE", "/v1/responses/resp_none", b"", 404),
    "a conversation that nobody knows": ("GET", "/v1/conversations/conv_none", b"", 404),
}


class World:
    """A gateway with everything that tells of requests."""

    def __init__(self, provider: FakeProvider, folder: Path) -> None:
        self.seen = Seen()
        self.log = logging.Logger("requests")
        self.lines: list[logging.LogRecord] = []
        self.log.addFilter(self.keep)
        self.registry = CollectorRegistry()
        self.spans, self.metrics = InMemorySpanExporter(), InMemoryMetricReader()
        tracing = TracerProvider()
        tracing.add_span_processor(SimpleSpanProcessor(self.spans))
        self.sink = JsonLines(folder / "rows")
        self.gateway = Gateway(
            providers=[Provider("fake", provider.base_url, api_key=KEY, dialect="chat")],
            policy=stranger,
            tenant=lambda scope: "acme",
            observers=[
                self.seen,
                LoggingObserver(self.log),
                PrometheusObserver(registry=self.registry),
                OpenTelemetryObserver(tracing, MeterProvider([self.metrics])),
            ],
            ledger=Ledger(self.sink),
        )

    def keep(self, line: logging.LogRecord) -> bool:
        self.lines.append(line)
        return True

    def told(self) -> str:
        """Everything that has been told, as text."""
        data = self.metrics.get_metrics_data()
        samples = [
            f"{sample.name}{sample.labels}"
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name.startswith("gomodel_requests_total")
        ]
        spans = [f"{span.name}{dict(span.attributes or {})}" for span in self.spans.get_finished_spans()]
        fields: list[Mapping[str, Any]] = [vars(line) for line in self.lines]
        lines = [line.getMessage() + str(extra) for line, extra in zip(self.lines, fields, strict=True)]
        return "\n".join([*samples, *spans, *lines, "" if data is None else data.to_json()])


@pytest.mark.parametrize("what", NOT_ASKED)
async def test_what_no_upstream_was_asked_for_names_none(provider: FakeProvider, tmp_path: Path, what: str) -> None:
    method, path, body, status = NOT_ASKED[what]
    world = World(provider, tmp_path)
    async with world.gateway as gateway:
        assert (await ask(gateway, body, path=path, method=method)).status == status
    ended = world.seen.ended
    assert (ended.provider, ended.context.provider_type, ended.target_model, ended.attempts) == (None, None, None, 0)
    told = world.told()
    assert "never-asked" not in told and "'fake'" not in told and "provider=fake" not in told, told
    assert "chat" not in {span.name for span in world.spans.get_finished_spans()}
    assert not provider.requests
    for row in await rows_of(world.sink):
        assert (row.provider, row.model_target) == (None, None)


async def test_the_list_of_models_is_no_decision_for_a_provider(provider: FakeProvider, tmp_path: Path) -> None:
    world = World(provider, tmp_path)
    async with world.gateway as gateway:
        await ask(gateway, b"", path="/v1/models", method="GET")
    (decided,) = world.seen.of(PolicyDecided)
    assert (decided.provider, decided.target_model, decided.fallbacks) == (None, None, ())
    assert decided.labels == {"plan": "free"}


async def test_a_refusal_behind_the_policy_names_no_upstream(provider: FakeProvider) -> None:
    seen = Seen()
    quotas = Quotas(lambda request: [Quota("day", per="day", tokens=1)])
    async with gateway_of(provider, seen, quotas=quotas) as gateway:
        assert (await ask(gateway, {"model": "m", "input": "Hello"})).status == 429
    (decided,) = seen.of(PolicyDecided)
    assert decided.provider == "fake"  # what the policy has said is its own
    assert seen.ended.provider is None


async def test_who_was_turned_away_by_a_breaker_is_told_whose_it_is(provider: FakeProvider) -> None:
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        for _ in range(30):
            provider.script(Scripted(faults=(Status(500),)))
            await ask(gateway, {"model": "m", "input": "Hello"})
    assert seen.of(BreakerChanged)
    shut = [ended for ended in seen.of(Ended) if ended.error == "overloaded"]
    assert shut and {(ended.provider, ended.target_model, ended.attempts) for ended in shut} == {("fake", "m", 0)}
    assert all(isinstance(ended, Completed) for ended in shut)
