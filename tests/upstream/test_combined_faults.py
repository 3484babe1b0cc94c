"""Outcomes of the failure tables that only show in combination: in another dialect, behind a coding, in mid-stream, on
the retry, or in what is left in memory afterwards. Over real sockets, on every transport; each test ends with the leak
check of its lab."""

from __future__ import annotations

import gzip
import json
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from gomodel_asgi import Limits, Provider, Retries, RoutingRequest, Target, Timeouts
from gomodel_asgi.errors import UpstreamRejected
from gomodel_asgi.observers import AttemptEnded, Completed, Record
from gomodel_asgi.resilience.health import LONGEST_MODEL, Health
from gomodel_asgi.seams.transport import Headers
from gomodel_asgi.testing import ErrorInside, Html, Reply, Scripted, SetCookie, Stall, Status
from gomodel_asgi.transport.request import is_public
from gomodel_asgi.upstream.bodies import decoded

from ..support.driving import Caller, ask, told_failure
from ..support.exchanges import (
    EVENT_STREAM,
    EVENTS,
    RESPONSE,
    STREAM,
    UNARY,
    answered_by,
    both,
    broke_off,
    refused,
    streamed,
    succeeds,
    with_fallback,
)
from ..support.lab import KEY, KINDS, Lab, anyio_backend, fakes, kind, lab
from ..support.scripted_upstream import Peer
from .test_faults import NOT_HTTP

__all__ = ["anyio_backend", "fakes", "kind", "lab"]


# 2: what is no HTTP, and what comes next...


@pytest.mark.parametrize("sent", NOT_HTTP.values(), ids=NOT_HTTP)
async def test_a_reply_that_is_no_proper_http_has_its_fallback_asked(lab: Lab, sent: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(sent)

    lab.make(
        lab.provider(lab.upstream(script)),
        lab.provider(lab.good, "good"),
        policy=lambda request: Target("bad", fallbacks=[Target("good")]),
    )

    answered_by(await lab.ask(STREAM), "good")


@pytest.mark.parametrize(
    ("sent", "connections"), [(b"", 2), (NOT_HTTP["closes in the headers"], 2), (NOT_HTTP["garbage"], 1)]
)
async def test_a_closed_connection_is_tried_again_and_garbage_is_not(lab: Lab, sent: bytes, connections: int) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(sent)

    upstream = lab.upstream(script)
    lab.make(lab.provider(upstream), retries=Retries())

    answer = refused(await lab.ask(UNARY), 502, "upstream_protocol_error")

    assert upstream.connections == connections
    assert answer.headers["x-gomodel-attempts"] == str(connections)


# 10: a stream longer than it says...


async def test_a_stream_longer_than_its_length_is_cut_there_and_ends_with_the_failure(lab: Lab) -> None:
    lab.make(stamp=False)
    whole = b"".join(EVENTS[:5])
    lab.bad.script(Reply(b"".join(EVENTS), content_type=EVENT_STREAM, headers={"content-length": str(len(whole))}))

    assert broke_off(await lab.ask(STREAM), whole) == "upstream_stream_truncated"

    await succeeds(lab)


# 12: an error behind a 200 is read like an error status...


@both
async def test_a_busy_error_behind_a_200_is_retried(lab: Lab, body: Any) -> None:
    lab.make(retries=Retries())
    lab.bad.fail_next(ErrorInside(form="body", code="rate_limit_exceeded"))

    answer = await lab.ask(body)

    answered_by(answer, "bad")
    assert answer.headers["x-gomodel-attempts"] == "2"


@both
async def test_the_clients_error_behind_a_200_has_no_fallback_and_no_retry(lab: Lab, body: Any) -> None:
    with_fallback(lab, retries=Retries())
    lab.bad.fail_next(ErrorInside(form="body", code="invalid_prompt", message="No."))

    answer = await lab.ask(body)

    assert (answer.status, answer.error["message"]) == (400, "No.")
    assert (len(lab.bad.requests), len(lab.good.requests)) == (1, 0)
    assert lab.gateway.health()["bad"].failures == 0


DIGITS = {"a superscript": '"²"', "5,000 digits": '"' + "9" * 5000 + '"', "4,000 digits": "9" * 4000, "a float": "4e2"}


@both
@pytest.mark.parametrize("inside", [True, False], ids=["behind a 200", "behind a 500"])
@pytest.mark.parametrize("code", DIGITS.values(), ids=DIGITS)
async def test_a_code_that_is_no_status_is_no_failure_of_ours(lab: Lab, code: str, inside: bool, body: Any) -> None:
    lab.make()
    raw = f'{{"error":{{"message":"overheated","type":"t","code":{code}}}}}'.encode()
    lab.bad.script(Reply(raw, 200 if inside else 500))

    answer = await lab.ask(body)

    assert (answer.status, answer.raised) == (502 if inside else 500, None)
    assert answer.error["message"] == "overheated"
    assert lab.gateway.health()["bad"].failures == 1


# 13 and 15: the status on the wire counts, whatever the body calls itself...

FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "responses": ({}, {"error": {"message": "Later.", "type": "invalid_request_error"}}),
    "chat": ({"dialect": "chat"}, {"error": {"message": "Later.", "type": "invalid_request_error"}}),
    "anthropic": (
        {"dialect": "anthropic", "auth": "x-api-key"},
        {"type": "error", "error": {"type": "invalid_request_error", "message": "Later."}},
    ),
    "gemini": (
        {"dialect": "gemini", "auth": "x-goog-api-key"},
        {"error": {"code": 400, "message": "Later.", "status": "INVALID_ARGUMENT"}},
    ),
}


