"""Requests to one provider that cost nothing, with its own key and over the gateway's transport: for its list of
models, and to learn whether a path is one of its API's."""

from __future__ import annotations

from collections.abc import Mapping

import anyio
from msgspec import Struct
from msgspec.structs import replace

from ..dialects.model_list import PATH, Form, ListedModel, Page, form_of
from ..errors import UpstreamError, UpstreamProtocolError, UpstreamStale, UpstreamTimeout
from ..exchange.job import Setup
from ..exchange.reply import JSON_TYPE
from ..observers.records import clean
from ..providers.credential import Credential
from ..providers.provider import Provider
from ..seams.transport import UpstreamReply, UpstreamRequest
from ..settings import MIB
from ..threads import beside
from ..wire.json_scan import parsed
from ..wire.redaction import Redactor, redactor_of
from .bodies import decoded, examine
from .upstream_request import ACCEPT_JSON, AGENT, request_to

DEADLINE = 10.0  # seconds for all of one provider's list
LARGEST = 4 * MIB  # bytes of that list; OpenRouter's, the longest known, has about one million
BEGINNING = 2048  # bytes that are read of an answer which is no list
SHOWN = 80  # bytes of it that the operator is shown
MOST_PAGES = 20
"""Pages of an upstream's list of models."""
MOST_MODELS = 5_000
"""Models of it that are kept."""


class ModelsAnswer(Struct, frozen=True):
    """What a provider answered: *models*, or None where it gave no list, whatever the *status*. *said* is the
    content type and the beginning of such an answer, for the operator."""

    status: int
    models: tuple[ListedModel, ...] | None = None
    said: str = ""


async def listed_models(provider: Provider, credential: Credential, setup: Setup) -> ModelsAnswer:
    """Returns the models that *provider* lists, all pages of them, within `DEADLINE` seconds.

    :raises GatewayError: it does not answer, or with more than the bounds allow.
    :raises ValueError: the request cannot be written: its headers hold what none can.
    """
    with anyio.move_on_after(DEADLINE):
        return await _all_pages(provider, credential, setup)
    raise UpstreamTimeout(f"The upstream did not list its models within {DEADLINE:g} seconds.")


async def _all_pages(provider: Provider, credential: Credential, setup: Setup) -> ModelsAnswer:
    """Returns all models that *provider* lists.

    :raises UpstreamProtocolError: it lists more pages than are read.
    """
    form, redactor = form_of(provider.dialect_name), redactor_of(provider.secrets_with(credential))
    query: str | None = form.query
    models: tuple[ListedModel, ...] = ()
    size = 0
    for _ in range(MOST_PAGES):
        assert query is not None
        asked = _request(provider, credential, setup, PATH, query)
        status, headers, body = await _fetch(asked, setup, LARGEST - size)
        size += len(body)
        page = await _page(redactor.of(body), form, setup) if status == 200 else None
        if page is None:
            return ModelsAnswer(status, said=_said(headers, body, redactor))
        models, query = models + page.models, page.query
        if len(models) > MOST_MODELS:
            break
        if query is None:
            return ModelsAnswer(status, models)
    raise _too_large()


async def refusal_of(provider: Provider, credential: Credential, setup: Setup, path: str) -> ModelsAnswer:
    """Returns what *provider* answers to an empty object that is posted to *path*, within `DEADLINE` seconds: nothing
    is generated of that, and an API that is there reports what is missing.

    :raises GatewayError: it does not answer.
    """
    with anyio.move_on_after(DEADLINE):
        status, headers, body = await _fetch(_request(provider, credential, setup, path, "", b"{}"), setup, BEGINNING)
        return ModelsAnswer(status, said=_said(headers, body, redactor_of(provider.secrets_with(credential))))
    raise UpstreamTimeout(f"The upstream did not answer within {DEADLINE:g} seconds.")


def _said(headers: Mapping[bytes, bytes], body: bytes, redactor: Redactor) -> str:
    """Returns of which type *body* is, where a redirect leads, and the first words."""
    where = redactor.of(headers.get(b"location", b"").partition(b"?")[0])
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip() or b"no content type"
    words = b" ".join(redactor.of(body[:BEGINNING]).split())[:SHOWN]
    parts = [kind, b"to " + where if where else b"", b"'%s'" % words if words else b"empty"]
    return clean(b", ".join(part for part in parts if part).decode("utf-8", "replace"), BEGINNING) or ""


async def _fetch(request: UpstreamRequest, setup: Setup, room: int) -> tuple[int, Mapping[bytes, bytes], bytes]:
    """Returns the reply's status and headers, and its body: at most *room* bytes, and the beginning of one that is no
    list."""
    try:
        reply = await setup.transport.open(request)
    except UpstreamStale:  # an idle connection that turns out to be closed costs a silent second try
        reply = await setup.transport.open(replace(request, fresh=True))
    try:
        headers, whole = dict(reply.headers), reply.status == 200 and request.method == b"GET"
        if not whole and b"content-encoding" in headers:
            return reply.status, headers, b""
        encoding = headers.get(b"content-encoding", b"").strip().lower()
        return reply.status, headers, await _body(decoded(reply, encoding, room), room if whole else None)
    finally:
        await reply.aclose()


async def _body(reply: UpstreamReply, room: int | None) -> bytes:
    """Returns the body, of at most *room* bytes; or (None) the beginning of it, as far as it comes.

    :raises UpstreamProtocolError: it is larger than *room*.
    """
    pieces, size = [], 0
    try:
        while (room is not None or size < BEGINNING) and (data := await reply.read(DEADLINE)):
            pieces.append(data)
            size += len(data)
            if room is not None and size > room:
                raise _too_large()
    except UpstreamError:
        if room is not None:
            raise
    return b"".join(pieces)


async def _page(body: bytes, form: Form, setup: Setup) -> Page | None:
    """Returns what *body* lists, None where it is no list."""
    try:
        await examine(body, setup.limits)
        return await beside(len(body), lambda: form.read(parsed(body)))
    except (ValueError, RecursionError, UpstreamProtocolError):
        return None


def _request(
    provider: Provider, credential: Credential, setup: Setup, path: str, query: str, body: bytes | None = None
) -> UpstreamRequest:
    query = "&".join(part for part in (query, provider.fixed_query) if part)
    method, kind = ("GET", []) if body is None else ("POST", [JSON_TYPE])
    headers = [AGENT, ACCEPT_JSON, *kind, *credential.headers, *provider.fixed_headers]
    timeouts = provider.timeouts.over(setup.timeouts) if provider.timeouts else setup.timeouts
    request = request_to(provider, credential, timeouts, method, path, query, headers)
    return replace(request, body=body, deadline=DEADLINE)


def _too_large() -> UpstreamProtocolError:
    return UpstreamProtocolError("The upstream's list of models is larger than the limit.")
