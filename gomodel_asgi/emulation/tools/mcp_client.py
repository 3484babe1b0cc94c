"""Sessions by the official `mcp` SDK: with servers in this process, and with others over Streamable HTTP.

What an SDK may raise is of any kind, and may quote anything; here all of it becomes an `Outcome` or `Unlisted` in our
own words, or in the server's where it is the server that speaks. Sampling, elicitation and roots stay off: a server
that asks for them gets the answer that they are not supported.

What a server says of its tools is mended before the SDK reads it: the SDK refuses the whole list for one bad tool, and
would check results against the server's own schemas, whose patterns may take forever.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from inspect import signature
from types import TracebackType
from typing import Any

import anyio
from pydantic import TypeAdapter, ValidationError

from ...extras import missing
from ...seams.transport import Transport
from ...settings import KIB
from ...tools import Call
from ...transport.request import Place
from ...version import __version__
from .listing import Found, outcome_of, shown_or_none
from .seams import Json, Listed, Outcome, Session, Unlisted, Visit, plain, refused, unreachable
from .sessions import LATE, apart

try:
    import mcp_types
    from mcp import Client, MCPError
    from mcp.client.streamable_http import streamable_http_client

    from ...transport.mcp_http import MOST_REPLY, STAND_IN, Asking, asking, client_of
except ImportError as error:
    raise missing("mcp", "MCP servers need mcp, 2.0 or later") from error

MOST_PAGES = 100
"""Pages of a server's list; the server decides when there are no more."""
MOST_MESSAGE = 4 * KIB
"""Characters of a server's error message."""

EVENTS = "max_sse_event_size"
BOUND: dict[str, Any] = {EVENTS: MOST_REPLY} if EVENTS in signature(streamable_http_client).parameters else {}
"""How large an event may be: as large as a reply, where the SDK (from 2.3) takes it."""

INFO = mcp_types.Implementation(name="gomodel-asgi", version=__version__)
RESULT: TypeAdapter[Any] = TypeAdapter(mcp_types.CallToolResult | mcp_types.InputRequiredResult)

CUT = frozenset(
    {
        "Connection closed",
        "SSE stream ended without a response",
        "SSE stream ended and reconnection attempts were exhausted",
    }
)
"""What the SDK, not the server, says with the code -32000 (`mcp.client.streamable_http`)."""
UNREAD = "Failed to parse"
"""How the SDK begins what it says with the code -32700, which goes on with what it could not read."""
BROKEN = "The server's answer is not what the protocol says."
CLOSED = "The connection to the server was closed."
ASKS = "The server asks for more input, which nobody here can give."
UNKNOWN = "The server could not be asked."


@contextmanager
def answers_by(deadline: float) -> Iterator[Asking]:
    """What is asked meanwhile has to be answered by *deadline*."""
    current = Asking(deadline)
    token = asking.set(current)
    try:
        yield current
    finally:
        asking.reset(token)


def error_of(error: Exception, current: Asking) -> Json:
    """The `error` of an `mcp_call` that failed with *error*, which task groups may have wrapped."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return unreachable(504, LATE)
    if current.failure is not None:
        return unreachable(current.failure.code, current.failure.message)
    if isinstance(error, MCPError):
        return _protocol_error(error)
    if isinstance(error, ValidationError):
        return refused(mcp_types.INTERNAL_ERROR, BROKEN)
    return unreachable(502, UNKNOWN)


def _protocol_error(error: MCPError) -> Json:
    """A JSON-RPC error: the server's, but for what the SDK makes up in its place."""
    if error.code == mcp_types.CONNECTION_CLOSED and error.message in CUT:
        return unreachable(502, CLOSED)
    if error.code == mcp_types.PARSE_ERROR and error.message.startswith(UNREAD):
        return refused(error.code, BROKEN)
    return refused(error.code, plain(error.message, MOST_MESSAGE))


Work = Callable[[], Awaitable[Any]]
Runner = Callable[[Work], Awaitable[Any]]


async def here(work: Work) -> Any:
    """What *work* gives, in the task that waits for it: work that ends when it is cancelled."""
    return await work()


