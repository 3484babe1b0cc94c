"""Upstreams that have a WebSocket of their own: frames out, frames back, and everything that can happen between."""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import pytest
import trustme
from anyio.abc import SocketAttribute, SocketStream

from gomodel_asgi import Limits, Provider, Retries, RoutingRequest, Target, Timeouts
from gomodel_asgi.testing import FakeProvider
from gomodel_asgi.transport import Http11Transport

from ...support.gateways import Make
from ...support.lab import until
from ...support.websocket_client import ENDS, Client, connected
from ...support.websocket_upstream import Upstream, dropped, failed, running, stalled, whole

KEY = "sk-canary-house-key"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with running() as upstream:
        yield upstream


def provider_of(upstream: Upstream, **options: Any) -> Provider:
    return Provider("up", upstream.base_url, websocket=True, api_key=KEY, **options)


@pytest.fixture
async def client(make: Make, upstream: Upstream) -> AsyncIterator[Client]:
    async with connected(make(provider_of(upstream), retries=Retries(attempts=2))) as client:
        yield client


async def gone(upstream: Upstream) -> None:
    """Wait until one of the upstream's connections has ended."""
    assert await anyio.to_thread.run_sync(lambda: upstream.closed.acquire(timeout=10))


async def test_a_create_goes_out_as_a_frame_and_its_events_come_back(client: Client, upstream: Upstream) -> None:
    await client.create("hello", stream=True, provider="up", background=True)
    events = await client.until(*ENDS)
    assert upstream.frames == [{"type": "response.create", "model": "m", "input": "hello"}]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"]["provider"] == "up"
    assert events[3] == {
        "type": "response.output_text.delta",
        "output_index": 0,
        "item_id": "msg_1",
        "content_index": 0,
        "delta": "hi",
        "sequence_number": 3,
    }


async def test_the_upgrade_carries_the_key_of_the_target_and_nothing_of_the_client(
    make: Make, upstream: Upstream
) -> None:
    headers = [
        (b"host", b"testserver"),
        (b"authorization", b"Bearer sk-client-canary"),
        (b"cookie", b"session=1"),
        (b"openai-beta", b"responses_websockets=2026-02-06"),
    ]
    async with connected(make(provider_of(upstream, query={"x": "1"})), headers=headers, query=b"beta=true") as client:
        await client.talk("hello")
    [upgrade] = upstream.upgrades
    assert upgrade["authorization"] == f"Bearer {KEY}"
    assert upgrade["openai-beta"] == "responses_websockets=2026-02-06"
    assert upgrade[":path"] == "/v1/responses?beta=true&x=1"
    assert upgrade["user-agent"].startswith("gomodel-asgi/")
    assert not {"cookie", "content-type", "origin"} & set(upgrade)


@pytest.mark.parametrize("query", [b"a#b", b"a=%23", b"a@b:c", b"//x"])
async def test_no_query_of_a_client_makes_the_upgrade_tell_the_key_in_ours(
    make: Make, upstream: Upstream, caplog: pytest.LogCaptureFixture, query: bytes
) -> None:
    """A library that parses the URL once more names it, whole, where it does not like it."""
    caplog.set_level(logging.DEBUG)
    observed: list[Any] = []
    provider = Provider("up", f"{upstream.base_url}?key={KEY}", websocket=True)
    async with connected(make(provider, observers=[observed.append]), query=query) as client:
        await client.talk("hello")
    [upgrade] = upstream.upgrades

    assert upgrade[":path"] == f"/v1/responses?{query.decode()}&key={KEY}"
    assert client.raised is None
    logged = [entry.getMessage() for entry in caplog.records if entry.name != "websockets.server"]  # the upstream's own
    assert KEY not in f"{logged} {client.messages} {observed}"


async def test_one_upstream_connection_carries_all_turns_and_lanes(client: Client, upstream: Upstream) -> None:
    await client.talk("one")
    await client.talk("two", stream_id="a")
    await client.talk("three", stream_id="b")
    assert len(upstream.upgrades) == 1
    assert [frame.get("stream_id") for frame in upstream.frames] == [None, "a", "b"]


async def test_another_key_gets_a_connection_of_its_own(make: Make, upstream: Upstream) -> None:
    async def policy(request: RoutingRequest) -> Target:
        return Target("up", api_key=f"sk-canary-{request.model}")

    async with connected(make(provider_of(upstream), policy=policy)) as client:
        await client.talk("one", model="a")
        await client.talk("two", model="b")
        await client.talk("three", model="a")
    keys = [upgrade["authorization"] for upgrade in upstream.upgrades]
    assert keys == ["Bearer sk-canary-a", "Bearer sk-canary-b"]


