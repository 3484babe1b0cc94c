"""One HTTP request for one of our paths: opened, dispatched, answered, whatever happens.

Two phases with one rule each. Before the status line every failure becomes an error response; after it a failure is an
event in the stream, or breaks the connection off where that is no longer possible. What the host's own code raised is
raised again once the client has its answer.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import Any, Literal, Protocol

import msgspec
from msgspec import Struct
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..errors import GatewayError, GatewayFault, PolicyFailed, ServerShutdown
from ..exchange.job import Setup
from ..exchange.reply import Failed, Reply
from ..observers import Trace
from ..operations import BODIED
from ..pipeline import Inbound, TenantOf, answer, tenant_of
from ..resilience.concurrency import Allowance
from ..seams.store import Store
from ..settings import Limits, Timeouts
from ..transport.slots import ConnectionLimit
from ..upstream.stream import detached
from ..wire.headers import ATTEMPTS, CACHE, HINT, Headers, cache_header, read, request_id
from ..wire.json_body import Envelope
from ..wire.json_pieces import SMALL
from .body import STARLETTE_LIMIT, ClientDisconnected, check_content_type, limit_of, opened, read_body
from .delivery import Delivery
from .disconnect import Reason, Watch, watch
from .drain import Absence, InFlight
from .paths import Route, agreed, check_id, split_query


class Served(Protocol):
    """What the server needs of the gateway that it serves."""

    setup: Setup
    tenant: TenantOf | None
    store: Store
    expose_timing: bool
    in_flight: InFlight
    abandoned: Allowance
    connections: ConnectionLimit

    def trace(self, scope: Scope | None = None) -> Trace | None:
        """A trace for one exchange, whose request has this *scope*, where anybody wants to know of it."""

    async def list_models(self, setup: Setup, inbound: Inbound, tenant: str | None, name: str | None) -> Reply:
        """Returns the list of models, or the one called *name*.

        :raises GatewayError: it is refused, or there is no such model.
        """


class Handler(Struct, eq=False):
    """Answers one request. *raised* is the exception that the host gets once the client has been answered."""

    gateway: Served
    setup: Setup
    trace: Trace | None
    route: Route
    scope: Scope
    receive: Receive
    request_id: str = ""
    raised: BaseException | None = None
    absence: Absence | None = None
    """Set for a background request, which may go on after its client has left."""
    delivery: Delivery | None = None

    async def serve(self, send: Send, reply: Reply | None = None) -> None:
        """Serves the request, from its body to the reply's last byte; with a *reply* from `prepared`, only sends that.

        :raises Exception: what the host's own code raised.
        """
        inbound = None
        if reply is None:
            try:
                inbound = await self._opened()
            except (ClientDisconnected, GatewayError) as error:
                reply = await self._unopened(error)
                if reply is None:
                    return
        absence = self.absence
        guard = watch(self.receive, None if absence is None else absence.goes_on, self.gateway.in_flight.watches)
        try:
            async with guard:
                if inbound is not None:
                    reply = await self._dispatched(inbound)
                assert reply is not None
                await self._sent(reply, send, guard)
            if guard.reason == "shutdown":
                await self._shut(send)
        finally:
            if (held := self._over(guard)) is not None:
                await held.aclose()
            if self.trace is not None:
                self._end_trace(guard.reason)
        if self.raised is not None:
            try:
                raise self.raised
            finally:
                self.raised = None  # its traceback holds us from here on

    async def prepared(self) -> Reply | None:
        """Returns the reply, ready to be sent; None where the client has gone."""
        try:
            inbound = await self._opened()
        except (ClientDisconnected, GatewayError) as error:
            return await self._unopened(error)
        reply: Reply | None = None
        absence = self.absence
        guard = watch(self.receive, None if absence is None else absence.goes_on, self.gateway.in_flight.watches)
        try:
            async with guard:
                reply = await self._dispatched(inbound)
        finally:
            if (held := self._over(guard)) is not None:
                await held.aclose()
            if reply is None and guard.reason != "shutdown":
                self._end_trace(guard.reason)
        return failed(ServerShutdown()) if reply is None and guard.reason == "shutdown" else reply

    # How a request is opened...

    async def _unopened(self, error: ClientDisconnected | GatewayError) -> Reply | None:
        """Returns the reply to a request that was refused before it was opened; None where its client has left."""
        if self.trace is not None:
            with suppress(GatewayError):  # which each request that gets further raises
                self.trace.know(tenant=await tenant_of(self.scope, self.gateway.tenant))
        if isinstance(error, GatewayError):
            return failed(error)
        self._end_trace("gone")
        return None

    async def _opened(self) -> Inbound:
        """Returns the request as it came, its headers and ids checked.

        :raises ServerShutdown: the gateway takes no more requests.
        """
        scope = self.scope
        raw: Headers = scope["headers"]
        headers = read(raw)
        self.request_id = request_id(headers.get(b"x-request-id"))
        if self.gateway.in_flight.draining:
            raise ServerShutdown()
        operation = self.route.methods.get(scope["method"]) or self.route.operation(scope["method"])
        if self.trace is not None:
            self.trace.know(request_id=self.request_id, operation=operation)
        if self.route.response_id is not None:
            check_id(self.route.response_id)
            check_id(self.route.item_id)
        if operation in BODIED:
            if headers.get(b"content-type") != b"application/json" or b"content-encoding" in headers:
                check_content_type(headers)
            limits = self.setup.limits
            most = limit_of(scope, limits.body) if STARLETTE_LIMIT in scope else limits.body
            body = await read_body(self.receive, headers, most, self.setup.timeouts.body)
            envelope = Envelope.parse(body, limits) if len(body) <= SMALL else await opened(body, limits)
        else:
            envelope = Envelope.empty()
        if operation == "create" and envelope.names_state and envelope.flag("background"):
            self.absence = Absence(self.gateway.abandoned, self.setup.limits.tenant_abandoned)
        raw_query = scope.get("query_string", b"")
        query, hints = split_query(raw_query) if raw_query else ("", [])
        named = raw if HINT in headers else ()
        return Inbound(
            operation=operation,
            envelope=envelope,
            hint=agreed(envelope.hint, named, hints) if named or hints or envelope.hint else None,
            scope=scope,
            request_id=self.request_id,
            headers=headers,
            query=query,
            response_id=self.route.response_id,
            item_id=self.route.item_id,
            trace=self.trace,
        )

    # How it is answered...

    async def _dispatched(self, inbound: Inbound) -> Reply:
        try:
            known = self.gateway.tenant is not None or "user" in self.scope
            tenant = await tenant_of(self.scope, self.gateway.tenant) if known else None
            if self.trace is not None:
                self.trace.know(tenant=tenant)
            if self.absence is not None:
                self.absence.identify(tenant)
            if inbound.operation == "models":
                return await self.gateway.list_models(self.setup, inbound, tenant, self.route.model)
            return await answer(self.setup, inbound, tenant)
        except GatewayError as error:
            if isinstance(error, PolicyFailed):
                self.raised = error.__cause__
            return failed(error)
        except Exception as error:
            self.raised = error
            return failed(GatewayFault("The gateway failed to handle this request."))

    def _sent(self, reply: Reply, send: Send, guard: Watch) -> Awaitable[None]:
        if self.absence is not None:
            send = self.absence.sending(reply, send)
            if self.absence.left and self.absence.follows:
                guard.stop("gone")
        self.delivery = Delivery(reply, send, self._headers(reply), self.setup.timeouts)
        return self.delivery.run(guard)

    async def _shut(self, send: Send) -> None:
        """Ends a stream that has begun in band, or answers 503: the server is shutting down."""
        if self.delivery is not None:
            if self.delivery.started:
                return await self.delivery.last_words()
            await self.delivery.reply.aclose()
        reply = failed(ServerShutdown())
        self.delivery = Delivery(reply, send, self._headers(reply), self.setup.timeouts)
        await self.delivery.run(watch(None))

    def _headers(self, reply: Reply) -> Headers:
        self.request_id = self.request_id or request_id(None)
        headers = [(b"x-request-id", self.request_id.encode("ascii")), *reply.raw_headers]
        if self.setup.cache is not None:
            headers += cache_header(self.route.methods.get(self.scope["method"]), headers)
        if self.trace is not None and self.gateway.expose_timing and (timing := self.trace.timing()):
            headers.append((b"server-timing", timing))
        if isinstance(reply, Failed) and reply.error.closes and self.scope.get("http_version", "1.1") < "2":
            headers.append((b"connection", b"close"))  # RFC 9112, 9.6; where HTTP/2 ends a stream it has no such header
        return headers

    def _end_trace(self, reason: Reason | None) -> None:
        """Ends the trace; *reason* is why the request was stopped, None where it was not."""
        if self.trace is None:
            return
        if not self.trace.context.request_id:
            self.trace.know(request_id=self.request_id)
        why = end_of(reason, sys.exception())
        if self.delivery is None:
            return self.trace.end(None, why)
        reply = self.delivery.reply
        if isinstance(reply, Failed):
            self.trace.failed(reply.error)
        if self.delivery.done and reply.stream is None:
            self.trace.sent(reply.body or b"")
        self.trace.end(reply.status if self.delivery.started else None, None if self.delivery.has_all else why)

    def _over(self, guard: Watch) -> Reply | None:
        """Takes the request out of those in flight. Returns the reply, where it still has to be closed."""
        in_flight = self.gateway.in_flight
        in_flight.watches.discard(guard)
        if in_flight.empty is not None:
            in_flight.check_empty()
        if self.absence is not None:
            self.absence.over()
        reply = None if self.delivery is None else self.delivery.reply
        return reply if reply is not None and (reply.stream is not None or reply.closing) else None


async def inbound_of(body: bytes | str | Mapping[str, Any], scope: Scope | None, limits: Limits) -> Inbound:
    """Returns a request for a response that the host's own code makes, perhaps for one of its clients (*scope*).

    :raises InvalidRequest: *body* or a hint is malformed.
    :raises ProviderConflict: two hints disagree.
    """
    raw = body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else msgspec.json.encode(body)
    envelope = await opened(raw, limits)
    scope = {"type": "http", "headers": [], "state": {}} if scope is None else scope
    given = scope.get("headers", ())
    headers = read(given)
    _, hints = split_query(scope.get("query_string", b""))
    hint = agreed(envelope.hint, given, hints)
    return Inbound("create", envelope, hint, scope, request_id(headers.get(b"x-request-id")), headers)


def end_of(reason: Reason | None, error: BaseException | None) -> Literal["gone", "stalled", "cancelled"]:
    """Returns why a client did not get all; where `send` has failed, it is gone."""
    if reason is None or reason == "shutdown":
        return "gone" if isinstance(error, Exception) else "cancelled"
    return reason


def failed(error: GatewayError) -> Reply:
    """Returns *error* as a reply."""
    headers: Headers = [(b"content-type", b"application/json"), *error.headers()]
    if error.should_retry is not None:
        headers = [header for header in headers if header[0] != b"x-should-retry"]
        headers.append((b"x-should-retry", b"true" if error.should_retry else b"false"))
    if error.attempts:
        headers.append((ATTEMPTS, b"%d" % error.attempts))
    if error.cache is not None:
        headers.append((CACHE, error.cache.encode()))
    return Failed(status=error.status, raw_headers=headers, body=error.body(), error=detached(error))


# Replies as Starlette responses, for the host's own routes...


class ReplyResponse(Response):
    """Sends a `Reply` to a request of the host's own code, streaming where it streams."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.status_code = reply.status
        self.background = None
        self.raw_headers = list(reply.raw_headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        delivery = Delivery(self.reply, send, self.raw_headers, Timeouts())
        guard = watch(receive)
        try:
            async with guard:
                await delivery.run(guard)
        finally:
            await self.reply.aclose()
        if self.background is not None:
            await self.background()


Reply.make_response = ReplyResponse


class EndpointResponse(Response):
    """What `gateway.endpoint` answers: the reply of a request that the gateway has read itself."""

    def __init__(self, handler: Handler, reply: Reply | None) -> None:
        self.handler = handler
        self.reply = reply
        self.status_code = 499 if reply is None else reply.status
        self.background = None
        self.raw_headers = [] if reply is None else list(reply.raw_headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the reply.

        :raises Exception: what the host's own code raised, for the host's error handling.
        """
        if self.reply is not None:
            self.reply.raw_headers = self.raw_headers
            await self.handler.serve(send, self.reply)
        if self.background is not None:
            await self.background()
