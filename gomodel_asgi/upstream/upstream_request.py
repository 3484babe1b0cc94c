"""The request to a resolved target: what of the client's own, of the provider's and of the Target's goes to the
upstream.

Most of it is the same for every request of a kind, so that is put together once, as a form: a request without body and
deadline. Nothing of a client's but its wish for a stream may stand in one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import msgspec
from msgspec.structs import replace

from ..dialects.base import PREFIX, Call, Outgoing, packed_json
from ..dialects.emulations import in_messages
from ..dialects.hosted_items import may_hold
from ..errors import InvalidRequest
from ..exchange.job import FILE_MARK, Job
from ..exchange.reply import JSON_TYPE
from ..operations import BODIED, PLACEHOLDER, ROWS
from ..routing.target import ResolvedTarget, Target
from ..seams.transport import UpstreamRequest
from ..settings import KIB, Limits
from ..threads import beside, paced
from ..version import __version__
from ..wire.headers import Headers, idempotency_key, is_safe
from ..wire.json_body import invalid_json
from ..wire.json_pieces import SMALL
from ..wire.json_scan import Unreadable, check, counted, parsed

# JSON inside the strings of a request: a call's arguments, and what we have packed into `encrypted_content`.
#
# A dialect parses it, and none of it has been counted: to whoever looked at the body it was text. Arguments that are
# nested too deeply to be parsed are text to a dialect too, like all that is no JSON: what a model has once said must
# not end a conversation.


ITEM_LISTS = ("instructions", "input")
PACKED = "encrypted_content"


async def check_strings(found: list[tuple[str, str]], limits: Limits) -> None:
    """Refuses a request whose strings, *found* by `strings_of`, hold more JSON than it may hold itself.

    :raises InvalidRequest: what we have packed is nested too deeply, or all together have too many values.
    """
    room = limits.values
    is_little = sum(len(text) for _, text in found) <= room  # a value takes a character at least
    for path, text in found:
        packed = path.endswith(PACKED)
        data = packed_json(text) if packed else text.encode("utf-8", "surrogatepass")
        depth = limits.depth if packed else len(data)
        try:
            if is_little:
                check(data, depth=depth, values=room)
            else:
                room -= await paced(counted(data, depth=depth, values=room))
        except Unreadable as error:
            message = f"The JSON in '{path}' cannot be read: {error}"
            raise InvalidRequest(message, param=path, code="invalid_json") from None


def strings_of(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The strings that hold JSON, by path."""
    found: list[tuple[str, str]] = []
    for name in ITEM_LISTS:
        items = body.get(name)
        for index, item in enumerate(items if isinstance(items, list) else ()):
            if not isinstance(item, dict):
                continue
            arguments, packed = item.get("arguments"), item.get(PACKED)
            if isinstance(arguments, str):
                found.append((f"{name}[{index}].arguments", arguments))
            if isinstance(packed, str) and packed.startswith(PREFIX):
                found.append((f"{name}[{index}].{PACKED}", packed))
    return found


_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
encode = msgspec.json.Encoder().encode

USER_AGENT = f"gomodel-asgi/{__version__}".encode()
ACCEPT_JSON = (b"accept", b"application/json")
ACCEPT_STREAM = (b"accept", b"text/event-stream")
AGENT = (b"user-agent", USER_AGENT)

STATELESS = {"previous_response_id": None, "conversation": None, "background": None}
"""What an upstream that keeps nothing is never sent: members that are taken out of a body."""

MOST_FORMS = 16
"""Forms of one resolved target that are kept: a dialect of the host's may ask for another path each time."""

LISTS = frozenset({b"anthropic-beta"})
"""Headers of which a dialect needs some values whatever a configuration sets them to."""


@contextmanager
def refusing_depth() -> Iterator[None]:
    """Turns a RecursionError into a 400: the earlier conversation may be nested more deeply than a request, and what
    cannot be checked is not sent.

    :raises InvalidRequest: instead of a RecursionError.
    """
    try:
        yield
    except RecursionError:
        raise too_deep() from None


def too_deep() -> InvalidRequest:
    """The 400 for what was said before and is too deep to be looked at."""
    return invalid_json("what it holds or continues is nested too deeply.")


