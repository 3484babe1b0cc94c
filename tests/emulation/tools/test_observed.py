"""Calls of tools as a span and as metrics."""

from __future__ import annotations

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
from gomodel_asgi.testing import Answer

from .hosting import CRM, Hosting, call, calls

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