async def test_frames_of_lanes_may_come_mixed(client: Client, upstream: Upstream) -> None:
    def mixed(upstream: Upstream, connection: Any, frame: Any) -> None:
        pass  # the other lane's play sends both

    def both(upstream: Upstream, connection: Any, frame: Any) -> None:
        mine, other = list(upstream.events(frame)), list(upstream.events({**frame, "stream_id": "a"}))
        for pair in zip(mine, other, strict=True):
            for event in pair:
                connection.send(json.dumps(event))

    upstream.plays.extend([mixed, both])
    await client.create("one", stream_id="a")
    await client.create("two", stream_id="b")
    events: list[dict[str, Any]] = []
    while sum(event["type"] == "response.completed" for event in events) < 2:
        events.append(await client.event())
    for lane in "ab":
        numbers = [event["sequence_number"] for event in events if event["stream_id"] == lane]
        assert numbers == list(range(len(numbers)))


async def test_store_false_is_continued_by_the_upstream_itself(client: Client, upstream: Upstream) -> None:
    first = await client.talk("one", store=False)
    second = await client.talk("two", store=False, previous_response_id=first["id"])
    assert second["previous_response_id"] == first["id"]
    assert (upstream.frames[1]["previous_response_id"], upstream.frames[1]["input"]) == (first["id"], "two")


async def test_a_tenant_continues_store_false_on_its_connection_only(make: Make, upstream: Upstream) -> None:
    gateway = make(provider_of(upstream), tenant=lambda scope: "ann")
    async with connected(gateway) as client, connected(gateway) as other:
        first = await client.talk("one", store=False)
        await client.talk("two", store=False, previous_response_id=first["id"])
        await other.create("two", store=False, previous_response_id=first["id"])
        assert (await other.error())["error"]["code"] == "previous_response_not_found"
    assert len(upstream.frames) == 2


async def test_warming_up_is_passed_on(client: Client, upstream: Upstream) -> None:
    warmed = await client.talk("context", generate=False)
    assert upstream.frames[0]["generate"] is False
    await client.talk("question", previous_response_id=warmed["id"])


async def test_an_unknown_id_is_the_upstreams_own_error(client: Client) -> None:
    await client.create("more", previous_response_id="resp_unknown", stream_id="a")
    error = await client.error()
    assert (error["status"], error["stream_id"], error["error"]["code"]) == (400, "a", "previous_response_not_found")
    assert "'resp_unknown' not found" in error["error"]["message"]
    await client.talk("hello")


