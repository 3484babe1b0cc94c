"""Clients that read slowly or not at all, and bytes that no server would let through: the app driven by hand."""

from __future__ import annotations

import hashlib
import json
import threading
from typing import Any

import anyio
import pytest

from gomodel_asgi import Timeouts
from gomodel_asgi.testing import Stall

from ..support.driving import JSON, TIMEOUT, Caller, encoded, scope_of
from ..support.exchanges import EVENTS, STREAM, UNARY
from ..support.lab import Lab, anyio_backend, fakes, kind, lab, until
from ..support.scripted_upstream import Peer

__all__ = ["anyio_backend", "fakes", "kind", "lab"]

DELTA = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"%s"}\n\n'
KERNEL = 16 << 20
"""More than the kernel's buffers on both sides of a connection hold, far less than what the upstream wants to send."""


async def test_a_client_that_does_not_read_stops_the_upstream_and_then_gets_everything(lab: Lab) -> None:
    stuck = threading.Event()
    sent = 0
    events = [*EVENTS[:4], *(DELTA % (b"%06d" % number * 1000) for number in range(10_000)), *EVENTS[4:]]

    def script(peer: Peer) -> None:
        nonlocal sent
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        peer.sock.settimeout(0.3)
        for event in events:
            at = 0
            while at < len(event):
                try:
                    at += peer.sock.send(event[at:])
                except TimeoutError:
                    stuck.set()
            sent += len(event)

    lab.make(lab.provider(lab.upstream(script)), stamp=False)
    caller = Caller(scope_of(), [encoded(STREAM)], stalled=anyio.Event())

    with anyio.fail_after(2 * TIMEOUT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.run, lab.gateway)
            await until(stuck.is_set)
            assert sent < KERNEL < sum(map(len, events))
            assert len(caller.content) <= 1 << 20
            assert caller.stalled is not None
            caller.stalled.set()

    assert hashlib.sha256(caller.content).digest() == hashlib.sha256(b"".join(events)).digest()


async def test_a_write_that_stalls_for_too_long_ends_both_sides(lab: Lab) -> None:
    lab.make(timeouts=Timeouts(stalled_client=0.2))
    lab.bad.fail_next(Stall(after_events=4))
    caller = Caller(scope_of(), [encoded(STREAM)], stalled=anyio.Event())

    with anyio.fail_after(TIMEOUT):
        await caller.run(lab.gateway)
        await lab.bad.requests[0].disconnected.wait()

    assert not caller.complete


async def test_a_silent_stream_has_heartbeats_between_its_events_that_clients_ignore(lab: Lab) -> None:
    lab.make(timeouts=Timeouts(heartbeat=0.05), stamp=False)
    lab.bad.fail_next(Stall(after_events=4))
    caller = Caller(scope_of(), [encoded(STREAM)])

    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.run, lab.gateway)
            await until(lambda: caller.content.count(b": heartbeat\n\n") >= 2)
            await lab.release(lambda: caller.complete)

    assert caller.events()[-1]["type"] == "response.completed"
    assert all(piece.endswith(b"\n\n") for piece in caller.pieces)


async def test_no_heartbeat_comes_before_the_status_line(lab: Lab) -> None:
    lab.make(timeouts=Timeouts(heartbeat=0.02, first_event=0.3))
    lab.bad.fail_next(Stall())

    answer = await lab.ask(STREAM)

    assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")


INJECTED = {"CRLF": b"a\r\nx-evil: 1", "LF": b"a\nb", "NUL": b"a\0b", "100 kB": b"x" * 100_000, "latin-1": b"\xe9"}


@pytest.mark.parametrize("value", INJECTED.values(), ids=INJECTED)
async def test_what_no_header_may_hold_never_gets_into_one(
    lab: Lab, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    lab.make()
    text = value.decode("latin-1")
    carriers: list[dict[str, Any]] = [
        {"headers": [JSON, (b"x-request-id", value)]},
        {"headers": [JSON, (b"x-gomodel-provider", value)]},
        {"headers": [JSON, (b"openai-beta", value)]},
        {"headers": [JSON, (b"idempotency-key", value)]},
        {"query": b"beta=" + value[:1000]},  # servers take no request line of 64 kB
        {"path": f"/v1/responses/{text}", "method": "GET"},
    ]
    answers = [await lab.ask(UNARY, **carrier) for carrier in carriers]
    answers.append(await lab.ask(json.dumps({**UNARY, "model": text})))
    answers.append(await lab.ask(json.dumps({**UNARY, "provider": text})))

    assert {answer.status for answer in answers} <= {200, 400, 404}
    for answer in answers:
        assert answer.raised is None
        for name, field in answer.messages[0]["headers"]:
            assert value not in field and not set(name + field) & set(b"\r\n\0")
    for request in lab.bad.requests:
        assert request.path == "/v1/responses"
        assert not any(value in field for _, field in request.headers)
    assert "x-evil" not in caplog.text
