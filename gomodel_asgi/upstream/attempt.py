"""One request to one upstream, up to the point where it can be answered with.

    send → status and headers → unary: the whole body, checked
                              → stream: the first event, and while a fallback is left the first meaningful one

Everything that fails here fails before the client has seen a byte, as an exception of `errors.py`.
"""

from __future__ import annotations

import secrets
import time
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from ..deadline import clock
from ..dialects.base import Call, Outgoing
from ..dialects.emulations import single_call
from ..dialects.native import NativeReader
from ..dialects.reader import Reader, TranslatedReader
from ..errors import (
    GatewayError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamStale,
    UpstreamTimeout,
)
from ..exchange.job import Job, nothing_shown
from ..resilience.circuit_breaker import Permit
from ..resilience.retry import retry_after
from ..routing.target import ResolvedTarget
from ..seams.transport import Headers, UpstreamReply, UpstreamRequest
from ..threads import beside
from ..wire.event_writer import Emitter
from . import unary
from .bodies import decoded, examine
from .call import call_of, outgoing_of
from .stream import JoinedReplies, fed
from .upstream_request import native, rewritten, translated

ERROR_BODY = 64 * 1024  # of an error page; what comes after cannot matter to anybody


class Answer(Struct, frozen=True):
    """A usable reply: the *body* of a unary one, or *upstream*, *reader* and *held* events of a stream."""

    status: int
    headers: Headers
    reader: Reader | None = None
    upstream: UpstreamReply | None = None
    held: bytes = b""
    body: bytes | None = None
    response_id: str | None = None


