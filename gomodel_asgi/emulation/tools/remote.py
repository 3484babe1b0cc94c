"""The MCP servers that need the official SDK: those of it in this process, those that the host has mapped by URL, and
those that only a client names. The SDK, half a second of imports, is imported when the first is opened.

A server that only a client names is a stranger's: what the client gives for it goes there and nowhere else, and nothing
of ours does; its address must be public, whatever its name stands for when a connection is made.
"""

from __future__ import annotations

import importlib.util
import re
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from anyio.to_thread import run_sync

from ...errors import Denied, GatewayError, InvalidRequest
from ...extras import missing
from ...providers.credential import fingerprint
from ...providers.provider import HEADER_NAME, HEADER_VALUE, PORTS
from ...seams.transport import Headers, Transport
from ...settings import KIB
from ...threads import call as called
from ...tools import Remote, Server
from ...transport.request import Place
from ...wire.headers import NEVER_FORWARDED
from ...wire.redaction import carried
from .seams import Json, Opening, Session, Source, Unlisted, Visit
from .sessions import Owned

MOST_URL = 2 * KIB
"""Characters of a client's URL."""
MOST_HEADERS = 32
"""Headers that a client may give for its own server."""
MOST_OF_HEADERS = 16 * KIB
"""Characters of all names and values of a client's headers: what servers take as one head, with room for ours."""
LONG = 16
"""Characters of a part of a path that may be a token: what is longer is not shown, should the server quote it."""

CREDENTIALS = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key"})
"""What a client may give for its own server, although it is never forwarded elsewhere."""
PROTOCOL = re.compile(r"mcp-.*|last-event-id|accept|forwarded|via|x-forwarded-.*|x-real-ip|proxy-.*|sec-.*")
"""Headers that say what is asked, and on whose behalf: the SDK's to set, and a proxy's."""
NEEDED = "mcp: a server by URL, or of the mcp SDK, needs mcp, 2.0 or later"


def source_of(label: str, server: Server, transport: Transport) -> Source:
    """How *server* is opened, which is no list of functions.

    :raises TypeError: it is neither a URL nor a server of the `mcp` SDK.
    :raises ValueError: the URL or a header cannot be used; the message quotes neither.
    :raises ImportError: the extra is not installed.
    """
    if not isinstance(server.source, str) and not _is_of_sdk(server.source):
        what = "a list of functions, a URL or a server of the mcp SDK"
        raise TypeError(f"mcp: {label!r} must be {what}, not {type(server.source).__name__}.")
    _demand_extra()
    if not isinstance(server.source, str):
        return InProcess(server.source)
    try:
        return Mapped(server, transport)
    except ValueError as error:
        raise ValueError(f"mcp: {label!r}: {error}") from None


def client_named(remote: Remote, transport: Transport) -> Source:
    """How servers are opened that only a client names, where *remote* admits them.

    :raises ImportError: the extra is not installed.
    """
    _demand_extra()
    return ClientNamed(remote, transport)


def owned(connect: Callable[[Visit], AbstractAsyncContextManager[Session]], visit: Visit) -> Opening:
    """Opens a session by *connect*, in a task of its own."""
    return lambda deadline: Owned(partial(connect, replace(visit, deadline=deadline)), deadline)


def _is_of_sdk(source: Any) -> bool:
    return any(f"{kind.__module__}.".startswith("mcp.server.") for kind in type(source).__mro__)


def _demand_extra() -> None:
    """Checks that the extra `mcp` is installed.

    :raises ImportError: it is not.
    """
    if importlib.util.find_spec("mcp") is None:
        raise missing("mcp", NEEDED)


async def _sdk() -> ModuleType:
    """The module that knows the SDK, imported beside the event loop."""
    return await run_sync(importlib.import_module, f"{__package__}.mcp_client", abandon_on_cancel=True)


