"""What an upstream may do wrong, over real sockets, on every transport that applies: one section for each row of the
table. Each test ends with a check that nothing is left."""

from __future__ import annotations

import gzip
import json
import re
import ssl
import threading
import zlib
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trustme

from gomodel_asgi import Gateway, Limits, Target, Timeouts
from gomodel_asgi.testing import (
    Answer,
    Cut,
    Empty,
    ErrorInside,
    Html,
    Malformed,
    MalformedEvent,
    NoTerminal,
    Oversize,
    Reply,
    Scripted,
    SetCookie,
    Slow,
    Stall,
    Status,
    Swapped,
)
from gomodel_asgi.transport import UpstreamReply, UpstreamRequest
from gomodel_asgi.upstream.attempt import ERROR_BODY

from ..support.driving import TIMEOUT, Caller, ask, events_of, scope_of
from ..support.exchanges import (
    EVENT_STREAM,
    EVENTS,
    RESPONSE,
    STREAM,
    UNARY,
    answered_by,
    both,
    broke_off,
    nowhere,
    refused,
    streamed,
    succeeds,
    with_fallback,
)
from ..support.lab import KEY, KINDS, Lab, anyio_backend, fakes, kind, lab, until
from ..support.scripted_upstream import Peer, Upstream, chunked, reply

__all__ = ["anyio_backend", "fakes", "kind", "lab"]


# 1: no connection...


def unknown_host(lab: Lab) -> str:
    return "http://host.invalid/v1"


def untrusted(lab: Lab) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    upstream = Upstream(lambda peer: None, context=context)
    upstream.errors = []
    lab.upstreams.append(upstream)
    return f"https://127.0.0.1:{upstream.port}/v1"


@both
@pytest.mark.parametrize("place", [nowhere, unknown_host, untrusted])
async def test_an_upstream_that_cannot_be_reached_is_a_502(lab: Lab, place: Callable[[Lab], str], body: Any) -> None:
    lab.make(lab.provider(place(lab), timeouts=Timeouts(connect=3)))

    refused(await lab.ask(body), 502, "upstream_unreachable")


@both
@pytest.mark.parametrize("place", [nowhere, unknown_host, untrusted])
async def test_an_upstream_that_cannot_be_reached_has_its_fallback_asked(
    lab: Lab, place: Callable[[Lab], str], body: Any
) -> None:
    lab.make(
        lab.provider(place(lab), timeouts=Timeouts(connect=3)),
        lab.provider(lab.good, "good"),
        policy=lambda request: Target("bad", fallbacks=[Target("good")]),
    )

    answer = await lab.ask(body)

    answered_by(answer, "good")
    assert answer.headers["x-gomodel-attempts"] == "2"


# 2 and 25: what is no HTTP...

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
NOT_HTTP = {
    "closes": b"",
    "closes in the headers": OK + b"content-le",
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    "a header line of 1 MB": OK + b"x: " + b"x" * 1_000_000 + b"\r\n\r\n",
    "10,000 headers": OK + b"x: y\r\n" * 10_000 + b"\r\n",
    "status 099": b"HTTP/1.1 099 No\r\ncontent-length: 2\r\n\r\n{}",
    "status 600": b"HTTP/1.1 600 No\r\ncontent-length: 2\r\n\r\n{}",
    "status 999": b"HTTP/1.1 999 No\r\ncontent-length: 2\r\n\r\n{}",
    "HTTP/3.7": b"HTTP/3.7 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    "two lengths": OK + b"content-length: 3\r\ncontent-length: 2\r\n\r\n{}",
    "a negative length": OK + b"content-length: -2\r\n\r\n{}",
    "length and chunked": OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "gzip, chunked": OK + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "NUL in a header": OK + b"x: a\0b\r\ncontent-length: 2\r\n\r\n{}",
    "CR in a header": OK + b"x: a\rb\r\ncontent-length: 2\r\n\r\n{}",
}


@both
@pytest.mark.parametrize("sent", NOT_HTTP.values(), ids=NOT_HTTP)
async def test_a_reply_that_is_no_proper_http_is_a_502(lab: Lab, sent: bytes, body: Any) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(sent)

    lab.make(lab.provider(lab.upstream(script)))

    refused(await lab.ask(body), 502, "upstream_protocol_error")


STUCK = {
    "HTTP/0.9": b"<html>hello</html>",
    "endless 1xx": b"HTTP/1.1 100 Continue\r\n\r\n" * 2000,
    "half a head": OK,
}


