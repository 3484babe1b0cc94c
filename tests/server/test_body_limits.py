"""What a body may hold is the same at every door, and no door holds the event loop while it is looked at."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from starlette.requests import Request

from gomodel_asgi import Explanation, Gateway, Limits, Provider, RoutingRequest, Target
from gomodel_asgi.dialects.base import Call, Outgoing, Translator, pack_state
from gomodel_asgi.errors import GatewayError, InvalidRequest
from gomodel_asgi.seams.transport import Headers
from gomodel_asgi.server.body import opened
from gomodel_asgi.settings import LITTLE
from gomodel_asgi.testing import FakeProvider, Reply
from gomodel_asgi.threads import beside, paced
from gomodel_asgi.upstream.bodies import STEP, decoded
from gomodel_asgi.wire.event_writer import Emitter
from gomodel_asgi.wire.json_scan import WINDOW

from ..support.driving import Caller, ask, scope_of
from ..support.websocket_client import connected

MIB = 1 << 20
FEW = Limits(items=20, values=1000, depth=20)
RESPONSE = {"id": "resp_1", "object": "response", "status": "completed", "output": [], "model": "m"}

Refusal = tuple[int, str | None, str | None]
Door = Callable[[Gateway, bytes], Awaitable[Refusal | None]]


# The doors...


def over_http(path: str = "/v1/responses") -> Door:
    async def door(gateway: Gateway, body: bytes) -> Refusal | None:
        answer = await ask(gateway, body, path=path)
        return None if answer.status == 200 else (answer.status, answer.error["code"], answer.error["param"])

    return door


async def over_an_endpoint(gateway: Gateway, body: bytes) -> Refusal | None:
    caller = Caller(scope_of(path="/own/path"), [body])
    response = await gateway.endpoint(Request(caller.scope, caller.receive))
    await response(caller.scope, caller.receive, caller.send)
    return None if caller.status == 200 else (caller.status, caller.error["code"], caller.error["param"])


async def over_a_websocket(gateway: Gateway, body: bytes) -> Refusal | None:
    async with connected(gateway) as client:
        await client.send('{"type":"response.create",' + body.decode("latin-1").removeprefix("{"))
        event: Any = (await client.until("error", "response.completed"))[-1]
        return None if event["type"] != "error" else (event["status"], event["error"]["code"], event["error"]["param"])


def from_code(name: str) -> Door:
    async def door(gateway: Gateway, body: bytes) -> Refusal | None:
        try:
            answer = await getattr(gateway, name)(body)
            if isinstance(answer, Explanation) and answer.error is not None:
                raise answer.error
        except GatewayError as error:
            told: Any = error.payload["error"]
            return error.status, told["code"], told["param"]
        return None

    return door


DOORS: dict[str, Door] = {
    "responses": over_http(),
    "compact": over_http("/v1/responses/compact"),
    "input_tokens": over_http("/v1/responses/input_tokens"),
    "endpoint": over_an_endpoint,
    "websocket": over_a_websocket,
    "respond": from_code("respond"),
    "explain": from_code("explain"),
}
CONVERSATIONS: dict[str, Door] = {
    "conversations": over_http("/v1/conversations"),
    "items of a conversation": over_http("/v1/conversations/conv_1/items"),
}


def of(count: int, item: bytes = b"1") -> bytes:
    return b"[%b]" % b",".join([item] * count)


REFUSED: dict[str, tuple[bytes, Refusal]] = {
    "items": (b'{"model":"m","input":%b}' % of(21), (400, "too_many_items", "input")),
    "values": (b'{"model":"m","input":"x","x":%b}' % of(1001), (400, "invalid_json", None)),
    "values within one another": (
        b'{"model":"m","input":"x","x":%b}' % of(120, b"[[[[[[[[]]]]]]]]"),
        (400, "invalid_json", None),
    ),
}


@pytest.fixture
async def made(provider: FakeProvider) -> Any:
    """Makes gateways in front of a fake provider; the policy may not be asked."""
    gateways: list[Gateway] = []

    def gateway_of(**options: Any) -> Gateway:
        options.setdefault("providers", [Provider("fake", provider.base_url)])
        gateways.append(Gateway(**{"limits": FEW, "policy": never, **options}))
        return gateways[-1]

    yield gateway_of
    for gateway in gateways:
        await gateway.aclose()


async def never(request: RoutingRequest) -> Target:
    if request.operation == "connect":
        return request.default()
    raise AssertionError("the policy was asked")


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("door", DOORS)
async def test_too_much_is_refused_at_every_door_before_the_policy_is_asked(
    made: Any, provider: FakeProvider, door: str, what: str
) -> None:
    body, refusal = REFUSED[what]

    assert await DOORS[door](made(), body) == refusal

    assert not provider.requests


@pytest.mark.parametrize("door", CONVERSATIONS)
async def test_the_items_of_a_conversation_are_counted_too(made: Any, provider: FakeProvider, door: str) -> None:
    refused = await CONVERSATIONS[door](made(), b'{"items":%b}' % of(21, b"{}"))

    assert refused == (400, "too_many_items", "items")
    assert not provider.requests


@pytest.mark.parametrize("door", ["responses", "endpoint", "websocket", "respond"])
async def test_what_the_limits_allow_passes_every_door(made: Any, provider: FakeProvider, door: str) -> None:
    gateway = made(policy=None)
    item = b'{"role":"user","content":"a, b"}'

    assert await DOORS[door](gateway, b'{"model":"m","input":%b,"x":%b}' % (of(20, item), of(900))) is None

    assert len(provider.requests) == 1


@pytest.mark.parametrize("size", [2 * MIB, 9 * MIB])
async def test_a_body_of_any_size_is_sent_as_it_came(made: Any, provider: FakeProvider, size: int) -> None:
    big = b'[{"role":"user","content":"%b"},{"a":1.50}]' % (rb"\u00e9\\n " * (size // 9))
    body = b'{"model":"m","metadata":{"a":"b"},"input":%b,"temperature":1.0,"x":0.%b}' % (big, b"9" * 100_000)
    gateway = made(policy=None, limits=Limits())

    answer = await ask(gateway, b" " + body[:-1].replace(b'"input"', b' "input" ') + b', "provider" : "fake"}\n')

    assert answer.status == 200
    assert provider.requests[0].body == body


@pytest.mark.parametrize("door", DOORS)
async def test_a_policy_is_shown_no_tree_that_is_deeper_than_the_limit(made: Any, door: str) -> None:
    async def looks(request: RoutingRequest) -> Target:
        if request.operation == "connect":
            return request.default()
        request.body  # noqa: B018
        raise AssertionError("the body was parsed")

    gateway = made(policy=looks)
    body = b'{"model":"m","input":"x","x":%b1%b}' % (b"[" * 20, b"]" * 20)

    assert await DOORS[door](gateway, body) == (400, "invalid_json", None)


# JSON inside strings...

DEEP: dict[str, Any] = {"blocks": json.loads("[" * 25 + "]" * 25), "text": "x" * 1000}
HIDDEN = {
    "deep arguments of many values": ("arguments", "[" * 5000 + "]" * 5000),
    "arguments of many values": ("arguments", json.dumps([1] * 2000)),
    "a deep seal": (
        "encrypted_content",
        pack_state("fake", "m", DEEP),
    ),
    "a seal of many values": ("encrypted_content", pack_state("fake", "m", {"blocks": [1] * 2000})),
}


@pytest.mark.parametrize("what", HIDDEN)
@pytest.mark.parametrize("dialect", ["chat", "anthropic", "gemini"])
async def test_json_inside_strings_is_bounded_as_the_body_is(
    made: Any, provider: FakeProvider, dialect: Any, what: str
) -> None:
    member, text = HIDDEN[what]
    item = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "summary": []}
    if member == "encrypted_content":
        item |= {"type": "reasoning"}
    gateway = made(policy=None, providers=[Provider("fake", provider.base_url, dialect=dialect)])

    refused = await over_http()(gateway, json.dumps({"model": "m", "input": [item | {member: text}]}).encode())

    assert refused == (400, "invalid_json", f"input[0].{member}")
    assert not provider.requests


async def test_the_values_of_all_strings_are_counted_together(made: Any, provider: FakeProvider) -> None:
    gateway = made(policy=None, providers=[Provider("fake", provider.base_url, dialect="chat")])

    def body(values: int) -> bytes:
        item = {"type": "function_call", "name": "f", "arguments": json.dumps([1] * values)}
        items = [item | {"call_id": f"c{number}"} for number in range(4)]
        return json.dumps({"model": "m", "input": items}).encode()

    assert await over_http()(gateway, body(300)) == (400, "invalid_json", "input[3].arguments")
    assert await over_http()(gateway, body(200)) == (404, None, None)  # of the upstream, which has no chat


@pytest.mark.parametrize("depth", [100, 500, 900, *range(940, 1000, 6)])
@pytest.mark.parametrize("dialect", ["responses", "chat"])
async def test_what_was_said_before_at_any_depth_never_makes_a_request_fail(
    made: Any, provider: FakeProvider, depth: int, dialect: Any
) -> None:
    providers = [Provider("a", provider.base_url), Provider("b", provider.base_url, dialect=dialect)]
    gateway = made(policy=None, providers=providers, tenant=lambda scope: "t", limits=Limits())
    part = b'{"type":"output_text","text":"x","annotations":%b%b}' % (b"[" * depth, b"]" * depth)
    output = b'[{"type":"message","id":"msg_1","role":"assistant","content":[%b]}]' % part
    body = b'{"id":"resp_1","object":"response","status":"completed","model":"m","output":%b}' % output
    provider.script(Reply(body, headers={"content-type": "application/json"}))
    first = await ask(gateway, b'{"provider":"a","model":"m","input":"x"}')
    assert first.status in (200, 502) and first.raised is None

    answer = await ask(gateway, b'{"provider":"b","model":"m","input":"x","previous_response_id":"resp_1"}')

    assert answer.status in (200, 400, 404) and answer.raised is None


async def test_what_is_too_deep_to_be_translated_is_refused_and_not_passed(made: Any, provider: FakeProvider) -> None:
    class Endless(Recording):
        def request(self, call: Call) -> Outgoing:
            return self.request(call)

    gateway = made(policy=None, providers=[Provider("own", provider.base_url, dialect=Endless())])
    for size in (1, LITTLE + 1):
        assert await over_http()(gateway, b'{"model":"m","input":"%b"}' % (b"x" * size)) == (400, "invalid_json", None)
    assert not provider.requests


# Replies...


@contextmanager
def scripted(provider: FakeProvider, body: bytes) -> Iterator[None]:
    provider.script(Reply(body, headers={"content-type": "application/json"}))
    yield
    assert len(provider.requests) == 1


@pytest.mark.parametrize("inside", [of(2000), b"[" * 25 + b"]" * 25 + b" " * 1000], ids=["values", "depth"])
@pytest.mark.parametrize("dialect", ["chat", "anthropic", "gemini", "responses"])
async def test_a_reply_of_which_a_tree_is_built_is_bounded_as_a_body_is(
    made: Any, provider: FakeProvider, dialect: Any, inside: bytes
) -> None:
    options: dict[str, Any] = {"normalize": True} if dialect == "responses" else {}
    gateway = made(policy=None, providers=[Provider("fake", provider.base_url, dialect=dialect, **options)])
    with scripted(provider, json.dumps(RESPONSE).encode()[:-1] + b',"choices":[],"x":%b}' % inside):
        assert await over_http()(gateway, b'{"model":"m","input":"x"}') == (502, "upstream_protocol_error", None)


@pytest.mark.parametrize("inside", [of(2000), b"[" * 25 + b"]" * 25 + b" " * 1000], ids=["values", "depth"])
@pytest.mark.parametrize("dialect", ["chat", "anthropic", "gemini", "responses"])
async def test_an_event_of_which_a_tree_is_built_is_bounded_as_a_body_is(
    made: Any, provider: FakeProvider, dialect: Any, inside: bytes
) -> None:
    options: dict[str, Any] = {"normalize": True} if dialect == "responses" else {}
    gateway = made(policy=None, providers=[Provider("fake", provider.base_url, dialect=dialect, **options)])
    event = b'data: {"type":"response.created","choices":[],"x":%b}\n\n' % inside
    provider.script(Reply(event, headers={"content-type": "text/event-stream"}))

    refused = await over_http()(gateway, b'{"model":"m","input":"x","stream":true}')

    assert refused == (502, "upstream_protocol_error", None)


async def test_a_native_reply_that_becomes_a_stream_is_bounded_too(made: Any, provider: FakeProvider) -> None:
    with scripted(provider, json.dumps(RESPONSE).encode()[:-1] + b',"x":%b}' % of(2000)):
        refused = await over_http()(made(policy=None), b'{"model":"m","input":"x","stream":true}')
    assert refused == (502, "upstream_protocol_error", None)


@pytest.mark.parametrize("size", [0, 2 * MIB, 9 * MIB])
async def test_a_native_reply_passes_whatever_it_holds(made: Any, provider: FakeProvider, size: int) -> None:
    gateway = made(policy=None, limits=Limits(items=20, values=1000, depth=20), stamp=False)
    body = json.dumps(RESPONSE).encode()[:-1] + b',"x":%b,"y":"%b"}' % (of(2000, b"[[]]"), b"y" * size)
    with scripted(provider, body):
        assert (await ask(gateway, b'{"model":"m","input":"x"}')).content == body


@pytest.mark.parametrize("size", [0, 2 * MIB, 9 * MIB])
@pytest.mark.parametrize("end", [b'"\xff"}', b'"x"', b'"x"}}', rb'"\q"}'])
async def test_a_native_reply_that_is_no_json_is_a_502_whatever_its_size(
    made: Any, provider: FakeProvider, size: int, end: bytes
) -> None:
    with scripted(provider, b'{"object":"response","y":"%b","x":%b' % (b"y" * size, end)):
        refused = await over_http()(made(policy=None), b'{"model":"m","input":"x"}')
    assert refused == (502, "upstream_protocol_error", None)


@pytest.mark.parametrize("size", [0, 2 * MIB, 9 * MIB])
async def test_a_failed_native_reply_says_why_whatever_its_size(made: Any, provider: FakeProvider, size: int) -> None:
    error = {"message": "No.", "code": "invalid_prompt"}
    failed = {**RESPONSE, "status": "failed", "error": error, "instructions": "x" * size}
    with scripted(provider, json.dumps(failed).encode()):
        answer = await ask(made(policy=None), b'{"model":"m","input":"x"}')
    assert (answer.status, answer.error["code"]) == (400, "invalid_prompt")


# Steps...

MISSED = 4
"""Turns that the other task may miss, since it is not always its turn first."""


@asynccontextmanager
async def counting() -> Any:
    """Counts the turns that another task has meanwhile."""
    turns = [0]

    async def take() -> None:
        while True:
            await anyio.lowlevel.checkpoint()
            turns[0] += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take)
        await anyio.lowlevel.checkpoint()
        yield turns
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("size", [2 * MIB, 9 * MIB])
async def test_others_have_their_turn_with_each_window_of_a_body(made: Any, door: str, size: int) -> None:
    body = b'{"model":"m","input":"%b"},' % (b"x" * size)
    async with counting() as turns:
        assert await DOORS[door](made(limits=Limits()), body) == (400, "invalid_json", None)
        assert turns[0] >= size // WINDOW - MISSED


async def test_a_small_body_is_opened_without_a_pause() -> None:
    async with counting() as turns:
        before = turns[0]
        await opened(b'{"model":"m","input":"%b"}' % (b"x" * 500_000), Limits())
        assert turns[0] == before


async def test_others_have_their_turn_with_each_window_of_a_reply(made: Any, provider: FakeProvider) -> None:
    size = 9 * MIB
    gateway = made(policy=None)
    from gomodel_asgi.upstream.bodies import examine
    from gomodel_asgi.upstream.unary import outline

    async with counting() as turns:
        before = turns[0]
        await outline(b'{"object":"response","x":"%b"}' % (b"x" * size))
        assert turns[0] - before >= size // WINDOW - MISSED
        before = turns[0]
        await examine(b'{"object":"response","x":"%b"}' % (b"x" * size), gateway.setup.limits)
        assert turns[0] - before >= size // WINDOW - MISSED


class Packed:
    """A reply that has come, compressed, in one piece."""

    status = 200
    headers: Headers = []
    resumable = True

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def read(self, timeout: float) -> bytes:
        body, self.body = self.body, b""
        return body

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize(
    ("body", "steps"),
    [
        (gzip.compress(b" " * 16 * MIB), 16 * MIB // STEP),
        (gzip.compress(b"") * 2000 + gzip.compress(b"x"), 2000),
    ],
    ids=["a bomb", "empty members"],
)
async def test_others_have_their_turn_with_each_step_of_a_compressed_reply(body: bytes, steps: int) -> None:
    reply = decoded(Packed(body), b"gzip", 64 * MIB)
    async with counting() as turns:
        while data := await reply.read(5):
            assert len(data) <= STEP
        assert turns[0] >= steps - MISSED


async def test_what_takes_long_in_python_is_done_in_a_thread() -> None:
    def where() -> int:
        return threading.get_ident()

    assert await beside(LITTLE, where) == threading.get_ident()
    assert await beside(LITTLE + 1, where) != threading.get_ident()

    def refuse() -> None:
        raise InvalidRequest("no")

    with pytest.raises(InvalidRequest):
        await beside(LITTLE + 1, refuse)


class Recording:
    """A dialect whose every event is a piece of text; it keeps in which thread it was called, and for what."""

    name = "recording"

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, bool]] = []

    def note(self, what: str, size: int) -> None:
        self.calls.append((what, size, threading.current_thread() is threading.main_thread()))

    def request(self, call: Call) -> Outgoing:
        self.note("request", len(call.body["input"]))
        return Outgoing("/responses", b"{}")

    def translator(self, call: Call, emitter: Emitter) -> Translator:
        return Words(self, emitter)

    def error(self, status: int, body: bytes) -> GatewayError | None:
        return None


class Words:
    def __init__(self, dialect: Recording, emitter: Emitter) -> None:
        self.dialect = dialect
        self.emitter = emitter

    def feed(self, event: str, data: bytes) -> None:
        self.dialect.note("reply", len(data))
        if not self.emitter.begun:
            self.emitter.begin(None)
        if len(data) > LITTLE or data == b'"the end"':
            self.emitter.complete()

    def close(self) -> None:
        pass


@pytest.mark.parametrize("size", [10, 2 * MIB])
@pytest.mark.parametrize("stream", [True, False])
async def test_large_requests_and_replies_are_translated_beside_the_loop(
    made: Any, provider: FakeProvider, stream: bool, size: int
) -> None:
    dialect = Recording()
    gateway = made(policy=None, limits=Limits(), providers=[Provider("own", provider.base_url, dialect=dialect)])
    data = b'"%b"' % (b"x" * size)
    reply = b'data: "a word"\n\ndata: %b\n\ndata: "the end"\n\n' % data if stream else data
    kind = "text/event-stream" if stream else "application/json"
    provider.script(Reply(reply, headers={"content-type": kind}))

    await ask(gateway, json.dumps({"model": "m", "stream": stream, "input": "x" * size}).encode())

    on_the_loop = {(what, size): here for what, size, here in dialect.calls}
    assert on_the_loop["request", size] is (size == 10)
    assert on_the_loop["reply", size + 2] is (size == 10)


async def test_steps_end_where_the_request_is_cancelled() -> None:
    def endless() -> Any:
        while True:
            yield

    with anyio.move_on_after(0.05) as scope:
        await paced(endless())
    assert scope.cancelled_caught