async def call_of(candidate: ResolvedTarget, job: Job, body: Mapping[str, Any] | None = None) -> Call:
    """The request in the client's terms, for a dialect to translate. *body* replaces the client's parsed one.

    :raises InvalidRequest: it cannot be parsed, names no model, or names state or a file that is not to be had.
    """
    envelope, target = job.request.envelope, candidate.target
    if body is None:
        if envelope.parsed is None and len(envelope.raw) > SMALL:
            await paced(envelope.parsing())
        if job.continuation is None:
            body = envelope.body
        else:
            with refusing_depth():
                body = job.continuation.body(candidate.provider, candidate.key)
    merged = {**body}
    merged.pop("provider", None)
    for name, value in (target.params or {}).items():
        merged.pop(name, None) if value is None else merged.__setitem__(name, value)
    if strings := strings_of(merged):
        await check_strings(strings, job.setup.limits)
    if candidate.model is None:
        raise InvalidRequest("Name a 'model'.", param="model", code="missing_required_parameter")
    merged["model"] = candidate.model
    provider = candidate.provider
    call = Call(
        operation=job.request.operation,
        body=merged,
        model=candidate.model,
        stream=envelope.stream,
        provider=provider.name,
        type=provider.type or provider.name,
        unsupported=provider.unsupported,
        depth=job.setup.limits.depth,
        reasoning_tags=provider.reasoning_tags,
        shown=job.shown(target),
    )
    return call if job.files is None else await job.files.put_in(call, candidate, job)


async def outgoing_of(candidate: ResolvedTarget, job: Job, call: Call) -> Outgoing:
    """*call* in the upstream's form.

    :raises InvalidRequest: it cannot be translated.
    """
    assert candidate.dialect is not None
    size, items = len(job.request.envelope.raw), call.body.get("input")
    if job.continuation is not None and isinstance(items, list):
        size += len(items) * KIB  # what was said before is no part of the client's own body
    try:
        return await beside(size, partial(candidate.dialect.request, call))
    except RecursionError:
        raise too_deep() from None


def translated(candidate: ResolvedTarget, job: Job, outgoing: Outgoing, deadline: float) -> UpstreamRequest:
    """The request to an upstream that speaks another API."""
    kind = (outgoing.method, outgoing.path, outgoing.query, outgoing.headers, job.stream)
    own = bool(candidate.provider.forward_headers) or b"idempotency-key" in job.headers
    form = None if own else candidate.forms.get(kind)
    if form is None:
        extra = [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in outgoing.headers]
        query = _joined(outgoing.query, candidate)
        form = _form(candidate, outgoing.method, outgoing.path, query, _headers(candidate, job, True, extra))
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
        form = _native_form(candidate, job)
        if not own:
            candidate.forms[kind] = form
    # A transport of the host's may add headers to the request that it is given: to its own copy.
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


def _native_form(candidate: ResolvedTarget, job: Job) -> UpstreamRequest:
    request = job.request
    row = ROWS[request.operation]
    path = PLACEHOLDER.sub("{}", row.path).format(request.response_id, request.item_id)
    socket = candidate.provider.websocket and request.connection is not None and request.operation == "create"
    headers = _headers(candidate, job, request.operation in BODIED, [])
    return _form(candidate, row.method, path, _joined(_query(job, candidate), candidate), headers, socket)


def starting_after(job: Job, candidate: ResolvedTarget) -> int | None:
    """Returns the number after which a rewritten stream goes on that is sent again; None where nothing of it is left
    out."""
    if job.request.operation != "retrieve" or not candidate.provider.normalize:
        return None
    given = [value for name, value in parse_qsl(job.query) if name == "starting_after"]
    return int(given[-1]) if given and re.fullmatch("[0-9]{1,18}", given[-1]) else None


def _query(job: Job, candidate: ResolvedTarget) -> str:
    """The client's raw query. A rewritten stream has numbers of its own, so the upstream is asked for all of it."""
    if starting_after(job, candidate) is None:
        return job.query
    parts = job.query.split("&")
    return "&".join(part for part in parts if unquote_plus(part.partition("=")[0]) != "starting_after")


def _form(
    candidate: ResolvedTarget, method: str, path: str, query: str, headers: Headers, websocket: bool = False
) -> UpstreamRequest:
    """A request to *candidate* without body and deadline."""
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
        body=None,
        credential=candidate.credential.fingerprint,
        timeouts=candidate.timeouts,
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
    if not extra and not provider.fixed_headers and not candidate.target.headers:
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


def _joined(query: str, candidate: ResolvedTarget) -> str:
    """The client's raw query under the provider's own, which wins."""
    fixed = candidate.provider.fixed_query
    if not fixed or not query:
        return fixed or query
    names = {unquote_plus(part.partition("=")[0]) for part in fixed.split("&")}
    kept = [part for part in query.split("&") if unquote_plus(part.partition("=")[0]) not in names]
    return "&".join([*kept, fixed])
