"""Replies that come whole: checked, stamped, turned into a stream where one was asked for."""

from __future__ import annotations

import msgspec

from ..dialects.failure import reported_failure
from ..dialects.native import stamp
from ..dialects.normalize import NormalizingReader
from ..dialects.reader import Reader
from ..dialects.replay import stream_of
from ..emitter import DEFAULTS, OPTIONAL_ECHO
from ..errors import UpstreamProtocolError, UpstreamTruncated
from ..redaction import without
from .candidate import Candidate
from .job import Job
from .outgoing import starting_after

CREATING = ("create", "compact", "input_tokens")
FOREIGN = (msgspec.MsgspecError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)
EMPTY = (b"[]", b"null", b"")


class Outline(msgspec.Struct):
    """The members of a reply that tell what it is, as bytes; the others are passed over."""

    id: msgspec.Raw = msgspec.Raw(b"")
    object: msgspec.Raw = msgspec.Raw(b"")
    type: msgspec.Raw = msgspec.Raw(b"")
    status: msgspec.Raw = msgspec.Raw(b"")
    output: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


_outline = msgspec.json.Decoder(Outline).decode


def native(body: bytes, job: Job, candidate: Candidate) -> tuple[bytes, str | None]:
    """A native upstream's body: its bytes, a response stamped, or repaired where the provider asks for that; and the
    id of the response where it has been seen.

    :raises UpstreamProtocolError: it is not a JSON object.
    :raises GatewayError: it is an error, or a response that failed without output, under a status that says success.
    """
    try:
        body.decode()  # values are skipped, not read: nobody else looks at their encoding
        found = _outline(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise UpstreamProtocolError("The upstream's reply is not a JSON object.") from None
    body = candidate.blackout.of(body)
    is_response = bytes(found.object) == b'"response"'
    if job.request.operation in CREATING and _failed(found, is_response):
        raise reported_failure(without(candidate.blackout.secrets, body))
    if candidate.provider.normalize and (is_response or job.request.operation == "create"):
        reader = normalizing(job, candidate, stream=False)
        reader.whole(body)
        return final(reader), None
    if not is_response:
        return body, None
    id = bytes(found.id)
    seen = id[1:-1].decode() if id.startswith(b'"') and b"\\" not in id else None
    return stamp(body, candidate.provider.name) if job.setup.stamp else body, seen


def _failed(found: Outline, is_response: bool) -> bool:
    if not is_response:
        return bytes(found.error) not in EMPTY or bytes(found.type) == b'"error"'
    return bytes(found.status) == b'"failed"' and bytes(found.output) in EMPTY


def normalizing(job: Job, candidate: Candidate, *, stream: bool) -> NormalizingReader:
    """A reader that repairs the reply of a native upstream."""
    params = candidate.target.params or {}
    echo = job.request.envelope.values((*DEFAULTS, *OPTIONAL_ECHO))
    name = candidate.provider.name if job.setup.stamp else None
    after = starting_after(job, candidate)
    return NormalizingReader(
        name=name, model=candidate.model, limits=job.setup.limits, echo={**echo, **params}, stream=stream,
        after=-1 if after is None else after, secrets=candidate.blackout.secrets,
    )  # fmt: skip


def as_stream(body: bytes) -> bytes:
    """A response that came whole, as the event stream that was asked for.

    :raises UpstreamProtocolError: it cannot be taken apart: a number out of range, a member of another type.
    """
    try:
        return stream_of(msgspec.json.decode(body))
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
