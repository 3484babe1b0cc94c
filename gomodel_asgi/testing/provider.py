"""The fake provider: a model provider for tests and demos, with nothing of the network faked but the model.

    async with FakeProvider().serve() as provider:          # asyncio or trio
        gateway = Gateway(providers=[Provider("fake", provider.base_url)])

    with FakeProvider().run_in_thread() as provider:         # anywhere else
        ...

It is an ASGI app too, for any ASGI server or client. What only a socket can do (`Garbage`, `Trailing`, `Reply.raw`, a
broken chunk) then becomes a connection that the server breaks off.

A request walks: journal → script (what is said, which faults) → API of the dialect (path, key, rules, the model's
answer as a plan) → faults, which rewrite the plan → server, which plays it.
"""

from __future__ import annotations

import hmac
import json
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Literal, Self

import anyio
from starlette.types import Receive, Scope, Send

from .api import Api, Refused, Settings
from .faults import Fault
from .model import Model, Prompt, check_shown, default_answer
from .plan import JSON, Answer, Body, Pause, Plan, Reply, Unplayable, encoded, unary
from .received import ReceivedRequest, Signal
from .server import Server, received, send_plan
from .wire import Failure, Wire

Dialect = Literal["responses", "chat", "anthropic", "gemini"]
Output = Reply | Answer | Model

APIS: dict[Dialect, str] = {
    "responses": "ResponsesApi",
    "chat": "ChatApi",
    "anthropic": "AnthropicApi",
    "gemini": "GeminiApi",
}
"""The class of each dialect, in the module of its name."""


@dataclass(frozen=True, slots=True)
class Scripted:
    """What happens to one request: it gets *reply* (None: what the provider would say anyway), with *faults* in it."""

    reply: Output | None = None
    faults: tuple[Fault, ...] = ()


