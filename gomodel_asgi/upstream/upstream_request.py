"""From a Target to the request that goes to its upstream: resolved first, then made of what the client, the provider
and the Target have given.

Most of it is the same for every request of a kind, so that is put together once, as a form: a request without body and
deadline. Nothing of a client's but its wish for a stream may stand in one.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import unquote_plus

import msgspec
from msgspec.structs import replace

from ..dialects.base import Outgoing
from ..dialects.emulations import in_messages
from ..dialects.hosted_items import may_hold
from ..errors import GatewayError, PolicyFailed
from ..exchange.job import FILE_MARK, Job, Setup, provider_of
from ..exchange.reply import JSON_TYPE
from ..operations import BODIED, PLACEHOLDER, ROWS
from ..providers.credential import Credential
from ..providers.provider import Provider, dialect_of, encoded
from ..routing.target import ResolvedTarget, Target
from ..seams.transport import UpstreamRequest
from ..settings import Timeouts
from ..threads import beside
from ..version import __version__
from ..wire.headers import Headers, idempotency_key, is_safe
from ..wire.json_scan import parsed
from ..wire.redaction import carried, redactor_of
from .bodies import refusing_depth

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
encode = msgspec.json.Encoder().encode

USER_AGENT = f"gomodel-asgi/{__version__}".encode()
ACCEPT_JSON = (b"accept", b"application/json")
ACCEPT_STREAM = (b"accept", b"text/event-stream")
AGENT = (b"user-agent", USER_AGENT)

STATELESS = {"previous_response_id": None, "conversation": None, "background": None}
"""What an upstream that keeps nothing is never sent: members that are taken out of a body."""

MOST_FORMS = 16
"""Forms of one resolved target that are kept: a dialect of the host's may name another path each time."""

LISTS = frozenset({b"anthropic-beta"})
"""Headers of which a dialect needs some values whatever a configuration sets them to."""


# Resolution...


MOST_CANDIDATES = 1024
"""Pairs of provider and model that are kept; the model is often the client's own word."""


def kept(target: Target, job: Job) -> ResolvedTarget | None:
    """Returns *target* made concrete, where one that says the same has been before."""
    if target.api_key is not None or target.headers is not None or not isinstance(target.provider, str):
        return None
    if target.timeouts is not None or target.retries is not None:
        return None
    model = target.model if target.model is not None else job.request.model
    found = job.setup.candidates.get((target.provider, model))
    if found is not None and job.setup.guards is not None and found.provider is not provider_of(target, job):
        return None  # guards that ask for some requests alone have each provider in two forms
    if found is None or (target.params is None and target.labels is None):
        return found
    return replace(found, target=target)


async def resolve(target: Target, job: Job) -> ResolvedTarget:
    """Resolves *target*. A function that gives the key is called once for a *job*.

    :raises PolicyFailed: its key could not be had, or cannot be sent.
    """
    made, candidates = await _resolved(target, job), job.setup.candidates
    job.resolved = made
    own = target.api_key is not None or target.headers is not None
    own = own or target.timeouts is not None or target.retries is not None
    if isinstance(target.provider, str) and not own and made.provider.static_credential is not None:
        if len(candidates) >= MOST_CANDIDATES:
            candidates.clear()
        # Without what else this Target says (what it falls back on, labels, members of the body): others say others.
        candidates[target.provider, made.model] = replace(made, target=Target(target.provider, model=made.model))
    return made


async def _resolved(target: Target, job: Job) -> ResolvedTarget:
    provider, setup = provider_of(target, job), job.setup
    model = target.model if target.model is not None else job.request.model
    dialect = None if provider.native else dialect_of(provider)
    timeouts, retries = timeouts_of(target, provider, setup), setup.retries
    for giver in (provider, target):
        retries = giver.retries.over(retries) if giver.retries else retries
    credential = provider.static_credential if target.api_key is None else None
    known = job.resolved
    if credential is None and known is not None:
        if known.provider is provider and known.target.api_key is target.api_key:
            credential = known.credential
    if credential is None:
        credential = await _credential(provider, target)
    redactor = redactor_of(provider.secrets_with(credential, *(carried(target.headers) if target.headers else ())))
    key = None if target.api_key is None else credential.key
    return ResolvedTarget(target, provider, dialect, credential, model, timeouts, retries, redactor, key)


