"""Asks one provider for its list of models, under the house's key and over the gateway's own transport."""

from __future__ import annotations

import anyio
from msgspec import Struct
from msgspec.structs import replace

from ..dialects.model_list import PATH, Form, ListedModel, Page, form_of
from ..errors import UpstreamProtocolError, UpstreamStale, UpstreamTimeout
from ..exchange.job import Setup
from ..providers.provider import Credential, Provider
from ..seams.transport import UpstreamReply, UpstreamRequest
from ..settings import MIB
from ..threads import beside
from ..wire.json_scan import parsed
from ..wire.redaction import redactor_of
from .unary import decoded, examine
from .upstream_request import ACCEPT_JSON, AGENT

DEADLINE = 10.0  # seconds for all of one provider's list
LARGEST = 4 * MIB  # bytes of that list; OpenRouter's, the longest known, has about one million
MOST_PAGES = 20
"""Pages of an upstream's list of models."""
MOST_MODELS = 5_000
"""Models of it that are kept."""


class ModelsAnswer(Struct, frozen=True):
    """What a provider answered: *models*, or None where it gave no list, *status* being 200 too where it said something
    else."""

    status: int
    models: tuple[ListedModel, ...] | None = None


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
    form = form_of(provider.dialect if isinstance(provider.dialect, str) else provider.dialect.name)
    query: str | None = form.query
    models: tuple[ListedModel, ...] = ()
    size = 0
    for _ in range(MOST_PAGES):
        assert query is not None
        status, body = await _fetch(_request(provider, credential, setup, query), setup, LARGEST - size)
        size += len(body)
        page = await _page(redactor_of(_secrets(provider, credential)).of(body), form, setup) if status == 200 else None
        if page is None:
            return ModelsAnswer(status)
        models, query = models + page.models, page.query
        if len(models) > MOST_MODELS:
            break
        if query is None:
            return ModelsAnswer(status, models)
    raise _too_large()


async def _fetch(request: UpstreamRequest, setup: Setup, room: int) -> tuple[int, bytes]:
    """Returns the reply's status, and its body where that is 200: at most *room* bytes."""
    try:
        reply = await setup.transport.open(request)
    except UpstreamStale:  # an idle connection that turns out to be closed costs a silent second try
        reply = await setup.transport.open(replace(request, fresh=True))
    try:
        if reply.status != 200:
            return reply.status, b""
        encoding = dict(reply.headers).get(b"content-encoding", b"").strip().lower()
        return reply.status, await _body(decoded(reply, encoding, room), room)
    finally:
        await reply.aclose()


async def _body(reply: UpstreamReply, room: int) -> bytes:
    """Returns the body of *reply*.

    :raises UpstreamProtocolError: it is larger than *room*, in bytes.
    """
    pieces: list[bytes] = []
    while data := await reply.read(DEADLINE):
        pieces.append(data)
        room -= len(data)
        if room < 0:
            raise _too_large()
    return b"".join(pieces)


async def _page(body: bytes, form: Form, setup: Setup) -> Page | None:
    """Returns what *body* lists, None where it is no list."""
    try:
        await examine(body, setup.limits)
        return await beside(len(body), lambda: form.read(parsed(body)))
    except (ValueError, RecursionError, UpstreamProtocolError):
        return None


def _request(provider: Provider, credential: Credential, setup: Setup, query: str) -> UpstreamRequest:
    scheme, host, port, uds = provider.origin
    query = "&".join(part for part in (query, provider.fixed_query) if part)
    target = provider.base_path + PATH + (f"?{query}" if query else "")
    return UpstreamRequest(
        method=b"GET",
        scheme=scheme,
        host=host,
        port=port,
        target=target.encode("ascii"),
        headers=[AGENT, ACCEPT_JSON, *credential.headers, *provider.fixed_headers],
        body=None,
        credential=credential.fingerprint,
        timeouts=provider.timeouts.over(setup.timeouts) if provider.timeouts else setup.timeouts,
        deadline=DEADLINE,
        allow_private=provider.allow_private,
        uds=uds,
    )


def _secrets(provider: Provider, credential: Credential) -> tuple[str, ...]:
    """What an upstream could quote back, and no caller may read as a model's name."""
    return (*((credential.key,) if credential.key else ()), *provider.carried)


def _too_large() -> UpstreamProtocolError:
    return UpstreamProtocolError("The upstream's list of models is larger than the limit.")