@both
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("options", "error"), FORMS.values(), ids=FORMS)
async def test_a_busy_status_is_busy_whatever_its_body_names(
    lab: Lab, options: dict[str, Any], error: dict[str, Any], status: int, body: Any
) -> None:
    lab.make(lab.provider(lab.bad, **options))
    lab.bad.script(Reply(error, status, headers={"retry-after": "17"}))

    answer = await lab.ask(body)

    assert (answer.status, answer.error["message"]) == (status, "Later.")
    assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("17", "false")
    assert lab.gateway.health()["bad"].failures == 1


@both
@pytest.mark.parametrize("status", [401, 402, 403])
@pytest.mark.parametrize(("options", "error"), FORMS.values(), ids=FORMS)
async def test_a_status_of_refused_credentials_says_so_whatever_its_body_names(
    lab: Lab, options: dict[str, Any], error: dict[str, Any], status: int, body: Any
) -> None:
    lab.make(lab.provider(lab.bad, **options))
    lab.bad.script(Reply(error, status))

    answer = refused(await lab.ask(body), 502, "upstream_auth_error")

    assert b"Later." not in answer.content


# 14: refused credentials, and every other credential an upstream could quote...

HEADER_KEY = "canary-in-a-header+/="
QUERY_KEY = "canary-in-the-query"
QUOTED = f"Refused: {KEY}, {HEADER_KEY}, {QUERY_KEY}."
MORE: dict[str, Any] = {"headers": {"x-portal-key": f"Bearer {HEADER_KEY}"}, "query": {"key": QUERY_KEY}}


def shown(answer: Caller, records: list[Record], lab: Lab) -> str:
    """All that a client, an operator or a log could see of it, escapes undone."""
    seen = [
        answer.messages,
        answer.raised,
        records,
        lab.gateway.health(),
        lab.gateway,
        lab.gateway.setup.registry.by_name,
    ]
    return "\n".join(map(repr, seen)).replace(r"\\/", "/").replace(r"\\u002b", "+").replace(r"\\u0061", "a")


def plain(error: dict[str, Any]) -> bytes:
    return json.dumps(error).encode()


def escaped(error: dict[str, Any]) -> bytes:
    """As PHP and .NET write it, and worse."""
    return plain(error).replace(b"/", rb"\/").replace(b"+", rb"\u002b").replace(b"canary", rb"c\u0061nary")


@both
@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
@pytest.mark.parametrize("write", [plain, escaped])
@pytest.mark.parametrize(("options", "error"), FORMS.values(), ids=FORMS)
async def test_no_credential_that_an_upstream_quotes_is_passed_on(
    lab: Lab,
    options: dict[str, Any],
    error: dict[str, Any],
    write: Callable[[dict[str, Any]], bytes],
    status: int,
    body: Any,
) -> None:
    records: list[Record] = []
    lab.make(lab.provider(lab.bad, **options, **MORE), observers=[records.append])
    quoting = {**error, "error": {**error["error"], "message": QUOTED}}
    headers = {"x-ratelimit-limit": KEY, "x-request-id": "canary-in-the-query"}
    lab.bad.script(Reply(write(quoting), status, headers=headers))

    answer = await lab.ask(body)

    seen = shown(answer, records, lab)
    assert answer.status >= 400 and "[redacted]" in seen or status == 401
    assert not [secret for secret in (KEY, HEADER_KEY, QUERY_KEY) if secret in seen]