@both
@pytest.mark.parametrize("sent", STUCK.values(), ids=STUCK)
async def test_a_head_that_never_ends_is_given_up_at_the_deadline_at_the_latest(
    lab: Lab, sent: bytes, body: Any
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(sent)
        peer.gone()

    lab.make(lab.provider(lab.upstream(script)), timeouts=Timeouts(first_event=0.3, unary=0.3))

    answer = await lab.ask(body)

    assert (answer.status, answer.error["code"]) in ((502, "upstream_protocol_error"), (504, "upstream_timeout"))


async def test_a_head_that_comes_byte_by_byte_for_ever_is_given_up_at_the_deadline(lab: Lab) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(OK + b"x: ")
        peer.sock.settimeout(0.005)
        while not peer.buffer.endswith(b"gone"):
            peer.send(b"y")
            try:
                if not peer._more():
                    return
            except TimeoutError:
                pass

    lab.make(lab.provider(lab.upstream(script)), timeouts=Timeouts(unary=0.3))

    refused(await lab.ask(UNARY), 504, "upstream_timeout")


# 3: a stale connection...


@pytest.mark.parametrize("kind", KINDS[:2], indirect=True, ids=lambda kind: kind[0])
async def test_a_kept_connection_that_the_upstream_has_closed_costs_a_silent_second_try(lab: Lab) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(reply(json.dumps(RESPONSE).encode(), b"content-type: application/json"))
        peer.request()  # arrives, and is never answered

    lab.make(lab.provider(lab.upstream(script)))

    answers = [await lab.ask(UNARY) for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 200]
    assert [answer.headers["x-gomodel-attempts"] for answer in answers] == ["1", "1", "1"]


@pytest.mark.parametrize("kind", KINDS[:1], indirect=True, ids=lambda kind: kind[0])
async def test_where_all_kept_connections_have_been_closed_the_second_try_uses_none_of_them(lab: Lab) -> None:
    together = threading.Barrier(2)

    def script(peer: Peer) -> None:
        peer.request()
        if peer.number <= 2:
            together.wait(TIMEOUT)  # so that both connections are open at once
        peer.send(reply(json.dumps(RESPONSE).encode(), b"content-type: application/json"))
        peer.request()  # arrives, and is never answered

    lab.make(lab.provider(lab.upstream(script)))
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(lab.ask, UNARY)

    answer = await lab.ask(UNARY)

    assert (answer.status, answer.headers["x-gomodel-attempts"]) == (200, "1")


# 4 and 5: silence before the first event...

silences = pytest.mark.parametrize("stall", [Stall(), Stall(after_events=0)], ids=["no headers", "no event"])


@both
@silences
async def test_silence_before_the_first_event_is_a_504(lab: Lab, stall: Stall, body: Any) -> None:
    lab.make(timeouts=Timeouts(first_event=0.2, unary=0.2))
    lab.bad.fail_next(stall)

    refused(await lab.ask(body), 504, "upstream_timeout")

    await succeeds(lab)


@both
@pytest.mark.parametrize("dialect", ["chat", "anthropic", "gemini"])
async def test_silence_of_an_upstream_that_is_translated_is_a_504_too(lab: Lab, dialect: Any, body: Any) -> None:
    lab.make(lab.provider(lab.bad, dialect=dialect), timeouts=Timeouts(first_event=0.2, unary=0.2))
    lab.bad.fail_next(Stall())

    refused(await lab.ask(body), 504, "upstream_timeout")


@both
@silences
async def test_silence_of_a_target_has_its_fallback_asked_within_the_whole_deadline(
    lab: Lab, stall: Stall, body: Any
) -> None:
    lab.make(
        lab.provider(lab.bad, timeouts=Timeouts(first_event=0.2, unary=0.2)),
        lab.provider(lab.good, "good"),
        policy=lambda request: Target("bad", fallbacks=[Target("good")]),
    )
    lab.bad.fail_next(stall)

    answered_by(await lab.ask(body), "good")


# 6: silence in mid-stream...


async def test_silence_in_mid_stream_is_told_as_an_idle_timeout(lab: Lab) -> None:
    lab.make(timeouts=Timeouts(idle=0.2), stamp=False)
    lab.bad.script(Scripted(streamed(), (Stall(after_events=5),)))

    assert broke_off(await lab.ask(STREAM), b"".join(EVENTS[:5])) == "upstream_idle_timeout"

    await succeeds(lab)


async def test_a_stream_has_no_more_time_than_the_whole_exchange(lab: Lab) -> None:
    lab.make(timeouts=Timeouts(total=1e-6), stamp=False)
    lab.bad.script(Scripted(streamed(), (Stall(after_events=5),)))

    answer = await lab.ask(STREAM)

    assert broke_off(answer, EVENTS[0]) == "upstream_timeout"
    assert answer.events()[-1]["response"]["error"]["message"] == "The response took longer than allowed."

    await succeeds(lab)


async def test_a_stream_ends_in_time_though_its_upstream_always_has_more_to_say(lab: Lab) -> None:
    """A client that reads slowly always finds something that has come meanwhile."""

    class Endless:
        """A reply, over a transport of the host's, that has the next event ready whenever it is read."""

        status = 200
        headers = ((b"content-type", b"text/event-stream"),)
        resumable = True
        reads = 0

        async def read(self, timeout: float) -> bytes:
            self.reads += 1
            assert self.reads < 100
            return EVENTS[min(self.reads, 4) - 1]

        async def aclose(self) -> None:
            pass

    endless: Any = Endless()

    class Ready:
        async def open(self, request: UpstreamRequest) -> UpstreamReply:
            return endless  # type: ignore[no-any-return]

        async def aclose(self) -> None:
            pass

    gateway = Gateway(providers=[lab.provider(lab.bad)], transport=Ready(), timeouts=Timeouts(total=1e-6), stamp=False)

    assert broke_off(await ask(gateway, STREAM), EVENTS[0]) == "upstream_timeout"
    await gateway.aclose()


# 7: breaking off in mid-stream...

CUTS = {
    "on a boundary": (Cut(after_events=5), 5),
    "reset on a boundary": (Cut(after_events=5, reset=True), None),
    "inside an event": (Cut(inside_event=5), 5),
    "inside a character": (Cut(inside_character=True), 4),
    "with a broken chunk": (Cut(inside_chunk=5), 5),
}


@pytest.mark.parametrize(("cut", "whole"), CUTS.values(), ids=CUTS)
async def test_a_stream_that_breaks_off_gives_its_whole_events_and_then_the_failure(
    lab: Lab, cut: Cut, whole: int | None
) -> None:
    lab.make(stamp=False)
    lab.bad.script(Scripted(streamed(), (cut,)))

    answer = await lab.ask(STREAM)

    if whole is None and answer.status == 502:  # the reset overtook the first event
        refused(answer, 502, "upstream_stream_truncated")
    else:
        expected = b"".join(EVENTS[:whole]) if whole is not None else EVENTS[0]
        assert broke_off(answer, expected) == "upstream_stream_truncated"
        assert whole is None or len(answer.events()) == whole + 2
        assert answer.events()[-1]["response"]["id"] == "resp_1"


async def test_an_upstream_that_dies_inside_a_large_event_has_the_connection_broken_off(lab: Lab) -> None:
    opening = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"'
    seen = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999999\r\n\r\n", *EVENTS[:4])
        peer.send(opening + b"x" * 100_000, b"x" * 100_000)
        while not seen.wait(0.01):
            peer.send(b"x" * 1000)

    lab.make(lab.provider(lab.upstream(script)), limits=Limits(buffer=10_000), stamp=False)
    caller = Caller(scope_of(), [json.dumps(STREAM).encode()])

    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.run, lab.gateway)
            await until(lambda: b"xxx" in caller.content)
            seen.set()

    assert isinstance(caller.raised, ConnectionAbortedError)
    assert not caller.complete