def timeouts_of(target: Target, provider: Provider, setup: Setup) -> Timeouts:
    """Returns the gateway's timeouts, with what the provider and then the Target have of their own put over them."""
    timeouts = setup.timeouts
    for giver in (provider, target):
        timeouts = giver.timeouts.over(timeouts) if giver.timeouts else timeouts
    return timeouts


def longest(target: Target, job: Job) -> float:
    """Returns the seconds that the exchange may take in all: the most that any Target of the chain allows.

    :raises LookupError: the policy named an unknown provider.
    """
    return max(timeouts_of(one, provider_of(one, job), job.setup).total for one in target.chain())


async def _credential(provider: Provider, target: Target) -> Credential:
    """Returns what the request is authorized with.

    :raises PolicyFailed: the host's function for it failed.
    """
    try:
        return await provider.credential(target.api_key)
    except GatewayError:
        raise
    except Exception as error:
        raise PolicyFailed("The gateway has no usable credential for this request.") from error


# Requests...


def translated(candidate: ResolvedTarget, job: Job, outgoing: Outgoing, deadline: float) -> UpstreamRequest:
    """Returns the request to an upstream that speaks another API."""
    kind = (outgoing.method, outgoing.path, outgoing.query, outgoing.headers, job.stream)
    own = bool(candidate.provider.forward_headers) or b"idempotency-key" in job.headers
    form = None if own else candidate.forms.get(kind)
    if form is None:
        query, headers = _joined(outgoing.query, candidate), _headers(candidate, job, True, encoded(outgoing.headers))
        form = request_to(
            candidate.provider, candidate.credential, candidate.timeouts, outgoing.method, outgoing.path, query, headers
        )
        if not own and len(candidate.forms) < MOST_FORMS:
            candidate.forms[kind] = form
    return replace(form, headers=form.headers.copy(), body=outgoing.body, deadline=deadline)


def native(candidate: ResolvedTarget, job: Job, deadline: float) -> UpstreamRequest:
    """The client's own request, for an upstream that speaks the Responses API."""
    request, envelope = job.request, job.request.envelope
    if job.continuation is not None:
        with refusing_depth():
            envelope = job.continuation.envelope(candidate.provider, candidate.key)
    body, params = None, candidate.target.params
    if request.operation in BODIED:
        keep = envelope.preferences and candidate.provider.type == "openrouter"
        if not candidate.provider.stateful:
            params = {**(params or {}), **STATELESS, **({"store": False} if request.operation == "create" else {})}
        body = envelope.render(model=candidate.model, params=params, keep_preferences=keep)
    kind, client = (request.operation, job.stream), job.headers
    # Whether anything of the client, but for its body, goes into the request.
    own = job.query or candidate.provider.forward_headers or b"openai-beta" in client or b"idempotency-key" in client
    own = own or request.response_id is not None or request.connection is not None
    form = None if own else candidate.forms.get(kind)
    if form is None:
        row = ROWS[request.operation]
        path = PLACEHOLDER.sub("{}", row.path).format(request.response_id, request.item_id)
        socket = candidate.provider.websocket and request.connection is not None and request.operation == "create"
        headers = _headers(candidate, job, request.operation in BODIED, [])
        query = _joined(_query(job, candidate), candidate)
        form = request_to(
            candidate.provider, candidate.credential, candidate.timeouts, row.method, path, query, headers, socket
        )
        if not own:
            candidate.forms[kind] = form
    # A copy: a transport of the host's may add headers to the request that it gets.
    return replace(form, headers=form.headers.copy(), body=body, deadline=deadline)