class McpSession:
    """See `seams.Session`. Calls are made by *run*."""

    def __init__(self, client: Client, run: Runner, visit: Visit) -> None:
        self.client = client
        self.run = run
        self.visit = visit

    async def list_tools(self) -> Sequence[Listed]:
        """See `seams.Session`: all pages of the server's list.

        :raises Unlisted: the server cannot be listed.
        """
        with answers_by(self.visit.deadline) as current:
            try:
                with anyio.fail_after(current.remaining):
                    return await self._pages()
            except Unlisted:
                raise
            except Exception as error:
                raise unlisted(error, current, self.visit) from None

    async def call_tool(self, name: str, arguments: Json, call: Call) -> Outcome:
        """See `seams.Session`. A failure of the server is an outcome with an `error`."""
        params = mcp_types.CallToolRequestParams(name=name, arguments=arguments)
        request = mcp_types.CallToolRequest(params=params)
        with answers_by(call.deadline) as current:
            try:
                with anyio.fail_after(current.remaining):
                    result = await self.run(lambda: self.client.session.send_request(request, RESULT))
                if isinstance(result, mcp_types.CallToolResult):
                    return outcome_of(result)
                error = refused(mcp_types.INTERNAL_ERROR, ASKS)
            except Exception as raised:
                error = error_of(raised, current)
                self.visit.notice(seen(f"A call of {name!r} failed", raised, current))
        return Outcome(error["message"], error=error)

    async def _pages(self) -> list[Listed]:
        """Returns all pages of the server's list.

        :raises Unlisted: there are more than `MOST_PAGES`.
        """
        found = Found(self.visit.notice)
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            params = mcp_types.PaginatedRequestParams(cursor=cursor) if cursor else None
            page = await self.client.session.list_tools(params=params)
            for tool in page.tools:
                found.add(tool.model_dump(by_alias=True, mode="json", exclude_none=True))
            if not page.next_cursor:
                return list(found.tools.values())
            cursor = page.next_cursor
        raise Unlisted(f"The server lists its tools on more than {MOST_PAGES} pages.")


def unlisted(error: Exception, current: Asking, visit: Visit) -> Unlisted:
    """What becomes of *error* while a server is reached or lists its tools."""
    visit.notice(seen("The server could not be listed", error, current))
    found = error_of(error, current)
    return Unlisted(found["message"], found["code"] if found["type"] == "http_error" else 502)


def seen(what: str, error: Exception, current: Asking) -> str:
    """What the operator reads: kinds of exceptions, never their texts, and the detail of our own transport."""
    detail = current.failure.detail if current.failure is not None else None
    return f"{what}: {type(error).__name__}{f' ({detail})' if detail else ''}."


# Where the server is...


@asynccontextmanager
async def in_process(server: Any, visit: Visit) -> AsyncIterator[Session]:
    """A session with *server*, a `Server` or `MCPServer` of the SDK.

    :raises Unlisted: it cannot be opened.
    """
    async with _opened(server, apart, visit) as session:
        yield session


@asynccontextmanager
async def over_http(place: Place, transport: Transport, visit: Visit) -> AsyncIterator[Session]:
    """A session with the server at *place*.

    :raises Unlisted: it cannot be reached.
    """
    async with client_of(place, transport) as http:
        streams = streamable_http_client(STAND_IN, http_client=http, **BOUND)
        async with _opened(Mended(streams, visit), here, visit) as session:
            yield session


@asynccontextmanager
async def _opened(server: Any, run: Runner, visit: Visit) -> AsyncIterator[Session]:
    """Yields a session with *server*, and closes it.

    :raises Unlisted: none comes about.
    """
    async with AsyncExitStack() as stack:
        with answers_by(visit.deadline) as current:
            try:
                client = await stack.enter_async_context(Client(server, cache=None, client_info=INFO))
            except Exception as error:
                raise unlisted(error, current, visit) from None
        yield McpSession(client, run, visit)


class Mended(AbstractAsyncContextManager[Any]):
    """A transport of the SDK whose lists of tools are mended on the way in."""

    def __init__(self, streams: AbstractAsyncContextManager[Any], visit: Visit) -> None:
        self.streams = streams
        self.visit = visit

    async def __aenter__(self) -> Any:
        read, write = await self.streams.__aenter__()
        return MendedReader(read, self), write

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self.streams.__aexit__(kind, error, trace)

    def mend(self, item: Any) -> Any:
        """*item*, a message or an exception, with its tools mended where it is a list of them."""
        message = getattr(item, "message", None)
        if isinstance(message, mcp_types.JSONRPCResponse) and isinstance(message.result.get("tools"), list):
            shown = (shown_or_none(tool, self.visit.notice) for tool in message.result["tools"])
            message.result["tools"] = [tool for tool in shown if tool is not None]
        return item


class MendedReader:
    """The stream that the SDK reads from (its `ReadStream`)."""

    def __init__(self, stream: Any, owner: Mended) -> None:
        self.stream = stream
        self.owner = owner

    @property
    def last_context(self) -> Any:
        """Returns the context of the message received last, which the library enters to answer it."""
        return self.stream.last_context

    async def receive(self) -> Any:
        """Returns the next message, mended where this server is known to deviate."""
        return self.owner.mend(await self.stream.receive())

    async def aclose(self) -> None:
        """Closes the stream below."""
        await self.stream.aclose()

    def __aiter__(self) -> MendedReader:
        return self

    async def __anext__(self) -> Any:
        return self.owner.mend(await anext(self.stream))

    async def __aenter__(self) -> MendedReader:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