class Attempt(Struct):
    """One try at one candidate, which must have an event or a whole body by *deadline* on the clock. *last*: there is
    nothing left to fall back on. *permit* is notified of the first event."""

    job: Job
    candidate: ResolvedTarget
    deadline: float
    last: bool
    permit: Permit
    call: Call | None = None
    gate: float | None = None
    unsupported: tuple[str, ...] = ()
    """What of the request was not sent to the upstream and is reported to the client, by path."""

    async def run(self) -> Answer:
        """Sends, and reads as far as needed.

        :raises GatewayError: nothing usable came.
        """
        job, candidate = self.job, self.candidate
        if candidate.dialect is None:
            request = native(candidate, job, self.deadline - clock())
            if candidate.provider.unread or job.files is not None or job.shown is not nothing_shown:
                request = await rewritten(request, candidate, job)
        else:
            self.call = await call_of(candidate, job)
            outgoing = await outgoing_of(candidate, job, self.call)
            if outgoing.dropped:
                job.warn(f"{path}: left out, since the upstream cannot carry it" for path in outgoing.dropped)
            self.unsupported = outgoing.unsupported
            request = translated(candidate, job, outgoing, self.deadline - clock())
        upstream, streams = await self._opened(request)
        if streams:
            return await self._events(upstream)
        try:
            return await self._unary(upstream)
        finally:
            await upstream.aclose()

    async def _opened(self, request: UpstreamRequest) -> tuple[UpstreamReply, bool]:
        """Returns the reply to *request*, an answer by its status and headers, and whether it is a stream.

        :raises GatewayError: it is none.
        """
        transport = self.job.setup.transport
        if self.job.trace is not None:
            self.job.trace.sends(self.job.request.envelope.raw, len(request.body or b""))
        try:
            upstream = await transport.open(request)
        except UpstreamStale:  # an idle connection that turns out to be closed costs a silent second try
            upstream = await transport.open(replace(request, deadline=self._left(), fresh=True))
        try:
            status, fields = upstream.status, dict(upstream.headers)
            if status not in unary.ANSWERS:
                unary.check_status(status)
            if b"content-encoding" in fields:
                encoding = fields[b"content-encoding"].strip().lower()
                upstream = decoded(upstream, encoding, self.job.setup.limits.reply)
            kind = fields.get(b"content-type", b"")
            if kind not in unary.PLAIN_TYPES:
                kind = unary.kind_of(status, kind)
            if status >= 400:
                raise await self._rejection(upstream)
        except BaseException:
            await upstream.aclose()
            raise
        return upstream, kind == unary.EVENT_STREAM

    async def _next_reply(self, outgoing: Outgoing, streams: bool) -> UpstreamReply:
        """Returns the reply to a request that goes on with an answer, within a deadline of its own.

        :raises GatewayError: there is none, or it is in another form than the first, which was a stream or not.
        """
        job, timeouts = self.job, self.candidate.timeouts
        limit = timeouts.first_event if job.stream else timeouts.unary
        self.deadline = min(clock() + limit, job.started + timeouts.total)
        upstream, as_stream = await self._opened(translated(self.candidate, job, outgoing, self._left()))
        if as_stream != streams:
            await upstream.aclose()
            raise UpstreamProtocolError("The upstream went on with its answer in another form.")
        return upstream

    async def _rejection(self, upstream: UpstreamReply) -> GatewayError:
        try:
            body = await self._body(upstream, ERROR_BODY, cut=True)
        except UpstreamError:
            body = b""  # the status has come, and says enough
        shows = self.job.setup.quotas is None
        error = unary.rejection(self.candidate, upstream.status, upstream.headers, body, limits=shows)
        header_seconds = retry_after(upstream.headers)
        if header_seconds is not None:  # else what the body says counts (Gemini's RetryInfo)
            error.retry_after = header_seconds
        return error

    async def _body(self, upstream: UpstreamReply, limit: int | None = None, cut: bool = False) -> bytes:
        """Returns all of the body, at most *limit* bytes: more is refused, or left unread where it may be *cut*.

        :raises UpstreamTimeout: the time for the request is over.
        :raises UpstreamProtocolError: it is larger than *limit*.
        """
        limit = self.job.setup.limits.reply if limit is None else limit
        pieces: list[bytes] = []
        size = 0
        while size <= limit:
            if (left := self.deadline - clock()) <= 0:
                raise _late()
            if not (data := await upstream.read(left)):
                break
            pieces.append(data)
            size += len(data)
        if size > limit and not cut:
            raise UpstreamProtocolError("The upstream's reply is larger than the limit.")
        return b"".join(pieces)[: limit if cut else None]

    def _left(self) -> float:
        """Returns how many seconds are left for the request.

        :raises UpstreamTimeout: none.
        """
        left = self.deadline - clock()
        if left <= 0:
            raise _late()
        return left

    async def _unary(self, upstream: UpstreamReply) -> Answer:
        """Returns the answer of a reply that came whole.

        :raises GatewayError: the reply says that the upstream has failed.
        """
        body, id = await self._body(upstream), None
        if self.candidate.dialect is None:
            if self.job.trace is not None:
                self.job.trace.received(body)
            body, id = await unary.native(body, self.job, self.candidate)
        else:
            await examine(body, self.job.setup.limits)
            reader = self._translated()
            events = await beside(len(body), partial(reader.whole, body))
            while (outgoing := reader.again) is not None:
                body = await self._next_body(outgoing)
                reader.begin_next_reply()
                events += await beside(len(body), partial(reader.whole, body))
            if reader.failure is not None:
                raise reader.failure
            body = events if self.job.stream else unary.final(reader)
        return Answer(upstream.status, upstream.headers, body=body, response_id=id)

    async def _next_body(self, outgoing: Outgoing) -> bytes:
        upstream = await self._next_reply(outgoing, streams=False)
        try:
            body = await self._body(upstream)
        finally:
            await upstream.aclose()
        await examine(body, self.job.setup.limits)
        return body

    # Streams...

    async def _events(self, upstream: UpstreamReply) -> Answer:
        """Returns the answer of a stream: its beginning is held, or all of it is read where no stream was requested."""
        try:
            reader = self._native() if self.candidate.dialect is None else self._translated()
            if isinstance(reader, TranslatedReader) and reader.continuing is not None:
                upstream = JoinedReplies(upstream, reader, partial(self._next_reply, streams=True))
            answer = await self._begun(upstream, reader)
        except BaseException:
            await upstream.aclose()
            raise
        if answer.upstream is None:
            await upstream.aclose()
        return answer

    async def _begun(self, upstream: UpstreamReply, reader: Reader) -> Answer:
        """Returns the answer of a stream that has begun.

        :raises GatewayError: the upstream has failed before it sent anything that a client could use.
        """
        if self.job.trace is not None and self.candidate.dialect is None:
            self.job.trace.reads(reader, reader.emitter.warnings if isinstance(reader, TranslatedReader) else [])
        if self.job.request.operation == "create" and not self.job.stream:
            return await self._aggregated(upstream, reader)
        held = b""
        while True:
            held += await self._more(upstream, reader, reader.begun)
            if self.permit.circuits:
                self._report_begun(reader)
            if reader.failure is not None and not reader.meaningful and (not self.last or not reader.begun):
                raise reader.failure
            if held and (reader.meaningful or (reader.begun and (self.last or self._gate_is_open()))):
                return Answer(upstream.status, upstream.headers, reader, upstream, held)

    async def _more(self, upstream: UpstreamReply, reader: Reader, holding: bool) -> bytes:
        """Returns the next events of a stream that nothing has been sent of yet."""
        timeout = self._left()
        if holding and upstream.resumable and not self.last:
            timeout = min(timeout, self._gate_left())
        try:
            data = await upstream.read(timeout)
        except UpstreamTimeout:
            if self._gate_is_open() and self.deadline > clock():
                return b""
            raise
        if data:
            return await fed(reader, data)
        return self._ended(reader)

    def _ended(self, reader: Reader) -> bytes:
        """Returns the last events of a stream that the upstream has closed, of which nothing was sent.

        :raises UpstreamProtocolError: it ended without a response.
        :raises GatewayError: the upstream has failed.
        """
        events = reader.close()
        if reader.terminal is None or reader.failure is not None and not reader.meaningful:
            raise reader.failure or UpstreamProtocolError("The upstream's stream ended without a response.")
        return events

    async def _aggregated(self, upstream: UpstreamReply, reader: Reader) -> Answer:
        """Returns the response of a stream as the answer: the client has requested no stream.

        :raises UpstreamProtocolError: it is larger than the limit.
        :raises GatewayError: the upstream has failed.
        """
        size, limit = 0, self.job.setup.limits.reply
        while reader.terminal is None and (data := await upstream.read(self._left())):
            await fed(reader, data)
            if self.permit.circuits:
                self._report_begun(reader)
            size += len(data)
            if size > limit:
                raise UpstreamProtocolError("The upstream's reply is larger than the limit.")
        reader.close()
        if reader.failure is not None:
            raise reader.failure
        return Answer(upstream.status, upstream.headers, body=unary.final(reader))

    def _report_begun(self, reader: Reader) -> None:
        """Reports the first event to the breaker, which need not wait for a stream's end to decide a probe."""
        if reader.begun and reader.failure is None:
            self.permit.began()

    def _gate_left(self) -> float:
        if self.gate is None:
            self.gate = clock() + self.candidate.timeouts.gate
        return max(0.0, self.gate - clock())

    def _gate_is_open(self) -> bool:
        return self.gate is not None and clock() >= self.gate

    def _native(self) -> Reader:
        setup, provider = self.job.setup, self.candidate.provider
        operation = self.job.request.operation
        if (provider.normalize or self.job.rewrites) and operation in ("create", "retrieve"):
            return unary.lenient(self.job, self.candidate, stream=self.job.stream or operation == "retrieve")
        name = provider.name if setup.stamp else None
        secrets = self.candidate.redactor.secrets
        return NativeReader(name=name, model=self.candidate.model, limits=setup.limits, secrets=secrets)

    def _translated(self) -> TranslatedReader:
        call, dialect, setup = self.call, self.candidate.dialect, self.job.setup
        assert call is not None and dialect is not None
        emitter = Emitter(
            response_id=self.job.response_id or "resp_" + secrets.token_hex(24),
            created_at=int(time.time()),
            model=call.model,
            echo=call.body,
            stamp=self.candidate.provider.name if setup.stamp else None,
            stream=call.stream,
            single_call=single_call(call),
            leading=self.job.leading,
            spent=self.job.spent,
        )
        translator = dialect.translator(call, emitter)
        reader = TranslatedReader(translator, emitter, setup.limits, self.candidate.redactor.secrets)
        if self.job.trace is not None:
            self.job.trace.reads(reader, emitter.warnings)
        return reader


def _late() -> UpstreamTimeout:
    return UpstreamTimeout("The upstream did not answer in time.")
