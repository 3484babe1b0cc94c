"""Replies that come whole: checked, stamped, turned into a stream where one was asked for."""

from __future__ import annotations

import zlib
from functools import partial

import msgspec
from anyio.lowlevel import checkpoint

from ..deadline import clock
from ..dialects.failure import reported_failure
from ..dialects.lenient.reply import LenientReader
from ..dialects.reader import Reader
from ..errors import UpstreamProtocolError, UpstreamTimeout, UpstreamTruncated
from ..exchange.job import Job
from ..exchange.resolved_target import ResolvedTarget
from ..operations import CONTINUING
from ..seams.transport import UpstreamReply
from ..settings import Limits
from ..threads import beside, paced
from ..wire.json_body import with_member
from ..wire.json_pieces import SMALL, read_object
from ..wire.json_scan import Unreadable, check, check_utf8, counted, parsed
from ..wire.redaction import redacted
from ..wire.response import DEFAULTS, OPTIONAL_ECHO, stream_of
from .upstream_request import starting_after

FOREIGN = (msgspec.MsgspecError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)
EMPTY = (msgspec.Raw(b"[]"), msgspec.Raw(b"null"), msgspec.Raw(b""))
RESPONSE, ERROR, FAILED = msgspec.Raw(b'"response"'), msgspec.Raw(b'"error"'), msgspec.Raw(b'"failed"')
MOST_MEMBERS = 10_000
"""Members of a reply's top level; a response has some thirty."""


class Outline(msgspec.Struct):
    """The members of a reply that identify it, as bytes; the others are skipped."""

    id: msgspec.Raw = msgspec.Raw(b"")
    object: msgspec.Raw = msgspec.Raw(b"")
    type: msgspec.Raw = msgspec.Raw(b"")
    status: msgspec.Raw = msgspec.Raw(b"")
    output: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")

    def tells(self) -> bytes:
        """An object of those that tell of a failure."""
        return msgspec.json.encode({"error": self.error if bytes(self.error) else None, "type": "error"})


_outline = msgspec.json.Decoder(Outline).decode


async def native(body: bytes, job: Job, candidate: ResolvedTarget) -> tuple[bytes, str | None]:
    """A native upstream's body: its bytes, a response stamped, or read leniently where the provider asks for that, as
    the stream that was asked for; and the id of the response where it has been seen.

    :raises UpstreamProtocolError: it is not a JSON object.
    :raises GatewayError: it is an error, or a response that failed without output, under a status that says success.
    """
    found = outlined(body) if len(body) <= SMALL else await outline(body)
    body = candidate.redactor.of(body)
    is_response = found.object == RESPONSE
    failed = found.status == FAILED if is_response else found.error not in EMPTY or found.type == ERROR
    if failed and job.request.operation in CONTINUING and (not is_response or found.output in EMPTY):
        told = body if len(body) <= SMALL else found.tells()
        raise reported_failure(redacted(candidate.redactor.secrets, told))
    streams = job.stream and job.request.operation == "create"
    anew = candidate.provider.normalize or job.response_id is not None or job.leading
    if anew and (is_response or job.request.operation == "create"):
        await examine(body, job.setup.limits)
        reader = lenient(job, candidate, stream=streams)
        events = await beside(len(body), partial(reader.whole, body))
        return events if streams else final(reader), None
    seen = None
    if is_response:
        id = bytes(found.id)
        seen = id[1:-1].decode() if id.startswith(b'"') and b"\\" not in id else None
        body = with_member(body, "provider", candidate.provider.name) if job.setup.stamp else body
    return await as_stream(body, job.setup.limits) if streams else body, seen


def outlined(body: bytes) -> Outline:
    """What the reply *body* says of itself, in one step.

    :raises UpstreamProtocolError: it is not a JSON object.
    """
    try:
        if not body.isascii():
            check_utf8(body)  # values are skipped, not read: nobody else looks at their encoding
        return _outline(body)
    except (ValueError, RecursionError):
        raise UpstreamProtocolError("The upstream's reply is not a JSON object.") from None


async def outline(body: bytes) -> Outline:
    """Returns the outline of a large reply.

    :raises UpstreamProtocolError: as `outlined`.
    """
    try:
        members, _ = await paced(read_object(body, depth=0, values=len(body), most=MOST_MEMBERS))
    except (ValueError, RecursionError):
        raise UpstreamProtocolError("The upstream's reply is not a JSON object.") from None
    return Outline(**{name: members[name] for name in Outline.__struct_fields__ if name in members})


async def examine(body: bytes, limits: Limits) -> None:
    """Refuses a reply of which no tree may be built.

    :raises UpstreamProtocolError: it is nested too deeply, or has too many values.
    """
    try:
        if len(body) <= SMALL:
            check(body, depth=limits.depth, values=limits.values)
        else:
            await paced(counted(body, depth=limits.depth, values=limits.values))
    except Unreadable as error:
        raise UpstreamProtocolError("The upstream's reply holds too much to be read.") from error