async def test_an_upstream_that_ends_properly_inside_a_large_event_has_the_connection_broken_off(lab: Lab) -> None:
    lab.make(limits=Limits(buffer=10_000), stamp=False)
    lab.bad.script(streamed(*EVENTS[:4], b'data: {"type":"x","delta":"' + b"y" * 500_000))

    answer = await lab.ask(STREAM)

    assert isinstance(answer.raised, ConnectionAbortedError)
    assert not answer.complete and b"event: error" not in answer.content
    await succeeds(lab)


async def test_an_event_over_the_buffer_leaves_in_parts_and_arrives_whole(lab: Lab) -> None:
    lab.make(limits=Limits(buffer=10_000), stamp=False)
    big = b'event: response.output_text.delta\ndata: {"type":"x","delta":"%s"}\n\n' % (b"y" * 500_000)
    lab.bad.script(streamed(*EVENTS[:4], big, *EVENTS[4:]))

    answer = await lab.ask(STREAM)

    assert answer.content == b"".join([*EVENTS[:4], big, *EVENTS[4:]])
    assert answer.complete


# 8 and 9: ends that are none...


@pytest.mark.parametrize("done", [False, True], ids=["no [DONE]", "[DONE]"])
async def test_a_stream_that_ends_without_a_terminal_event_ends_with_the_failure(lab: Lab, done: bool) -> None:
    lab.make(stamp=False)
    lab.bad.script(Scripted(streamed(), (NoTerminal(done=done),)))
    kept = [event for event in EVENTS[:-2]]

    assert broke_off(await lab.ask(STREAM), b"".join(kept)) == "upstream_stream_truncated"


NOTHING = {
    "no event at all": [b""],
    "a comment": [b": hello\n\n"],
    "[DONE]": [b"data: [DONE]\n\n"],
}


@pytest.mark.parametrize("chunks", NOTHING.values(), ids=NOTHING)
@both
async def test_a_stream_that_says_nothing_is_a_502(lab: Lab, chunks: list[bytes], body: Any) -> None:
    lab.make()
    lab.bad.script(streamed(*chunks))

    answer = await lab.ask(body)

    assert (answer.status, answer.error["type"]) == (502, "upstream_error")
    await succeeds(lab)


@pytest.mark.parametrize(
    "chunks", [*NOTHING.values(), EVENTS[:2], [*EVENTS[:2], b"data: [DONE]\n\n"]], ids=[*NOTHING, "begun", "begun+done"]
)
async def test_a_stream_that_ends_before_anything_meaningful_has_its_fallback_asked(
    lab: Lab, chunks: list[bytes]
) -> None:
    with_fallback(lab)
    lab.bad.script(streamed(*chunks))

    answered_by(await lab.ask(STREAM), "good")


AFTER = [b"data: [DONE]\n\n", EVENTS[4], b": comment\n\n", b"data: [DONE]\n\n"]


@pytest.mark.parametrize("together", [True, False], ids=["in one piece", "in pieces"])
async def test_after_the_terminal_event_only_done_is_passed(lab: Lab, together: bool) -> None:
    lab.make(stamp=False)
    sent = [*EVENTS[:-1], *AFTER]
    lab.bad.script(streamed(*([b"".join(sent)] if together else sent)))

    answer = await lab.ask(STREAM)

    assert set(answer.content[len(b"".join(EVENTS[:-1])) :].split(b"\n\n")) == {b"data: [DONE]", b""}


async def test_done_is_passed_if_it_was_sent_and_not_added_if_it_was_not(lab: Lab) -> None:
    lab.make(stamp=False)
    lab.bad.script(streamed(*EVENTS[:-1]), streamed(*EVENTS))

    assert (await lab.ask(STREAM)).content == b"".join(EVENTS[:-1])
    assert (await lab.ask(STREAM)).content == b"".join(EVENTS)


# 10: lengths that lie...


