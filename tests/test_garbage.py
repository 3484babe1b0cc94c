"""A request frees what it held when it ends, by counting references alone, however it ends.

What only the garbage collector frees stays for minutes under load, with the bodies that it holds: memory that looks
like a leak. An error that is kept is what makes such rings: its traceback holds the frames, and they hold the keeper.
"""

from __future__ import annotations

import json
import socket
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from gomodel_asgi import Limits, RateLimited, Retries, RoutingRequest, Target, tools
from gomodel_asgi.testing import (
    Answer,
    Cut,
    ErrorInside,
    Garbage as NoHttp,
    Html,
    Malformed,
    MalformedEvent,
    NoTerminal,
    Oversize,
    Scripted,
    Stall,
    Status,
    ToolCall,
    Trailing,
)

from .support.driving import TIMEOUT, Caller, ask, scope_of
from .support.exchanges import STREAM, UNARY, nowhere
from .support.garbage import anyio_backend, kind, leaves_nothing, no_collector
from .support.lab import Lab, fakes, lab, until
from .support.scripted_upstream import Peer

__all__ = ["anyio_backend", "fakes", "kind", "lab", "no_collector"]


async def by_model(request: RoutingRequest) -> Target:
    if request.model == "raise":
        raise LookupError("the host's mistake")
    if request.model == "refuse":
        raise RateLimited("No.")
    return request.default()


FAULTS: dict[str, Any] = {
    "none": None,
    "cut in the head": Cut(),
    "cut in the middle": Cut(after_events=2),
    "no HTTP": NoHttp(),
    "bytes after the reply": Trailing(),
    "no JSON": Malformed(),
    "a broken event": MalformedEvent(),
    "no terminal event": NoTerminal(),
    "a page": Html(),
    "an error inside": ErrorInside(),
    "too large": Oversize(size=1 << 20),
    "400": Status(400),
    "401": Status(401),
    "503": Status(503),
}


@pytest.mark.parametrize("body", [UNARY, STREAM], ids=["unary", "stream"])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_whatever_the_upstream_does_nothing_waits_for_the_collector(lab: Lab, fault: Any, body: Any) -> None:
    lab.make(limits=Limits(reply=1 << 19, event=1 << 19))

    async def once() -> None:
        if fault is not None:
            lab.bad.fail_next(fault)
        (await lab.ask(body)).raised = None  # else it would be the caller who keeps the error

    await leaves_nothing(lab, once)


CHAT = [
    b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f"}}]}}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\n\ndata: [DONE]\n\n',
]
MESSAGES = [
    b'data: {"type":"message_start","message":{"id":"m","role":"assistant","content":[],"model":"c"}}\n\n',
    b'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":"Hi"}}\n\n',
    b'data: {"type":"content_block_stop","index":0}\n\n',
    b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\ndata: {"type":"message_stop"}\n\n',
]
NATIVE = [
    b'data: {"type":"response.output_text.delta","output_index":0,"delta":"Hi"}\n\n',
    b'data: {"type":"response.function_call_arguments.delta","output_index":1,"delta":"{}"}\n\n',
    b'data: {"type":"response.completed"}\n\n',
]
CONTENT = [
    b'data: {"candidates":[{"content":{"parts":[{"text":"Hi"}],"role":"model"},"index":0}]}\n\n',
    b'data: {"candidates":[{"content":{"parts":[{"text":"!"}],"role":"model"},"finishReason":"STOP","index":0}]}\n\n',
]


@pytest.mark.parametrize("body", [UNARY, STREAM], ids=["unary", "stream"])
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "cut"])
@pytest.mark.parametrize(
    ("dialect", "events"),
    [("chat", CHAT), ("anthropic", MESSAGES), ("gemini", CONTENT), ("responses", NATIVE)],
)
async def test_nothing_of_a_translated_reply_waits_for_the_collector(
    lab: Lab, dialect: str, events: list[bytes], whole: bool, body: Any
) -> None:
    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            peer.send(*(events if whole else events[:1]))
            peer.sock.shutdown(socket.SHUT_WR)

    lab.make(lab.provider(lab.upstream(script), dialect=dialect, normalize=dialect == "responses"))

    async def once() -> None:
        answer = await lab.ask(body)
        assert (b"upstream_stream_truncated" in answer.content) is not whole

    await leaves_nothing(lab, once, but=("gomodel_asgi.testing",))