class InProcess:
    """A server of the SDK in this process; see `seams.Source`."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.id = secrets.token_hex(16)

    async def admit(self, visit: Visit) -> Opening:
        """See `seams.Source`."""
        return owned(self._connect, visit)

    def place(self, visit: Visit) -> str | None:
        """It is this object: another process may have another."""
        return self.id

    @asynccontextmanager
    async def _connect(self, visit: Visit) -> AsyncIterator[Session]:
        sdk = await _sdk()
        async with sdk.in_process(self.server, visit) as session:
            yield session


class Mapped:
    """A server at a URL of the host's; see `seams.Source`. The host's headers go there and nowhere else; what a client
    says of the server is not looked at.

    :raises ValueError: the URL or a header cannot be used.
    """

    def __init__(self, server: Server, transport: Transport) -> None:
        self.url = split(server.source, ("http", "https"))
        self.headers = server.headers
        self.transport = transport
        if isinstance(self.headers, Mapping):
            checked(self.headers)

    async def admit(self, visit: Visit) -> Opening:
        """See `seams.Source`."""
        return owned(self._connect, visit)

    def place(self, visit: Visit) -> str | None:
        """See `seams.Source`: the host's URL, whatever the client named."""
        return self.url.geturl()

    @asynccontextmanager
    async def _connect(self, visit: Visit) -> AsyncIterator[Session]:
        sdk = await _sdk()
        place = place_of(self.url, await self._given(visit), visit, allow_private=True)
        async with sdk.over_http(place, self.transport, visit) as session:
            yield session

    async def _given(self, visit: Visit) -> Mapping[str, str]:
        """The headers for this request.

        :raises Unlisted: the host's function failed, or gave what is none.
        """
        if self.headers is None:
            return {}
        if isinstance(self.headers, Mapping):
            return self.headers
        try:
            given = await called(self.headers, visit.call)
            checked(given)
        except Exception as error:
            visit.notice(f"The function of the headers failed: {type(error).__name__}.")
            raise Unlisted("The credentials for the server could not be had.") from None
        return dict(given)


class ClientNamed:
    """A server that only the client names; see `seams.Source`. *remote* is asked whether it may be asked.

    What *remote* does not admit is 403, and not the 424 of a server that could not be listed: it is the host's verdict,
    which stands before anything was sent, and holds for a stream before it begins. Clients repeat neither (openai
    3.54.0, `_should_retry`).
    """

    def __init__(self, remote: Remote, transport: Transport) -> None:
        self.remote = remote
        self.transport = transport

    async def admit(self, visit: Visit) -> Opening:
        """See `seams.Source`: where the client says, if the host's function lets it.

        :raises Unlisted: the URL, the authorization or the headers are malformed.
        :raises Denied: the host does not allow this server.
        """
        try:
            url, headers = read_place(visit.url, visit.authorization, visit.headers)
        except InvalidRequest as error:
            raise Unlisted(error.message) from None
        if not await self._is_admitted(visit):
            message = f"The MCP server '{visit.label[:64]}' is not one that may be asked here."
            raise Denied(message, code="mcp_server_not_allowed", param="tools")
        return owned(partial(self._connect, url, headers), visit)

    def place(self, visit: Visit) -> str | None:
        """See `seams.Source`: the client's URL."""
        return visit.url

    @asynccontextmanager
    async def _connect(self, url: SplitResult, headers: Mapping[str, str], visit: Visit) -> AsyncIterator[Session]:
        sdk = await _sdk()
        place = place_of(url, headers, visit, allow_private=False)
        async with sdk.over_http(place, self.transport, visit) as session:
            yield session

    async def _is_admitted(self, visit: Visit) -> bool:
        """Returns whether the host's function says so; one that fails does not.

        :raises GatewayError: the function's own, or it could not be asked.
        """
        try:
            return await called(self.remote, visit.url, visit.call) is True
        except GatewayError:
            raise
        except Exception as error:
            visit.notice(f"The function that admits servers failed: {type(error).__name__}.")
        return False


# What is written where...


def read_place(url: Any, authorization: Any, headers: Any) -> tuple[SplitResult, dict[str, str]]:
    """Where a server is that a client names, and what the client has sent to it: the members `server_url`,
    `authorization` and `headers` of its declaration.

    :raises InvalidRequest: one of them may not be used; the message names it and quotes nothing.
    """
    try:
        if not isinstance(url, str) or len(url) > MOST_URL:
            raise ValueError(f"a URL has at most {MOST_URL} characters.")
        place = split(url, ("https",))
    except ValueError as error:
        raise InvalidRequest(f"The `server_url` of an MCP server cannot be used: {error}", param="tools") from None
    try:
        given = _of_client(headers)
        if authorization is not None:
            given = {**given, "authorization": _bearer(authorization, given)}
    except ValueError as error:
        raise InvalidRequest(f"The `headers` of an MCP server cannot be used: {error}", param="tools") from None
    return place, given


