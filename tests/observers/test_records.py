"""Which records an exchange leaves, and what they say."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from gomodel_asgi import Gateway, Limits, Provider, RateLimited, RoutingRequest, Target, Timeouts
from gomodel_asgi.errors import GatewayError
from gomodel_asgi.observers import (
    AttemptEnded,
    AttemptStarted,
    Completed,
    Disconnected,
    Ended,
    FirstEvent,
    Observers,
    PolicyDecided,
    RequestStarted,
    Trace,
    Usage,
    Warned,
)
from gomodel_asgi.testing import Answer, Cut, ErrorInside, FakeProvider, Reply, Scripted, Stall, Status

from ..support.driving import Caller, ask, scope_of
from ..support.lab import ONCE
from ..support.seen import KEY, Seen, gateway_of, native, texts
from ..support.websocket_client import connected

HELLO = {"model": "m", "input": "Hello"}
FULL = ["RequestStarted", "PolicyDecided", "AttemptStarted", "AttemptEnded", "FirstEvent", "Completed"]

Json = dict[str, Any]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_exchange_leaves_each_record_once_and_in_order(provider: FakeProvider, stream: bool) -> None:
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        caller = await ask(gateway, HELLO | {"stream": stream})

    assert caller.status == 200
    assert seen.kinds == FULL
    ended = seen.ended
    assert isinstance(ended, Completed)
    assert (ended.status, ended.outcome, ended.error, ended.attempts) == (200, "completed", None, 1)
    assert ended.bytes == len(caller.content)
    assert ended.events == (len(caller.events()) if stream else 0)
    assert ended.first_event is not None and 0 < ended.first_event <= ended.seconds


@pytest.mark.parametrize("stream", [False, True])
async def test_usage_id_and_model_are_those_of_the_response(provider: FakeProvider, stream: bool) -> None:
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        caller = await ask(gateway, HELLO | {"stream": stream})

    response = caller.events()[-1]["response"] if stream else caller.json()
    usage = response["usage"]
    assert seen.ended.raw_usage == usage
    assert seen.ended.usage == Usage(input_tokens=usage["input_tokens"], output_tokens=usage["output_tokens"])
    assert seen.ended.response_id == response["id"]
    assert seen.ended.served_model == response["model"]


async def test_every_record_says_whose_request_it_was_and_what_was_asked(provider: FakeProvider) -> None:
    def route(request: RoutingRequest) -> Target:
        return Target("fake", model="inner", labels={"team": "blue"})

    seen = Seen()
    async with gateway_of(provider, seen, policy=route, tenant=lambda scope: "acme") as gateway:
        await ask(gateway, {"model": "outer", "input": "x"}, headers=[JSON_TYPE, (b"x-request-id", b"r-1")])

    assert {(one.request_id, one.tenant, one.model, one.operation) for one in seen.records} == {
        ("r-1", "acme", "outer", "create")
    }
    decided = seen.records[1:]
    assert {(one.provider, one.target_model, one.labels["team"]) for one in decided} == {("fake", "inner", "blue")}
    assert seen.ended.served_model == "inner"
    assert len({one.context.exchange for one in seen.records}) == 1


JSON_TYPE = (b"content-type", b"application/json")


async def test_two_exchanges_of_one_request_id_are_distinguished(provider: FakeProvider) -> None:
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        for _ in range(2):
            await ask(gateway, HELLO, headers=[JSON_TYPE, (b"x-request-id", b"same")])

    first, second = seen.of(Completed)
    assert first.request_id == second.request_id == "same"
    assert first.context.exchange != second.context.exchange


async def test_records_cannot_be_changed(provider: FakeProvider) -> None:
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        await ask(gateway, HELLO)

    for record in seen.records:
        with pytest.raises(AttributeError):
            record.context = None  # type: ignore[misc,assignment]
        assert not hasattr(record, "__dict__")
        with pytest.raises(TypeError):
            record.labels["team"] = "red"  # type: ignore[index]


async def test_without_observers_there_is_no_trace(provider: FakeProvider) -> None:
    async with gateway_of(provider) as gateway:
        assert gateway.trace() is None
        assert (await ask(gateway, HELLO)).status == 200


@pytest.mark.parametrize(
    ("body", "options", "status", "error"),
    [
        (b"{", {}, 400, "invalid_json"),
        (b"{}", {"method": "PUT"}, 405, None),
        (b"{}", {"headers": []}, 415, None),
        (b'{"model":"m"}', {"path": "/v1/responses/%41", "method": "GET"}, 404, None),
    ],
    ids=["not JSON", "wrong method", "no content-type", "malformed id"],
)
async def test_a_request_refused_before_it_was_read_leaves_one_record(
    provider: FakeProvider, body: bytes, options: Json, status: int, error: str | None
) -> None:
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        caller = await ask(gateway, body, **options)

    assert caller.status == status
    assert seen.kinds == ["Completed"]
    ended = seen.ended
    assert isinstance(ended, Completed)
    assert (ended.status, ended.outcome, ended.usage) == (status, "failed", None)
    assert ended.error == error or error is None and ended.error
    assert ended.request_id == caller.headers["x-request-id"] != ""


CONFLICT = [JSON_TYPE, (b"x-gomodel-provider", b"one")]


@pytest.mark.parametrize(
    ("body", "options", "status"),
    [
        (b"{", {}, 400),
        ({**HELLO, "provider": "two"}, {"headers": CONFLICT}, 400),
        ({**HELLO, "model": 5}, {}, 400),
        (b"{}", {"headers": []}, 415),
        (b"{}", {"method": "PUT"}, 405),
        (b"", {"path": "/v1/responses/%41", "method": "GET"}, 404),
        (b"x" * 2000, {}, 413),
    ],
    ids=["not JSON", "conflict", "a wrong type", "no content-type", "wrong method", "malformed id", "too large"],
)
async def test_a_request_refused_before_the_policy_is_recorded_with_its_tenant(
    provider: FakeProvider, body: Any, options: Json, status: int
) -> None:
    seen = Seen()
    async with gateway_of(provider, seen, tenant=tenant_in_time, limits=Limits(body=1000)) as gateway:
        caller = await ask(gateway, body, **options)

    assert caller.status == status
    assert [one.tenant for one in seen.records] == ["acme"] * len(seen.records)
    assert seen.ended.error is not None


async def test_a_client_that_leaves_while_it_sends_is_recorded_with_its_tenant(provider: FakeProvider) -> None:
    seen, caller = Seen(), Caller(scope_of(), [b"{", b""])
    caller.incoming.pop()
    caller.leave()
    async with gateway_of(provider, seen, tenant=tenant_in_time) as gateway:
        await caller.run(gateway)

    assert isinstance(seen.ended, Disconnected) and seen.ended.tenant == "acme"


async def test_a_tenant_that_is_unknown_leaves_the_refusal_as_it_is(provider: FakeProvider) -> None:
    def broken(scope: Scope) -> str:
        raise RuntimeError(f"no {KEY}")

    seen = Seen()
    async with gateway_of(provider, seen, tenant=broken) as gateway:
        caller = await ask(gateway, b"{")

    assert (caller.status, caller.raised, seen.ended.tenant) == (400, None, None)


async def test_a_refused_request_of_the_hosts_own_code_is_recorded_with_its_tenant(
    provider: FakeProvider,
) -> None:
    seen = Seen()
    async with gateway_of(provider, seen, tenant=tenant_in_time) as gateway:
        for options in ({"tenant": "acme"}, {"scope": scope_of()}):
            with pytest.raises(GatewayError):
                await gateway.respond(b"{", **options)

    assert [one.tenant for one in seen.of(Ended)] == ["acme", "acme"]


async def test_a_frame_that_is_refused_before_the_policy_is_recorded_with_its_tenant(provider: FakeProvider) -> None:
    seen = Seen()
    gateway = gateway_of(provider, seen, tenant=tenant_in_time)
    async with gateway, connected(gateway, headers=[(b"host", b"x"), (b"x-gomodel-provider", b"fake")]) as client:
        await client.create(provider="other")
        assert (await client.error())["error"]["code"] == "provider_conflict"
        await client.talk()

    refused, answered = seen.of(Ended)
    assert (refused.tenant, refused.operation, answered.tenant) == ("acme", "create", "acme")
    assert refused.request_id != answered.request_id != ""


async def tenant_in_time(scope: Scope) -> str:
    await anyio.lowlevel.checkpoint()
    return "acme"


async def test_a_repeated_header_is_refused_with_a_request_id_of_its_own(provider: FakeProvider) -> None:
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        caller = await ask(gateway, HELLO, headers=[JSON_TYPE, JSON_TYPE])

    assert caller.status == 400
    assert seen.ended.request_id == caller.headers["x-request-id"] != ""


async def test_a_refusal_of_the_policy_is_recorded(provider: FakeProvider) -> None:
    def route(request: RoutingRequest) -> Target:
        raise RateLimited("Slow down.", code="slow")

    seen = Seen()
    async with gateway_of(provider, seen, policy=route) as gateway:
        caller = await ask(gateway, HELLO)

    assert caller.status == 429
    assert seen.kinds == ["RequestStarted", "PolicyDecided", "Completed"]
    assert seen.of(PolicyDecided)[0].error == "slow"
    assert (seen.ended.status, seen.ended.error, seen.ended.attempts) == (429, "slow", 0)


async def test_a_policy_that_raises_is_recorded_without_what_it_said(provider: FakeProvider) -> None:
    def route(request: RoutingRequest) -> Target:
        raise ValueError(f"the key is {KEY}")

    seen = Seen()
    async with gateway_of(provider, seen, policy=route) as gateway:
        caller = await ask(gateway, HELLO)

    assert isinstance(caller.raised, ValueError)
    assert seen.ended.status == 500
    assert "canary" not in texts(seen.records)


async def test_each_attempt_is_recorded_with_what_came_of_it(provider: FakeProvider) -> None:
    provider.fail_next(Status(503))
    providers = [native(provider, "first"), native(provider, "second")]

    def route(request: RoutingRequest) -> Target:
        return Target("first", fallbacks=[Target("second", model="other")], retries=None)

    seen = Seen()
    async with gateway_of(provider, seen, providers=providers, policy=route) as gateway:
        provider.fail_next(Status(503))
        caller = await ask(gateway, HELLO)

    assert caller.status == 200
    started, ended = seen.of(AttemptStarted), seen.of(AttemptEnded)
    assert [one.number for one in started] == [one.number for one in ended] == [1, 2, 3]
    assert [one.provider for one in ended] == ["first", "first", "second"]
    assert [one.status for one in ended] == [503, 503, 200]
    assert [one.error is None for one in ended] == [False, False, True]
    assert seen.of(PolicyDecided)[0].fallbacks == ("second",)
    assert (seen.ended.provider, seen.ended.target_model, seen.ended.attempts) == ("second", "other", 3)


async def test_a_failed_exchange_says_what_failed(provider: FakeProvider) -> None:
    for _ in range(3):
        provider.fail_next(Status(503))

    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        caller = await ask(gateway, HELLO)

    assert seen.ended.status == caller.status == 503
    assert isinstance(seen.ended, Completed) and seen.ended.outcome == "failed"
    assert seen.ended.error and seen.ended.detail
    assert not seen.of(FirstEvent)


async def test_no_provider_within_reach_is_recorded(provider: FakeProvider) -> None:
    seen = Seen()
    nowhere = Provider("fake", "http://127.0.0.1:9/v1", api_key=KEY)
    async with gateway_of(provider, seen, providers=[nowhere]) as gateway:
        await ask(gateway, HELLO)

    assert (seen.ended.status, seen.ended.error) == (502, "upstream_unreachable")


async def test_a_refused_key_is_shown_to_operators_without_the_key() -> None:
    """The provider quotes the key that it refuses; the detail says that it did, not what."""
    with FakeProvider(api_key="another").run_in_thread() as provider:
        seen = Seen()
        async with gateway_of(provider, seen) as gateway:
            caller = await ask(gateway, HELLO)

    assert caller.status == 502
    assert seen.ended.error == "upstream_auth_error"
    assert "[redacted]" in (seen.ended.detail or "")
    assert "canary" not in texts(seen.records)


async def test_the_usage_of_an_incomplete_response_counts(provider: FakeProvider) -> None:
    for stream in (False, True):
        provider.script(Answer(text="Hello", incomplete="content_filter"))
        seen = Seen()
        async with gateway_of(provider, seen) as gateway:
            await ask(gateway, HELLO | {"stream": stream})

        assert isinstance(seen.ended, Completed) and seen.ended.outcome == "incomplete"
        assert seen.ended.usage is not None and not seen.ended.usage.estimated


FAILED = {
    "id": "resp_1",
    "object": "response",
    "status": "failed",
    "model": "m",
    "output": [],
    "error": {"code": "server_error", "message": "It broke."},
    "usage": {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10},
}


def events(*given: Json) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in given)


async def test_the_usage_of_a_failed_unary_response_counts(provider: FakeProvider) -> None:
    provider.script(Reply(FAILED))
    seen = Seen()
    async with gateway_of(provider, seen, retries=ONCE) as gateway:
        await ask(gateway, HELLO)

    assert seen.ended.error == "server_error"
    assert seen.ended.usage == seen.of(AttemptEnded)[0].usage == Usage(input_tokens=7, output_tokens=3)


async def test_the_usage_of_a_failed_stream_counts(provider: FakeProvider) -> None:
    delta = {"type": "response.output_text.delta", "delta": "Hel", "sequence_number": 1}
    created = {"type": "response.created", "sequence_number": 0, "response": FAILED | {"usage": None}}
    failed = {"type": "response.failed", "sequence_number": 2, "response": FAILED}
    provider.script(Reply(events(created, delta, failed), content_type="text/event-stream"))
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        await ask(gateway, HELLO | {"stream": True})

    assert isinstance(seen.ended, Completed) and seen.ended.outcome == "failed"
    assert seen.ended.error == "server_error"
    assert seen.ended.usage == Usage(input_tokens=7, output_tokens=3)


async def test_a_stream_that_breaks_off_has_its_usage_estimated(provider: FakeProvider) -> None:
    provider.script(Answer(text="word " * 100))
    provider.fail_next(Cut(after_events=8))
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        await ask(gateway, HELLO | {"stream": True})
        caller = await ask(gateway, HELLO | {"stream": True})

    ended = seen.of(Completed)[-1]
    assert caller.events()[-1]["type"] == "response.failed"
    assert (ended.status, ended.outcome, ended.error) == (200, "failed", "upstream_stream_truncated")
    assert ended.usage is not None and ended.usage.estimated and ended.usage.output_tokens > 0


async def test_an_error_inside_an_answer_is_recorded(provider: FakeProvider) -> None:
    provider.fail_next(ErrorInside(after_events=6))
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        await ask(gateway, HELLO | {"stream": True})

    assert isinstance(seen.ended, Completed)
    assert (seen.ended.outcome, bool(seen.ended.error)) == ("failed", True)


async def test_looking_at_a_response_is_not_using_tokens(provider: FakeProvider) -> None:
    """Otherwise whoever polls would be counted again and again."""
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        made = (await ask(gateway, HELLO)).json()
        looked = await ask(gateway, method="GET", path=f"/v1/responses/{made['id']}", headers=[])

    assert looked.json()["usage"]
    created, retrieved = seen.of(Completed)
    assert created.usage is not None
    assert (retrieved.operation, retrieved.usage, retrieved.raw_usage) == ("retrieve", None, None)
    assert retrieved.response_id == made["id"]


async def test_what_the_upstream_cannot_carry_is_recorded_as_a_warning(provider: FakeProvider) -> None:
    provider.script(Reply(CHAT))
    chat = native(provider, dialect="chat", unsupported="drop")
    seen = Seen()
    async with gateway_of(provider, seen, providers=[chat]) as gateway:
        caller = await ask(gateway, HELLO | {"truncation": "auto", "tools": [{"type": "file_search"}]})

    assert caller.status == 200
    assert any("tools[0]" in one.message for one in seen.of(Warned))


CHAT: Json = {
    "id": "c",
    "object": "chat.completion",
    "model": "m-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "surprise"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}


async def test_what_no_event_can_carry_is_recorded_as_a_warning(provider: FakeProvider) -> None:
    provider.script(Reply(CHAT))
    seen = Seen()
    async with gateway_of(provider, seen, providers=[native(provider, dialect="chat")]) as gateway:
        await ask(gateway, HELLO)

    assert any("surprise" in one.message for one in seen.of(Warned))
    assert seen.kinds[-1] == "Completed"
    assert seen.ended.raw_usage == CHAT["usage"]
    assert seen.ended.usage == Usage(input_tokens=5, output_tokens=2)
    assert seen.ended.served_model == "m-1"


async def test_how_long_a_cache_is_kept_is_not_lost_in_translation(provider: FakeProvider) -> None:
    counted = {"input_tokens": 5, "output_tokens": 2, "cache_creation_input_tokens": 9, "cache_read_input_tokens": 0}
    usage = counted | {"cache_creation": {"ephemeral_1h_input_tokens": 7, "ephemeral_5m_input_tokens": 2}}
    content = [{"type": "text", "text": "Hi"}]
    answer = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content}
    provider.script(Reply(answer | {"stop_reason": "end_turn", "usage": usage}))
    seen = Seen()
    async with gateway_of(provider, seen, providers=[native(provider, dialect="anthropic")]) as gateway:
        await ask(gateway, HELLO)

    assert seen.ended.usage == Usage(input_tokens=14, output_tokens=2, cache_write_tokens=9, cache_write_1h_tokens=7)


async def test_text_that_others_chose_is_cut_and_printable(provider: FakeProvider) -> None:
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        await ask(gateway, {"model": "m\r\nINFO forged " + "x" * 100_000, "input": "x"})

    assert len(seen.ended.model or "") == 256
    assert (seen.ended.model or "").isprintable()


async def test_a_client_that_leaves_before_its_body_has_come_is_recorded(provider: FakeProvider) -> None:
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        caller = Caller(scope_of(), [])
        caller.leave()
        await caller.run(gateway)

    assert seen.kinds == ["Disconnected"]
    assert isinstance(seen.ended, Disconnected)
    assert (seen.ended.reason, seen.ended.usage, seen.ended.status) == ("gone", None, None)


# The other doors...


async def test_a_host_that_asks_itself_leaves_the_same_records(provider: FakeProvider) -> None:
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        async with await gateway.respond(HELLO) as reply:
            await reply.json()

    assert seen.kinds == FULL
    assert seen.ended.usage is not None and seen.ended.status == 200


async def test_a_stream_read_by_the_host_ends_its_exchange(provider: FakeProvider) -> None:
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        reply = await gateway.respond(HELLO | {"stream": True})
        assert not seen.of(Ended)
        found = [event async for event in reply]

    assert isinstance(seen.ended, Completed)
    assert seen.ended.events == len(found)


async def test_a_stream_dropped_by_the_host_is_a_disconnect(provider: FakeProvider) -> None:
    provider.script(Scripted(Answer(text="word " * 100), (Stall(after_events=4),)))  # else all of it may come at once
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        async with await gateway.respond(HELLO | {"stream": True}) as reply:
            await reply.next()

    assert isinstance(seen.ended, Disconnected)


async def test_a_failure_raised_to_the_host_is_recorded(provider: FakeProvider) -> None:
    for _ in range(3):
        provider.fail_next(Status(500))
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        with pytest.raises(GatewayError):
            await gateway.respond(HELLO)
        with pytest.raises(GatewayError):
            await gateway.respond("{")

    assert [one.error is not None for one in seen.of(Completed)] == [True, True]


async def test_an_answer_cancelled_by_the_host_is_recorded(provider: FakeProvider) -> None:
    from gomodel_asgi.testing import Stall

    provider.fail_next(Stall())
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        async with anyio.create_task_group() as group:
            group.start_soon(gateway.respond, HELLO)
            with anyio.fail_after(20):
                await provider.received(1)
            group.cancel_scope.cancel()

    assert isinstance(seen.ended, Disconnected) and seen.ended.reason == "cancelled"
    assert seen.ended.usage is not None and seen.ended.usage.estimated
    assert seen.of(AttemptEnded)[0].error == "cancelled"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_reply_from_the_hosts_own_route_leaves_the_same_records(provider: FakeProvider, stream: bool) -> None:
    seen = Seen()
    gateway = gateway_of(provider, seen)

    async def endpoint(request: Request) -> Response:
        return await gateway.endpoint(request)

    app = Starlette(routes=[Route("/ask/responses", endpoint, methods=["POST"])])
    async with gateway:
        caller = await ask(app, HELLO | {"stream": stream}, path="/ask/responses")
        await ask(app, b"{", path="/ask/responses")

    assert caller.status == 200
    assert seen.kinds == [*FULL, "Completed"]
    good, bad = seen.of(Completed)
    assert (good.bytes, good.usage is not None) == (len(caller.content), True)
    assert (bad.status, bad.error) == (400, "invalid_json")


async def test_explaining_sends_nothing_and_records_nothing(provider: FakeProvider) -> None:
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        await gateway.explain(HELLO)

    assert not seen.records


async def test_a_drain_is_recorded_as_a_failure(provider: FakeProvider) -> None:
    from gomodel_asgi.testing import Stall

    provider.fail_next(Stall(after_events=5))
    seen = Seen()
    async with gateway_of(provider, seen, timeouts=Timeouts(drain=0.01)) as gateway:
        caller = Caller(scope_of(), [json.dumps(HELLO | {"stream": True}).encode()])
        async with anyio.create_task_group() as group:
            group.start_soon(caller.run, gateway)
            await caller.until(2)
            await gateway.drain()
        provider.release()

    assert isinstance(seen.ended, Completed)
    assert (seen.ended.outcome, seen.ended.error) == ("failed", "server_shutdown")


async def test_a_gateway_of_several_observers_notifies_each(provider: FakeProvider) -> None:
    first, second = Seen(), Seen()
    async with Gateway(providers=[native(provider)], observers=[first, second]) as gateway:
        await ask(gateway, HELLO)

    assert first.records == second.records
    assert seen_once(first) and seen_once(second)


def seen_once(seen: Seen) -> bool:
    return len(seen.of(RequestStarted)) == len(seen.of(Ended)) == 1


def test_an_exchange_ends_once_whoever_says_so_first() -> None:
    seen = Seen()
    trace = Trace(Observers([seen]), "r-1")
    trace.end(200)
    trace.end(None, "gone")

    assert seen.kinds == ["Completed"]
