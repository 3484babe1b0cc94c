"""Replies that come whole: checked, stamped, turned into a stream where one was asked for."""

from __future__ import annotations

import msgspec

from ..dialects.failure import reported_failure
from ..dialects.native import stamp
from ..dialects.normalize import NormalizingReader
from ..dialects.reader import Reader
from ..dialects.replay import stream_of
from ..emitter import DEFAULTS, OPTIONAL_ECHO
from ..envelope import parse_members
from ..errors import UpstreamProtocolError, UpstreamTruncated
from .candidate import Candidate
from .classify import without
from .job import Job

CREATING = ("create", "compact", "input_tokens")
EMPTY = (b"[]", b"null", b"")


class Outline(msgspec.Struct):
    """The members of a reply that tell what it is, as bytes; the others are passed over."""

    object: msgspec.Raw = msgspec.Raw(b"")
    type: msgspec.Raw = msgspec.Raw(b"")
    status: msgspec.Raw = msgspec.Raw(b"")
    output: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


_outline = msgspec.json.Decoder(Outline).decode


def native(body: bytes, job: Job, candidate: Candidate) -> bytes:
    """A native upstream's body: its bytes, a response stamped, or repaired where the provider asks for that.

    :raises UpstreamProtocolError: it is not a JSON object.
    :raises GatewayError: it is an error, or a response that failed without output, under a status that says success.
    """
    try:
        found = _outline(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise UpstreamProtocolError("The upstream's reply is not a JSON object.") from None
    is_response = bytes(found.object) == b'"response"'
    if job.request.operation in CREATING and _failed(found, is_response):
        raise reported_failure(without(candidate.credential.key, body))
    if candidate.provider.normalize and (is_response or job.request.operation == "create"):
        reader = normalizing(job, candidate, stream=False)
        reader.whole(body)
        return final(reader)
    if is_response and job.setup.stamp:
        return stamp(body, candidate.provider.name)
    return body


def _failed(found: Outline, is_response: bool) -> bool:
    if not is_response:
        return bytes(found.error) not in EMPTY or bytes(found.type) == b'"error"'
    return bytes(found.status) == b'"failed"' and bytes(found.output) in EMPTY


def normalizing(job: Job, candidate: Candidate, *, stream: bool) -> NormalizingReader:
    """A reader that repairs the reply of a native upstream."""
    members, params = job.request.envelope.members, candidate.target.params or {}
    echo = parse_members({name: members[name] for name in (*DEFAULTS, *OPTIONAL_ECHO) if name in members})
    name = candidate.provider.name if job.setup.stamp else None
    return NormalizingReader(
        name=name, model=candidate.model, limits=job.setup.limits, echo={**echo, **params}, stream=stream
    )


def as_stream(body: bytes) -> bytes:
    """A response that came whole, as the event stream that was asked for."""
    return stream_of(msgspec.json.decode(body))


def final(reader: Reader) -> bytes:
    """The response that a stream ended with.

    :raises GatewayError: it ended with none.
    """
    response = reader.final()
    if response is None:
        raise reader.failure or UpstreamTruncated("The upstream's stream ended before the response was complete.")
    return response
