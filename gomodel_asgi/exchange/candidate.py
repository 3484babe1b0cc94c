"""A Target made concrete: which provider, with which key and model, under which deadlines; and the request to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from msgspec import Struct

from ..dialects.base import Call, Dialect, Outgoing
from ..dialects.built_in import built_in
from ..envelope import check_depth
from ..errors import GatewayError, InvalidRequest, PolicyFailed
from ..headers import Headers, idempotency_key, is_safe
from ..providers.provider import Credential, Provider
from ..routing import Target
from ..settings import Retries, Timeouts
from ..transport.base import UpstreamRequest
from ..version import __version__
from .job import Job

USER_AGENT = f"gomodel-asgi/{__version__}".encode()
JSON = (b"content-type", b"application/json")
ACCEPT_JSON = (b"accept", b"application/json")
ACCEPT_STREAM = (b"accept", b"text/event-stream")
AGENT = (b"user-agent", USER_AGENT)

PATHS = {
    "create": ("POST", "/responses"),
    "compact": ("POST", "/responses/compact"),
    "input_tokens": ("POST", "/responses/input_tokens"),
    "retrieve": ("GET", "/responses/{}"),
    "delete": ("DELETE", "/responses/{}"),
    "cancel": ("POST", "/responses/{}/cancel"),
    "input_items": ("GET", "/responses/{}/input_items"),
    "conversation_create": ("POST", "/conversations"),
    "conversation_retrieve": ("GET", "/conversations/{}"),
    "conversation_update": ("POST", "/conversations/{}"),
    "conversation_delete": ("DELETE", "/conversations/{}"),
    "conversation_items": ("GET", "/conversations/{}/items"),
    "conversation_items_create": ("POST", "/conversations/{}/items"),
    "conversation_item": ("GET", "/conversations/{}/items/{}"),
    "conversation_item_delete": ("DELETE", "/conversations/{}/items/{}"),
}


LISTS = frozenset({b"anthropic-beta"})
"""Headers of which a dialect needs some values whatever a configuration sets them to."""

BODIED = frozenset(
    {"create", "compact", "input_tokens", "conversation_create", "conversation_update", "conversation_items_create"}
)


class Candidate(Struct, frozen=True):
    """One Target of a chain, resolved; *dialect* is None where the upstream speaks the Responses API itself."""

    target: Target
    provider: Provider
    dialect: Dialect | None
    credential: Credential
    model: str | None
    timeouts: Timeouts
    retries: Retries

    @property
    def key(self) -> str | None:
        """The credential that the Target brought itself; None: it is the provider's."""
        return self.credential.key if self.own_key else None

    @property
    def own_key(self) -> bool:
        """Whether the Target brought its credential itself."""
        return self.target.api_key is not None

    @property
    def secrets(self) -> list[str]:
        """What an upstream could quote back and nobody may be told: the key, and headers that may carry another."""
        given = self.target.headers or {}
        return [self.credential.key or "", *given.values(), *self.provider.headers.values()]


def provider_of(target: Target, job: Job) -> Provider:
    """The Target's provider.

    :raises LookupError: the policy named one that is not configured: a programming error, told to the host.
    """
    if isinstance(target.provider, Provider):
        return target.provider
    provider = job.setup.registry.by_name.get(target.provider)
    if provider is None:
        raise LookupError(f"The policy named the provider {target.provider!r}, which is not configured.")
    return provider


async def resolve(target: Target, job: Job) -> Candidate:
    """Make *target* concrete.

    :raises PolicyFailed: its key could not be had, or cannot be sent.
    """
    provider, setup = provider_of(target, job), job.setup
    dialect = None if provider.native else _dialect(provider)
    timeouts, retries = setup.timeouts, setup.retries
    for giver in (provider, target):
        timeouts = giver.timeouts.over(timeouts) if giver.timeouts else timeouts
        retries = giver.retries.over(retries) if giver.retries else retries
    model = target.model if target.model is not None else job.request.model
    credential = provider.standing if target.api_key is None else None
    if credential is None:
        credential = await _credential(provider, target)
    return Candidate(target, provider, dialect, credential, model, timeouts, retries)


async def _credential(provider: Provider, target: Target) -> Credential:
    try:
        return await provider.credential(target.api_key)
    except GatewayError:
        raise
    except Exception as error:
        raise PolicyFailed("The gateway has no usable credential for this request.") from error


def _dialect(provider: Provider) -> Dialect:
    return built_in(provider.dialect) if isinstance(provider.dialect, str) else provider.dialect