@pytest.mark.parametrize(
    ("members", "code", "param"),
    [
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "item_not_found", "item_id"),
        ({"input": [{"type": "message", "role": "assistant", "id": "msg_1"}]}, "item_not_found", "item_id"),
        ({"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}, "item_not_found", "item_id"),
        ({"input": [{"Type": "message"}]}, "invalid_parameter", "input[0].Type"),
        ({"input": {"type": "item_reference", "id": "msg_1"}}, "item_not_found", "item_id"),
        ({"input": [[{"type": "item_reference", "id": "msg_1"}]]}, "invalid_type", "input[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "item_reference", "id": "a"}]}]},
            "invalid_parameter",
            "input[0]",
        ),
        ({"Input": "x", "input": "y"}, "invalid_parameter", "Input"),
        ({"TYPE": "response.create", "input": "y"}, "invalid_parameter", "TYPE"),
        ({"input": "y", "conversation": "conv_1"}, "invalid_parameter", "conversation"),
        (
            {"input": "y", "prompt_cache_options": {"comparison_response_id": "resp_1"}},
            "invalid_parameter",
            "prompt_cache_options.comparison_response_id",
        ),
    ],
)
async def test_a_steer_brings_what_is_said_and_names_nothing(
    client: Client, upstream: Upstream, members: dict[str, Any], code: str, param: str
) -> None:
    first = await client.talk("hello")
    frames = len(upstream.frames)
    await client.send({"type": "response.steer", "previous_response_id": first["id"], **members})

    error = (await client.error())["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert len(upstream.frames) == frames


async def test_of_members_that_a_steer_repeats_the_last_goes_on(client: Client, upstream: Upstream) -> None:
    first = await client.talk("hello")
    said = json.dumps({"type": "response.steer", "previous_response_id": first["id"], "input": "faster"})
    await client.send(said[:-1] + ',"input":"slower"}')

    assert (await client.event())["type"] == "response.steer.accepted"
    assert upstream.frames[-1] == {**json.loads(said), "input": "slower"}
    assert str(upstream.texts[-1]).count('"input"') == 1


@pytest.mark.parametrize("member", ["Type", "STREAM_ID", "Generate", "Previous_Response_Id", "Input", "Model"])
async def test_a_frame_whose_members_can_be_read_in_two_ways_is_refused(
    client: Client, upstream: Upstream, member: str
) -> None:
    await client.create("hello", **{member: "x"})

    error = (await client.error())["error"]
    assert (error["code"], error["param"]) == ("invalid_parameter", member)
    assert not upstream.frames


async def test_steering_is_passed_to_the_upstream_and_its_answer_back(client: Client, upstream: Upstream) -> None:
    first = await client.talk("hello")
    steer = {"type": "response.steer", "previous_response_id": first["id"], "input": "faster"}
    await client.send(steer)
    assert (await client.event())["type"] == "response.steer.accepted"
    assert upstream.frames[-1] == steer


# Faults...


@pytest.mark.parametrize("politely", [True, False])
async def test_a_socket_that_drops_within_a_response_fails_it_in_band(
    client: Client, upstream: Upstream, politely: bool
) -> None:
    upstream.plays.append(dropped(3, politely=politely))
    await client.create("hello", stream_id="a")
    events = await client.until(*ENDS)
    error, last = events[-2:]
    assert (error["status"], error["error"]["code"], error["stream_id"]) == (502, "upstream_stream_truncated", "a")
    assert (last["type"], last["response"]["id"]) == ("response.failed", events[0]["response"]["id"])
    assert [event["sequence_number"] for event in events] == list(range(5))


async def test_a_socket_that_closed_meanwhile_is_opened_again(client: Client, upstream: Upstream) -> None:
    upstream.plays.append(whole_then_close)
    await client.talk("one")
    await gone(upstream)
    await client.talk("two")
    assert len(upstream.upgrades) == 2


def whole_then_close(upstream: Upstream, connection: Any, frame: Any) -> None:
    whole(upstream, connection, frame)
    connection.close(1001)


async def test_what_a_lost_socket_remembered_is_told_as_lost(client: Client, upstream: Upstream) -> None:
    upstream.plays.append(whole_then_close)
    first = await client.talk("one", store=False)
    await gone(upstream)
    await client.create("two", store=False, previous_response_id=first["id"])
    assert (await client.error())["error"]["code"] == "previous_response_not_found"
    await client.talk("one and two", store=False)


async def test_a_socket_that_closes_without_an_answer_is_tried_once_more(client: Client, upstream: Upstream) -> None:
    upstream.plays.append(dropped(0))
    await client.talk("hello")
    assert len(upstream.upgrades) == 2


async def test_a_socket_that_never_answers_is_a_timeout_and_is_not_used_again(make: Make, upstream: Upstream) -> None:
    upstream.plays.append(stalled(0))
    gateway = make(provider_of(upstream), timeouts=Timeouts(first_event=1.0), retries=Retries(attempts=1))
    async with connected(gateway) as client:
        await client.create("hello")
        error = await client.error()
        assert (error["status"], error["error"]["code"]) == (504, "upstream_timeout")
        await client.talk("hello")
    assert len(upstream.upgrades) == 2


async def test_a_socket_that_stalls_within_a_response_is_an_idle_timeout(make: Make, upstream: Upstream) -> None:
    upstream.plays.append(stalled(3))
    async with connected(make(provider_of(upstream), timeouts=Timeouts(idle=0.2))) as client:
        await client.create("hello")
        error = (await client.until(*ENDS))[-2]
        assert (error["status"], error["error"]["code"]) == (504, "upstream_idle_timeout")


async def test_an_error_within_a_response_is_followed_by_its_failure(client: Client, upstream: Upstream) -> None:
    error = {"code": "server_error", "message": "broken", "param": None, "type": "server_error"}
    response = {"id": "resp_up1", "object": "response", "status": "failed", "output": [], "error": error}
    observed = {"type": "error", "sequence_number": 3, "status": 500, "error": error}
    upstream.plays.append(failed(3, observed, {"type": "response.failed", "sequence_number": 4, "response": response}))
    await client.create("hello", stream_id="a")
    events = await client.until(*ENDS)
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert (events[-2]["status"], events[-2]["error"], events[-2]["stream_id"]) == (500, error, "a")
    await client.talk("hello")


@pytest.mark.parametrize(("status", "observed"), [(401, 502), (404, 404), (429, 429), (302, 502)])
async def test_an_upgrade_that_is_refused_is_an_error_as_over_http(
    make: Make, upstream: Upstream, status: int, observed: int
) -> None:
    upstream.refusal = (status, b'{"error":{"message":"no","type":"x","param":null,"code":"y"}}')
    async with connected(make(provider_of(upstream), retries=Retries(attempts=1))) as client:
        await client.create("hello")
        assert (await client.error())["status"] == observed


async def test_an_upstream_that_is_not_there_is_fallen_back_from(
    make: Make, upstream: Upstream, provider: FakeProvider
) -> None:
    async def policy(request: RoutingRequest) -> Target:
        return Target("nowhere", fallbacks=[Target("fake")])

    nowhere = Provider("nowhere", "http://127.0.0.1:1/v1", websocket=True)
    async with connected(make(nowhere, Provider("fake", provider.base_url), policy=policy)) as client:
        assert (await client.talk("hello"))["provider"] == "fake"


async def test_an_address_that_is_not_public_is_not_connected_to(make: Make, upstream: Upstream) -> None:
    async with connected(make(provider_of(upstream, allow_private=False))) as client:
        await client.create("hello")
        assert (await client.error())["error"]["code"] == "upstream_unreachable"
    assert not upstream.upgrades


async def test_a_socket_counts_among_the_connections_until_it_is_closed(make: Make, upstream: Upstream) -> None:
    gateway = make(provider_of(upstream), limits=Limits(connections=1), timeouts=Timeouts(pool=0.05))
    async with connected(gateway) as first, connected(gateway) as second:
        await first.talk("hello")
        await second.create("hello")
        error = await second.error()
        assert (error["status"], error["error"]["code"]) == (503, "overloaded")
        await first.leave()
        await gone(upstream)
        await until(lambda: not gateway.connections.open)
        await second.talk("hello")
    assert gateway.connections.open == 0


async def test_an_idle_connection_makes_room_for_a_socket(
    make: Make, upstream: Upstream, provider: FakeProvider
) -> None:
    async def policy(request: RoutingRequest) -> Target:
        return Target(request.provider or "up")

    providers = (provider_of(upstream), Provider("fake", provider.base_url))
    gateway = make(*providers, policy=policy, limits=Limits(connections=1), timeouts=Timeouts(pool=0.05))
    assert (await gateway.respond({"model": "m", "provider": "fake", "input": "x"})).status == 200
    async with connected(gateway) as client:
        await client.talk("hello")
    assert gateway.connections.open == 0


@pytest.mark.parametrize("answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n"])
async def test_an_upgrade_that_fails_leaves_no_slot_taken(make: Make, answer: bytes) -> None:
    async def answering(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            if answer:
                await stream.send(answer)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answering)
        url = f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}/v1"
        gateway = make(Provider("up", url, websocket=True), retries=Retries(attempts=1))
        async with connected(gateway) as client:
            await client.create("hello")
            await client.error()
        assert gateway.connections.here().open == 0
        tasks.cancel_scope.cancel()