async def test_a_body_shorter_than_its_length_is_a_502(lab: Lab) -> None:
    lab.make()
    lab.bad.script(Reply(RESPONSE, headers={"content-length": "100000"}))

    refused(await lab.ask(UNARY), 502, "upstream_stream_truncated")

    await succeeds(lab)


async def test_a_body_longer_than_its_length_is_not_taken_for_a_whole_one(lab: Lab) -> None:
    lab.make()
    lab.bad.script(Reply(RESPONSE, headers={"content-length": "20"}))

    refused(await lab.ask(UNARY), 502, "upstream_protocol_error")


async def test_a_stream_shorter_than_its_length_ends_with_the_failure(lab: Lab) -> None:
    lab.make(stamp=False)
    whole = b"".join(EVENTS[:5])
    lab.bad.script(Reply(whole, content_type=EVENT_STREAM, headers={"content-length": "100000"}))

    assert broke_off(await lab.ask(STREAM), whole) == "upstream_stream_truncated"


# 11: bodies that are none...

NO_BODIES = {"HTML": Html(), "empty": Empty(), "half JSON": Malformed(), "an array": Malformed(b"[]")}


@both
@pytest.mark.parametrize("fault", NO_BODIES.values(), ids=NO_BODIES)
async def test_a_200_without_a_json_object_is_a_502(lab: Lab, fault: Malformed, body: Any) -> None:
    lab.make()
    lab.bad.fail_next(fault)

    refused(await lab.ask(body), 502, "upstream_protocol_error")

    await succeeds(lab)


@both
@pytest.mark.parametrize("fault", NO_BODIES.values(), ids=NO_BODIES)
async def test_a_200_without_a_json_object_has_its_fallback_asked(lab: Lab, fault: Malformed, body: Any) -> None:
    with_fallback(lab)
    lab.bad.fail_next(fault)

    answered_by(await lab.ask(body), "good")


async def test_json_to_a_request_for_a_stream_becomes_a_stream(lab: Lab) -> None:
    lab.make(stamp=False)
    lab.bad.script(Scripted(Answer(text="Hello you"), (Swapped(),)))

    answer = await lab.ask(STREAM)

    events = answer.events()
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (events[0]["type"], events[-1]["type"]) == ("response.created", "response.completed")
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert "".join(event["delta"] for event in events if event["type"].endswith("text.delta")) == "Hello you"
    assert answer.content.endswith(b"data: [DONE]\n\n")


async def test_a_stream_to_a_unary_request_becomes_its_response(lab: Lab) -> None:
    lab.make()
    lab.bad.script(Scripted(Answer(text="Hello you"), (Swapped(),)))

    answer = await lab.ask(UNARY)

    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json()["status"] == "completed"
    assert answer.json()["output"][0]["content"][0]["text"] == "Hello you"


# 12: errors behind a 200...


@pytest.mark.parametrize("form", ["flat", "nested", "failed", "body"])
@both
async def test_an_error_behind_a_200_before_anything_else_is_an_error_status(lab: Lab, form: Any, body: Any) -> None:
    lab.make()
    lab.bad.fail_next(ErrorInside(form=form, message="overheated"))

    answer = await lab.ask(body)

    if answer.status == 200:  # a stream that begins with a lifecycle event, and has nowhere else to go, is not held
        assert (form, body) == ("failed", STREAM)
        assert answer.events()[-1]["type"] == "response.failed"
    else:
        assert (answer.status, answer.error["message"]) == (502, "overheated")


@pytest.mark.parametrize("form", ["flat", "nested", "failed", "body"])
@pytest.mark.parametrize("after", [0, 2])
@both
async def test_an_error_behind_a_200_before_anything_meaningful_has_its_fallback_asked(
    lab: Lab, form: Any, after: int, body: Any
) -> None:
    with_fallback(lab)
    lab.bad.fail_next(ErrorInside(form=form, after_events=after))

    answered_by(await lab.ask(body), "good")


@pytest.mark.parametrize("form", ["flat", "nested", "failed", "body"])
async def test_an_error_in_mid_stream_is_passed_and_the_stream_ends_as_failed(lab: Lab, form: Any) -> None:
    with_fallback(lab)
    lab.bad.fail_next(ErrorInside(form=form, after_events=5, message="overheated"))

    answer = await lab.ask(STREAM)

    answered_by(answer, "bad")
    assert answer.events()[-1]["type"] == "response.failed"
    assert b"overheated" in answer.content
    assert not lab.good.requests


NAMED_ERRORS = {
    "JSON": b'event: error\ndata: {"message":"overheated","code":503}\n\n',
    "a type of its own": b'event: error\ndata: {"type":"overloaded","message":"overheated","status":503}\n\n',
    "text": b"event: error\ndata: overheated\n\n",
}


@pytest.mark.parametrize("event", NAMED_ERRORS.values(), ids=NAMED_ERRORS)
@both
async def test_an_event_that_only_its_name_makes_an_error_is_an_error_status(lab: Lab, event: bytes, body: Any) -> None:
    lab.make()
    lab.bad.script(streamed(event))

    answer = await lab.ask(body)

    assert (answer.status, answer.error["message"]) == (502 if b"{" not in event else 503, "overheated")


