"""What a client may do wrong, over real sockets: one test for each row of the table, one case for each fault in it."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from gomodel_asgi import Gateway, GoModelMiddleware, Limits, Provider, RoutingRequest, Target
from gomodel_asgi.testing import Answer, Reply, Stall

from ..support import raw_client
from ..support.raw_client import call, connected, head, post, read_answer
from ..support.stage import Stage, until

CLIENT_KEY = "sk-canary-client-key"
HELLO = b'{"model":"gpt-5","input":"hi"}'
RESPONSE = {"id": "resp_1", "object": "response", "status": "completed", "output": [], "model": "gpt-5"}


def refused(stage: Stage, answer: raw_client.Answer, status: int, code: str | None) -> dict[str, Any]:
    """The error of *answer*, which the gateway must have given by itself; and the next request must succeed."""
    assert (answer.status, answer.error["code"]) == (status, code)
    assert answer.headers["x-request-id"]
    assert not stage.provider.requests
    assert post(stage.origin, HELLO).status == 200
    return answer.error


# 1: bodies that are no JSON object...


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \r\n\t ",
        b"null",
        b"[]",
        b'"x"',
        b"1",
        b'{"model":"gpt-5"',
        b'{"model":"gpt',
        HELLO + b"x",
        HELLO + HELLO,
        b"{'model':'gpt-5'}",
        b'{"model":"gpt-5"} // comment',
        b'{/* comment */"model":"gpt-5"}',
        b'{"model":"gpt-5",}',
    ],
)
def test_a_body_that_is_not_one_json_object_is_a_400_with_the_position(stage: Stage, body: bytes) -> None:
    stage.gateway()

    error = refused(stage, post(stage.origin, body), 400, "invalid_json")

    assert "byte" in error["message"]


# 2: encodings...


@pytest.mark.parametrize(
    "body",
    [
        b'\xff{"model":"gpt-5"}',
        b'{"model":"gpt\xff"}',
        b'{"model":"gpt-5","input":"\xff"}',
        b'{"model":"gpt-5","input":[{"content":"a\xc3"}]}',
        b'{"model":"gpt-5","\xff":1}',
        b'{"model":"gpt-5","input":"\xed\xa0\x80"}',
        HELLO.decode().encode("utf-16"),
        HELLO.decode().encode("utf-16-le"),
        rb'{"model":"gpt-5","input":"\ud800"}',
        rb'{"model":"gpt-5","input":[{"content":"\ud800 and more text"}]}',
        rb'{"model":"gpt-5","input":"\udc00 alone"}',
        rb'{"model":"\ud83d"}',
        b'{"model":"gpt-5","input":"a\x00b"}',
        HELLO[:-1] + b"\x00}",
    ],
)
def test_a_body_that_is_not_utf8_text_is_a_400(stage: Stage, body: bytes) -> None:
    stage.gateway()

    refused(stage, post(stage.origin, body), 400, "invalid_json")


def test_a_byte_order_mark_is_removed(stage: Stage) -> None:
    stage.gateway()

    assert post(stage.origin, b"\xef\xbb\xbf" + HELLO).status == 200
    assert stage.provider.requests[0].body == HELLO


def test_surrogate_pairs_pass_as_they_are_written(stage: Stage) -> None:
    stage.gateway()
    body = rb'{"model":"gpt-5","input":"\ud83d\ude00 \u00e9"}'

    assert post(stage.origin, body).status == 200
    assert stage.provider.requests[0].body == body


# 3: numbers and depth...


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"01", b"1.", b"+1", b"[NaN]"])
def test_what_is_no_number_in_json_is_a_400(stage: Stage, number: bytes) -> None:
    stage.gateway()

    refused(stage, post(stage.origin, b'{"model":"gpt-5","temperature":%s}' % number), 400, "invalid_json")


HUGE = {
    "a huge exponent": b"1e999",
    "an integer of 5,000 digits": b"9" * 5000,
    "an integer above 64 bits": b"36893488147419103232",
    "a long fraction": b"0." + b"3" * 400,
    "a million values": b"[" + b"[]," * 499_997 + b"[]]",
}


@pytest.mark.parametrize("value", HUGE.values(), ids=HUGE)
def test_values_of_any_size_pass_a_native_upstream_untouched(stage: Stage, value: bytes) -> None:
    stage.gateway()
    stage.provider.script(Reply(RESPONSE))
    body = b'{"model":"gpt-5","x":%s}' % value

    assert post(stage.origin, body).status == 200
    assert stage.provider.requests[0].body == body


@pytest.mark.parametrize("look", ["body", "payload"])
@pytest.mark.parametrize("value", HUGE.values(), ids=HUGE)
def test_values_that_a_policy_cannot_hold_are_a_400_and_never_a_500(stage: Stage, value: bytes, look: str) -> None:
    async def policy(request: RoutingRequest) -> Target:
        getattr(request, look)
        return request.default()

    stage.gateway(policy=policy)
    stage.provider.script(Reply(RESPONSE))

    answer = post(stage.origin, b'{"model":"gpt-5","x":%s}' % value)

    assert answer.status in (200, 400)
    if answer.status == 400:
        assert answer.error["code"] == "invalid_json"
    assert not stage.switch.failures


def nested(depth: int) -> bytes:
    return b'{"model":"gpt-5","x":%s%s}' % (b"[" * depth, b"]" * depth)


@pytest.mark.parametrize("depth", [129, 10_000])
def test_depth_passes_a_native_upstream_as_far_as_the_parser_bears_it(stage: Stage, depth: int) -> None:
    stage.gateway()
    stage.provider.script(Reply(RESPONSE))

    answer = post(stage.origin, nested(depth))

    assert answer.status == 200 or (answer.status == 400 and answer.error["code"] == "invalid_json")
    assert depth > 129 or answer.status == 200


def test_a_depth_of_100_000_is_a_400(stage: Stage) -> None:
    stage.gateway()

    refused(stage, post(stage.origin, nested(100_000)), 400, "invalid_json")


@pytest.mark.parametrize("depth", [129, 10_000])
def test_depth_over_the_limit_is_a_400_where_a_tree_is_built(stage: Stage, depth: int) -> None:
    chat = Provider("chat", stage.provider.base_url, dialect="chat")
    stage.gateway(providers=[chat])

    answer = post(stage.origin, nested(depth))

    assert (answer.status, answer.error["code"]) == (400, "invalid_json")
    assert not stage.provider.requests


@pytest.mark.parametrize("look", ["body", "payload"])
@pytest.mark.parametrize("depth", [129, 1_000, 10_000])
def test_depth_never_makes_a_policy_fail(stage: Stage, depth: int, look: str) -> None:
    async def policy(request: RoutingRequest) -> Target:
        getattr(request, look)
        return request.default()

    stage.gateway(policy=policy)
    stage.provider.script(Reply(RESPONSE))

    assert post(stage.origin, nested(depth)).status in (200, 400)
    assert not stage.switch.failures


# 4 and 5: members...


def test_of_repeated_members_the_policy_sees_the_last_and_the_last_is_sent(stage: Stage) -> None:
    seen: list[tuple[str | None, bool]] = []

    async def policy(request: RoutingRequest) -> Target:
        seen.append((request.model, request.stream))
        return request.default()

    stage.gateway(policy=policy)
    body = b'{"model":"a","stream":true,"input":"x","model":"b","stream":false,"provider":"nobody","provider":"fake"}'

    assert post(stage.origin, body).status == 200
    assert seen == [("b", False)]
    assert stage.provider.requests[0].body == b'{"model":"b","stream":false,"input":"x"}'


def test_a_member_that_nobody_guards_may_be_written_in_any_case(stage: Stage) -> None:
    stage.gateway()
    body = (
        b'{"model":"b","Temperature":1,"META":{"Type":"x","type":"y"},"input":[{"role":"user","Content":[{"TYPE":1}]}]}'
    )

    assert post(stage.origin, body).status == 200
    assert stage.provider.requests[0].body == body


GUARDED = [
    *("model", "provider", "stream", "store", "background", "previous_response_id", "conversation", "input", "items"),
    *("tools", "prompt", "prompt_cache_options"),
]


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/responses/compact", "/v1/conversations"])
@pytest.mark.parametrize("member", GUARDED)
def test_a_guarded_member_in_another_case_is_a_400_that_names_it_as_written(
    stage: Stage, path: str, member: str
) -> None:
    stage.gateway(policy=lambda request: Target("fake", model="cheap"))
    for written in (member.title(), member.upper(), member.replace("s", "\u017f").replace("k", "\u212a")):
        if written != member:
            body = json.dumps({"model": "gpt-5", "input": "hi", written: None}).encode()
            answer = post(stage.origin, body, target=path)
            assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "invalid_parameter", written)
    assert not stage.provider.requests


AMBIGUOUS = {
    "Type": rb'{"Type":"item_reference","type":"message","role":"user","content":"x"}',
    "ID": rb'{"role":"user","content":"x","ID":"a"}',
    "rolE": rb'{"rol\u0045":"system","role":"user","content":"x"}',
    "Encrypted_Content": rb'{"type":"compaction","encrypted_content":"x","Encrypted_Content":"y"}',
    "type": rb'{"type":"item_reference","id":"a","type":"message","role":"user","content":"x"}',
    "id": rb'{"id":"a","role":"user","content":"x","i\u0064":"b"}',
    "role": rb'{"role":"user","content":"x","role":"user"}',
    "encrypted_content": rb'{"type":"compaction","encrypted_content":"x","encrypted_content":"x"}',
}


@pytest.mark.parametrize(("path", "member"), [("/v1/responses", "input"), ("/v1/conversations", "items")])
@pytest.mark.parametrize("written", AMBIGUOUS)
def test_an_item_that_can_be_read_in_two_ways_is_a_400(stage: Stage, path: str, member: str, written: str) -> None:
    stage.gateway()
    before = b'{"role":"user","content":"hi","a,b":1,"c":2},{"a":1,"b,c":2,"role":"user"}'
    body = b'{"model":"gpt-5","%s":[%s,7,%s]}' % (member.encode(), before, AMBIGUOUS[written])

    answer = post(stage.origin, body, target=path)

    assert (answer.status, answer.error["code"]) == (400, "invalid_parameter")
    assert answer.error["param"] == f"{member}[3].{written}"
    assert not stage.provider.requests


def test_an_escaped_name_is_the_same_member(stage: Stage) -> None:
    stage.gateway(policy=lambda request: Target("fake", model="forced"))
    body = rb'{"\u006dodel":"gpt-5","input":"x","pr\u006fvider":"fake"}'

    assert post(stage.origin, body).status == 200
    assert stage.provider.requests[0].json() == {"model": "forced", "input": "x"}


@pytest.mark.parametrize(
    ("member", "value"),
    [(name, value) for name in ("model", "provider") for value in ("1", "true", "[]", '["fake"]')]
    + [("model", "{}"), ("stream", '"true"'), ("stream", "1"), ("stream", "[]"), ("stream", "{}")],
)
def test_a_member_of_a_wrong_type_is_a_400_that_names_it(stage: Stage, member: str, value: str) -> None:
    stage.gateway()

    error = refused(stage, post(stage.origin, b'{"%s":%s}' % (member.encode(), value.encode())), 400, "invalid_type")

    assert error["param"] == member


@pytest.mark.parametrize("member", ["model", "provider", "stream"])
def test_null_counts_as_absent(stage: Stage, member: str) -> None:
    stage.gateway(policy=lambda request: Target("fake", model="gpt-5"))

    assert post(stage.origin, b'{"input":"x","%s":null}' % member.encode()).status == 200
    sent = stage.provider.requests[0].json()
    assert "provider" not in sent
    assert sent.get("stream", "absent") in (None, "absent")


# 6: size...


def test_a_body_that_says_it_is_over_the_limit_is_refused_before_it_is_sent(stage: Stage) -> None:
    stage.gateway(limits=Limits(body=1000))

    answer = raw_client.send(stage.origin, head("POST", "/v1/responses", 1001))

    refused(stage, answer, 413, "request_too_large")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def test_chunks_are_refused_as_soon_as_they_are_over_the_limit(stage: Stage) -> None:
    stage.gateway(limits=Limits(body=1000))
    opening = head("POST", "/v1/responses", None, "transfer-encoding: chunked")

    answer = raw_client.send(stage.origin, opening, chunk(b"x" * 600), chunk(b"x" * 600))

    refused(stage, answer, 413, "request_too_large")


def test_a_body_of_exactly_the_limit_is_accepted(stage: Stage) -> None:
    stage.gateway(limits=Limits(body=len(HELLO)))

    assert post(stage.origin, HELLO).status == 200


def test_the_hosts_own_lower_limit_holds(stage: Stage) -> None:
    def limited(gateway: Gateway) -> ASGIApp:
        return lambda scope, receive, send: gateway({**scope, "starlette.max_body_size": 10}, receive, send)

    stage.gateway(limited)

    answer = post(stage.origin, HELLO)

    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert not stage.provider.requests


# 7: types and encodings...


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/json; charset=latin-1",
        "application/jsonp",
        "text/json",
        "application/json, text/plain",
    ],
)
def test_a_body_of_another_type_is_a_415(stage: Stage, content_type: str | None) -> None:
    stage.gateway()

    refused(stage, post(stage.origin, HELLO, content_type=content_type), 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/vnd.api+json",
    ],
)
def test_json_in_utf8_is_accepted_however_it_is_spelled(stage: Stage, content_type: str) -> None:
    stage.gateway()

    assert post(stage.origin, HELLO, content_type=content_type).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "gzip, gzip", "identity, gzip"])
def test_an_encoded_body_is_a_415_and_is_never_decoded(stage: Stage, encoding: str) -> None:
    stage.gateway()
    bomb = gzip.compress(gzip.compress(b"\0" * 1_000_000))

    refused(stage, post(stage.origin, bomb, f"content-encoding: {encoding}"), 415, "unsupported_media_type")


# 8: methods...


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("inside", [True, False], ids=["middleware", "mounted"])
def test_another_method_is_a_405_that_says_which_is_allowed(stage: Stage, method: str, inside: bool) -> None:
    stage.gateway(in_host if inside else None)

    answer = call(stage.origin, method, "/v1/responses")

    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert method == "HEAD" or answer.error["code"] == "method_not_allowed"


def test_options_belongs_to_the_host(stage: Stage) -> None:
    stage.gateway(in_host)

    assert call(stage.origin, "OPTIONS", "/v1/responses").body == b"host OPTIONS /v1/responses"


def test_options_is_a_405_where_there_is_no_host(stage: Stage) -> None:
    stage.gateway()

    assert call(stage.origin, "OPTIONS", "/v1/responses").status == 405


# 9: paths...


async def host(scope: Scope, receive: Receive, send: Send) -> None:
    raw = scope["raw_path"].decode("latin-1")
    await PlainTextResponse(f"host {scope['method']} {raw}")(scope, receive, send)


def in_host(gateway: Gateway) -> ASGIApp:
    return GoModelMiddleware(host, gateway=gateway)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/responses/",
        "//v1/responses",
        "/v1//responses",
        "/V1/responses",
        "/v1/Responses",
        "/v1/responses%2f..",
        "/v1/responses%2Fcompact",
        "/v1/%72esponses",
        "/v1/./responses",
        "/v1/../v1/responses",
        "/v1/responses;x",
        "/v1/responses.json",
        "/v1/responsesx",
        "/x/v1/responses",
        "/v1/responses/a/b",
        "/v1/responses/a/cancel/",
        "/v1/responses/a/b/cancel",
        "/v1/responses//cancel",
        "/v1/responses/%61bc",
        "/v1/responses/a%2fb",
        "/v1/responses/compact/x",
    ],
)
def test_a_path_that_is_not_exactly_ours_reaches_the_host_unchanged(stage: Stage, path: str) -> None:
    stage.gateway(in_host)

    assert post(stage.origin, HELLO, target=path).body.decode() == f"host POST {path}"
    assert not stage.provider.requests


@pytest.mark.parametrize(
    "id", ["..", ".", "%00", "a%00", "a%20b", "x" * 513, "x" * 10_000, "a;b", "a%0d%0ab", "%C3%A9"]
)
def test_an_id_that_could_alter_the_upstreams_path_never_gets_there(stage: Stage, id: str) -> None:
    stage.gateway(in_host)

    answer = call(stage.origin, "GET", f"/v1/responses/{id}")

    if not answer.body.startswith(b"host GET"):
        assert (answer.status, answer.error["code"]) == (404, "response_not_found")
    assert not stage.provider.requests


@pytest.mark.parametrize("id", ["resp_1", "a.b:c=d-e_f", "...", "x" * 512])
def test_a_well_formed_id_is_the_last_segment_of_the_upstreams_path(stage: Stage, id: str) -> None:
    stage.gateway(in_host)
    stage.provider.script(Reply(RESPONSE))

    assert call(stage.origin, "GET", f"/v1/responses/{id}").status == 200
    assert stage.provider.requests[0].path == f"/v1/responses/{id}"


# 10: leaving...


def half_a_head(body: bytes) -> bytes:
    return b"POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-ty"


def without_body(body: bytes) -> bytes:
    return head("POST", "/v1/responses", len(body))


def half_a_body(body: bytes) -> bytes:
    return head("POST", "/v1/responses", len(body)) + body[: len(body) // 2]


@pytest.mark.parametrize("sent", [half_a_head, without_body, half_a_body])
def test_a_client_that_leaves_before_its_request_is_whole_causes_nothing(
    stage: Stage, sent: Callable[[bytes], bytes]
) -> None:
    stage.gateway()

    with connected(stage.origin) as sock:
        sock.sendall(sent(HELLO))

    assert post(stage.origin, HELLO).status == 200
    assert len(stage.provider.requests) == 1


@pytest.mark.parametrize("stream", [b"true", b"false"])
@pytest.mark.parametrize("stall", [Stall(), Stall(after_events=0)], ids=["before the head", "after the head"])
def test_a_client_that_leaves_before_the_reply_cancels_the_upstream(stage: Stage, stall: Stall, stream: bytes) -> None:
    gateway = stage.gateway()
    stage.provider.fail_next(stall)
    body = b'{"model":"gpt-5","stream":%s,"input":"x"}' % stream

    with connected(stage.origin) as sock:
        sock.sendall(head("POST", "/v1/responses", len(body)) + body)
        until(lambda: stage.provider.requests)

    assert stage.provider.requests[0].disconnected.wait_in_thread(10)
    assert gateway.health()["fake"].failures == 0
    assert post(stage.origin, HELLO).status == 200


def test_a_client_that_leaves_in_mid_stream_cancels_the_upstream(stage: Stage) -> None:
    gateway = stage.gateway()
    stage.provider.fail_next(Stall(after_events=4))
    body = b'{"model":"gpt-5","stream":true,"input":"x"}'

    with connected(stage.origin) as sock:
        sock.sendall(head("POST", "/v1/responses", len(body)) + body)
        assert b"200 OK" in sock.recv(65536)

    assert stage.provider.requests[0].disconnected.wait_in_thread(10)
    assert gateway.health()["fake"].failures == 0


def test_a_background_request_goes_on_when_its_client_leaves(stage: Stage) -> None:
    stage.gateway()
    stage.provider.fail_next(Stall())
    body = b'{"model":"gpt-5","background":true,"input":"x"}'

    with connected(stage.origin) as sock:
        sock.sendall(head("POST", "/v1/responses", len(body)) + body)
        until(lambda: stage.provider.requests)
    assert post(stage.origin, HELLO).status == 200
    request = stage.provider.requests[0]

    until(lambda: stage.provider.release() or request.answered.is_set())  # type: ignore[func-returns-value]

    assert not request.disconnected.is_set()


# 12: floods...


def test_a_flood_over_the_concurrency_limit_is_turned_away_at_once_and_the_rest_finishes(stage: Stage) -> None:
    gateway = stage.gateway(limits=Limits(provider_concurrency=3))
    for _ in range(6):
        stage.provider.fail_next(Stall())
    answers: list[raw_client.Answer] = []

    def client() -> None:
        answers.append(post(stage.origin, HELLO))

    threads = [threading.Thread(target=client, daemon=True) for _ in range(20)]
    for thread in threads:
        thread.start()
    until(lambda: len(answers) == 14)  # three are under way and three wait; the upstream has not answered anybody
    assert {(answer.status, answer.error["code"]) for answer in answers} == {(503, "overloaded")}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
    until(lambda: len(stage.provider.requests) == 3)
    until(lambda: stage.provider.release() or len(answers) == 20)  # type: ignore[func-returns-value]
    for thread in threads:
        thread.join(20)

    assert sorted(answer.status for answer in answers) == [200] * 6 + [503] * 14
    assert gateway.health()["fake"].failures == 0


# 14, 16, 17: reaching for what is not theirs...

ELSEWHERE = [
    "../fake",
    "http://169.254.169.254/latest",
    "169.254.169.254",
    "//evil.example/v1",
    "tenant-b",
    "FAKE",
    "fake\u0000",
    "__class__",
]


@pytest.mark.parametrize("hint", ELSEWHERE)
def test_a_hint_that_names_no_configured_provider_contacts_nobody(stage: Stage, hint: str) -> None:
    stage.gateway()

    answer = post(stage.origin, json.dumps({"model": "gpt-5", "provider": hint}).encode())

    assert answer.status == 400
    assert answer.error["param"] == "provider"
    assert not stage.provider.requests


@pytest.mark.parametrize("model", ELSEWHERE)
def test_a_model_never_chooses_an_origin(stage: Stage, model: str) -> None:
    stage.gateway()

    assert post(stage.origin, json.dumps({"model": model}).encode()).status == 200
    assert stage.provider.requests[0].json()["model"] == model


@pytest.mark.parametrize(
    "header", ["authorization: Bearer a", "content-type: application/json", "content-encoding: identity", "host: b"]
)
def test_a_repeated_header_that_must_be_single_is_a_400(stage: Stage, header: str) -> None:
    stage.gateway()

    answer = raw_client.send(
        stage.origin,
        head("POST", "/v1/responses", len(HELLO), "authorization: Bearer x", "content-encoding: identity", header),
        HELLO,
    )

    assert answer.status == 400
    assert not stage.provider.requests


@pytest.mark.parametrize(
    "header",
    [
        "connection: authorization",
        "connection: close, x-gomodel-provider",
        "x-http-method-override: DELETE",
        "x-original-url: /admin",
        "x-forwarded-host: evil.example",
        "forwarded: host=evil.example",
        "expect: 100-continue",
        "te: trailers",
    ],
)
def test_headers_that_would_steer_a_proxy_change_nothing(stage: Stage, header: str) -> None:
    stage.gateway()

    assert post(stage.origin, HELLO, header, f"authorization: Bearer {CLIENT_KEY}").status == 200
    request = stage.provider.requests[0]
    assert (request.method, request.path) == ("POST", "/v1/responses")
    assert request.values("authorization") == ["Bearer sk-canary-house-key"]
    assert request.header(header.partition(":")[0]) in (None, "close")
    assert CLIENT_KEY not in request


@pytest.mark.parametrize("member", ["api_key", "api_base", "base_url", "extra_headers", "headers", "organization"])
def test_members_that_name_a_key_or_an_address_change_neither(stage: Stage, member: str) -> None:
    stage.gateway()
    body = {"model": "gpt-5", member: "http://evil.example"}

    assert post(stage.origin, json.dumps(body).encode()).status == 200
    request = stage.provider.requests[0]
    assert request.header("authorization") == "Bearer sk-canary-house-key"
    assert request.header("host") == stage.provider.base_url.split("/")[2]
    assert request.json() == body


def test_one_connection_serves_one_request_after_another(stage: Stage) -> None:
    stage.gateway()
    stage.provider.script(Answer(text="one"), Answer(text="two"))
    whole = head("POST", "/v1/responses", len(HELLO)).replace(b"connection: close\r\n", b"") + HELLO

    with connected(stage.origin) as sock:
        texts = []
        for _ in range(2):
            sock.sendall(whole)
            texts.append(read_answer(sock).json()["output"][0]["content"][0]["text"])

    assert texts == ["one", "two"]
