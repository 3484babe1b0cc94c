"""Spans and metrics as an OpenTelemetry exporter gets them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.types import Receive, Scope, Send

from gomodel_asgi import Gateway, RoutingRequest, Target
from gomodel_asgi.contrib.opentelemetry import OpenTelemetryObserver, PropagatingTransport
from gomodel_asgi.observers import Completed, Context, Disconnected, Usage
from gomodel_asgi.testing import Answer, FakeProvider, Reply, Status

from ..support.driving import ask
from ..support.lab import ONCE
from ..support.seen import KEY, gateway_of, native
from .test_charges import FAILED, done

HELLO = {"model": "asked", "input": "a canary in the prompt"}


@dataclass
class Telemetry:
    """A backend in memory."""

    spans: InMemorySpanExporter
    metrics: InMemoryMetricReader
    tracer_provider: TracerProvider
    meter_provider: MeterProvider

    def observer(self) -> OpenTelemetryObserver:
        return OpenTelemetryObserver(self.tracer_provider, self.meter_provider)

    @property
    def finished(self) -> tuple[ReadableSpan, ...]:
        return self.spans.get_finished_spans()

    @property
    def exchange(self) -> ReadableSpan:
        (span,) = [span for span in self.finished if not span.name.startswith("attempt")]
        return span

    @property
    def attempts(self) -> list[ReadableSpan]:
        return [span for span in self.finished if span.name.startswith("attempt")]

    def points(self) -> dict[str, list[Any]]:
        """The data points of each metric."""
        data = self.metrics.get_metrics_data()
        resources = [] if data is None else data.resource_metrics
        scopes = [scope for resource in resources for scope in resource.scope_metrics]
        return {metric.name: list(metric.data.data_points) for scope in scopes for metric in scope.metrics}


@pytest.fixture
def telemetry() -> Telemetry:
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    return Telemetry(spans, reader, tracers, MeterProvider([reader], shutdown_on_exit=False))


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    return span.attributes or {}


def is_child(span: ReadableSpan, parent: ReadableSpan) -> bool:
    return span.parent is not None and parent.context is not None and span.parent.span_id == parent.context.span_id


async def test_an_exchange_is_a_span_by_the_conventions(provider: FakeProvider, telemetry: Telemetry) -> None:
    def route(request: RoutingRequest) -> Target:
        return Target("mine", model="inner", labels={"team": "blue"})

    providers = [native(provider, "mine", type="gemini")]
    options: Any = {"providers": providers, "policy": route, "tenant": lambda scope: "acme"}
    async with gateway_of(provider, telemetry.observer(), **options) as gateway:
        response = (await ask(gateway, HELLO)).json()

    span, found = telemetry.exchange, attributes(telemetry.exchange)
    assert (span.name, span.kind, span.status.status_code) == ("chat inner", SpanKind.CLIENT, StatusCode.UNSET)
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": "inner",
        "gen_ai.request.stream": False,
        "gen_ai.response.model": response["model"],
        "gen_ai.response.id": response["id"],
        "gen_ai.response.finish_reasons": ("completed",),
        "gen_ai.usage.input_tokens": response["usage"]["input_tokens"],
        "gen_ai.usage.output_tokens": response["usage"]["output_tokens"],
        "http.response.status_code": 200,
        "gomodel.provider": "mine",
        "gomodel.tenant": "acme",
        "gomodel.label.team": "blue",
    }
    assert expected.items() <= dict(found).items()
    assert "error.type" not in found


async def test_the_conversation_is_the_one_of_the_response(provider: FakeProvider, telemetry: Telemetry) -> None:
    response = {"id": "resp_1", "object": "response", "status": "completed", "conversation": {"id": "conv_1"}}
    provider.script(Reply(response | {"output": [{"type": "message"}]}))
    async with gateway_of(provider, telemetry.observer()) as gateway:
        await ask(gateway, HELLO)

    assert attributes(telemetry.exchange)["gen_ai.conversation.id"] == "conv_1"


async def test_each_attempt_is_a_child_span(provider: FakeProvider, telemetry: Telemetry) -> None:
    provider.fail_next(Status(503))
    async with gateway_of(provider, telemetry.observer()) as gateway:
        await ask(gateway, HELLO)

    failed, good = telemetry.attempts
    assert all(is_child(span, telemetry.exchange) for span in (failed, good))
    assert failed.status.status_code == StatusCode.ERROR
    assert attributes(failed)["http.response.status_code"] == 503
    assert (good.status.status_code, attributes(good)["gomodel.attempt"]) == (StatusCode.UNSET, 2)


async def test_the_hosts_own_span_is_the_parent(provider: FakeProvider, telemetry: Telemetry) -> None:
    tracer = trace.get_tracer("host", tracer_provider=telemetry.tracer_provider)
    gateway = gateway_of(provider, telemetry.observer())

    async def instrumented(scope: Scope, receive: Receive, send: Send) -> None:
        with tracer.start_as_current_span("POST /v1/responses", kind=SpanKind.SERVER):
            await gateway(scope, receive, send)
            assert trace.get_current_span().get_span_context().is_valid

    async with gateway:
        await ask(instrumented, HELLO | {"stream": True})

    (server,) = [span for span in telemetry.finished if span.kind == SpanKind.SERVER]
    (exchange,) = [span for span in telemetry.finished if span.name.startswith("chat")]
    assert is_child(exchange, server)
    assert len(telemetry.finished) == 3


async def test_nothing_is_left_current_after_a_request(provider: FakeProvider, telemetry: Telemetry) -> None:
    async with gateway_of(provider, telemetry.observer()) as gateway:
        await (await gateway.respond(HELLO)).json()
        assert not trace.get_current_span().get_span_context().is_valid


async def test_a_stream_tells_its_first_chunk_and_its_pace(provider: FakeProvider, telemetry: Telemetry) -> None:
    provider.script(Answer(text="one two three four"))
    async with gateway_of(provider, telemetry.observer()) as gateway:
        await ask(gateway, HELLO | {"stream": True})

    points = telemetry.points()
    assert attributes(telemetry.exchange)["gen_ai.response.time_to_first_chunk"] > 0
    for name in ("operation.duration", "operation.time_to_first_chunk", "operation.time_per_output_chunk"):
        (point,) = points[f"gen_ai.client.{name}"]
        assert point.count == 1
        assert point.attributes["gen_ai.operation.name"] == "chat"


async def test_a_unary_reply_has_no_chunks(provider: FakeProvider, telemetry: Telemetry) -> None:
    async with gateway_of(provider, telemetry.observer()) as gateway:
        await ask(gateway, HELLO)

    points = telemetry.points()
    assert set(points) == {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}
    assert "gen_ai.response.time_to_first_chunk" not in attributes(telemetry.exchange)


async def test_tokens_are_counted_by_type_with_the_conventions_buckets(
    provider: FakeProvider, telemetry: Telemetry
) -> None:
    async with gateway_of(provider, telemetry.observer()) as gateway:
        usage = (await ask(gateway, HELLO)).json()["usage"]

    points = telemetry.points()["gen_ai.client.token.usage"]
    assert {point.attributes["gen_ai.token.type"]: point.sum for point in points} == {
        "input": usage["input_tokens"],
        "output": usage["output_tokens"],
    }
    assert points[0].explicit_bounds[:4] == (1, 4, 16, 64)


async def test_a_failure_is_an_error_by_its_code(provider: FakeProvider, telemetry: Telemetry) -> None:
    for _ in range(3):
        provider.fail_next(Status(503))
    async with gateway_of(provider, telemetry.observer()) as gateway:
        caller = await ask(gateway, HELLO)

    code = attributes(telemetry.exchange)["error.type"]
    assert code and telemetry.exchange.status.status_code == StatusCode.ERROR
    assert telemetry.points()["gen_ai.client.operation.duration"][0].attributes["error.type"] == code
    assert caller.status == 503


async def test_a_request_refused_before_it_was_read_is_a_span_too(provider: FakeProvider, telemetry: Telemetry) -> None:
    async with gateway_of(provider, telemetry.observer()) as gateway:
        await ask(gateway, b"{")

    assert attributes(telemetry.exchange)["error.type"] == "invalid_json"


async def test_no_text_and_no_key_is_in_any_span(telemetry: Telemetry) -> None:
    """The provider quotes the key that it refuses, and the prompt is about a canary."""
    with FakeProvider(api_key="another").run_in_thread() as refusing:
        async with gateway_of(refusing, telemetry.observer()) as gateway:
            await ask(gateway, HELLO)
    with FakeProvider().run_in_thread() as answering:
        answering.script(Answer(text="a canary in the answer"))
        async with gateway_of(answering, telemetry.observer()) as gateway:
            await ask(gateway, HELLO | {"stream": True})

    written = "".join(span.to_json() for span in telemetry.finished) + repr(telemetry.points())
    assert written and "canary" not in written


async def test_the_trace_goes_upstream_only_if_it_is_asked_for(provider: FakeProvider, telemetry: Telemetry) -> None:
    for transport in (None, PropagatingTransport()):
        async with gateway_of(provider, telemetry.observer(), transport=transport) as gateway:
            await ask(gateway, HELLO)

    without, sent = (dict(one.headers) for one in provider.requests)
    context = telemetry.attempts[1].context
    assert b"traceparent" not in without
    assert context is not None
    ids = f"{context.trace_id:032x}-{context.span_id:016x}"
    assert sent[b"traceparent"].decode() == f"00-{ids}-{context.trace_flags:02x}"
    assert KEY.encode() in sent[b"authorization"]


async def test_without_a_span_nothing_is_propagated(provider: FakeProvider) -> None:
    async with gateway_of(provider, transport=PropagatingTransport()) as gateway:
        await ask(gateway, HELLO)

    assert b"traceparent" not in dict(provider.requests[0].headers)


def test_models_in_metrics_stay_bounded(telemetry: Telemetry) -> None:
    observer = telemetry.observer()
    for number in range(1100):
        context = Context(number, "r", "create", target_model=f"m-{number}", provider="p")
        observer(Completed(context, status=200, outcome="completed"))

    models = {
        point.attributes["gen_ai.request.model"] for point in telemetry.points()["gen_ai.client.operation.duration"]
    }
    assert len(models) <= 1001 and "other" in models


def test_a_disconnect_says_so_and_an_estimate_is_not_usage(telemetry: Telemetry) -> None:
    usage = Usage(input_tokens=5, estimated=True)
    telemetry.observer()(Disconnected(Context(1, "r", "create"), status=200, usage=usage, reason="gone"))

    found = attributes(telemetry.exchange)
    assert (found["error.type"], found["gomodel.usage.estimated"]) == ("client_gone", True)
    assert "gen_ai.client.token.usage" not in telemetry.points()


@pytest.fixture(params=["gen_ai_latest_experimental", "http/dup, gen_ai_latest_experimental"])
def opted_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", request.param)


EARLIER = {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}


@pytest.mark.usefixtures("opted_in")
async def test_who_opts_in_gets_the_newer_names_instead(telemetry: Telemetry) -> None:
    async with FakeProvider(dialect="anthropic").serve() as provider:
        provider.script(Answer(reasoning="hm hm", text="word word word", cached=2))
        one = [native(provider, dialect="anthropic")]
        async with gateway_of(provider, telemetry.observer(), providers=one) as gateway:
            await ask(gateway, {"model": "claude-sonnet-4-5", "input": "Hello, you there", "stream": True})

    points, found = telemetry.points(), attributes(telemetry.exchange)
    assert not points.keys() & EARLIER
    assert {"duration", "time_to_first_chunk", "time_per_output_chunk"} <= {
        name.removeprefix("gen_ai.client.inference.") for name in points
    }
    usage = {
        name.removeprefix("gen_ai.client.inference.usage."): point.value
        for name, (point, *_) in points.items()
        if ".usage." in name
    }
    assert usage["input_tokens"] == found["gen_ai.usage.input_tokens"]
    assert usage["output_tokens"] == found["gen_ai.usage.output_tokens"]
    assert usage["cache_read.input_tokens"] == found["gen_ai.usage.cache_read.input_tokens"] == 2
    assert points["gen_ai.client.inference.operation.input_tokens"][0].sum == usage["input_tokens"]
    assert "gen_ai.usage.cache_write.input_tokens" in found
    assert "gen_ai.usage.cache_creation.input_tokens" not in found
    (point,) = points["gen_ai.client.inference.usage.input_tokens"]
    assert point.attributes["gen_ai.token.modality"] == "unknown"


@pytest.mark.usefixtures("opted_in")
async def test_a_look_up_is_no_inference_by_the_newer_names(provider: FakeProvider, telemetry: Telemetry) -> None:
    async with gateway_of(provider) as gateway:
        id = (await ask(gateway, HELLO)).json()["id"]
    async with gateway_of(provider, telemetry.observer()) as gateway:
        await ask(gateway, path=f"/v1/responses/{id}", method="GET")

    assert telemetry.exchange.name.startswith("fetch_response")
    assert not [name for name in telemetry.points() if "inference" in name]


async def test_tokens_are_counted_for_the_model_that_used_them(provider: FakeProvider, telemetry: Telemetry) -> None:
    provider.script(Reply(FAILED), done(11, 5))
    target = Target("one", model="large", fallbacks=(Target("two", model="small"),))
    providers = [native(provider, "one"), native(provider, "two")]
    async with gateway_of(
        provider, telemetry.observer(), providers=providers, retries=ONCE, policy=lambda request: target
    ) as gateway:
        await ask(gateway, HELLO)

    points = telemetry.points()["gen_ai.client.token.usage"]
    assert {
        (point.attributes["gen_ai.request.model"], point.attributes["gen_ai.token.type"]): point.sum for point in points
    } == {("large", "input"): 7, ("large", "output"): 3, ("small", "input"): 11, ("small", "output"): 5}
    first, second = telemetry.attempts
    assert attributes(first)["gomodel.kind"] == "first" and "gomodel.reason" not in attributes(first)
    assert (attributes(second)["gomodel.kind"], attributes(second)["gomodel.reason"]) == ("fallback", "server_error")


def test_the_global_providers_are_the_default() -> None:
    OpenTelemetryObserver()(Completed(Context(1, "r"), status=200, outcome="completed"))


def test_a_gateway_can_have_it(telemetry: Telemetry, provider: FakeProvider) -> None:
    assert Gateway(providers=[native(provider)], observers=[telemetry.observer()]).trace() is not None
