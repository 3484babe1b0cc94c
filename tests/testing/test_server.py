"""The fake provider's own server and its faults, byte by byte, seen by raw TCP clients on asyncio and trio."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import anyio
import httpx
import pytest
from anyio.abc import SocketStream

from gomodel_asgi.testing import (
    Answer,
    ContentType,
    Cut,
    Empty,
    ErrorInside,
    ExtraHeaders,
    FakeProvider,
    Fault,
    Garbage,
    Html,
    Malformed,
    MalformedEvent,
    NoTerminal,
    Oversize,
    Reply,
    SetCookie,
    Signal,
    Slow,
    Stall,
    Status,
    Swapped,
    Trailing,
)
from gomodel_asgi.testing.received import thread_safe
from gomodel_asgi.testing.server import MAX_BODY, Server

TIMEOUT = 10.0


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider().serve() as provider:
        yield provider


def request_of(body: dict[str, Any], *headers: str, path: str = "/v1/responses") -> bytes:
    data = json.dumps({"model": "m", "input": "hi", **body}).encode()
    lines = [f"POST {path} HTTP/1.1", "host: fake.test", f"content-length: {len(data)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


STREAM = request_of({"stream": True}, "connection: close")
UNARY = request_of({}, "connection: close")


async def connect(provider: FakeProvider) -> SocketStream:
    url = httpx.URL(provider.base_url)
    assert url.port
    return await anyio.connect_tcp(url.host, url.port)


async def everything(stream: SocketStream) -> bytes:
    """All bytes until the other side closes."""
    data = b""
    with anyio.fail_after(TIMEOUT):
        try:
            while True:
                data += await stream.receive()
        except anyio.EndOfStream:
            return data


async def until(stream: SocketStream, wanted: bytes) -> bytes:
    """Bytes up to and with *wanted*."""
    data = b""
    with anyio.fail_after(TIMEOUT):
        while wanted not in data:
            data += await stream.receive()
    return data


async def exchange(provider: FakeProvider, request: bytes, *faults: Fault) -> bytes:
    """All bytes of the reply to *request*, with *faults* in it."""
    if faults:
        provider.fail_next(*faults)
    async with await connect(provider) as stream:
        await stream.send(request)
        return await everything(stream)


def chunks_of(reply: bytes) -> tuple[list[bytes], bool]:
    """The chunks of a chunked reply, and whether it came to its end."""
    head, _, rest = reply.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    chunks: list[bytes] = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        if int(size, 16) == 0:
            return chunks, True
        chunks.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]
    return chunks, False


def unframed(reply: bytes) -> tuple[bytes, bytes, bool]:
    """Head and body of a chunked reply, and whether it came to its end."""
    chunks, ended = chunks_of(reply)
    return reply.partition(b"\r\n\r\n")[0], b"".join(chunks), ended


def types_of(body: bytes) -> list[str]:
    return re.findall(r"^event: (.*)$", body.decode(), re.MULTILINE)


# HTTP...


async def test_two_requests_in_one_segment_are_answered_in_order(provider: FakeProvider) -> None:
    reply = await exchange(
        provider, request_of({"model": "first"}) + request_of({"model": "second"}, "connection: close")
    )

    assert reply.count(b"HTTP/1.1 200 OK") == 2
    assert reply.index(b'"first"') < reply.index(b'"second"')


async def test_a_request_may_come_byte_by_byte_and_chunked(provider: FakeProvider) -> None:
    body = b'{"model": "m", "input": "hi"}'
    head = b"POST /v1/responses HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    async with await connect(provider) as stream:
        for byte in head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body):
            await stream.send(bytes([byte]))
        reply = await everything(stream)

    assert b"You said: hi" in reply
    assert provider.requests[0].body == body


async def test_what_is_not_http_is_answered_with_400_and_the_end(provider: FakeProvider) -> None:
    assert (await exchange(provider, b"\x16\x03\x01 nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    assert provider.requests == []


async def test_an_upgrade_is_not_followed(provider: FakeProvider) -> None:
    request = b"GET /v1/responses HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    async with await connect(provider) as stream:
        await stream.send(request)

        assert (await until(stream, b"}}")).startswith(b"HTTP/1.1 405 ")


async def test_a_connection_over_the_bound_is_closed_at_once() -> None:
    server = Server(lambda request: Reply("ok").plan(), Signal, max_connections=1)
    with anyio.fail_after(TIMEOUT):
        async with server.listen("127.0.0.1", 0) as port, await anyio.connect_tcp("127.0.0.1", port) as first:
            await first.send(request_of({}))
            await until(first, b"ok")
            async with await anyio.connect_tcp("127.0.0.1", port) as second:
                assert await everything(second) == b""

    assert server.connections == 1


async def test_a_body_over_the_bound_is_refused(provider: FakeProvider) -> None:
    async with await connect(provider) as stream:
        await stream.send(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        with suppress(anyio.BrokenResourceError):
            for _ in range(MAX_BODY // (1 << 20) + 1):
                await stream.send(b"100000\r\n%s\r\n" % bytes(1 << 20))
        with suppress(anyio.BrokenResourceError):
            assert (await everything(stream)).startswith(b"HTTP/1.1 400 ")

    assert provider.requests == []


async def test_head_gets_no_body(provider: FakeProvider) -> None:
    reply = await exchange(provider, b"HEAD /v1/responses/resp_1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")

    assert reply.startswith(b"HTTP/1.1 404 ") and reply.endswith(b"\r\n\r\n")


async def test_http_1_0_connections_are_closed_after_the_reply(provider: FakeProvider) -> None:
    reply = await exchange(provider, UNARY.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"connection: close\r\n", b""))

    assert reply.startswith(b"HTTP/1.1 200 OK") and b"connection: close" in reply


async def test_a_large_reply_arrives_whole_before_the_connection_is_closed(provider: FakeProvider) -> None:
    text = "word " * 400_000
    provider.script(Reply(text, content_type="text/plain"))
    reply = await exchange(provider, UNARY)

    assert reply.partition(b"\r\n\r\n")[2] == text.encode()


async def test_when_the_block_ends_connections_and_port_are_gone() -> None:
    async with FakeProvider().serve() as provider:
        stream = await connect(provider)
        await stream.send(request_of({}))
        await until(stream, b"You said")
        port = httpx.URL(provider.base_url).port

        assert provider.open_connections == 1
    async with stream:
        with suppress(anyio.BrokenResourceError):
            assert await everything(stream) == b""
    assert provider.open_connections == 0
    with pytest.raises(OSError):
        await anyio.connect_tcp("127.0.0.1", port or 0)


# The connection breaks off...


async def test_without_faults_a_stream_is_whole(provider: FakeProvider) -> None:
    _, body, ended = unframed(await exchange(provider, STREAM))

    assert ended and body.endswith(b"data: [DONE]\n\n")


async def test_cut_on_a_boundary_sends_that_many_events(provider: FakeProvider) -> None:
    _, body, ended = unframed(await exchange(provider, STREAM, Cut(after_events=3)))

    assert not ended
    assert types_of(body) == ["response.created", "response.in_progress", "response.output_item.added"]
    assert body.endswith(b"\n\n")


async def test_cut_after_bytes_sends_that_many_bytes(provider: FakeProvider) -> None:
    _, whole, _ = unframed(await exchange(provider, STREAM))
    _, body, ended = unframed(await exchange(provider, STREAM, Cut(after_bytes=1_500)))

    assert (len(body), ended) == (1_500, False)
    assert len(whole) > 1_500


@pytest.mark.parametrize("length", [0, 100_000])
async def test_cut_before_the_first_or_behind_the_last_byte_still_cuts(provider: FakeProvider, length: int) -> None:
    _, body, ended = unframed(await exchange(provider, STREAM, Cut(after_bytes=length)))

    assert ended is False
    assert (body == b"") == (length == 0)


async def test_cut_inside_an_event_sends_half_of_it(provider: FakeProvider) -> None:
    _, body, ended = unframed(await exchange(provider, STREAM, Cut(inside_event=2)))

    assert not ended
    assert len(types_of(body)) == 3 and not body.endswith(b"\n\n")


async def test_cut_inside_a_character_leaves_half_a_character(provider: FakeProvider) -> None:
    provider.script(Answer(text="zwölf"))
    whole = unframed(await exchange(provider, STREAM))[1]
    request = request_of({"stream": True, "input": "ö"}, "connection: close")
    _, body, ended = unframed(await exchange(provider, request, Cut(inside_character=True)))

    whole.decode()
    assert not ended
    with pytest.raises(UnicodeDecodeError, match="unexpected end of data"):
        body.decode()


async def test_cut_inside_a_chunk_breaks_the_framing(provider: FakeProvider) -> None:
    reply = await exchange(provider, STREAM, Cut(inside_chunk=1))
    _, size, part = reply.rsplit(b"\r\n", 2)

    assert part.startswith(b"event: response.in_progress")
    assert 0 < len(part) < int(size, 16)


async def test_cut_of_a_unary_reply_is_shorter_than_its_content_length(provider: FakeProvider) -> None:
    head, _, body = (await exchange(provider, UNARY, Cut(inside_event=0))).partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)

    assert length and 0 < len(body) < int(length[1])


async def test_cut_before_the_head_closes_without_a_byte(provider: FakeProvider) -> None:
    assert await exchange(provider, STREAM, Cut(before_head=True)) == b""


async def test_a_reset_is_seen_as_a_reset(provider: FakeProvider) -> None:
    provider.fail_next(Cut(after_events=1, reset=True))
    async with await connect(provider) as stream:
        await stream.send(STREAM)
        with pytest.raises(anyio.BrokenResourceError):
            await everything(stream)


async def test_garbage_is_sent_instead_of_http(provider: FakeProvider) -> None:
    assert await exchange(provider, STREAM, Garbage(b"\x00garbage")) == b"\x00garbage"


async def test_raw_replies_are_sent_byte_for_byte(provider: FakeProvider) -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"
    provider.script(Reply(raw=raw))

    assert await exchange(provider, STREAM) == raw


async def test_headers_that_frame_the_body_are_believed(provider: FakeProvider) -> None:
    provider.script(Reply(b"hello", headers=[("content-length", "99"), ("transfer-encoding", "chunked")]))
    head, _, body = (await exchange(provider, request_of({}))).partition(b"\r\n\r\n")

    assert body == b"hello"
    assert head.count(b"content-length") == head.count(b"transfer-encoding") == 1


async def test_trailing_bytes_follow_a_complete_reply(provider: FakeProvider) -> None:
    reply = await exchange(provider, request_of({}), Trailing())

    assert reply.count(b"HTTP/1.1 200 OK") == 2


# Nothing comes, or too slowly...


@pytest.mark.parametrize(
    ("after_events", "seen"), [(None, b""), (0, b"\r\n\r\n"), (1, b"response.created"), (99, b"[DONE]")]
)
async def test_a_stall_holds_the_reply_until_it_is_released(
    provider: FakeProvider, after_events: int | None, seen: bytes
) -> None:
    provider.fail_next(Stall(after_events=after_events))
    async with await connect(provider) as stream:
        await stream.send(STREAM)
        request = await provider.received()
        before = await until(stream, seen)
        await exchange(provider, STREAM)  # as many steps as the held reply would have taken meanwhile
        held = not request.answered.is_set()
        provider.release()
        reply = before + await everything(stream)

    assert held
    assert unframed(reply)[2]
    with anyio.fail_after(TIMEOUT):
        await request.answered.wait()


async def test_a_request_after_the_release_stalls_anew(provider: FakeProvider) -> None:
    provider.fail_next(Stall())
    provider.fail_next(Stall())
    async with await connect(provider) as first, await connect(provider) as second:
        await first.send(UNARY)
        await provider.received(1)
        provider.release()
        await everything(first)
        await second.send(UNARY)
        request = await provider.received(2)
        await exchange(provider, STREAM)

        assert not request.answered.is_set()


@pytest.mark.parametrize("fault", [Stall(), Stall(after_events=2), Slow(1, pause=60.0), Oversize(size=1 << 30)])
async def test_a_client_that_leaves_is_noticed_in_every_phase(provider: FakeProvider, fault: Fault) -> None:
    provider.fail_next(fault)
    async with await connect(provider) as stream:
        await stream.send(STREAM)
        request = await provider.received()
    with anyio.fail_after(TIMEOUT):
        await request.disconnected.wait()

    assert not request.answered.is_set()


async def test_a_client_that_stays_to_the_end_has_not_disconnected(provider: FakeProvider) -> None:
    await exchange(provider, STREAM)
    (request,) = provider.requests

    assert request.answered.is_set() and not request.disconnected.is_set()


async def test_a_slow_reply_comes_in_small_chunks(provider: FakeProvider) -> None:
    whole, _ = chunks_of(await exchange(provider, STREAM, Cut(after_events=1)))
    slow, _ = chunks_of(await exchange(provider, STREAM, Cut(after_events=1), Slow(7)))

    assert {len(chunk) for chunk in slow[:-1]} == {7}
    assert len(b"".join(slow)) == len(b"".join(whole))


# The reply is an error, or not what it should be...


async def test_a_status_comes_with_openais_envelope_and_the_headers_given(provider: FakeProvider) -> None:
    fault = Status(429, "Slow down.", code="rate_limit_exceeded", retry_after="-5", headers={"X-Own": "1"})
    head, _, body = (await exchange(provider, UNARY, fault)).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b"\r\nretry-after: -5\r\n" in head and b"\r\nx-own: 1\r\n" in head
    assert json.loads(body)["error"] == {
        "message": "Slow down.",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }


@pytest.mark.parametrize("status", [99, 199, 204, 302, 304, 529, 600, 999])
async def test_any_status_can_be_scripted(provider: FakeProvider, status: int) -> None:
    assert (await exchange(provider, UNARY, Status(status))).startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize(
    ("form", "event", "member"),
    [
        ("flat", "error", "message"),
        ("nested", "error", "error"),
        ("failed", "response.failed", "response"),
        ("body", None, "error"),
    ],
)
async def test_an_error_inside_a_stream_is_its_last_event(
    provider: FakeProvider, form: Any, event: str | None, member: str
) -> None:
    _, body, ended = unframed(await exchange(provider, STREAM, ErrorInside(form=form, after_events=2, code="bad")))
    last = body.strip().rsplit(b"\n\n", 1)[1]
    data = json.loads(last.rpartition(b"data: ")[2])

    assert ended
    assert types_of(last) == ([event] if event else [])
    assert member in data and b'"bad"' in last
    assert data.get("sequence_number", 2) == 2


@pytest.mark.parametrize(("form", "member"), [("flat", "message"), ("nested", "error"), ("body", "error")])
async def test_an_error_inside_a_unary_reply_is_the_whole_of_it(provider: FakeProvider, form: Any, member: str) -> None:
    head, _, body = (await exchange(provider, UNARY, ErrorInside(form=form))).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 200 OK") and member in json.loads(body)


async def test_a_failed_unary_response_keeps_its_id(provider: FakeProvider) -> None:
    reply = await exchange(provider, UNARY, ErrorInside(form="failed"))
    response = json.loads(reply.partition(b"\r\n\r\n")[2])

    assert (response["object"], response["status"], response["output"]) == ("response", "failed", [])
    assert response["id"].startswith("resp_fake")


@pytest.mark.parametrize(
    ("fault", "content_type", "body"),
    [
        (Malformed(), b"application/json", b'{"id": "resp_'),
        (Html(b"<p>"), b"text/html; charset=utf-8", b"<p>"),
        (Empty(), b"application/json", b""),
    ],
)
async def test_a_malformed_reply_has_status_200(
    provider: FakeProvider, fault: Fault, content_type: bytes, body: bytes
) -> None:
    head, _, sent = (await exchange(provider, STREAM, fault)).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 200 OK") and b"content-type: " + content_type in head
    assert sent == body


async def test_a_malformed_event_stands_among_good_ones(provider: FakeProvider) -> None:
    _, body, ended = unframed(await exchange(provider, STREAM, MalformedEvent(data=b"data: {not json\n\n")))

    assert ended
    assert body.split(b"\n\n")[1] == b"data: {not json"


async def test_swapped_is_json_for_a_stream_and_a_stream_for_json(provider: FakeProvider) -> None:
    json_reply = await exchange(provider, STREAM, Swapped())
    head, body, ended = unframed(await exchange(provider, UNARY, Swapped()))

    assert json.loads(json_reply.partition(b"\r\n\r\n")[2])["status"] == "completed"
    assert ended and b"text/event-stream" in head and body.startswith(b"event: response.created")


async def test_a_content_type_can_be_wrong(provider: FakeProvider) -> None:
    head, body, _ = unframed(await exchange(provider, STREAM, ContentType("application/json")))

    assert head.count(b"content-type: ") == 1 and b"content-type: application/json" in head
    assert body.startswith(b"event: ")


@pytest.mark.parametrize("done", [True, False])
async def test_a_stream_can_end_properly_without_a_terminal_event(provider: FakeProvider, done: bool) -> None:
    _, body, ended = unframed(await exchange(provider, STREAM, NoTerminal(done=done)))

    assert ended
    assert types_of(body)[-1] == "response.output_item.done"
    assert body.endswith(b"data: [DONE]\n\n") is done


async def test_cookies_and_other_headers_can_be_added_more_than_once(provider: FakeProvider) -> None:
    faults = SetCookie("a=1"), SetCookie("b=2"), ExtraHeaders({"Server": "fake"})
    head = (await exchange(provider, UNARY, *faults)).partition(b"\r\n\r\n")[0]

    assert b"set-cookie: a=1\r\nset-cookie: b=2\r\nserver: fake" in head


@pytest.mark.parametrize("request_bytes", [STREAM, UNARY])
async def test_an_oversize_reply_is_still_well_formed(provider: FakeProvider, request_bytes: bytes) -> None:
    reply = await exchange(provider, request_bytes, Oversize(size=300_000))
    body = unframed(reply)[1] if request_bytes is STREAM else reply.partition(b"\r\n\r\n")[2]

    assert 300_000 < len(body) < 320_000
    if request_bytes is UNARY:
        assert json.loads(body)["status"] == "completed"
    else:
        assert len(json.loads(body.split(b"\n\n")[1].partition(b"data: ")[2])["delta"]) == 300_000


@pytest.mark.parametrize("fault", [Cut(), Cut(inside_event=99), Cut(inside_character=True)])
async def test_a_fault_that_does_not_fit_the_reply_says_so(provider: FakeProvider, fault: Fault) -> None:
    reply = await exchange(provider, STREAM, fault)

    assert reply.startswith(b"HTTP/1.1 500 ") and b"The script cannot be played" in reply


@pytest.mark.parametrize("fault", [Swapped(), ErrorInside(form="failed")])
async def test_a_reply_that_is_no_response_has_no_other_form(provider: FakeProvider, fault: Fault) -> None:
    request = b"DELETE /v1/responses/resp_1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"

    assert b"The script cannot be played" in await exchange(provider, request, fault)


async def test_a_reply_without_a_head_cannot_have_other_headers(provider: FakeProvider) -> None:
    assert b"The script cannot be played" in await exchange(provider, STREAM, Garbage(), SetCookie())


async def test_after_every_fault_the_next_request_is_answered(provider: FakeProvider) -> None:
    for fault in (Cut(after_events=1), Garbage(), Status(500), Cut(before_head=True, reset=True)):
        provider.fail_next(fault)
        async with await connect(provider) as stream:
            await stream.send(STREAM)
            with suppress(anyio.BrokenResourceError):
                await everything(stream)

        assert unframed(await exchange(provider, STREAM))[2]


async def test_a_pace_slows_the_events_of_a_stream_only() -> None:
    async with FakeProvider(pace=0.0001).serve() as provider:
        assert unframed(await exchange(provider, STREAM))[2]
        assert b"You said" in await exchange(provider, UNARY)


# Signals...


async def test_a_signal_set_in_another_thread_wakes_whoever_waits_here() -> None:
    signal = Signal()
    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(TIMEOUT):
            tasks.start_soon(anyio.to_thread.run_sync, signal.set)
            await signal.wait()

    assert signal.is_set() and repr(signal) == "<Signal set>"


async def test_a_signal_that_is_set_is_not_waited_for() -> None:
    signal = Signal()
    signal.set()
    with anyio.fail_after(TIMEOUT):
        await signal.wait()

    assert signal.wait_in_thread(TIMEOUT)


def test_waiting_in_a_thread_ends_with_its_time() -> None:
    assert Signal().wait_in_thread(0.001) is False


def test_a_signal_outlives_the_loop_that_waited_for_it(anyio_backend: str) -> None:
    signal = Signal()

    async def give_up() -> None:
        with anyio.move_on_after(0):
            await signal.wait()

    anyio.run(give_up, backend=anyio_backend)
    signal.set()

    assert signal.is_set()


def test_waking_a_loop_that_has_closed_does_nothing(anyio_backend: str) -> None:
    async def left_behind() -> Callable[[], None]:
        return thread_safe(lambda: None)

    anyio.run(left_behind, backend=anyio_backend)()


def test_it_listens_on_loopback_unless_told_otherwise() -> None:
    with FakeProvider().run_in_thread() as provider, socket.socket() as plain:
        plain.connect(("127.0.0.1", httpx.URL(provider.base_url).port or 0))

        assert provider.base_url.startswith("http://127.0.0.1:")