async def retold(request: UpstreamRequest, candidate: ResolvedTarget, job: Job) -> UpstreamRequest:
    """Returns *request* for a native upstream that lacks something: items of hosted tools that it does not run are left
    out, since such servers refuse them; items of the host's tools become calls of their functions; and for an upstream
    that keeps nothing, files are sent as bytes in place of their ids."""
    body, files = request.body, None if candidate.provider.stateful else job.files
    unread, shown = candidate.provider.unread, job.shown(candidate.target)
    has_files = files is not None and body is not None and FILE_MARK in body
    has_items = bool(unread or shown.names) and body is not None and may_hold(body)
    if body is None or not (has_files or has_items):
        return request
    with refusing_depth():
        members = await beside(len(body), partial(_members, body))
        items: Any = await beside(len(body), partial(parsed, members.get("input", b"null")))
        if not isinstance(items, list):
            return request
        if has_items:
            items = in_messages(items, shown, unread)
        if files is not None and has_files:
            items = await files.put_into(items, job)
        return replace(request, body=await beside(len(body), partial(encode, {**members, "input": items})))


def _query(job: Job, candidate: ResolvedTarget) -> str:
    """Returns the client's raw query. A rewritten stream has numbers of its own, so all of it is requested."""
    if job.starting_after(candidate.provider) is None:
        return job.query
    parts = job.query.split("&")
    return "&".join(part for part in parts if unquote_plus(part.partition("=")[0]) != "starting_after")


def request_to(
    provider: Provider,
    credential: Credential,
    timeouts: Timeouts,
    method: str,
    path: str,
    query: str,
    headers: Headers,
    websocket: bool = False,
) -> UpstreamRequest:
    """Returns a request to *provider*, paid with *credential*, without body and deadline. *query* is the whole one."""
    scheme, host, port, uds = provider.origin
    target = f"{provider.base_path}{path}?{query}" if query else provider.base_path + path
    return UpstreamRequest(
        method=method.encode("ascii"),
        scheme=scheme,
        host=host,
        port=port,
        target=target.encode("ascii"),
        headers=headers,
        body=None,
        credential=credential.fingerprint,
        timeouts=timeouts,
        allow_private=provider.allow_private,
        uds=uds,
        websocket=websocket,
    )


def _headers(candidate: ResolvedTarget, job: Job, has_body: bool, extra: Headers) -> Headers:
    provider, client = candidate.provider, job.headers
    headers: Headers = [AGENT, ACCEPT_STREAM if job.stream else ACCEPT_JSON, *candidate.credential.headers]
    if has_body:
        headers.append(JSON_TYPE)
    if provider.native and b"openai-beta" in client and is_safe(client[b"openai-beta"]):
        headers.append((b"openai-beta", client[b"openai-beta"]))
    if b"idempotency-key" in client:
        value = client[b"idempotency-key"]
        headers.append((b"idempotency-key", idempotency_key(job.request.tenant, candidate.credential.key or "", value)))
    for name in provider.forward_headers:
        value = client.get(name.lower().encode("ascii"), b"")
        if value and is_safe(value, 8192):
            headers.append((name.lower().encode("ascii"), value))
    own = candidate.target.headers
    if not extra and not provider.fixed_headers and not own:
        return headers
    return _joining(extra, _over(headers, extra, provider.fixed_headers, encoded(own.items()) if own else []))


def _over(headers: Headers, *layers: Headers) -> Headers:
    """Returns *headers* with later layers replacing earlier members of the same name."""
    for layer in layers:
        if layer:
            names = {name for name, _ in layer}
            headers = [header for header in headers if header[0] not in names] + layer
    return headers


def _joining(needed: Headers, headers: Headers) -> Headers:
    """Returns *headers* with the values of the list headers in *needed* added to what a configuration has put over
    them."""
    for name, value in needed:
        if name in LISTS and (name, value) not in headers:
            values = [part.strip() for key, given in headers if key == name for part in given.split(b",")]
            values += [part for part in value.split(b",") if part not in values]
            headers = [header for header in headers if header[0] != name] + [(name, b",".join(values))]
    return headers


def _joined(query: str, candidate: ResolvedTarget) -> str:
    """Returns the client's raw query under the provider's own, which wins."""
    fixed = candidate.provider.fixed_query
    if not fixed or not query:
        return fixed or query
    names = {unquote_plus(part.partition("=")[0]) for part in fixed.split("&")}
    kept = [part for part in query.split("&") if unquote_plus(part.partition("=")[0]) not in names]
    return "&".join([*kept, fixed])