class FakeProvider:
    """A model provider that speaks one *dialect*, below any path, and does what a test scripts.

    *name* goes into every id, so that two of them never issue the same. *api_key* refuses requests that do not carry
    it, as the API does, and quotes what they carry, as some providers do. *models* are those that it lists and has;
    none means that it has every model, and lists `fake-model`. *model* says what is not scripted: a function of the
    `Prompt`, by default one that repeats what the user said. *pace* is the pause in seconds before each event of a
    stream, for people who watch.

    The dialects refuse what their APIs refuse (`docs/testing.md` has the list). *strict* adds what OpenAI itself
    refuses where others who speak its dialects do not, *template* what the chat templates of open models refuse.
    """

    def __init__(
        self,
        *,
        dialect: Dialect = "responses",
        name: str = "fake",
        api_key: str | None = None,
        models: Iterable[str] = (),
        model: Model = default_answer,
        strict: bool = False,
        template: bool = False,
        pace: float = 0.0,
    ) -> None:
        """See the class.

        :raises ValueError: *dialect* is unknown.
        """
        if dialect not in APIS:
            raise ValueError(f"dialect: use one of {', '.join(APIS)}.")
        self.dialect = dialect
        self.name = name
        self.pace = pace
        self.requests: list[ReceivedRequest] = []
        """The journal: every request received whole, in order."""
        self._settings = Settings(name=name, models=tuple(models), strict=strict, template=template)
        self._api_key = api_key
        self._model = model
        self._origin: str | None = None
        self._api = self._new_api()
        self._failures: list[Exception] = []
        self._queue: deque[Scripted] = deque()
        self._released = Signal()
        self._expected: deque[tuple[int, Signal]] = deque()
        self._server = Server(self.planned, lambda: self._released)

    # Scripting...

    def script(self, *steps: Output | Scripted | Iterable[Output | Scripted]) -> None:
        """Queues what the next requests get, one step each; what comes after them is answered as usual.

        A step may be a function of the `Prompt` that gives the `Answer`: for replies that depend on what was sent. An
        exception in it (a failed assertion), or an `Answer` that was *shown* something else, is a 500 to the client,
        and is raised again when serving ends.
        """
        for step in steps:
            if isinstance(step, Scripted):
                self._queue.append(step)
            elif isinstance(step, Reply | Answer) or callable(step):
                self._queue.append(Scripted(step))
            else:
                self.script(*step)

    def fail_next(self, *faults: Fault) -> None:
        """Queues one request that goes wrong; several *faults* all happen to it, in this order."""
        self._queue.append(Scripted(None, faults))

    def release(self) -> None:
        """Lets every reply that has been begun go on past its `Stall`; later requests stall anew."""
        released, self._released = self._released, Signal()
        released.set()

    def clear(self) -> None:
        """Forgets the journal, the queue, failures of scripted functions, all stored responses and conversations."""
        self.requests.clear()
        self._queue.clear()
        self._failures.clear()
        self._api = self._new_api()

    # Watching...

    async def received(self, count: int = 1) -> ReceivedRequest:
        """Waits until *count* requests have come in all, and returns the last of these. Bound it with `fail_after`."""
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
        """What a `Provider` takes as its base URL: `http://127.0.0.1:<port>/v1`, for Gemini `…/v1beta`.

        :raises RuntimeError: it is not being served.
        """
        return self.origin + self._api.root

    @property
    def origin(self) -> str:
        """Where it is served, without a path: what the SDKs of Anthropic and Google take as their base URL.

        :raises RuntimeError: it is not being served.
        """
        if self._origin is None:
            raise RuntimeError("FakeProvider is not being served: use serve() or run_in_thread()")
        return self._origin

    @asynccontextmanager
    async def serve(self, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Self]:
        """Serves on a real socket while the block lasts, by default on loopback and a free port.

        :raises Exception: what a scripted function raised meanwhile.
        """
        if self._origin is not None:
            raise RuntimeError("FakeProvider is being served already")
        async with self._server.listen(host, port) as bound:
            self._origin = f"http://{f'[{host}]' if ':' in host else host}:{bound}"
            try:
                yield self
            finally:
                self._origin = None
        for failure in self._failures:
            raise failure

    @contextmanager
    def run_in_thread(self, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[Self]:
        """Serves from a thread of its own while the block lasts, for hosts without an event loop.

        :raises OSError: the address cannot be listened on.
        :raises BaseException: whatever the server raised in its thread.
        """
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
                await send_plan(request, self.planned(request), self._released, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    # Answering...

    def _new_api(self) -> Api:
        module = import_module(f".{self.dialect}", __package__)
        api: Api = getattr(module, APIS[self.dialect])(self._settings)
        return api

    @property
    def failures(self) -> tuple[Exception, ...]:
        """What scripted functions have raised."""
        return tuple(self._failures)

    def planned(self, request: ReceivedRequest) -> Plan:
        """Returns what *request* gets, and notes it in the journal."""
        self.requests.append(request)
        self._announce()
        try:
            scripted = self._queue.popleft()
        except IndexError:
            scripted = Scripted()
        wire = self._api.wire(request, f"req_{self.name}{len(self.requests):08x}")
        try:
            plan = replace(self._natural(request, scripted.reply, wire), wire=wire)
            for fault in scripted.faults:
                plan = fault.apply(plan)
        except ValueError as error:
            plan = failed(wire, Failure(status=500, message=f"The script cannot be played: {error}."))
        return _identified(plan, wire)

    def _natural(self, request: ReceivedRequest, output: Output | None, wire: Wire) -> Plan:
        if isinstance(output, Reply):
            return output.plan()
        try:
            self._authenticate(request)
            return self._paced(self._api.answer(request, self._model_for(output)))
        except Refused as refused:
            return failed(wire, refused.failure)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            # No rule names this shape, and what reads the request has stumbled over it.
            return failed(wire, Failure(status=400, message=f"The request is malformed: {error!r}"))

    def _model_for(self, output: Answer | Model | None) -> Model:
        """Returns the model for one request."""

        def ask(prompt: Prompt) -> Answer:
            try:
                answer = output if isinstance(output, Answer) else (output or self._model)(prompt)
                check_shown(prompt, answer)
                return answer
            except Exception as error:
                self._failures.append(error)
                raise Unplayable(f"it raised {type(error).__name__}: {error}") from error

        return ask

    def _authenticate(self, request: ReceivedRequest) -> None:
        """Checks the key, if the provider has one.

        :raises Refused: it is wrong or missing.
        """
        given = self._api.key(request)
        if self._api_key is not None and not hmac.compare_digest(given.encode(), self._api_key.encode()):
            raise self._api.wrong_key(given)

    def _paced(self, plan: Plan) -> Plan:
        if not self.pace or not plan.streamed:
            return plan
        paced = [(Pause(self.pace), step) if isinstance(step, Body) else (step,) for step in plan.steps]
        return replace(plan, steps=tuple(step for steps in paced for step in steps))

    def _announce(self) -> None:
        for count, arrived in tuple(self._expected):
            if len(self.requests) >= count and not arrived.is_set():
                arrived.set()

    def __repr__(self) -> str:
        served = self._origin or "not served"
        return f"<FakeProvider {self.name} {self.dialect} {served}, {len(self.requests)} requests>"


def failed(wire: Wire, failure: Failure) -> Plan:
    """Returns an error status, in the form of the API."""
    return unary(failure.status, JSON, json.dumps(wire.error(failure)).encode())


def _identified(plan: Plan, wire: Wire) -> Plan:
    """Returns *plan* with the headers that every reply of the API has."""
    headers = () if plan.head is None else plan.head.headers
    names = {name for name, _ in headers}
    missing = tuple(header for header in encoded(wire.headers) if header[0] not in names)
    return plan.with_headers((*headers, *missing)) if missing else plan


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
