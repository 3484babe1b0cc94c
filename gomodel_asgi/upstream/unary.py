"""Replies that come whole: checked, stamped, turned into a stream where one was requested."""

from __future__ import annotations

from functools import partial

import msgspec

from ..dialects.failure import AUTH, completed_shape, is_openai_shaped, refused_credentials, reported_failure
from ..dialects.lenient.reply import LenientReader
from ..dialects.reader import Reader
from ..errors import (
    GatewayError,
    UpstreamAuthError,
    UpstreamProtocolError,
    UpstreamRedirect,
    UpstreamRejected,
    UpstreamTruncated,
)
from ..exchange.job import Job
from ..observers.records import clean
from ..operations import CONTINUING
from ..routing.target import ResolvedTarget
from ..settings import Limits
from ..threads import beside, paced
from ..wire.headers import Headers, for_client
from ..wire.json_body import with_member
from ..wire.json_pieces import SMALL, read_object
from ..wire.json_scan import check_utf8, parsed
from ..wire.redaction import redacted
from ..wire.response import DEFAULTS, OPTIONAL_ECHO, stream_of
from .bodies import examine

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

    def failure(self) -> bytes:
        """Returns an object of those that report a failure."""
        return msgspec.json.encode({"error": self.error if bytes(self.error) else None, "type": "error"})


_outline = msgspec.json.Decoder(Outline).decode


async def native(body: bytes, job: Job, candidate: ResolvedTarget) -> tuple[bytes, str | None]:
    """Returns a native upstream's *body* for the client, and the response's id where it has been seen. A response is
    stamped; that of a provider that is normalized is written anew; a stream is made of it where one was requested.

    :raises UpstreamProtocolError: it is not a JSON object.
    :raises GatewayError: it is an error, or a response that failed without output, under a status that says success.
    """
    found = outlined(body) if len(body) <= SMALL else await outline(body)
    body = candidate.redactor.of(body)
    is_response = found.object == RESPONSE
    failed = found.status == FAILED if is_response else found.error not in EMPTY or found.type == ERROR
    if failed and job.request.operation in CONTINUING and (not is_response or found.output in EMPTY):
        said = body if len(body) <= SMALL else found.failure()
        raise reported_failure(redacted(candidate.redactor.secrets, said))
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
    """Returns what the reply *body* says of itself, in one step.

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


def lenient(job: Job, candidate: ResolvedTarget, *, stream: bool) -> LenientReader:
    """Returns a reader of a native upstream that is not quite one."""
    params = candidate.target.params or {}
    echo = job.request.envelope.values((*DEFAULTS, *OPTIONAL_ECHO))
    name = candidate.provider.name if job.setup.stamp else None
    after = job.starting_after(candidate.provider)
    return LenientReader(
        name=name, model=candidate.model, limits=job.setup.limits, echo={**echo, **params}, stream=stream,
        after=-1 if after is None else after, secrets=candidate.redactor.secrets, response_id=job.response_id,
        leading=job.leading, spent=job.spent,
    )  # fmt: skip


async def as_stream(body: bytes, limits: Limits) -> bytes:
    """Returns a response that came whole as the event stream that was requested.

    :raises UpstreamProtocolError: it cannot be taken apart: a number out of range, a member of another type.
    """
    await examine(body, limits)
    try:
        return await beside(len(body), lambda: stream_of(parsed(body)))
    except FOREIGN as error:
        raise UpstreamProtocolError("The upstream's reply cannot be read as a response.") from error


def final(reader: Reader) -> bytes:
    """Returns the response that a stream ended with.

    :raises GatewayError: it ended with none.
    """
    response = reader.final()
    if response is None:
        raise reader.failure or UpstreamTruncated("The upstream's stream ended before the response was complete.")
    return response


# What a status and the body behind it mean: an answer, or which failure.


ANSWERS = frozenset({200, 201, 202})
BUSY = frozenset({408, 429, 500, 502, 503, 504, 529})
"""Statuses that say "not now, not here": a fallback is tried, and what is passed on is not to be retried again."""
EVENT_STREAM = b"text/event-stream"
PLAIN_TYPES = (b"application/json", EVENT_STREAM)
"""Content types that need no reading, as nearly all have no parameters."""


def check_status(status: int) -> None:
    """Refuses a status that is neither an answer nor an error with a body worth reading.

    :raises UpstreamRedirect: it is a redirect.
    :raises UpstreamProtocolError: it is below 400, and none of `ANSWERS`.
    """
    if 300 <= status < 400 and status != 304:
        raise UpstreamRedirect("The upstream answered with a redirect, which is not followed; correct the base URL.")
    if status not in ANSWERS and status < 400:
        raise UpstreamProtocolError(f"The upstream answered with the status {status}, which is no answer.")


def kind_of(status: int, content_type: bytes) -> bytes:
    """Returns *content_type* without its parameters, lower-case.

    :raises UpstreamProtocolError: an answer of this *status* cannot be of that type.
    """
    kind = content_type.partition(b";")[0].strip().lower()
    if status < 400 and kind not in (*PLAIN_TYPES, b"text/json", b"") and not kind.endswith(b"+json"):
        shown = clean(kind.decode("latin-1"), 80)
        raise UpstreamProtocolError(f"The upstream answered with {shown} instead of JSON or events.")
    return kind


def rejection(
    candidate: ResolvedTarget, status: int, headers: Headers, body: bytes, *, limits: bool = True
) -> GatewayError:
    """Returns the error of a reply with status 400 or above; for *limits* see `for_client`."""
    secrets = candidate.redactor.secrets
    error = _read(candidate, status, redacted(secrets, body))
    if isinstance(error, UpstreamRejected):
        error.kind = error.status
        error.passed = tuple(for_client(headers, partial(redacted, secrets), limits=limits))
    return error


def _read(candidate: ResolvedTarget, status: int, body: bytes) -> GatewayError:
    if status in AUTH:
        return refused_credentials(body[:2048].decode("utf-8", "replace"), status)
    own = None if candidate.dialect is None else candidate.dialect.error(status, body)
    error = reported_failure(body, status) if own is None else own
    if own is None and not is_openai_shaped(body) and not isinstance(error, UpstreamAuthError):
        message = "" if body.lstrip().startswith(b"<") else error.message
        return UpstreamRejected(message or f"The upstream answered with the status {status}.", status=status)
    if isinstance(error, UpstreamRejected):
        error.status = status  # what the body calls itself counts only behind a status that says success
        if own is None:
            error.raw = completed_shape(body)
    return error