@pytest.mark.parametrize("event", NAMED_ERRORS.values(), ids=NAMED_ERRORS)
@pytest.mark.parametrize("after", [0, 2])
async def test_an_event_that_only_its_name_makes_an_error_has_its_fallback_asked(
    lab: Lab, event: bytes, after: int
) -> None:
    with_fallback(lab)
    lab.bad.script(streamed(*EVENTS[:after], event))

    answered_by(await lab.ask(STREAM), "good")


@pytest.mark.parametrize("event", NAMED_ERRORS.values(), ids=NAMED_ERRORS)
async def test_an_event_that_only_its_name_makes_an_error_ends_the_stream_as_failed(lab: Lab, event: bytes) -> None:
    lab.make(stamp=False)
    lab.bad.script(streamed(*EVENTS[:5], event))

    answer = await lab.ask(STREAM)

    whole = b"".join([*EVENTS[:5], event])
    failed = events_of(answer.content[len(whole) :])
    assert answer.content.startswith(whole) and answer.complete
    assert [(one["type"], one["sequence_number"]) for one in failed] == [("response.failed", 5)]
    assert failed[0]["response"]["id"] == "resp_1" and failed[0]["response"]["error"]["message"] == "overheated"


@pytest.mark.parametrize(
    ("code", "status"), [("rate_limit_exceeded", 429), ("invalid_prompt", 400), ("server_error", 502)]
)
async def test_an_error_behind_a_200_has_the_status_that_its_code_means(lab: Lab, code: str, status: int) -> None:
    lab.make()
    lab.bad.fail_next(ErrorInside(form="body", code=code, type="x"))

    assert (await lab.ask(UNARY)).status == status


# 13: errors that are the client's...

CLIENTS = [400, 404, 405, 409, 413, 415, 418, 422, 451]


@both
@pytest.mark.parametrize("status", CLIENTS)
async def test_a_4xx_in_openais_form_is_passed_as_it_is(lab: Lab, status: int, body: Any) -> None:
    with_fallback(lab)
    raw = b'{"error": {"message": "No.", "type": "t", "param": "input[0]", "code": "c"},  "more": 1}'
    lab.bad.fail_next(Status(status, body=raw))

    answer = await lab.ask(body)

    assert (answer.status, answer.content) == (status, raw)
    assert answer.headers["x-gomodel-attempts"] == "1"
    assert not lab.good.requests
    await succeeds(lab)


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "text/html"])
async def test_missing_keys_of_an_openai_error_are_added_whatever_its_content_type(lab: Lab, content_type: str) -> None:
    lab.make()
    lab.bad.fail_next(Status(422, body=b'{"error":{"message":"No.","hint":"x"}}', content_type=content_type))

    answer = await lab.ask(UNARY)

    assert answer.status == 422
    assert answer.json() == {
        "error": {"message": "No.", "type": "upstream_error", "param": None, "code": None, "hint": "x"}
    }


OTHER_BODIES = {
    "detail": (b'{"detail":"Not that model."}', "Not that model."),
    "details": (
        b'{"detail":[{"loc":["body","model"],"msg":"Not that."},{"msg":"Nor this."}]}',
        "body.model: Not that.; Nor this.",
    ),
    "errors": (b'{"errors":[{"message":"Not that model."}]}', "Not that model."),
    "a string": (b'{"error":"Not that model."}', "Not that model."),
    "HTML": (b"<html>nginx</html>", None),
    "empty": (b"", None),
    "binary": (b"\xff\xfe\x00", None),
    "an array": (b"[1]", None),
}


@pytest.mark.parametrize("status", [400, 404, 422])
@pytest.mark.parametrize(("raw", "message"), OTHER_BODIES.values(), ids=OTHER_BODIES)
async def test_a_4xx_in_another_form_is_wrapped_under_its_status(
    lab: Lab, status: int, raw: bytes, message: str | None
) -> None:
    lab.make()
    lab.bad.fail_next(Status(status, body=raw, content_type="text/html"))

    answer = await lab.ask(UNARY)

    assert (answer.status, answer.error["type"]) == (status, "upstream_error")
    assert message is None or answer.error["message"] == message
    assert "<html>" not in answer.error["message"]


# 14: our credentials...


@both
@pytest.mark.parametrize("status", [401, 402, 403])
async def test_refused_credentials_are_a_502_that_tells_nothing_of_them(lab: Lab, status: int, body: Any) -> None:
    lab.make()
    lab.bad.fail_next(Status(status, message=f"Incorrect API key provided: {KEY}."))

    answer = refused(await lab.ask(body), 502, "upstream_auth_error")

    assert b"Incorrect" not in answer.content
    await succeeds(lab)


@both
@pytest.mark.parametrize("form", ["flat", "body"])
async def test_refused_credentials_inside_a_200_are_the_same(lab: Lab, form: Any, body: Any) -> None:
    lab.make()
    lab.bad.fail_next(ErrorInside(form=form, code="invalid_api_key", message=f"Bad key {KEY}"))

    refused(await lab.ask(body), 502, "upstream_auth_error")


@pytest.mark.parametrize("size", [None, 1, 7, 64], ids=["whole", "bytewise", "sevens", "sixty-fours"])
async def test_a_stream_that_quotes_our_key_in_its_text_gives_it_to_nobody(lab: Lab, size: int | None) -> None:
    lab.make(stamp=False)
    quoting = b"".join(EVENTS).replace("Grüße".encode(), f"Your key is {KEY}.".encode())
    pieces = [quoting] if size is None else [quoting[at : at + size] for at in range(0, len(quoting), size)]
    lab.bad.script(streamed(*pieces))

    answer = await lab.ask(STREAM)

    assert quoting.count(KEY.encode()) > 2
    assert answer.content == quoting.replace(KEY.encode(), b"[redacted]") and answer.complete