async def test_a_frame_over_the_limit_ends_the_upstreams_socket(make: Make, upstream: Upstream) -> None:
    big = {"type": "response.output_text.delta", "sequence_number": 3, "delta": "x" * 100_000}
    upstream.plays.append(failed(3, big))
    async with connected(make(provider_of(upstream), limits=Limits(event=50_000))) as client:
        await client.create("hello")
        assert (await client.until(*ENDS))[-1]["type"] == "response.failed"


async def test_a_client_that_leaves_closes_the_upstreams_socket(client: Client, upstream: Upstream) -> None:
    upstream.plays.append(stalled(3))
    await client.create("hello")
    for _ in range(3):
        await client.event()
    await client.leave()
    upstream.released.set()
    await gone(upstream)


async def test_a_slow_client_slows_the_upstream(make: Make, upstream: Upstream) -> None:
    sent = 0

    def flood(upstream: Upstream, connection: Any, frame: Any) -> None:
        nonlocal sent
        events = list(upstream.events(frame))
        delta = {"type": "response.output_text.delta", "delta": "x" * 10_000}
        for event in (*events[:3], *[delta] * 3_000, events[-1]):
            connection.send(json.dumps(event))
            sent += 1

    upstream.plays.append(flood)
    async with connected(make(provider_of(upstream))) as client:
        client.stalled = anyio.Event()
        await client.create("hello")
        await client.event()
        previous = -1
        while sent != previous:  # until the upstream no longer gets anything away
            previous = sent
            await anyio.sleep(0.2)
        assert sent < 2_500
        client.stalled.set()
        await client.until(*ENDS)
    assert sent == 3_004


