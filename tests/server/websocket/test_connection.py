"""A connection's life, over an upstream that has no WebSocket: frames in, events out, state, ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from gomodel_asgi import (
    Denied,
    Gateway,
    GoModelMiddleware,
    Limits,
    NoStore,
    Provider,
    RoutingRequest,
    Target,
    Timeouts,
    Unauthenticated,
)
from gomodel_asgi.observers import Completed, Record
from gomodel_asgi.server.websocket.upgrade import admitted
from gomodel_asgi.testing import Answer, Cut, FakeProvider, Reply, Scripted, Stall, Status, ToolCall

from ...support.gateways import Make
from ...support.websocket_client import ENDS, Client, connected, knocking, scope_of


@pytest.fixture
def gateway(provider: FakeProvider, make: Make) -> Gateway:
    return make(provider)


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[Client]:
    async with connected(gateway) as client:
        yield client


# Creates...


async def test_a_create_is_answered_by_the_events_that_http_would_stream(client: Client) -> None:
    await client.create("hello")
    events = await client.until(*ENDS)
    assert [event["type"] for event in events][:2] == ["response.created", "response.in_progress"]
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"]["provider"] == "fake"
    assert all("stream_id" not in event for event in events)


async def test_the_upstream_gets_the_body_without_what_only_the_socket_knows(
    client: Client, provider: FakeProvider
) -> None:
    await client.create("hello", stream=False, background=True, stream_options={"x": 1}, n=1.50)
    await client.response()
    assert provider.requests[0].json() == {"model": "m", "input": "hello", "n": 1.5, "stream": True}


async def test_sequence_numbers_begin_anew_with_each_response(client: Client) -> None:
    first, second = await client.talk("one"), await client.talk("two")
    assert first["id"] != second["id"]


async def test_creates_that_come_early_wait_and_are_answered_in_order(client: Client, provider: FakeProvider) -> None:
    provider.script(*(Answer(text=str(number)) for number in range(20)))
    for number in range(20):
        await client.create(str(number))
    texts = [(await client.response())["output"][0]["content"][0]["text"] for _ in range(20)]
    assert texts == [str(number) for number in range(20)]


async def test_a_waiting_create_is_not_sent_upstream_before_the_one_before_it_has_ended(
    client: Client, provider: FakeProvider
) -> None:
    provider.script(Scripted(None, (Stall(after_events=2),)))
    await client.create("one")
    await client.create("two")
    await client.until("response.in_progress")
    await client.send("{}")
    await client.error()
    assert len(provider.requests) == 1
    provider.release()
    await client.until(*ENDS)
    await client.response()


async def test_more_than_may_wait_is_refused_and_the_rest_is_answered(client: Client, provider: FakeProvider) -> None:
    provider.script(Scripted(None, (Stall(after_events=1),)))
    await client.create("one")
    await client.event()
    for _ in range(257):
        await client.create("more", generate=False)
    error = await client.error()
    assert (error["status"], error["error"]["code"]) == (429, "websocket_queue_full")
    provider.release()
    for _ in range(257):
        await client.until(*ENDS)


# Lanes...


async def test_every_event_of_a_lane_echoes_its_stream_id(client: Client) -> None:
    await client.create("hello", stream_id="a.b-c_1")
    events = await client.until(*ENDS)
    assert {event["stream_id"] for event in events} == {"a.b-c_1"}


async def test_lanes_run_side_by_side(client: Client, provider: FakeProvider) -> None:
    provider.script(Scripted(None, (Stall(after_events=2),)))
    await client.create("slow", stream_id="slow")
    await client.until("response.in_progress")
    await client.create("quick", stream_id="quick")
    assert {event["stream_id"] for event in await client.until(*ENDS)} == {"quick"}
    provider.release()
    assert {event["stream_id"] for event in await client.until(*ENDS)} == {"slow"}


async def test_a_lane_is_first_in_first_out(client: Client, provider: FakeProvider) -> None:
    for number in range(5):
        await client.create([{"role": "user", "content": str(number)}], stream_id="one")
    for _ in range(5):
        await client.response()
    sent = [request.json()["input"][0]["content"] for request in provider.requests]
    assert sent == ["0", "1", "2", "3", "4"]


async def test_a_response_of_one_lane_can_be_continued_on_others(client: Client, provider: FakeProvider) -> None:
    root = await client.talk("root", stream_id="a", store=False)
    await client.create("left", stream_id="b", previous_response_id=root["id"], store=False)
    await client.create("right", stream_id="c", previous_response_id=root["id"], store=False)
    for _ in range(2):
        assert (await client.until(*ENDS))[-1]["response"]["previous_response_id"] == root["id"]
    assert all(len(request.json()["input"]) == 3 for request in provider.requests[1:])


async def test_a_connection_may_use_32_names(client: Client) -> None:
    for number in range(33):
        await client.create(stream_id=f"lane-{number}", generate=False)
    events: list[dict[str, Any]] = []
    while sum(event["type"] in ENDS for event in events) < 32 or events[-1]["type"] not in (*ENDS, "error"):
        events.append(await client.event())
    [error] = [event for event in events if event["type"] == "error"] or [await client.error()]
    assert (error["error"]["code"], error["status"]) == ("websocket_stream_limit_reached", 400)
    assert (error["error"]["param"], error["stream_id"]) == ("stream_id", "lane-32")
    await client.talk(stream_id="lane-0")
    await client.talk()


@pytest.mark.parametrize("lane", ["", "a b", "ü", "x" * 257, 7, ["a"]])
async def test_a_malformed_stream_id_is_refused_by_name(client: Client, lane: Any) -> None:
    await client.create(stream_id=lane)
    error = await client.error()
    assert (error["error"]["code"], error["error"]["param"]) == ("invalid_stream_id", "stream_id")
    assert "stream_id" not in error


# State...


async def test_store_false_is_continued_with_new_items_only(client: Client, provider: FakeProvider) -> None:
    provider.script(Answer(calls=[ToolCall("weather", {"city": "Oslo"}, call_id="call_1")]))
    first = await client.talk("Weather?", store=False)
    result = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
    second = await client.talk([result], store=False, previous_response_id=first["id"])
    assert second["previous_response_id"] == first["id"]
    third = await client.talk("And now?", store=False, previous_response_id=second["id"])
    sent = provider.requests[2].json()
    assert "previous_response_id" not in sent
    question, call, output, said, again = sent["input"]
    assert (question["content"], again["content"]) == ("Weather?", "And now?")
    assert (call["type"], call["call_id"], output) == ("function_call", "call_1", result)
    assert said["role"] == "assistant"
    assert third["previous_response_id"] == second["id"]


async def test_what_the_upstream_stores_is_continued_there_by_its_id(client: Client, provider: FakeProvider) -> None:
    first = await client.talk("one")
    await client.talk("two", previous_response_id=first["id"])
    assert provider.requests[1].json()["previous_response_id"] == first["id"]
    assert provider.requests[1].json()["input"] == "two"


async def test_an_unknown_id_is_an_error_with_status_400_and_the_socket_stays_open(client: Client) -> None:
    await client.create("more", previous_response_id="resp_unknown", stream_id="a")
    error = await client.error()
    assert (error["status"], error["stream_id"]) == (400, "a")
    assert (error["error"]["code"], error["error"]["param"]) == (
        "previous_response_not_found",
        "previous_response_id",
    )
    await client.talk("hello")


async def test_a_response_that_is_not_stored_is_unknown_on_another_connection(
    client: Client, gateway: Gateway, provider: FakeProvider
) -> None:
    first = await client.talk("one", store=False)
    async with connected(gateway) as other:
        await other.create("two", store=False, previous_response_id=first["id"])
        assert (await other.error())["error"]["code"] == "previous_response_not_found"


@pytest.mark.parametrize("status", [400, 429, 500])
async def test_a_continuation_that_fails_evicts_the_id_that_it_named_and_only_that(
    client: Client, provider: FakeProvider, status: int
) -> None:
    first = await client.talk("one", store=False)
    second = await client.talk("two", store=False, previous_response_id=first["id"])
    provider.script(*[Scripted(None, (Status(status),))] * 3)
    await client.create("three", store=False, previous_response_id=second["id"])
    assert (await client.error())["status"] == status
    provider.clear()
    await client.create("three", store=False, previous_response_id=second["id"])
    assert (await client.error())["error"]["code"] == "previous_response_not_found"
    await client.talk("two again", store=False, previous_response_id=first["id"])


async def test_a_request_that_names_no_id_evicts_nothing_when_it_fails(client: Client, provider: FakeProvider) -> None:
    first = await client.talk("one", store=False)
    provider.script(*[Scripted(None, (Status(500),))] * 3)
    await client.create("else", store=False)
    await client.error()
    provider.clear()
    await client.talk("two", store=False, previous_response_id=first["id"])


async def test_warming_up_asks_no_upstream_and_gives_an_id_to_go_on_from(
    client: Client, provider: FakeProvider
) -> None:
    await client.create("context", generate=False, store=False, instructions="Be brief.")
    events = await client.until(*ENDS)
    assert [event["type"] for event in events] == ["response.created", "response.in_progress", "response.completed"]
    warmed = events[-1]["response"]
    assert (warmed["output"], warmed["usage"]["total_tokens"], provider.requests) == ([], 0, [])
    await client.talk("question", store=False, previous_response_id=warmed["id"])
    assert [item["content"] for item in provider.requests[0].json()["input"]] == ["context", "question"]


async def test_without_a_store_the_connection_still_remembers(provider: FakeProvider, make: Make) -> None:
    async with connected(make(provider, store=NoStore())) as client:
        first = await client.talk("one", store=False)
        await client.talk("two", store=False, previous_response_id=first["id"])
    assert len(provider.requests[1].json()["input"]) == 3


async def test_a_compacted_conversation_begins_a_new_chain(client: Client, provider: FakeProvider) -> None:
    first = await client.talk("one", store=False)
    compacted = {"type": "compaction", "id": "cmp_1", "encrypted_content": "xyz"}
    await client.talk([compacted, {"role": "user", "content": "go on"}], store=False)
    assert provider.requests[1].json()["input"][0] == compacted
    assert first["id"] not in provider.requests[1].body.decode()


# Errors...


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("", "invalid_json"),
        ("{", "invalid_json"),
        ("[]", "invalid_json"),
        ("null", "invalid_json"),
        ('{"type": "response.create"} trailing', "invalid_json"),
        ("[" * 100_000, "invalid_json"),
        ('{"type": "response.create", "model": "\ud800"}', "invalid_json"),
        ("{}", "unknown_event_type"),
        ('{"type": 7}', "unknown_event_type"),
        ('{"type": "response.cancel"}', "unknown_event_type"),
        ('{"type": "response.create", "model": 7}', "invalid_type"),
        ('{"type": "response.create", "generate": "no"}', "invalid_type"),
        ('{"type": "response.steer", "input": "x"}', "missing_required_parameter"),
        (b'{"type": "response.create", "model": "m"}', "invalid_frame"),
    ],
)
async def test_a_malformed_frame_is_an_error_frame_and_the_socket_stays_open(
    client: Client, frame: str | bytes, code: str
) -> None:
    await client.send(frame)
    error = await client.error()
    assert (error["status"], error["error"]["code"]) == (400, code)
    assert "sequence_number" not in error
    await client.talk("hello")


async def test_a_frame_over_the_limit_is_refused_and_the_socket_stays_open(provider: FakeProvider, make: Make) -> None:
    async with connected(make(provider, limits=Limits(body=1000))) as client:
        await client.create("x" * 1000)
        error = await client.error()
        assert (error["status"], error["error"]["code"]) == (413, "request_too_large")
        await client.create("ü" * 499)
        assert (await client.error())["status"] == 413
        await client.talk("hello")


async def test_an_upstream_error_before_the_response_is_one_frame_with_its_status(
    client: Client, provider: FakeProvider
) -> None:
    provider.fail_next(Status(422))
    await client.create("hello", stream_id="a")
    error = await client.error()
    assert (error["status"], error["stream_id"]) == (422, "a")
    assert "sequence_number" not in error
    await client.talk("hello")


async def test_an_upstream_that_breaks_off_is_an_error_with_a_number_and_then_a_failed_response(
    client: Client, provider: FakeProvider
) -> None:
    provider.fail_next(Cut(after_events=4))
    await client.create("hello", stream_id="a")
    events = await client.until(*ENDS)
    error, failed = events[-2:]
    assert (error["type"], error["status"], error["error"]["code"]) == ("error", 502, "upstream_stream_truncated")
    assert failed["response"]["id"] == events[0]["response"]["id"]
    assert failed["response"]["status"] == "failed"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert {event["stream_id"] for event in events} == {"a"}
    await client.talk("hello")


async def test_an_upstream_that_answers_json_is_told_as_events(client: Client, provider: FakeProvider) -> None:
    provider.script(Reply({"id": "resp_1", "object": "response", "status": "completed", "output": []}))
    assert (await client.talk("hello"))["id"] == "resp_1"


async def test_steering_is_given_back_where_the_upstream_cannot(client: Client, provider: FakeProvider) -> None:
    provider.script(Scripted(None, (Stall(after_events=2),)))
    await client.create("hello")
    created, _ = await client.until("response.in_progress")
    steer = {"previous_response_id": created["response"]["id"], "input": "faster"}
    await client.send({"type": "response.steer", **steer})
    failed = await client.event()
    assert (failed["type"], failed["steer"]) == ("response.steer.failed", steer)
    assert failed["error"]["code"] == "steering_not_supported"
    await client.send({"type": "response.steer", "previous_response_id": "resp_other", "input": "x"})
    assert (await client.event())["error"]["code"] == "response_not_found"
    provider.release()
    await client.until(*ENDS)


# The policy...


async def test_the_policy_is_asked_at_the_upgrade_and_for_each_create(provider: FakeProvider, make: Make) -> None:
    asked: list[RoutingRequest] = []

    async def policy(request: RoutingRequest) -> Target:
        asked.append(request)
        return Target("fake")

    async with connected(make(provider, policy=policy)) as client:
        await client.talk("one")
        await client.talk("two")
    assert [request.operation for request in asked] == ["connect", "create", "create"]
    assert len({id(request.connection) for request in asked}) == 1
    assert asked[0].connection is not None
    assert asked[1].body["input"] == "one"


async def test_the_policy_sees_what_a_request_continues(provider: FakeProvider, make: Make) -> None:
    seen: list[Any] = []

    async def policy(request: RoutingRequest) -> Target:
        if request.operation == "create":
            seen.append((request.previous_response_id, request.previous and request.previous.provider))
        return Target("fake")

    async with connected(make(provider, policy=policy)) as client:
        first = await client.talk("one", store=False)
        await client.talk("two", store=False, previous_response_id=first["id"])
    assert seen == [(None, None), (first["id"], "fake")]


@pytest.mark.parametrize(("error", "status"), [(Unauthenticated(), 401), (Denied("no"), 403)])
async def test_the_policy_can_refuse_the_upgrade(
    provider: FakeProvider, error: Exception, status: int, make: Make
) -> None:
    async def policy(request: RoutingRequest) -> Target:
        raise error

    async with knocking(make(provider, policy=policy)) as client:
        start, body = await client.message(), await client.message()
        assert (start["type"], start["status"]) == ("websocket.http.response.start", status)
        assert json.loads(body["body"])["error"]["message"]


async def test_a_server_that_cannot_send_a_response_is_told_to_refuse(provider: FakeProvider, make: Make) -> None:
    async def policy(request: RoutingRequest) -> Target:
        raise Unauthenticated

    async with knocking(make(provider, policy=policy), extensions={}) as client:
        assert (await client.message())["type"] == "websocket.close"


async def test_a_policy_that_raises_at_the_upgrade_refuses_it_and_the_host_is_told(
    provider: FakeProvider, make: Make
) -> None:
    async def policy(request: RoutingRequest) -> Target:
        raise ZeroDivisionError

    async with knocking(make(provider, policy=policy)) as client:
        assert (await client.message())["status"] == 500
        await client.ended.wait()
        assert isinstance(client.raised, ZeroDivisionError)


async def test_a_policy_that_raises_for_a_create_fails_that_one_and_the_host_is_told_at_the_end(
    provider: FakeProvider,
    make: Make,
) -> None:
    async def policy(request: RoutingRequest) -> Target:
        if request.model == "bad":
            raise ZeroDivisionError("secret detail")
        return Target("fake")

    async with connected(make(provider, policy=policy)) as client:
        await client.create(model="bad")
        error = await client.error()
        assert (error["status"], error["error"]["code"]) == (500, "internal_error")
        assert "secret" not in json.dumps(error)
        await client.talk("hello")
        await client.leave()
        assert isinstance(client.raised, ZeroDivisionError)


async def test_a_policy_that_needs_a_model_lets_the_upgrade_through(provider: FakeProvider, make: Make) -> None:
    two = [Provider("a", provider.base_url, models=["m"]), Provider("b", provider.base_url)]
    async with connected(make(*two)) as client:
        assert (await client.talk("hello"))["provider"] == "a"
        assert (await client.talk("hello", provider="b"))["provider"] == "b"


async def test_the_tenant_is_the_user_of_the_upgrade(provider: FakeProvider, make: Make) -> None:
    class User:
        is_authenticated = True
        identity = "ann"

    tenants: list[str | None] = []

    async def policy(request: RoutingRequest) -> Target:
        tenants.append(request.tenant)
        return Target("fake")

    async with connected(make(provider, policy=policy), user=User()) as client:
        first = await client.talk("hello", store=False)
        await client.talk("more", store=False, previous_response_id=first["id"])
    assert tenants == ["ann"] * 3


async def test_a_page_of_another_origin_is_refused(provider: FakeProvider, make: Make) -> None:
    gateway = make(provider)
    host = (b"host", b"app.example:8000")
    async with knocking(gateway, headers=[host, (b"origin", b"https://evil.example")]) as client:
        assert (await client.message())["status"] == 403
    async with connected(gateway, headers=[host, (b"origin", b"https://app.example:8000")]) as client:
        await client.talk("hello")


async def test_one_idempotency_key_is_not_used_for_all_requests_of_a_connection(
    provider: FakeProvider, make: Make
) -> None:
    headers = [(b"host", b"x"), (b"idempotency-key", b"k"), (b"openai-beta", b"responses_websockets=2026-02-06")]
    async with connected(make(provider), headers=headers) as client:
        await client.talk("hello")
    sent = dict(provider.requests[0].headers)
    assert b"idempotency-key" not in sent
    assert sent[b"openai-beta"] == b"responses_websockets=2026-02-06"


# Which connections are ours...


@pytest.mark.parametrize("path", ["/v1/responses/", "/v1/responses/compact", "/v2/responses", "/v1/responses/resp_1"])
async def test_every_other_websocket_goes_to_the_host_untouched(provider: FakeProvider, path: str, make: Make) -> None:
    seen: list[Any] = []

    async def host(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, receive, send))

    app = GoModelMiddleware(host, gateway=make(provider))
    scope = {"type": "websocket", "path": path, "raw_path": path.encode(), "headers": []}

    async def receive() -> Any: ...

    async def send(message: Any) -> None: ...

    await app(scope, receive, send)
    assert seen == [(scope, receive, send)]


async def test_a_path_whose_raw_form_differs_is_not_ours(provider: FakeProvider, make: Make) -> None:
    async with knocking(make(provider), raw_path=b"/v1/%72esponses") as client:
        assert (await client.message())["status"] == 404


async def test_a_mounted_gateway_refuses_foreign_paths(provider: FakeProvider, make: Make) -> None:
    async with knocking(make(provider), path="/v1/other") as client:
        assert (await client.message())["status"] == 404


# Ends...


@pytest.mark.parametrize("events", [0, 1, 4])
async def test_a_client_that_leaves_cancels_the_upstream(
    client: Client, provider: FakeProvider, gateway: Gateway, events: int
) -> None:
    provider.script(Scripted(None, (Stall(after_events=events),)))
    await client.create("hello")
    with anyio.fail_after(5):
        request = await provider.received()
        if events:
            await client.event()
        await client.leave()
        await request.disconnected.wait()


async def test_waiting_creates_are_not_sent_once_the_client_has_left(client: Client, provider: FakeProvider) -> None:
    provider.script(Scripted(None, (Stall(after_events=1),)))
    for _ in range(5):
        await client.create("hello")
    await client.event()
    await client.leave()
    assert len(provider.requests) == 1


async def test_a_connection_that_is_old_enough_is_told_so_and_closed(provider: FakeProvider, make: Make) -> None:
    async with connected(make(provider, timeouts=Timeouts(connection=1.0))) as client:
        provider.script(Scripted(None, (Stall(after_events=2),)))
        await client.create("hello")
        events = await client.until("response.failed")
        assert events[-2]["error"]["code"] == "websocket_connection_limit_reached"
        error = await client.error()
        assert (error["status"], error["error"]["code"]) == (400, "websocket_connection_limit_reached")
        assert await client.closed() == 1001


async def test_a_connection_on_which_nothing_happens_is_closed(provider: FakeProvider, make: Make) -> None:
    async with connected(make(provider, timeouts=Timeouts(connection_idle=0.05))) as client:
        assert await client.closed() == 1001


async def test_a_response_under_way_is_not_idleness(provider: FakeProvider, make: Make) -> None:
    async with connected(make(provider, timeouts=Timeouts(connection_idle=0.2))) as client:
        provider.script(Scripted(None, (Stall(after_events=2),)))
        await client.create("hello")
        await client.until("response.in_progress")
        await anyio.sleep(0.4)
        provider.release()
        assert (await client.until(*ENDS))[-1]["type"] == "response.completed"
        assert await client.closed() == 1001


async def test_a_client_that_does_not_read_is_cut_off(provider: FakeProvider, make: Make) -> None:
    async with connected(make(provider, timeouts=Timeouts(stalled_client=0.1))) as client:
        client.stalled = anyio.Event()
        await client.create("hello")
        with anyio.fail_after(5):
            await client.ended.wait()
        sent = [message for message in client.messages if message["type"] == "websocket.send"]
        assert len(sent) == 1


async def test_draining_closes_idle_connections_at_once_and_refuses_new_ones(client: Client, gateway: Gateway) -> None:
    with anyio.fail_after(5):
        await gateway.drain()
    assert await client.closed() == 1012
    async with knocking(gateway) as late:
        assert (await late.message())["status"] == 503


async def test_draining_lets_a_response_end_and_refuses_the_next(
    client: Client, gateway: Gateway, provider: FakeProvider
) -> None:
    provider.script(Scripted(None, (Stall(after_events=2),)))
    await client.create("hello")
    await client.until("response.in_progress")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gateway.drain)
        await anyio.lowlevel.checkpoint()
        await client.create("more")
        await client.send("{}")
        await client.error()
        provider.release()
        assert (await client.until(*ENDS))[-1]["type"] == "response.completed"
        assert (await client.error())["error"]["code"] == "server_shutdown"
        assert await client.closed() == 1012


async def test_a_drain_that_takes_too_long_ends_responses_in_band(provider: FakeProvider, make: Make) -> None:
    gateway = make(provider, timeouts=Timeouts(drain=0.1))
    async with connected(gateway) as client:
        provider.script(Scripted(None, (Stall(after_events=2),)))
        await client.create("hello")
        await client.until("response.in_progress")
        await gateway.drain()
        error, failed = await client.until("response.failed")
        assert (error["status"], error["error"]["code"]) == (503, "server_shutdown")
        assert failed["response"]["status"] == "failed"
        assert await client.closed() == 1012


async def test_frames_are_read_no_faster_than_allowed_and_all_answered(provider: FakeProvider, make: Make) -> None:
    async with connected(make(provider)) as client:
        for _ in range(300):
            await client.send("{}")
        began = anyio.current_time()
        for _ in range(300):
            await client.error()
        assert anyio.current_time() - began > 0.15
        await client.talk("hello")


async def test_a_server_that_goes_down_ends_a_response_in_band(make: Make, provider: FakeProvider) -> None:
    """Servers cancel the app although the client is still there."""
    provider.script(Scripted(None, (Stall(after_events=2),)))
    client = Client(scope_of())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.run, make(provider))
        await client.message()
        await client.create("hello")
        await client.until("response.in_progress")
        tasks.cancel_scope.cancel()
    error, failed = await client.until("response.failed")
    assert (error["error"]["code"], failed["response"]["status"]) == ("server_shutdown", "failed")
    assert await client.closed() == 1012
    client.close()


async def test_observers_are_told_of_each_create(make: Make, provider: FakeProvider) -> None:
    observed: list[Any] = []

    def watching(record: Record) -> None:
        if isinstance(record, Completed):
            observed.append((record.context.operation, record.status, record.outcome))

    provider.script(Answer(text="hi"), Scripted(None, (Status(422),)))
    async with connected(make(provider, observers=[watching])) as client:
        await client.talk("one")
        await client.create("two")
        await client.error()
        await client.talk("three", generate=False)
    assert observed == [("create", 200, "completed"), ("create", 422, "failed"), ("create", 200, "completed")]


async def test_what_a_connection_keeps_of_its_upgrade_shows_no_header(gateway: Gateway) -> None:
    headers = [(b"host", b"testserver"), (b"authorization", b"Bearer sk-canary"), (b"cookie", b"session=canary")]

    kept = await admitted(gateway, scope_of(headers=headers))

    assert kept.headers[b"cookie"] == b"session=canary"
    assert "canary" not in repr(kept)
