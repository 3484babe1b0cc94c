"""Reads an upstream's status and content type: an answer, or which failure."""

from __future__ import annotations

from functools import partial

from ..dialects.failure import completed_shape, is_openai_shaped, refused_credentials, reported_failure
from ..errors import GatewayError, UpstreamAuthError, UpstreamProtocolError, UpstreamRedirect, UpstreamRejected
from ..exchange.resolved_target import ResolvedTarget
from ..seams.transport import Headers
from ..wire.headers import for_client
from ..wire.redaction import redacted

ANSWERS = frozenset({200, 201, 202})
BUSY = frozenset({408, 429, 500, 502, 503, 504, 529})
"""Statuses that say "not now, not here": a fallback is tried, and what is passed on is not to be retried again."""
AUTH = frozenset({401, 402, 403})


def media_type(content_type: bytes) -> bytes:
    """A content type without its parameters, lower-case."""
    return content_type.partition(b";")[0].strip().lower()


def refusal(status: int) -> GatewayError | None:
    """What a status means that is neither an answer nor an error with a body worth reading."""
    if status in ANSWERS or status >= 400:
        return None
    if 300 <= status < 400 and status != 304:
        return UpstreamRedirect("The upstream answered with a redirect, which is not followed; correct the base URL.")
    return UpstreamProtocolError(f"The upstream answered with the status {status}, which is no answer.")


def rejection(candidate: ResolvedTarget, status: int, headers: Headers, body: bytes) -> GatewayError:
    """The error of a reply with status 400 or above."""
    secrets = candidate.redactor.secrets
    error = _read(candidate, status, redacted(secrets, body))
    if isinstance(error, UpstreamAuthError):
        return error
    if isinstance(error, UpstreamRejected):
        error.kind = error.status
        error.passed = tuple(for_client(headers, partial(redacted, secrets)))
    return error


def _read(candidate: ResolvedTarget, status: int, body: bytes) -> GatewayError:
    if status in AUTH:
        return refused_credentials(body[:2048].decode("utf-8", "replace"), status)
    own = candidate.dialect.error(status, body) if candidate.dialect is not None else None
    if own is not None:
        if isinstance(own, UpstreamRejected):
            own.status = status  # what the body calls itself counts only behind a status that says success
        return own
    if not is_openai_shaped(body):
        return _wrapped(status, body)
    error = reported_failure(body, status)
    if isinstance(error, UpstreamRejected):
        error.status = status
        error.raw = completed_shape(body)
    return error


def _wrapped(status: int, body: bytes) -> GatewayError:
    error = reported_failure(body, status)
    if isinstance(error, UpstreamAuthError):
        return error
    message = error.message if error.message and not body.lstrip().startswith(b"<") else None
    return UpstreamRejected(message or f"The upstream answered with the status {status}.", status=status)