def lenient(job: Job, candidate: ResolvedTarget, *, stream: bool) -> LenientReader:
    """A reader of a native upstream that is not quite one."""
    params = candidate.target.params or {}
    echo = job.request.envelope.values((*DEFAULTS, *OPTIONAL_ECHO))
    name = candidate.provider.name if job.setup.stamp else None
    after = starting_after(job, candidate)
    return LenientReader(
        name=name, model=candidate.model, limits=job.setup.limits, echo={**echo, **params}, stream=stream,
        after=-1 if after is None else after, secrets=candidate.redactor.secrets, response_id=job.response_id,
        leading=job.leading, spent=job.spent,
    )  # fmt: skip


async def as_stream(body: bytes, limits: Limits) -> bytes:
    """A response that came whole, as the event stream that was asked for.

    :raises UpstreamProtocolError: it cannot be taken apart: a number out of range, a member of another type.
    """
    await examine(body, limits)
    try:
        return await beside(len(body), lambda: stream_of(parsed(body)))
    except FOREIGN as error:
        raise UpstreamProtocolError("The upstream's reply cannot be read as a response.") from error


def final(reader: Reader) -> bytes:
    """The response that a stream ended with.

    :raises GatewayError: it ended with none.
    """
    response = reader.final()
    if response is None:
        raise reader.failure or UpstreamTruncated("The upstream's stream ended before the response was complete.")
    return response


# Undoes a content encoding that the upstream applied although identity was asked for, within bounds.


GZIP_OR_ZLIB = 47  # window bits of zlib's automatic header detection
STEP = 64 * 1024  # bytes decoded at a time, and got by it, so that a bomb is noticed before it is unpacked


def decoded(reply: UpstreamReply, encoding: bytes, limit: int) -> UpstreamReply:
    """*reply* with its body decoded, at most *limit* bytes of it.

    :raises UpstreamProtocolError: an encoding that is not gzip or deflate.
    """
    if encoding in (b"", b"identity"):
        return reply
    if encoding not in (b"gzip", b"x-gzip", b"deflate"):
        raise UpstreamProtocolError("The upstream encoded its reply in a way that was not asked for.")
    return Inflated(reply, limit)


class Inflated:
    """A reply whose body is decompressed while it is read.

    *limit* bounds what goes in as well as what comes out, and one `read` all that it takes to get a byte out of it: a
    stream can be made of empty blocks, or of empty members (RFC 1952, 2.2: a file is a series of them). Between two
    steps of what has been read others have their turn: a reply a thousand times as long as what was sent is many.
    """

    def __init__(self, reply: UpstreamReply, limit: int) -> None:
        self.reply = reply
        self.status = reply.status
        self.headers = reply.headers
        self.resumable = reply.resumable
        self.left = self.input_left = limit
        self.inflate = zlib.decompressobj(GZIP_OR_ZLIB)
        self.input = b""
        self.at = 0

    async def read(self, timeout: float) -> bytes:
        """See `UpstreamReply`: the next bytes without their content encoding."""
        deadline = clock() + timeout
        while True:
            if self.at < len(self.input):
                await checkpoint()
            else:
                await self._more(deadline)
                if not self.input:
                    self._check_end()
                    return b""
            if data := self._step():
                return data

    async def aclose(self) -> None:
        """Closes the encoded reply."""
        await self.reply.aclose()

    async def _more(self, deadline: float) -> None:
        """Reads more of the encoded body.

        :raises UpstreamTimeout: nothing came by *deadline*, on the clock.
        :raises UpstreamProtocolError: it is larger than the limit.
        """
        left = deadline - clock()
        if left <= 0:
            raise UpstreamTimeout("The upstream sent nothing for too long.")
        self.input, self.at = await self.reply.read(left), 0
        self.input_left -= len(self.input)
        if self.input_left < 0:
            raise UpstreamProtocolError("The upstream's compressed reply is larger than the limit.")

    def _step(self) -> bytes:
        """Returns some more of the decoded body.

        :raises UpstreamProtocolError: it is damaged, or larger than the limit.
        """
        if self.inflate.eof:  # what follows is another member: one that has ended would pile it up, unread
            self.inflate = zlib.decompressobj(GZIP_OR_ZLIB)
        given = self.input[self.at : self.at + STEP]
        try:
            data = self.inflate.decompress(given, STEP)
        except zlib.error:
            raise UpstreamProtocolError("The upstream's compressed reply is damaged.") from None
        self.at += len(given) - len(self.inflate.unused_data if self.inflate.eof else self.inflate.unconsumed_tail)
        self.left -= len(data)
        if self.left < 0:
            raise UpstreamProtocolError("The upstream's compressed reply is larger than the limit.")
        return data

    def _check_end(self) -> None:
        """Checks that the body is whole.

        :raises UpstreamProtocolError: it is cut off.
        """
        if not self.inflate.eof:
            raise UpstreamProtocolError("The upstream's compressed reply is cut off.")