async def test_observers_are_told_why_a_credential_was_refused_but_not_which(lab: Lab) -> None:
    records: list[Record] = []
    lab.make(observers=[records.append])
    lab.bad.fail_next(Status(403, message=f"Region not allowed for {KEY}."))

    refused(await lab.ask(UNARY), 502, "upstream_auth_error")

    (ended,) = [record for record in records if isinstance(record, AttemptEnded)]
    assert ended.error == "upstream_auth_error"
    assert ended.detail is not None and "Region not allowed for [redacted]." in ended.detail


# 18 and 19: a coding that does not end...

PACKED = gzip.compress(json.dumps(RESPONSE).encode())
CODED = EVENT_STREAM.encode()
ENDLESS = {
    "bytes behind the end": (PACKED, b"x" * 65536),
    "empty blocks": (gzip.compress(b"", 0)[:10], b"\x00\x00\x00\xff\xff" * 13_000),
    "empty members": (b"", gzip.compress(b"") * 3000),
}


@both
@pytest.mark.parametrize(("first", "more"), ENDLESS.values(), ids=ENDLESS)
async def test_a_coding_that_goes_on_without_saying_anything_is_a_502(
    lab: Lab, first: bytes, more: bytes, body: Any
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        kind = CODED if body is STREAM else b"application/json"
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-type: %s\r\n\r\n" % kind, first)
        for _ in range(20_000):
            peer.send(more)

    lab.make(lab.provider(lab.upstream(script)), limits=Limits(reply=2_000_000))

    refused(await lab.ask(body), 502, "upstream_protocol_error")


async def test_a_bomb_in_mid_stream_ends_the_stream_with_the_failure(lab: Lab) -> None:
    lab.make(stamp=False, limits=Limits(reply=1_000_000))
    packed = gzip.compress(b"".join(EVENTS[:5]) + b": comment\n\n" * 2_000_000)
    lab.bad.script(streamed(packed, headers={"content-encoding": "gzip"}))

    assert broke_off(await lab.ask(STREAM), b"".join(EVENTS[:5])) == "upstream_protocol_error"

    await succeeds(lab)


async def test_a_series_of_gzip_members_is_one_reply(lab: Lab) -> None:
    lab.make(stamp=False)
    members = b"".join(map(gzip.compress, EVENTS))
    lab.bad.script(streamed(members, headers={"content-encoding": "gzip"}))

    assert (await lab.ask(STREAM)).content == b"".join(EVENTS)


class Endless:
    """A reply of a gzip member and then, for ever, what is none."""

    status = 200
    headers: Headers = []
    resumable = True

    def __init__(self) -> None:
        self.given = 0

    async def read(self, timeout: float) -> bytes:
        self.given += 1
        return PACKED if self.given == 1 else b"x" * 65536

    async def aclose(self) -> None:
        pass


async def test_what_follows_a_compressed_reply_is_not_kept_in_memory() -> None:
    reply = decoded(Endless(), b"gzip", 64_000_000)
    assert await reply.read(1)
    tracemalloc.start()
    try:
        with pytest.raises(Exception, match="damaged"):
            await reply.read(1)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


# 21: every kind of answer has the same list of headers...

FORBIDDEN = {
    "set-cookie": "canary=1", "server": "nginx", "via": "1.1 x", "connection": "x-secret", "x-secret": "1",
    "openai-organization": "org-house", "location": "http://elsewhere", "www-authenticate": "Basic",
    "x-ratelimit-a b": "1", "link": "<x>", "x-gomodel-provider": "forged", "content-disposition": "attachment",
}  # fmt: skip


@pytest.mark.parametrize("status", [200, 400, 401, 429, 302])
@both
async def test_an_error_and_a_stream_pass_no_other_headers_than_a_reply(lab: Lab, status: int, body: Any) -> None:
    lab.make()
    given = {**FORBIDDEN, "x-ratelimit-remaining-tokens": "9"}
    del given["x-ratelimit-a b"]  # which no reply may hold
    lab.bad.script(
        streamed(headers=given) if status == 200 else Reply({"error": {"message": "No."}}, status, headers=given)
    )

    answer = await lab.ask(body)

    assert not {name for name in FORBIDDEN if name in answer.headers} - {"x-gomodel-provider"}
    assert answer.headers.get("x-gomodel-provider") in (None, "bad")
    assert answer.headers.get("x-ratelimit-remaining-tokens") in (("9",) if status in (200, 400, 429) else (None,))


@pytest.mark.parametrize("fault", [Status(429), Html(), SetCookie("canary=1")], ids=["429", "HTML", "cookie"])
async def test_a_connection_that_ended_properly_serves_again_without_a_cookie(lab: Lab, fault: Any) -> None:
    lab.make()
    lab.bad.fail_next(fault)

    await lab.ask(UNARY)
    await succeeds(lab)

    assert [request.values("cookie") for request in lab.bad.requests] == [[], []]


# 23: a request that is never taken...


@both
async def test_a_request_that_the_upstream_does_not_take_is_given_up_at_the_deadline(lab: Lab, body: Any) -> None:
    over = threading.Event()

    def script(peer: Peer) -> None:
        peer.sock.recv(10)
        over.wait(20)

    lab.make(lab.provider(lab.upstream(script)), timeouts=Timeouts(first_event=0.5, unary=0.5))

    refused(await lab.ask({**body, "input": "x" * 8_000_000}), 504, "upstream_timeout")
    over.set()


# Invariant 3 and allow_private: names, numbers and spellings of what is not public...

INWARD = [
    "localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0", "[::1]", "[::]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "localhost.", "LOCALHOST",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, indirect=True, ids=lambda kind: kind[0])
@pytest.mark.parametrize("host", INWARD)
async def test_a_tenants_url_never_sends_a_byte_to_an_address_that_is_not_public(lab: Lab, host: str) -> None:
    heard: list[bytes | None] = []
    upstream = lab.upstream(lambda peer: heard.append(peer.request()))

    def policy(request: RoutingRequest) -> Target:
        url = f"http://{host}:{upstream.port}/v1"
        return Target(Provider("own", url, api_key="sk-canary-tenant", allow_private=False))

    lab.make(policy=policy)

    refused(await lab.ask(UNARY), 502, "upstream_unreachable")

    assert not any(heard)


# Breakers: what a client writes is not kept...


def test_breakers_keep_no_more_of_a_models_name_than_a_line() -> None:
    health, provider = Health(), Provider("p", "http://h/v1")

    for number in range(100):
        assert health.breaker(provider, "m" * 100_000 + str(number), "").admit(None)

    assert len(health.breakers) == 100
    assert max(len(key[2] or "") for key in health.breakers) <= LONGEST_MODEL
    assert health.breaker(provider, "m" * 100_000 + "7", "").in_flight == 1


async def test_a_long_models_name_leaves_nothing_behind(lab: Lab) -> None:
    lab.make()

    for number in range(5):
        answer = await lab.ask({**UNARY, "model": "m" * 1_000_000 + str(number)})
        assert answer.status == 200

    assert len(repr(list(lab.gateway.setup.health.breakers))) < 10_000
    assert len(lab.gateway.setup.health.breakers) == 5


# Retry-After, wherever it is said...


def test_a_wait_that_the_body_asks_for_is_told_to_the_client() -> None:
    error = UpstreamRejected("Later.", status=429, retry_after=17)
    assert (b"retry-after", b"17") in error.headers()

    error.passed = ((b"retry-after-ms", b"5"),)
    assert error.headers() == [(b"retry-after-ms", b"5")]


# After a failure...


@both
async def test_a_request_that_waits_out_a_timeout_closes_the_connection(lab: Lab, body: Any) -> None:
    lab.make(timeouts=Timeouts(first_event=0.2, unary=0.2))
    lab.bad.fail_next(Stall())

    refused(await lab.ask(body), 504, "upstream_timeout")

    await lab.bad.requests[0].disconnected.wait()
    await succeeds(lab)
    assert lab.bad.requests[0].connection != lab.bad.requests[1].connection


async def test_a_failed_stream_says_the_same_to_the_client_as_to_observers(lab: Lab) -> None:
    records: list[Record] = []
    lab.make(stamp=False, observers=[records.append])
    lab.bad.script(Scripted(streamed(), ()), Reply(b"".join(EVENTS[:5]), content_type=EVENT_STREAM))

    whole, cut = await lab.ask(STREAM), await lab.ask(STREAM)

    outcomes = [(record.outcome, record.error) for record in records if isinstance(record, Completed)]
    assert whole.content == b"".join(EVENTS)
    assert outcomes == [("completed", None), ("failed", told_failure(cut.events(), cut.content))]


async def test_a_content_length_of_any_size_is_a_413_and_never_a_failure_of_ours(lab: Lab) -> None:
    lab.make()
    length = (b"content-length", b"9" * 5000)

    answer = await ask(lab.gateway, b"", headers=[(b"content-type", b"application/json"), length])

    assert (answer.status, answer.error["code"]) == (413, "request_too_large")


# 11: nothing that an upstream can say is a failure of ours...

DEEP = b"[" * 100_000 + b"]" * 100_000
ODD_BODIES = {
    "nested too deeply": b'{"object":"response","error":{"message":"x","details":%s}}' % DEEP,
    "an object nested too deeply": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "a choice nested too deeply": b'{"choices":[{"message":{"content":%s}}]}' % DEEP,
    "bytes that are no text": b'{"object":"response","id":"\xff","status":"completed","output":[]}',
    "half a surrogate pair": rb'{"object":"response","id":"\ud800","status":"completed","output":[]}',
    "a number out of range": b'{"object":"response","status":"completed","output":[],"usage":{"input_tokens":1e999}}',
    "5,000 digits": b'{"object":"response","created_at":%s}' % (b"9" * 5000),
    "members of other types": b'{"object":"response","id":{},"status":["x"],"output":{},"candidates":5,"choices":5}',
    "an error of other types": b'{"error":{"message":{"a":1},"code":{"b":2},"type":[],"param":9,"status":-404}}',
}
SPEAKERS = {**{name: options for name, (options, _) in FORMS.items()}, "normalize": {"normalize": True}}


@both
@pytest.mark.parametrize("kind", KINDS[:2], indirect=True, ids=lambda kind: kind[0])
@pytest.mark.parametrize("as_event", [False, True], ids=["JSON", "SSE"])
@pytest.mark.parametrize("raw", ODD_BODIES.values(), ids=ODD_BODIES)
@pytest.mark.parametrize("options", SPEAKERS.values(), ids=SPEAKERS)
async def test_nothing_that_an_upstream_can_say_is_a_failure_of_ours(
    lab: Lab, options: dict[str, Any], raw: bytes, as_event: bool, body: Any
) -> None:
    lab.make(lab.provider(lab.bad, **options))
    lab.bad.script(streamed(b"data: " + raw + b"\n\n") if as_event else Reply(raw))

    answer = await lab.ask(body)

    assert answer.raised is None and answer.complete
    assert b"internal_error" not in answer.content
    assert answer.status in (200, 400, 404, 502)
    assert as_event or answer.content.decode()  # a native stream's bytes pass as they are


# What a stream says behind its end...


@pytest.mark.parametrize("kind", KINDS[:1], indirect=True, ids=["http11"])  # it takes the five seconds
async def test_an_upstream_that_goes_on_behind_the_end_is_left_after_a_while(lab: Lab) -> None:
    over = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n", *EVENTS[:-1])
        while not over.wait(0.1):
            peer.send(b": still here\n\n")

    lab.make(lab.provider(lab.upstream(script)), stamp=False)

    answer = await lab.ask(STREAM)

    assert answer.content == b"".join(EVENTS[:-1]) and answer.complete
    over.set()


async def test_a_wait_that_only_the_body_asks_for_is_kept(lab: Lab) -> None:
    lab.make(lab.provider(lab.bad, dialect="gemini", auth="x-goog-api-key"))
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"}
    error = {"code": 429, "message": "Later.", "status": "RESOURCE_EXHAUSTED", "details": [info]}
    lab.bad.script(Reply({"error": error}, 429))

    answer = await lab.ask(UNARY)

    assert (answer.status, answer.headers["retry-after"]) == (429, "17")


@both
@pytest.mark.parametrize("delta", ["before", "after"])
async def test_no_credential_that_a_stream_quotes_is_passed_on(lab: Lab, delta: str, body: Any) -> None:
    records: list[Record] = []
    lab.make(lab.provider(lab.bad, dialect="chat", **MORE), observers=[records.append])
    chunk: dict[str, Any] = {
        "id": "c",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {"content": QUOTED}}],
    }
    failure: dict[str, Any] = {"error": {"message": QUOTED, "type": "server_error"}}
    lab.bad.script(
        Reply(
            content_type=EVENT_STREAM,
            chunks=[b"data: %s\n\n" % plain(one) for one in ([chunk, failure] if delta == "after" else [failure])],
        )
    )

    seen = shown(await lab.ask(body), records, lab)

    assert "[redacted]" in seen
    assert not [secret for secret in (KEY, HEADER_KEY, QUERY_KEY) if secret in seen]


@pytest.mark.parametrize(
    "address",
    ["192.0.0.192", "192.88.99.1", "168.63.129.16", "::ffff:168.63.129.16", "64:ff9b::a83f:8110", "3fff::1", "5f00::1"],
)
def test_what_a_cloud_keeps_for_its_own_machines_is_not_public(address: str) -> None:
    assert not is_public(address)