async def test_gemini_says_400_for_a_refused_key_and_it_is_the_same(lab: Lab) -> None:
    lab.make(lab.provider(lab.bad, dialect="gemini", auth="x-goog-api-key"))
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    error = {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT", "details": [info]}
    lab.bad.script(Reply({"error": error}, 400))

    refused(await lab.ask(UNARY), 502, "upstream_auth_error")


@both
@pytest.mark.parametrize("status", [401, 402, 403])
async def test_refused_house_credentials_have_their_fallback_asked(lab: Lab, status: int, body: Any) -> None:
    with_fallback(lab)
    lab.bad.fail_next(Status(status))

    answered_by(await lab.ask(body), "good")


# 15: busy...

BUSY = [429, 500, 502, 503, 504, 529]


@both
@pytest.mark.parametrize("status", [408, *BUSY])
async def test_a_busy_upstreams_answer_is_passed_and_says_not_to_retry(lab: Lab, status: int, body: Any) -> None:
    lab.make()
    lab.bad.fail_next(Status(status, message="Later.", retry_after=17))

    answer = await lab.ask(body)

    assert (answer.status, answer.error["message"]) == (status, "Later.")
    assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("17", "false")


@both
@pytest.mark.parametrize("status", BUSY)
async def test_a_busy_upstream_has_its_fallback_asked(lab: Lab, status: int, body: Any) -> None:
    with_fallback(lab)
    lab.bad.fail_next(Status(status))

    answered_by(await lab.ask(body), "good")


# 16 and 17: statuses that are no answer...


@both
@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 399])
async def test_a_redirect_is_never_followed(lab: Lab, status: int, body: Any) -> None:
    lab.make()
    lab.bad.fail_next(Status(status, headers={"location": f"{lab.good.base_url}/responses"}))

    refused(await lab.ask(body), 502, "upstream_redirect")

    assert not lab.good.requests


@both
@pytest.mark.parametrize("status", [204, 206, 304])
async def test_a_status_that_is_no_answer_is_a_502(lab: Lab, status: int, body: Any) -> None:
    lab.make()
    lab.bad.script(Reply(b"", status))

    refused(await lab.ask(body), 502, "upstream_protocol_error")


async def test_interim_replies_are_skipped(lab: Lab) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
        peer.send(reply(json.dumps(RESPONSE).encode(), b"content-type: application/json", b"connection: close"))

    lab.make(lab.provider(lab.upstream(script)))

    assert (await lab.ask(UNARY)).json()["id"] == "resp_1"


# 18 and 19: encodings and sizes...

ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_an_encoding_that_was_not_asked_for_is_undone(lab: Lab, encoding: str) -> None:
    lab.make(stamp=False)
    encode = ENCODINGS[encoding]
    plain = json.dumps(RESPONSE).encode()
    lab.bad.script(
        Reply(encode(plain), headers={"content-encoding": encoding}),
        streamed(encode(b"".join(EVENTS)), headers={"content-encoding": encoding}),
    )

    assert (await lab.ask(UNARY)).content == plain
    answer = await lab.ask(STREAM)
    assert answer.content == b"".join(EVENTS)
    assert "content-encoding" not in answer.headers


@both
@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, br"])
async def test_an_encoding_that_cannot_be_undone_is_a_502(lab: Lab, encoding: str, body: Any) -> None:
    lab.make()
    lab.bad.script(Reply(b"\x00\x01", headers={"content-encoding": encoding}))

    refused(await lab.ask(body), 502, "upstream_protocol_error")


@both
async def test_a_damaged_encoding_is_a_502(lab: Lab, body: Any) -> None:
    lab.make()
    lab.bad.script(Reply(b"this is no gzip", headers={"content-encoding": "gzip"}))

    refused(await lab.ask(body), 502, "upstream_protocol_error")


async def test_a_stream_whose_encoding_breaks_off_ends_with_the_failure(lab: Lab) -> None:
    lab.make(stamp=False)
    deflater = zlib.compressobj(wbits=31)
    begun = deflater.compress(b"".join(EVENTS[:5])) + deflater.flush(zlib.Z_SYNC_FLUSH)
    lab.bad.script(streamed(begun, headers={"content-encoding": "gzip"}))

    answer = await lab.ask(STREAM)

    assert broke_off(answer, b"".join(EVENTS[:5])) in ("upstream_protocol_error", "upstream_stream_truncated")


@pytest.mark.parametrize("kind", KINDS[:2], indirect=True, ids=lambda kind: kind[0])
async def test_a_decompression_bomb_is_a_502(lab: Lab) -> None:
    lab.make(limits=Limits(reply=1_000_000))
    bomb = gzip.compress(b" " * 20_000_000)
    lab.bad.script(Reply(bomb, headers={"content-encoding": "gzip"}))

    refused(await lab.ask(UNARY), 502, "upstream_protocol_error")


async def test_a_reply_over_the_limit_is_a_502(lab: Lab) -> None:
    lab.make(limits=Limits(reply=1_000_000))
    lab.bad.fail_next(Oversize(size=20_000_000))

    refused(await lab.ask(UNARY), 502, "upstream_protocol_error")

    await succeeds(lab)


