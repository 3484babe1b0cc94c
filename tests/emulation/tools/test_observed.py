"""Calls of tools as a span and as metrics."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from gomodel_asgi import tools
from gomodel_asgi.contrib.opentelemetry import OpenTelemetryObserver
from gomodel_asgi.contrib.prometheus import PrometheusObserver
from gomodel_asgi.testing import Answer, Reply, Scripted, Stall
from tests.support.lab import ONCE

from .hosting import CRM, MODELS, WEB, Hosting, House, call, calls, search

pytestmark = pytest.mark.anyio


def broken(order: str) -> str:
    raise tools.ToolError("closed")


async def observed(hosting: Hosting, observer: Any) -> None:
    house = hosting(tools.mcp({"crm": [broken]}), observers=[observer])
    house.fake.script(calls(call("broken", order="7")), Answer(text="Sorry."))
    await house.ask({"input": "Hi", "tools": [CRM]})
    await house.gateway.respond({"model": "m", "input": "Hi"})


async def test_a_call_is_a_span_and_a_duration_of_open_telemetry(hosting: Hosting) -> None:
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    await observed(hosting, OpenTelemetryObserver(tracers, MeterProvider([reader])))
    (span,) = [span for span in spans.get_finished_spans() if span.name.startswith("execute_tool")]
    assert span.name == "execute_tool broken" and not span.status.is_ok
    attributes = dict(span.attributes or {})
    assert attributes["gen_ai.operation.name"] == "execute_tool" and attributes["gomodel.tool.label"] == "crm"
    assert attributes["error.type"] == "failed" and "closed" not in str(attributes)
    exchange = next(one for one in spans.get_finished_spans() if one.name.startswith("chat"))
    assert span.parent is not None and span.parent.span_id == exchange.context.span_id
    data = reader.get_metrics_data()
    assert data is not None and "gen_ai.execute_tool.duration" in data.to_json()


async def test_a_call_is_counted_for_prometheus(hosting: Hosting) -> None:
    registry = CollectorRegistry()
    await observed(hosting, PrometheusObserver(registry))
    labels = {"tool": "mcp", "name": "broken", "outcome": "failed"}
    assert registry.get_sample_value("gomodel_tool_seconds_count", labels) == 1


async def read(house: House, stream: bool) -> None:
    body = {"model": MODELS[house.dialect], "input": "Weather in Rome now?", "tools": [WEB], "stream": stream}
    async with await house.gateway.respond(body) as reply:
        await reply.read()


def ended(records: list[Any]) -> list[Any]:
    return [record for record in records if type(record).__name__ == "AttemptEnded"]


@pytest.mark.parametrize("stream", [False, True])
async def test_each_round_is_reported_with_what_it_has_cost_and_the_exchange_with_their_sum(
    hosting: Hosting, dialect: str, stream: bool
) -> None:
    records: list[Any] = []
    house = hosting(tools.web_search(search), dialect=dialect, observers=[records.append])
    house.fake.script([calls(call("web_search", query=at), cached=1) for at in "ab"], Answer(text="one two", cached=2))
    await read(house, stream)
    rounds, completed = ended(records), records[-1]
    assert [record.number for record in rounds] == [1, 2, 3] and type(completed).__name__ == "Completed"
    assert [record.usage.cached_tokens for record in rounds] == [1, 1, 2]
    for name in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"):
        assert getattr(completed.usage, name) == sum(getattr(record.usage, name) for record in rounds)
    assert not completed.usage.estimated and completed.attempts == 3
    assert [charge.usage for charge in completed.charges] == [record.usage for record in rounds]
    assert {(one.provider, one.target_model) for one in completed.charges} == {("fake", MODELS[dialect])}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_round_that_fails_counts_with_what_it_has_reported(hosting: Hosting, stream: bool) -> None:
    records: list[Any] = []
    house = hosting(tools.web_search(search), dialect="responses", observers=[records.append], retries=ONCE)
    usage = {"input_tokens": 100, "output_tokens": 7, "total_tokens": 107}
    failed = {"id": "resp_1", "object": "response", "status": "failed", "output": [], "usage": usage}
    failed["error"] = {"code": "server_error", "message": "broken"}
    event = f"event: response.failed\ndata: {json.dumps({'type': 'response.failed', 'response': failed})}\n\n"
    house.fake.script(calls(call("web_search", query="a")))
    house.fake.script(Reply(event, content_type="text/event-stream") if stream else Reply(failed))
    await read(house, stream)
    first, second = ended(records)
    assert second.usage.input_tokens == 100 and first.usage.input_tokens > 0
    assert records[-1].outcome == "failed"
    assert records[-1].usage.input_tokens == first.usage.input_tokens + 100
    assert records[-1].usage.output_tokens >= first.usage.output_tokens + 7


async def test_a_client_that_leaves_in_a_later_round_has_used_each_of_them(hosting: Hosting) -> None:
    records: list[Any] = []
    house = hosting(tools.web_search(search), dialect="responses", observers=[records.append])
    house.fake.script(
        calls(call("web_search", query="a")), Scripted(Answer(text="word " * 20), (Stall(after_events=6),))
    )
    body = {"model": "m", "input": "Weather?", "tools": [WEB], "stream": True}
    async with await house.gateway.respond(body) as reply:
        while data := await reply.next():
            if b"output_text.delta" in data:
                break
    house.fake.release()
    first, second = records[-1].charges
    assert not first.usage.estimated
    assert second.usage.estimated and second.usage.input_tokens > 0 and second.usage.output_tokens > 0


async def test_usage_of_one_round_alone_is_told_once(hosting: Hosting) -> None:
    records: list[Any] = []
    house = hosting(observers=[records.append])
    await house.ask({"input": "Hi"})
    (attempt,) = ended(records)
    assert attempt.usage is None and records[-1].usage.input_tokens > 0
