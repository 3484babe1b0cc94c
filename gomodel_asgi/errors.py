"""Every way a request can fail, named by who is at fault. Each error knows its HTTP status and its public payload.

    GatewayError
    ├── InvalidRequest              the client: 400 and its kin (404, 405, 408, 413, 415)
    │   └── ToolsUnlisted           424  an MCP server could not list its tools
    ├── RoutingError                the policy's own answer; any status
    │   ├── Unauthenticated         401
    │   ├── Denied                  403
    │   ├── RateLimited             429
    │   │   └── QuotaExceeded       429  a quota of the gateway's has no room
    │   ├── ContentBlocked          400  a guard of the host's refused what is said
    │   ├── UnknownProvider         400
    │   ├── UnknownModel            404
    │   └── ProviderConflict        400
    ├── GatewayFault                this process: 500, 503, 504
    │   ├── PolicyFailed            500
    │   ├── PolicyTimeout           504
    │   ├── Overloaded              503
    │   ├── StoreUnavailable        503
    │   ├── QuotaUnavailable        503  the counters of quotas do not answer
    │   ├── LedgerUnavailable       503  the ledger takes no more rows
    │   ├── GuardUnavailable        503  a guard of the host's failed or took too long
    │   └── ServerShutdown          503
    └── UpstreamError               the provider: 502, 504, or the status that it answered
        ├── UpstreamUnreachable     502  no connection, no TLS
        ├── UpstreamStale           502  a reused connection was closed before one byte of the reply
        ├── UpstreamProtocolError   502  not HTTP, not SSE, not JSON, or over a limit
        ├── UpstreamTruncated       502  ended before its end
        ├── UpstreamTimeout         504
        ├── UpstreamRedirect        502
        ├── UpstreamAuthError       502  our credentials were refused
        └── UpstreamRejected        the upstream's own status and body

The message of an error is public: it says what to do next and never holds a secret or the upstream's view of our
credentials. What only the operator may see is in `detail`, which may quote an upstream, and in `advice`, which is ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

__all__ = [
    "ContentBlocked",
    "Denied",
    "GatewayError",
    "GatewayFault",
    "GuardUnavailable",
    "InvalidRequest",
    "LedgerUnavailable",
    "MethodNotAllowed",
    "Overloaded",
    "PolicyFailed",
    "PolicyTimeout",
    "ProviderConflict",
    "QuotaExceeded",
    "QuotaUnavailable",
    "RateLimited",
    "RequestTimeout",
    "RoutingError",
    "ServerShutdown",
    "StoreUnavailable",
    "ToolsUnlisted",
    "Unauthenticated",
    "UnknownModel",
    "UnknownProvider",
    "UpstreamAuthError",
    "UpstreamError",
    "UpstreamProtocolError",
    "UpstreamRedirect",
    "UpstreamRejected",
    "UpstreamStale",
    "UpstreamTimeout",
    "UpstreamTruncated",
    "UpstreamUnreachable",
]


class GatewayError(Exception):
    """A failure with a defined answer: an HTTP *status* and the four-key *payload* of the OpenAI API."""

    status: int = 500
    code: str | None = None
    param: str | None = None
    type: str | None = None
    retry_after: float | None = None
    attempts: int = 0
    """How many requests had been made upstream when it was given up."""
    should_retry: bool | None = None
    """What the header `x-should-retry` says of repeating the request; None: the header is not sent."""
    cache: str | None = None
    """What the cache had of the request, where it was looked up: `hit` or `miss`."""
    closes: bool = False
    """Whether the client's connection has to be closed, since the rest of the request may still come on it."""
    detail: str | None = None
    """For observers only: may quote the upstream. Never sent to a client, never in `str()` or `repr()`."""
    advice: str | None = None
    """For observers only: what whoever runs the gateway can do about it, in words of ours that quote nobody."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        detail: str | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        given = dict(status=status, code=code, param=param, retry_after=retry_after, detail=detail, advice=advice)
        vars(self).update({name: value for name, value in given.items() if value is not None})  # else the class's own

    @property
    def payload(self) -> dict[str, object]:
        """`{"error": {"message", "type", "param", "code"}}`, all four keys always there."""
        kind = self.type or type_of_status(self.status)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def body(self) -> bytes:
        """Returns the payload as JSON."""
        return msgspec.json.encode(self.payload)

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Returns the response headers of the error, beside the content type."""
        if self.retry_after is None:
            return []
        return [(b"retry-after", b"%d" % max(1, math.ceil(self.retry_after)))]  # never before it is worth it