async def test_a_first_event_over_the_limit_is_a_502(lab: Lab) -> None:
    lab.make(limits=Limits(event=1_000_000, buffer=1_000_000))
    lab.bad.fail_next(Oversize(size=20_000_000, after_events=0))

    refused(await lab.ask(STREAM), 502, "upstream_protocol_error")


async def test_a_later_event_over_the_limit_ends_the_stream_with_the_failure(lab: Lab) -> None:
    lab.make(limits=Limits(event=1_000_000, buffer=2_000_000), stamp=False)
    lab.bad.script(Scripted(streamed(), (Oversize(size=20_000_000, after_events=5),)))

    assert broke_off(await lab.ask(STREAM), b"".join(EVENTS[:5])) == "upstream_protocol_error"


async def test_an_event_over_the_limit_that_leaves_in_parts_has_the_connection_broken_off(lab: Lab) -> None:
    lab.make(limits=Limits(event=1_000_000, buffer=100_000), stamp=False)
    lab.bad.script(Scripted(streamed(), (Oversize(size=20_000_000, after_events=5),)))

    answer = await lab.ask(STREAM)

    assert isinstance(answer.raised, ConnectionAbortedError)
    assert not answer.complete and len(answer.content) < 1_100_000


async def test_a_huge_error_page_is_cut_off(lab: Lab) -> None:
    lab.make()
    lab.bad.fail_next(Status(503, body=b"x" * 5_000_000, content_type="text/html"))

    answer = await lab.ask(UNARY)

    assert answer.status == 503
    assert len(answer.content) < 10_000


@pytest.mark.parametrize(("over", "message"), [(0, "Later."), (1, "The upstream reported an error.")])
async def test_of_an_error_only_so_much_is_read(lab: Lab, over: int, message: str) -> None:
    lab.make()
    error = json.dumps({"error": {"message": "Later."}}).encode()
    lab.bad.script(Reply(b" " * (ERROR_BODY + over - len(error)) + error, 503))

    assert (await lab.ask(UNARY)).error["message"] == message


# 20: odd but valid streams...

WHOLE = b"".join(EVENTS)
ODD = {
    "CRLF": WHOLE.replace(b"\n", b"\r\n"),
    "CR": WHOLE.replace(b"\n", b"\r"),
    "a BOM": b"\xef\xbb\xbf" + WHOLE,
    "comments": b": hello\n\n" + WHOLE.replace(b"event:", b": ping\nevent:"),
    "no space after the colon": WHOLE.replace(b": {", b":{").replace(b"event: ", b"event:"),
    "no event names": re.sub(rb"(?m)^event: .*\n", b"", WHOLE),
    "retry and id": WHOLE.replace(b"event: ", b"id: 7\nretry: 100\nevent: "),
    "multi-line data": WHOLE.replace(b',"sequence_number"', b'\ndata: ,"sequence_number"'),
}


@pytest.mark.parametrize("stream", ODD.values(), ids=ODD)
@pytest.mark.parametrize("size", [None, 1, 7], ids=["whole", "bytewise", "sevens"])
async def test_an_odd_but_valid_stream_passes_unchanged_however_it_is_cut(
    lab: Lab, stream: bytes, size: int | None
) -> None:
    lab.make(stamp=False)
    pieces = [stream] if size is None else [stream[at : at + size] for at in range(0, len(stream), size)]
    lab.bad.script(streamed(*pieces))

    answer = await lab.ask(STREAM)

    assert answer.content == stream
    assert answer.complete
    breaks = (b"\n\n", b"\r\n\r\n", b"\r\r")
    assert all(piece.endswith(breaks) for piece in answer.pieces)


async def test_a_slow_unary_reply_is_whole(lab: Lab) -> None:
    lab.make()
    lab.bad.fail_next(Slow(3))

    assert (await lab.ask(UNARY)).json()["status"] == "completed"


async def test_a_malformed_event_passes_a_native_stream(lab: Lab) -> None:
    lab.make(stamp=False)
    lab.bad.script(Scripted(streamed(), (MalformedEvent(after_events=5),)))

    answer = await lab.ask(STREAM)

    assert answer.content == b"".join([*EVENTS[:5], MalformedEvent().data, *EVENTS[5:]])


# 21 and 26: headers...


async def test_only_the_headers_on_the_list_reach_the_client(lab: Lab) -> None:
    lab.make()
    given = {
        "server": "nginx", "via": "1.1 x", "connection": "x-secret", "x-secret": "1", "keep-alive": "timeout=5",
        "openai-organization": "org-house", "x-ratelimit-remaining-tokens": "9", "openai-processing-ms": "12",
        "openai-version": "2020-10-01", "retry-after-ms": "5", "strict-transport-security": "max-age=1",
        "access-control-allow-origin": "*", "x-request-id": "req_up",
    }  # fmt: skip
    lab.bad.script(Reply(RESPONSE, headers=given))

    answer = await lab.ask(UNARY)

    assert set(answer.headers) == {
        "content-type", "content-length", "x-request-id", "x-upstream-request-id", "x-ratelimit-remaining-tokens",
        "openai-processing-ms", "openai-version", "retry-after-ms", "x-gomodel-provider", "x-gomodel-model",
        "x-gomodel-attempts", "cache-control", "vary",
    }  # fmt: skip
    assert answer.headers["x-upstream-request-id"] == "req_up"