def call_of(candidate: Candidate, job: Job, body: Mapping[str, Any] | None = None) -> Call:
    """The request in the client's terms, for a dialect to translate. *body* replaces the client's parsed one."""
    envelope, target = job.request.envelope, candidate.target
    if body is None:
        check_depth(envelope.raw, job.setup.limits.depth)
        past = job.past
        body = envelope.body if past is None else past.body(candidate.provider, candidate.key)
    merged = {name: value for name, value in body.items() if name != "provider"}
    for name, value in (target.params or {}).items():
        merged.pop(name, None) if value is None else merged.__setitem__(name, value)
    if candidate.model is None:
        raise InvalidRequest("Name a 'model'.", param="model", code="missing_required_parameter")
    provider = candidate.provider
    return Call(
        operation=job.request.operation,
        body={**merged, "model": candidate.model},
        model=candidate.model,
        stream=envelope.stream,
        provider=provider.name,
        type=provider.type or provider.name,
        unsupported=provider.unsupported,
        depth=job.setup.limits.depth,
    )


def translated(
    candidate: Candidate, job: Job, outgoing: Outgoing, deadline: float, fresh: bool = False
) -> UpstreamRequest:
    """The request to an upstream that speaks another API."""
    extra = [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in outgoing.headers]
    query = _joined(outgoing.query, candidate)
    method, path, body = outgoing.method, outgoing.path, outgoing.body
    return _request(candidate, job, method, path, query, body, _headers(candidate, job, True, extra), deadline, fresh)


def native(candidate: Candidate, job: Job, deadline: float, fresh: bool = False) -> UpstreamRequest:
    """The client's own request, for an upstream that speaks the Responses API."""
    request = job.request
    method, path = PATHS[request.operation]
    body = None
    past, envelope = job.past, request.envelope
    if past is not None:
        envelope = past.envelope(candidate.provider, candidate.key)
    if request.operation in BODIED:
        keep = candidate.provider.type == "openrouter"
        body = envelope.render(model=candidate.model, params=candidate.target.params, keep_preferences=keep)
    query = _joined(job.query, candidate)
    headers = _headers(candidate, job, body is not None, [])
    path = path.format(request.response_id, request.item_id) if request.response_id else path
    socket = candidate.provider.websocket and request.connection is not None and request.operation == "create"
    return _request(candidate, job, method, path, query, body, headers, deadline, fresh, socket)


def _request(
    candidate: Candidate,
    job: Job,
    method: str,
    path: str,
    query: str,
    body: bytes | None,
    headers: Headers,
    deadline: float,
    fresh: bool,
    websocket: bool = False,
) -> UpstreamRequest:
    provider = candidate.provider
    scheme, host, port, uds = provider.origin
    target = f"{provider.base_path}{path}?{query}" if query else provider.base_path + path
    return UpstreamRequest(
        method=method.encode("ascii"),
        scheme=scheme,
        host=host,
        port=port,
        target=target.encode("ascii"),
        headers=headers,
        body=body,
        credential=candidate.credential.fingerprint,
        timeouts=candidate.timeouts,
        deadline=deadline,
        allow_private=provider.allow_private,
        uds=uds,
        fresh=fresh,
        websocket=websocket,
    )


def _headers(candidate: Candidate, job: Job, has_body: bool, extra: Headers) -> Headers:
    provider, client = candidate.provider, job.headers
    headers: Headers = [AGENT, ACCEPT_STREAM if job.stream else ACCEPT_JSON, *candidate.credential.headers]
    if has_body:
        headers.append(JSON)
    if provider.native and b"openai-beta" in client and is_safe(client[b"openai-beta"]):
        headers.append((b"openai-beta", client[b"openai-beta"]))
    if b"idempotency-key" in client:
        value = client[b"idempotency-key"]
        headers.append((b"idempotency-key", idempotency_key(job.request.tenant, candidate.credential.key or "", value)))
    for name in provider.forward_headers:
        value = client.get(name.lower().encode("ascii"), b"")
        if value and is_safe(value, 8192):
            headers.append((name.lower().encode("ascii"), value))
    if not extra and not provider.headers and not candidate.target.headers:
        return headers
    return _joining(extra, _over(headers, extra, provider.fixed_headers, _target_headers(candidate.target)))


def _target_headers(target: Target) -> Headers:
    given = target.headers or {}
    return [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in given.items()]


def _over(headers: Headers, *layers: Headers) -> Headers:
    """*headers* with later layers replacing earlier members of the same name."""
    for layer in layers:
        if layer:
            names = {name for name, _ in layer}
            headers = [header for header in headers if header[0] not in names] + layer
    return headers


def _joining(needed: Headers, headers: Headers) -> Headers:
    """*headers* with the values of the list headers in *needed* added to what a configuration has put over them."""
    for name, value in needed:
        if name in LISTS and (name, value) not in headers:
            values = [part.strip() for key, given in headers if key == name for part in given.split(b",")]
            values += [part for part in value.split(b",") if part not in values]
            headers = [header for header in headers if header[0] != name] + [(name, b",".join(values))]
    return headers


def _joined(query: str, candidate: Candidate) -> str:
    """The client's raw query under the provider's own, which wins."""
    fixed = candidate.provider.fixed_query
    if not fixed or not query:
        return fixed or query
    names = {unquote_plus(part.partition("=")[0]) for part in fixed.split("&")}
    kept = [part for part in query.split("&") if unquote_plus(part.partition("=")[0]) not in names]
    return "&".join([*kept, fixed])