def _of_client(headers: Any) -> dict[str, str]:
    """Returns the headers that the client wants the server to have, their names in lower case.

    :raises ValueError: they are too many or too large, or one may not be set.
    """
    if headers is None:
        return {}
    checked(headers)
    given = {name.lower(): value for name, value in headers.items()}
    if len(given) < len(headers):
        raise ValueError("one is there twice.")
    if len(given) > MOST_HEADERS or sum(len(name) + len(value) for name, value in given.items()) > MOST_OF_HEADERS:
        raise ValueError(f"there are more than {MOST_HEADERS}, or more than {MOST_OF_HEADERS // KIB} KiB of them.")
    for name in given:
        if (name in NEVER_FORWARDED and name not in CREDENTIALS) or PROTOCOL.fullmatch(name):
            raise ValueError(f"{name!r} belongs to the protocol, or to one hop.")
    return given


def _bearer(authorization: Any, given: Json) -> str:
    """The header that carries an OAuth token: `authorization` is that alone (OpenAI's guide to MCP).

    :raises ValueError: it is no token, or the headers hold one too.
    """
    if "authorization" in given:
        raise ValueError("`authorization` says the same as one of them; give one of the two.")
    if not isinstance(authorization, str) or len(authorization) > MOST_OF_HEADERS:
        raise ValueError("`authorization` is no token.")
    value = authorization if authorization.lower().startswith("bearer ") else f"Bearer {authorization}"
    checked({"authorization": value})
    return value


def checked(headers: Any) -> None:
    """Refuses headers that cannot be written, or are the transport's own.

    :raises ValueError: there is one; no value is quoted.
    """
    if not isinstance(headers, Mapping):
        raise ValueError("headers are a mapping of names to values.")
    for name, value in headers.items():
        if not isinstance(name, str) or not HEADER_NAME.fullmatch(name):
            raise ValueError("the name of a header is none.")
        if not isinstance(value, str) or not HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the value of {name[:64]!r} cannot stand in a header.")
        if name.lower() in ("host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade"):
            raise ValueError(f"{name!r} is not for you to set.")


def split(url: str, schemes: tuple[str, ...]) -> SplitResult:
    """Returns the parts of *url*.

    :raises ValueError: it has another scheme, no host, userinfo, or what no URL may have; nothing of it is quoted.
    """
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError("it must be printable ASCII, names in their `xn--` form and the rest percent-encoded.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("it is no URL.") from None
    if parts.scheme not in schemes:
        raise ValueError(f"it must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}.")
    if not parts.hostname or port == 0:
        raise ValueError("it names no host.")
    if "@" in parts.netloc:
        raise ValueError("it must not hold a name or password; use headers.")
    return parts


def place_of(url: SplitResult, headers: Mapping[str, str], visit: Visit, *, allow_private: bool) -> Place:
    """Returns the place of a server. Its connections are shared only within a tenant, and with the same credentials."""
    host, port = url.hostname or "", url.port or PORTS[url.scheme]
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    whose = repr((visit.call.request.tenant, visit.label, target, sorted(headers.items()), allow_private))
    pairs: Headers = [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
    return Place(
        scheme=url.scheme,
        host=host,
        port=port,
        target=target.encode("ascii"),
        headers=pairs,
        credential=fingerprint(whose),
        allow_private=allow_private,
        secrets=secrets_of(url, headers, of_client=not allow_private),
    )


def secrets_of(url: SplitResult, headers: Mapping[str, str], *, of_client: bool = False) -> tuple[str, ...]:
    """What is taken out of all that the server says: the credentials in headers, and what in the URL may be one. The
    values of a client's headers are never shown (OpenAI, "MCP and connectors"), so all of them are taken out."""
    query = [value for _, value in parse_qsl(url.query)]
    path = [part for part in url.path.split("/") if len(part) > LONG]
    return tuple(dict.fromkeys((*carried(headers), *(headers.values() if of_client else ()), *query, *path)))