async def test_a_cookie_of_the_upstream_goes_nowhere(lab: Lab) -> None:
    lab.make()
    lab.bad.fail_next(SetCookie("session=canary-cookie; path=/"))

    first = await lab.ask(UNARY)
    second = await lab.ask(UNARY, tenant="other")

    assert "set-cookie" not in first.headers and "set-cookie" not in second.headers
    assert [request.values("cookie") for request in lab.bad.requests] == [[], []]


async def test_trailers_are_dropped(lab: Lab) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        end = b"0\r\nset-cookie: canary=1\r\nx: y\r\n\r\n"
        whole = chunked(json.dumps(RESPONSE).encode(), end=end)
        peer.send(whole.replace(b"200 OK\r\n", b"200 OK\r\ncontent-type: application/json\r\n"))

    lab.make(lab.provider(lab.upstream(script)), stamp=False)

    answer = await lab.ask(UNARY)

    assert answer.json() == RESPONSE
    assert "set-cookie" not in answer.headers


# 22: inconsistent streams...


async def test_numbers_ids_and_indexes_that_make_no_sense_pass_a_native_stream(lab: Lab) -> None:
    lab.make(stamp=False)
    changed = [event.replace(b'"sequence_number":5', b'"sequence_number":1') for event in EVENTS]
    changed[-2] = changed[-2].replace(b"resp_1", b"resp_2")
    changed.insert(4, changed[3])
    lab.bad.script(streamed(*changed))

    assert (await lab.ask(STREAM)).content == b"".join(changed)


# 23: answers before the request is whole...


@both
@pytest.mark.parametrize("kind", KINDS[:1], indirect=True, ids=lambda kind: kind[0])  # httpx writes all before it reads
async def test_an_answer_that_comes_before_the_request_was_taken_is_used(lab: Lab, body: Any) -> None:
    error = b'{"error":{"message":"Too much.","type":"t","param":null,"code":"big"}}'

    over = threading.Event()

    def script(peer: Peer) -> None:
        peer.sock.recv(10)
        peer.send(reply(error, b"content-type: application/json", status=b"413 Too Large"))
        over.wait(TIMEOUT)

    upstream = lab.upstream(script)
    lab.make(lab.provider(upstream))

    answer = await lab.ask({**body, "input": "x" * 5_000_000})

    assert (answer.status, answer.content) == (413, error)
    await lab.ask(UNARY)
    assert upstream.connections == 2
    over.set()


# 24: more than a reply...


@pytest.mark.parametrize("kind", KINDS[:2], indirect=True, ids=lambda kind: kind[0])
@pytest.mark.parametrize("framed", ["length", "chunked"])
async def test_bytes_after_a_reply_never_become_the_next_tenants_answer(lab: Lab, framed: str) -> None:
    evil = reply(b'{"id":"resp_evil","object":"response"}', b"content-type: application/json")
    body = json.dumps(RESPONSE).encode()
    first = reply(body, b"content-type: application/json")
    if framed == "chunked":
        first = chunked(body).replace(b"200 OK\r\n", b"200 OK\r\ncontent-type: application/json\r\n")

    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(first + evil if peer.number == 1 else first)

    upstream = lab.upstream(script)
    lab.make(lab.provider(upstream), tenant=lambda scope: scope["tenant"])

    answers = [await lab.ask(UNARY, tenant=tenant) for tenant in ("a", "b")]

    assert [answer.json()["id"] for answer in answers] == ["resp_1", "resp_1"]
    assert upstream.connections == 2


@pytest.mark.parametrize("kind", KINDS[:2], indirect=True, ids=lambda kind: kind[0])
@pytest.mark.parametrize("late", [False, True], ids=["with the end", "later"])
async def test_bytes_after_a_stream_never_become_the_next_answer(lab: Lab, late: bool) -> None:
    """They must have come when the next request is sent: what comes after it, nobody could tell from its answer. So the
    peer says when they are there; two writes of its own would race with the request."""
    evil = reply(b'{"id":"resp_evil","object":"response"}', b"content-type: application/json")
    stream = chunked(*EVENTS).replace(b"200 OK\r\n", b"200 OK\r\ncontent-type: text/event-stream\r\n")
    ended, there = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        while peer.request() is not None:
            if peer.number > 1:
                peer.send(reply(json.dumps(RESPONSE).encode(), b"content-type: application/json"))
                continue
            peer.send(stream if late else stream + evil)
            try:
                if late:
                    ended.wait(TIMEOUT)
                    peer.send(evil)
            finally:
                there.set()

    upstream = lab.upstream(script)
    lab.make(lab.provider(upstream), stamp=False)

    assert (await lab.ask(STREAM)).content == b"".join(EVENTS)
    ended.set()
    there.wait(TIMEOUT)  # the event loop stands still: it has not seen them
    assert (await lab.ask(UNARY)).json()["id"] == "resp_1"
    assert (await lab.ask(UNARY)).json()["id"] == "resp_1"
    assert upstream.connections == 3  # and it has lost keep-alive


# The upstream sees a client that leaves...


async def test_a_client_that_leaves_in_mid_stream_has_the_upstream_closed(lab: Lab) -> None:
    lab.make(stamp=False)
    lab.bad.script(Scripted(streamed(), (Stall(after_events=5),)))
    caller = Caller(scope_of(), [json.dumps(STREAM).encode()])
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.run, lab.gateway)
            await caller.until(2)
            caller.leave()
        await lab.bad.requests[0].disconnected.wait()

    assert not caller.complete
    await succeeds(lab)