# How it is reached...


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_tls_uses_the_context_of_the_gateways_transport(make: Make) -> None:
    authority = trustme.CA()
    serving, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    authority.configure_trust(trusting)
    with running(context=serving) as upstream:
        provider = Provider("up", f"https://127.0.0.1:{upstream.port}/v1", websocket=True)
        async with connected(make(provider, transport=Http11Transport(ssl_context=trusting))) as client:
            await client.talk("hello")
            await client.talk("more")
        async with connected(make(provider)) as client:  # certifi's roots do not know it
            await client.create("hello")
            assert (await client.error())["error"]["code"] == "upstream_unreachable"


async def test_a_unix_socket_is_reached_too(make: Make, tmp_path: Path) -> None:
    path = str(tmp_path / "up.sock")
    with running(path=path):
        url = f"http+unix://{quote(path, safe='')}/v1"
        async with connected(make(Provider("up", url, websocket=True))) as client:
            await client.talk("hello")
        async with connected(make(Provider("up", url, websocket=True, allow_private=False))) as client:
            await client.create("hello")
            assert (await client.error())["error"]["code"] == "upstream_unreachable"


@pytest.mark.parametrize(
    "answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", b"HTTP/1.1 101 X\r\n\r\n"]
)
async def test_what_is_no_upgrade_is_a_protocol_error(make: Make, answer: bytes) -> None:
    async def answering(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            if answer:
                await stream.send(answer)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answering)
        port = listener.extra(SocketAttribute.local_port)
        provider = Provider("up", f"http://127.0.0.1:{port}/v1", websocket=True)
        async with connected(make(provider, retries=Retries(attempts=1))) as client:
            await client.create("hello")
            error = await client.error()
            assert (error["status"], error["error"]["code"]) == (502, "upstream_protocol_error")
        tasks.cancel_scope.cancel()


async def test_an_upstream_that_takes_no_connection_is_a_timeout(make: Make) -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:  # accepts, and says nothing
        provider = Provider("up", f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}/v1", websocket=True)
        async with connected(make(provider, timeouts=Timeouts(connect=0.1), retries=Retries(attempts=1))) as client:
            await client.create("hello")
            error = await client.error()
            assert (error["status"], error["error"]["code"]) == (504, "upstream_timeout")


async def test_a_successor_that_the_upstream_begins_itself_reaches_the_client(
    client: Client, upstream: Upstream
) -> None:
    def twice(upstream: Upstream, connection: Any, frame: Any) -> None:
        whole(upstream, connection, frame)
        whole(upstream, connection, frame)

    upstream.plays.append(twice)
    first = await client.talk("hello")
    successor = await client.response()
    assert successor["id"] != first["id"]


async def test_the_keys_of_idle_upstreams_give_way_to_new_ones(make: Make, upstream: Upstream) -> None:
    async def policy(request: RoutingRequest) -> Target:
        return Target("up", api_key=f"sk-canary-{request.model}")

    async with connected(make(provider_of(upstream), policy=policy)) as client:
        for number in range(12):
            await client.talk("one", model=f"m{number}")
        for _ in range(4):
            await gone(upstream)
    assert len(upstream.upgrades) == 12


async def test_what_a_socket_remembers_is_not_asked_of_another_account(make: Make, upstream: Upstream) -> None:
    async def policy(request: RoutingRequest) -> Target:
        return Target("up", api_key=f"sk-canary-{request.model}")

    async with connected(make(provider_of(upstream), policy=policy)) as client:
        first = await client.talk("one", model="a", store=False)
        await client.create("two", model="b", store=False, previous_response_id=first["id"])
        assert (await client.error())["error"]["code"] == "previous_response_not_found"
    assert len(upstream.frames) == 1


async def test_warming_up_never_falls_back_to_an_upstream_that_would_generate(
    make: Make, provider: FakeProvider
) -> None:
    async def policy(request: RoutingRequest) -> Target:
        return Target("nowhere", fallbacks=[Target("fake")])

    nowhere = Provider("nowhere", "http://127.0.0.1:1/v1", websocket=True)
    async with connected(make(nowhere, Provider("fake", provider.base_url), policy=policy)) as client:
        await client.create("context", generate=False)
        assert (await client.error())["error"]["code"] == "upstream_unreachable"
    assert not provider.requests
