"""The fake provider: a model provider for tests and demos, with nothing of the network faked but the model.

    async with FakeProvider().serve() as provider:          # asyncio or trio
        gateway = Gateway(providers=[Provider("fake", provider.base_url)])

    with FakeProvider().run_in_thread() as provider:         # anywhere else
        ...

It is an ASGI app too, for any ASGI server or client. What only a socket can do (`Garbage`, `Trailing`, `Reply.raw`, a
broken chunk) then becomes a connection that the server breaks off.
"""

from __future__ import annotations

import hmac
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Self

import anyio
from starlette.types import Receive, Scope, Send

from .api import Api
from .asgi import received, send_plan
from .faults import Fault
from .journal import ReceivedRequest
from .plan import Body, Pause, Plan
from .refusals import Refused
from .replies import Answer, Reply
from .server import Server
from .signals import Signal


@dataclass(frozen=True, slots=True)
class Scripted:
    """What happens to one request: it gets *reply* (None: what the provider would say anyway), with *faults* in it."""

    reply: Reply | Answer | None = None
    faults: tuple[Fault, ...] = ()


class FakeProvider:
    """Speaks the whole Responses API, below any path, and does as it is told.

    *name* goes into every id, so that two of them never issue the same. *api_key* refuses, with 401, requests that do
    not carry it (`Authorization: Bearer`, `api-key` or `x-api-key`), and quotes what they carry, as some providers do.
    *pace* is the pause in seconds before each event of a stream, for people who watch.
    """

    def __init__(self, *, name: str = "fake", api_key: str | None = None, pace: float = 0.0) -> None:
        self.name = name
        self.pace = pace
        self.requests: list[ReceivedRequest] = []
        """The journal: every request received whole, in order."""
        self._api_key = api_key
        self._base_url: str | None = None
        self._api = Api(name)
        self._queue: deque[Scripted] = deque()
        self._released = Signal()
        self._expected: deque[tuple[int, Signal]] = deque()
        self._server = Server(self._handle, lambda: self._released)

    # Scripting...

    def script(self, *steps: Reply | Answer | Scripted | Iterable[Reply | Answer | Scripted]) -> None:
        """Queue what the next requests get, one step each; what comes after them is answered as usual."""
        for step in steps:
            if isinstance(step, Scripted):
                self._queue.append(step)
            elif isinstance(step, Reply | Answer):
                self._queue.append(Scripted(step))
            else:
                self.script(*step)

    def fail_next(self, *faults: Fault) -> None:
        """Queue one request that goes wrong; several *faults* all happen to it, in this order."""
        self._queue.append(Scripted(None, faults))

    def release(self) -> None:
        """Let every reply that has been begun go on past its `Stall`; later requests stall anew."""
        released, self._released = self._released, Signal()
        released.set()

    def clear(self) -> None:
        """Forget the journal, the queue, all stored responses and conversations."""
        self.requests.clear()
        self._queue.clear()
        self._api = Api(self.name)

    # Watching...

    async def received(self, count: int = 1) -> ReceivedRequest:
        """Wait until *count* requests have come in all, and give the last of these; bound it with `fail_after`."""
        arrived = Signal()
        self._expected.append((count, arrived))
        self._announce()
        try:
            await arrived.wait()
        finally:
            self._expected.remove((count, arrived))
        return self.requests[count - 1]

    @property
    def pending(self) -> int:
        """Scripted steps that no request has used up yet."""
        return len(self._queue)

    @property
    def connections(self) -> int:
        """Connections accepted so far."""
        return self._server.connections

    @property
    def open_connections(self) -> int:
        """Connections open now."""
        return self._server.open_connections

    # Serving...

    @property
    def base_url(self) -> str:
        """Where it is served: `http://127.0.0.1:<port>/v1`.

        :raises RuntimeError: it is not being served.
        """
        if self._base_url is None:
            raise RuntimeError("FakeProvider is not being served: use serve() or run_in_thread()")
        return self._base_url

    @asynccontextmanager
    async def serve(self, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Self]:
        """Serve on a real socket while the block lasts, by default on loopback and a free port."""
        if self._base_url is not None:
            raise RuntimeError("FakeProvider is being served already")
        async with self._server.listen(host, port) as bound:
            self._base_url = f"http://{f'[{host}]' if ':' in host else host}:{bound}/v1"
            try:
                yield self
            finally:
                self._base_url = None

    @contextmanager
    def run_in_thread(self, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[Self]:
        """Serve from a thread of its own while the block lasts, for hosts without an event loop."""
        ready, stop, failures = Signal(), Signal(), deque[BaseException]()

        async def main() -> None:
            async with self.serve(host=host, port=port):
                ready.set()
                await stop.wait()

        def run() -> None:
            try:
                anyio.run(main)
            except BaseException as exc:  # raised again in the thread that waits
                failures.append(exc)
            finally:
                ready.set()

        thread = threading.Thread(target=run, name=f"FakeProvider {self.name}", daemon=True)
        thread.start()
        ready.wait_in_thread(10)
        try:
            if not failures:
                yield self
        finally:
            stop.set()
            thread.join(10)
            if failures:
                raise failures[0]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI app."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            request = await received(scope, receive)
            if request is not None:
                await send_plan(request, self._handle(request), self._released, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    # Answering...

    def _handle(self, request: ReceivedRequest) -> Plan:
        self.requests.append(request)
        self._announce()
        try:
            scripted = self._queue.popleft()
        except IndexError:
            scripted = Scripted()
        try:
            plan = self._natural(request, scripted.reply)
        except Refused as refused:
            plan = refused.plan
        return self._identified(_with_faults(self._paced(plan), scripted.faults))

    def _natural(self, request: ReceivedRequest, reply: Reply | Answer | None) -> Plan:
        if isinstance(reply, Reply):
            return reply.plan()
        self._authenticate(request)
        return self._api.answer(request, reply)

    def _authenticate(self, request: ReceivedRequest) -> None:
        if self._api_key is None:
            return
        bearer = (request.header("authorization") or "").removeprefix("Bearer ")
        given = bearer or request.header("api-key") or request.header("x-api-key") or ""
        if not hmac.compare_digest(given.encode(), self._api_key.encode()):
            raise Refused(401, f"Incorrect API key provided: {given}.", code="invalid_api_key")

    def _paced(self, plan: Plan) -> Plan:
        if not self.pace or not plan.streamed:
            return plan
        paced = [(Pause(self.pace), step) if isinstance(step, Body) else (step,) for step in plan.steps]
        return replace(plan, steps=tuple(step for steps in paced for step in steps))

    def _identified(self, plan: Plan) -> Plan:
        head = plan.head
        if head is None or any(name == b"x-request-id" for name, _ in head.headers):
            return plan
        request_id = b"req_%s%08x" % (self.name.encode(), len(self.requests))
        return plan.with_head(replace(head, headers=(*head.headers, (b"x-request-id", request_id))))

    def _announce(self) -> None:
        for count, arrived in tuple(self._expected):
            if len(self.requests) >= count and not arrived.is_set():
                arrived.set()

    def __repr__(self) -> str:
        return f"<FakeProvider {self.name} {self._base_url or 'not served'}, {len(self.requests)} requests>"


def _with_faults(plan: Plan, faults: Iterable[Fault]) -> Plan:
    """*plan* with *faults*; where they do not fit it, a reply that says so."""
    try:
        for fault in faults:
            plan = fault.apply(plan)
    except ValueError as exc:
        return Reply({"error": {"message": f"The script cannot be played: {exc}."}}, 500).plan()
    return plan


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