TYPES_OF_STATUS: dict[int, str] = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def type_of_status(status: int) -> str:
    """Returns the `type` that OpenAI's API gives an error of this HTTP status."""
    return TYPES_OF_STATUS.get(status) or ("server_error" if status >= 500 else "invalid_request_error")


# The client is at fault...


class InvalidRequest(GatewayError):
    """The request cannot be served as it is; *param* names the offending member by its path."""

    status = 400


class MethodNotAllowed(InvalidRequest):
    """The path is ours, the method is not. *allow* is the value of the `allow` header."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Returns the `allow` header (RFC 9110, 15.5.6)."""
        return [(b"allow", self.allow.encode("ascii"))]


class RequestTimeout(InvalidRequest):
    """The request's body came too slowly."""

    status = 408
    code = "request_timeout"
    should_retry = False  # clients repeat a 408 by themselves, and would be as slow again
    closes = True

    def __init__(self, message: str = "The request's body came too slowly.") -> None:
        super().__init__(message)


class ToolsUnlisted(InvalidRequest):
    """A server of tools could not list them (OpenAI, "MCP and connectors": HTTP 424)."""

    status = 424
    code = "http_error"
    param = "tools"
    type = "external_connector_error"


# The policy says no...


class RoutingError(GatewayError):
    """Raised by a policy: the client is answered with exactly this status, code and message."""

    status = 400


class Unauthenticated(RoutingError):
    """Nobody is logged in, and somebody must be."""

    status = 401
    code = "unauthenticated"

    def __init__(self, message: str = "Authentication is required.", **options: object) -> None:
        super().__init__(message, **options)  # type: ignore[arg-type]


class Denied(RoutingError):
    """The caller is known and may not do this."""

    status = 403
    code = "permission_denied"


class RateLimited(RoutingError):
    """The caller has used up what it may use; *retry_after* is in seconds."""

    status = 429
    code = "rate_limit_exceeded"


