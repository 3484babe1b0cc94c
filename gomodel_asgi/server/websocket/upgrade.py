"""Before the upgrade: who connects, whether the policy lets them in, and how they are refused.

A browser opens a WebSocket to any origin, with the cookies that it has for it. So a page of another origin is refused
before the policy runs (RFC 6455, 10.2), as a body without a JSON content type is over HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from msgspec import Struct
from starlette.types import Scope, Send

from ...errors import Denied, GatewayError, InvalidRequest, RoutingError
from ...pipeline import Inbound, decide, job_of, tenant_of
from ...wire.headers import read, request_id
from ...wire.json_body import Envelope
from ..handler import Served, failed
from ..paths import agreed, split_query

RESPONSE = "websocket.http.response"
"""The ASGI extension by which a server can send a whole HTTP answer instead of the upgrade; without it, a bare 403."""


class Session(Struct, frozen=True):
    """What a policy sees as `request.connection`: the upgrade's *id*, how many *responses* the connection has had, and
    a dict of the policy's own (*notes*) that lives as long as the connection."""

    id: str
    responses: int = 0
    notes: dict[str, object] = {}


class Admission(Struct):
    """An upgrade that was let in: what every create on it inherits."""

    session: Session
    tenant: str | None
    headers: Mapping[bytes, bytes]
    query: str
    hints: list[str]

    def __repr__(self) -> str:
        return f"<Admission {self.session.id}>"


async def admitted(gateway: Served, scope: Scope) -> Admission:
    """Returns what every create on the connection inherits, once the policy has let the upgrade in.

    :raises GatewayError: it is refused; `PolicyFailed` has the host's own exception as its cause.
    """
    headers = read(scope["headers"])
    session = Session(request_id(headers.get(b"x-request-id")))
    gateway.in_flight.check_open()
    check_origin(headers)
    query, hints = split_query(scope.get("query_string", b""))
    tenant = None
    if gateway.tenant is not None or "user" in scope:
        tenant = await tenant_of(scope, gateway.tenant)
    hint = agreed(None, scope["headers"], hints)
    # The key of one request cannot be that of all: an upstream would answer each with the first one's response.
    headers.pop(b"idempotency-key", None)
    inbound = Inbound("connect", Envelope.empty(), hint, scope, session.id, headers, query, connection=session)
    try:
        await decide(job_of(gateway.setup, inbound, tenant))
    except (InvalidRequest, RoutingError) as error:
        if error.param != "model":  # none is known yet: a policy that only misses one has refused nobody
            raise
    return Admission(session, tenant, headers, query, hints)


def check_origin(headers: Mapping[bytes, bytes]) -> None:
    """Refuses a page of another origin (RFC 6455, 10.2). Programs send no `Origin`. A proxy in front may pass the host
    in `X-Forwarded-Host`, which a page cannot set.

    :raises Denied: 403.
    """
    origin = headers.get(b"origin")
    if origin is None:
        return
    host = urlsplit(origin.decode("latin-1")).netloc.lower().encode("latin-1")
    if not host or host not in (headers.get(b"host", b"").lower(), headers.get(b"x-forwarded-host", b"").lower()):
        raise Denied("A page of another origin may not open a connection here.", code="origin_not_allowed")


def nowhere(base: str) -> InvalidRequest:
    """Returns the error for an upgrade at a path that has no WebSocket; *base* is what precedes the one that has."""
    message = f"There is no WebSocket at this path: it is at {base}/responses."
    return InvalidRequest(message, status=404, code="not_found")


async def refuse(error: GatewayError, scope: Scope, send: Send) -> None:
    """Answers an upgrade with *error*: as an HTTP response where the server can send one, else as a close with 1008,
    which servers send as a 403."""
    if RESPONSE not in (scope.get("extensions") or {}):
        return await send({"type": "websocket.close", "code": 1008, "reason": ""})
    reply = failed(error)
    body = reply.body or b""
    headers = [*reply.raw_headers, (b"content-length", b"%d" % len(body))]
    await send({"type": RESPONSE + ".start", "status": error.status, "headers": headers})
    await send({"type": RESPONSE + ".body", "body": body, "more_body": False})