async def test_nothing_of_a_retry_waits_for_the_collector(lab: Lab) -> None:
    lab.make(retries=Retries(per_target=2))

    async def once() -> None:
        lab.bad.fail_next(Status(503, retry_after=0))
        assert (await lab.ask(STREAM)).headers["x-gomodel-attempts"] == "2"

    await leaves_nothing(lab, once)


async def test_nothing_of_a_fallback_waits_for_the_collector(lab: Lab) -> None:
    policy = lambda request: Target("bad", fallbacks=[Target("good")])  # noqa: E731
    lab.make(lab.provider(lab.bad), lab.provider(lab.good, "good"), policy=policy)

    async def once() -> None:
        lab.bad.fail_next(ErrorInside())
        assert (await lab.ask(STREAM)).headers["x-gomodel-provider"] == "good"

    await leaves_nothing(lab, once)


async def test_nothing_of_a_connection_that_cannot_be_made_waits_for_the_collector(lab: Lab) -> None:
    lab.make(lab.provider(nowhere(lab)))

    async def once() -> None:
        assert (await lab.ask(UNARY)).status == 502

    await leaves_nothing(lab, once)


async def search(call: tools.Call) -> list[tools.Page]:
    if call.arguments["query"] == "fail":
        raise RuntimeError("the host's mistake")
    if call.arguments["query"] == "hang":
        await anyio.sleep_forever()
    return [tools.Page("https://example.com/", "Rome", "Sunny.")]


def refund(order: str) -> str:
    """Pay an order back."""
    return "Paid."


SEARCH = ToolCall("web_search", {"query": "rome"})
ROUNDS: dict[str, tuple[Any, ...]] = {
    "none": (Answer(calls=[SEARCH]), Answer(text="Sunny ([Rome](https://example.com/)).")),
    "the function raises": (Answer(calls=[ToolCall("web_search", {"query": "fail"})]), Answer(text="No.")),
    "no such function": (Answer(calls=[ToolCall("made_up", {})]), Answer(text="No.")),
    "waits for approval": (Answer(calls=[SEARCH, ToolCall("refund", {"order": "7"})]),),
    "400 in round 2": (Answer(calls=[SEARCH]), Scripted(None, (Status(400),))),
    "cut in round 2": (Answer(calls=[SEARCH]), Scripted(None, (Cut(after_events=0),))),
}
DECLARED = [{"type": "web_search"}, {"type": "mcp", "server_label": "crm"}]
HOSTED: dict[str, Any] = {"tools": [tools.web_search(search), tools.mcp({"crm": [refund]})]}


@pytest.mark.parametrize("body", [UNARY, STREAM], ids=["unary", "stream"])
@pytest.mark.parametrize("rounds", ROUNDS.values(), ids=ROUNDS)
async def test_nothing_of_a_response_of_several_rounds_waits_for_the_collector(
    lab: Lab, rounds: tuple[Any, ...], body: Any
) -> None:
    lab.make(lab.provider(lab.bad, hosted_tools=()), **HOSTED)

    async def once() -> None:
        lab.bad.script(rounds)
        answer = await lab.ask({**body, "tools": DECLARED, "store": False})
        assert answer.status == 200
        answer.raised = None

    await leaves_nothing(lab, once)