class QuotaExceeded(RateLimited):
    """A quota has no room for the request. *quota* is its name, None where clients may not know it; *unit* is what it
    has too little of, and *limit_headers* are those that say what is left."""

    def __init__(
        self,
        message: str,
        *,
        unit: str,
        quota: str | None,
        retry_after: float | None,
        final: bool = False,
        limit_headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.quota = quota
        self.unit = self.type = unit
        self.limit_headers = tuple(limit_headers)
        if unit == "money":
            self.code = self.type = "insufficient_quota"
        if final:
            self.should_retry = False

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Returns when there will be room, in seconds and in milliseconds, and what is left."""
        headers = [*self.limit_headers]
        if self.quota is not None:
            headers.append((b"x-gomodel-quota", self.quota.encode("ascii")))
        headers += super().headers()
        if self.retry_after is not None:
            headers.append((b"retry-after-ms", b"%d" % max(1, math.ceil(self.retry_after * 1000))))
        return headers


class ContentBlocked(RoutingError):
    """A guard of the host's refused the request, or its answer."""

    code = "content_blocked"
    should_retry = False


class UnknownProvider(RoutingError):
    """The hint names no configured provider."""

    code = "unknown_provider"
    param = "provider"


class UnknownModel(RoutingError):
    """No configured provider serves the model."""

    status = 404
    code = "model_not_found"
    param = "model"

    def __init__(self, message: str = "This model is not offered here.", **options: object) -> None:
        super().__init__(message, **options)  # type: ignore[arg-type]


class ProviderConflict(RoutingError):
    """Two explicit hints disagree."""

    code = "provider_conflict"
    param = "provider"


# This process is at fault...


class GatewayFault(GatewayError):
    """The gateway or the host's own code could not do its part."""

    status = 500
    code = "internal_error"


class PolicyFailed(GatewayFault):
    """The policy raised or answered rubbish; the cause goes to the host, never to the client."""


class PolicyTimeout(GatewayFault):
    """The policy did not answer within `timeouts.policy`."""

    status = 504
    code = "policy_timeout"


class Overloaded(GatewayFault):
    """A concurrency limit is reached, or every upstream is known to be failing."""

    status = 503
    code = "overloaded"
    retry_after = 1.0


class StoreUnavailable(GatewayFault):
    """What must be remembered can be neither read nor written: the store is down, too slow or full."""

    status = 503
    code = "store_unavailable"
    retry_after = 1.0


class QuotaUnavailable(GatewayFault):
    """What a quota has left is not known: its counters are down or too slow."""

    status = 503
    code = "quota_unavailable"
    retry_after = 1.0


class LedgerUnavailable(GatewayFault):
    """What the request costs could not be written down: the ledger's sink is away, and what may wait for it is full."""

    status = 503
    code = "ledger_unavailable"
    retry_after = 1.0

    def __init__(self, message: str = "The gateway cannot account for this request now; try again later.") -> None:
        super().__init__(message)


class GuardUnavailable(GatewayFault):
    """A guard of the host's failed or took too long, and nothing passes without it."""

    status = 503
    code = "guard_unavailable"
    should_retry = False

    def __init__(self, message: str = "The content could not be checked.", **options: str | None) -> None:
        super().__init__(message, detail=options.get("detail"))


class ServerShutdown(GatewayFault):
    """The host is going down; another worker can answer."""

    status = 503
    code = "server_shutdown"
    retry_after = 1.0

    def __init__(self, message: str = "The server is shutting down; send the request again.") -> None:
        super().__init__(message)


# The provider is at fault...


class UpstreamError(GatewayError):
    """A provider failed. *kind* is the name that `Retries.on` knows it by, None where it is never retried."""

    status = 502
    code = "upstream_error"
    type = "upstream_error"
    kind: str | int | None = None
    sent: bool = True
    """Whether the upstream may have seen the request, and bill it."""


class UpstreamUnreachable(UpstreamError):
    """No connection could be made: refused, unknown host, TLS name or trust."""

    code = "upstream_unreachable"
    kind = "connect"
    sent = False


class UpstreamStale(UpstreamError):
    """A reused connection closed before one byte of the reply: the upstream cannot have seen the request."""

    code = "upstream_unreachable"
    kind = "stale"
    sent = False


class UpstreamProtocolError(UpstreamError):
    """What came back is not a reply of the upstream's API, or is larger than `limits` allows."""

    code = "upstream_protocol_error"


class UpstreamTruncated(UpstreamError):
    """The reply stopped before its end."""

    code = "upstream_stream_truncated"


class UpstreamTimeout(UpstreamError):
    """The upstream did not answer in time."""

    status = 504
    code = "upstream_timeout"
    kind = "timeout"


class UpstreamRedirect(UpstreamError):
    """The upstream answered 3xx; redirects are never followed, since they would carry the credential elsewhere."""

    code = "upstream_redirect"


class UpstreamAuthError(UpstreamError):
    """The upstream refused the credential that it was given: the provider's own, or one that the Target brought."""

    code = "upstream_auth_error"
    kind = "auth"

    def __init__(self, *, detail: str | None = None) -> None:
        super().__init__("The upstream refused the API key.", detail=detail)

    def attribute(self, provider: str, *, brought: bool) -> None:
        """Says whose key it is: that of the *provider* named so, or one that the Target *brought* for the caller."""
        if brought:
            self.message = "The upstream refused your own API key, not one of the gateway's; check it, or give another."
            self.advice = "the Target brought this key (api_key=...): it is the caller's to renew"
        else:
            self.message = "The upstream refused the gateway's API key; whoever runs the gateway has to renew it."
            self.advice = f"renew the key of the provider {provider}, or see whether its account is paid"
        self.args = (self.message,)


class UpstreamRejected(UpstreamError):
    """The upstream answered an error of its own, which is passed on: its *status*, its body (*raw*) where that is
    OpenAI-shaped, and those of its headers that a client may see (*passed*)."""

    raw: bytes | None = None
    passed: tuple[tuple[bytes, bytes], ...] = ()

    def body(self) -> bytes:
        """Returns the upstream's own body where it is OpenAI-shaped, else the gateway's."""
        return super().body() if self.raw is None else self.raw

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Returns the upstream's headers that a client may see, and `retry-after` where it sent none."""
        given = any(name in (b"retry-after", b"retry-after-ms") for name, _ in self.passed)
        return [*self.passed, *([] if given else super().headers())]