async def test_nothing_of_a_client_that_leaves_in_round_2_waits_for_the_collector(lab: Lab) -> None:
    lab.make(lab.provider(lab.bad, hosted_tools=()), **HOSTED)

    async def once() -> None:
        lab.bad.clear()
        lab.bad.script(Answer(calls=[SEARCH]), Scripted(Answer(text="Sunny."), (Stall(after_events=1),)))
        caller = Caller(scope_of(), [json.dumps({**STREAM, "tools": DECLARED}).encode()])
        with anyio.fail_after(TIMEOUT):
            async with anyio.create_task_group() as group:
                group.start_soon(caller.run, lab.gateway)
                await lab.bad.received(2)
                caller.leave()

    await leaves_nothing(lab, once)


@pytest.mark.parametrize("body", [UNARY, STREAM], ids=["unary", "stream"])
async def test_nothing_of_a_client_that_leaves_while_tools_run_waits_for_the_collector(lab: Lab, body: Any) -> None:
    lab.make(lab.provider(lab.bad, hosted_tools=()), **HOSTED)

    async def once() -> None:
        lab.bad.clear()
        lab.bad.script(Answer(calls=[ToolCall("web_search", {"query": "hang"})]))
        caller = Caller(scope_of(), [json.dumps({**body, "tools": DECLARED}).encode()])
        with anyio.fail_after(TIMEOUT):
            async with anyio.create_task_group() as group:
                group.start_soon(caller.run, lab.gateway)
                await lab.bad.received(1)
                await lab.bad.requests[0].answered.wait()
                caller.leave()

    await leaves_nothing(lab, once)


REFUSED = {
    "no JSON": b'{"model": "gpt-5", ',
    "a wrong type": b'{"model": 7}',
    "the policy raises": json.dumps({**UNARY, "model": "raise"}).encode(),
    "the policy refuses": json.dumps({**UNARY, "model": "refuse"}).encode(),
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
async def test_nothing_of_a_request_that_is_refused_waits_for_the_collector(lab: Lab, body: bytes) -> None:
    lab.make(policy=by_model)

    async def once() -> None:
        answer = await ask(lab.gateway, body)
        assert answer.status != 200
        answer.raised = None

    await leaves_nothing(lab, once)


async def test_nothing_of_a_client_that_leaves_waits_for_the_collector(lab: Lab) -> None:
    lab.make()

    async def once() -> None:
        lab.bad.fail_next(Stall(after_events=4))
        caller = Caller(scope_of(), [json.dumps(STREAM).encode()])
        with anyio.fail_after(TIMEOUT):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(caller.run, lab.gateway)
                await caller.until(2)
                caller.leave()

    await leaves_nothing(lab, once)


@pytest.mark.parametrize("most", [20, 0], ids=["goes on", "ends"])
async def test_nothing_of_a_background_stream_whose_client_leaves_waits_for_the_collector(lab: Lab, most: int) -> None:
    lab.make(limits=Limits(tenant_abandoned=most))

    async def once() -> None:
        lab.bad.fail_next(Stall(after_events=4))
        caller = Caller(scope_of(), [json.dumps({**STREAM, "background": True}).encode()])
        with anyio.fail_after(TIMEOUT):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(caller.run, lab.gateway)
                await caller.until(2)
                caller.leave()
                await lab.release(lambda: not lab.gateway.in_flight.watches)

    await leaves_nothing(lab, once)


@pytest.mark.parametrize("tenant_concurrency", [None, 1])
async def test_nothing_of_background_work_waits_for_the_collector(lab: Lab, tenant_concurrency: int | None) -> None:
    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            peer.send(*CHAT)
            peer.sock.shutdown(socket.SHUT_WR)

    lab.make(
        lab.provider(lab.upstream(script), dialect="chat"),
        limits=Limits(tenant_concurrency=tenant_concurrency),
        tenant=lambda scope: "a",
    )

    async def once() -> None:
        for _ in range(3):
            assert (await lab.ask({**UNARY, "background": True})).status == 200
        await until(lambda: not lab.gateway.state.tasks._running)

    await leaves_nothing(lab, once, but=("gomodel_asgi.testing",))
