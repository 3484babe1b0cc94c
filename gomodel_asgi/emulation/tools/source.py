"""What the loop asks of an MCP server, wherever that is: to be opened, to list its tools, to call one.

    session = await stack.enter_async_context(source.open(visit))
    tools = await session.list_tools()
    outcome = await session.call_tool(name, arguments, call)

There is one session for each response and server. It may be entered in one task and left in another; a source whose
SDK binds what it opens to a task gives that one of its own (`owner.py`). Calls may be made from any task, several at a
time, and each may be cancelled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from ...tools import Approval, Call, Image

Json = dict[str, Any]

MOST_TOOLS = 1000
"""Of one server. A model can choose among some dozens."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A tool of a server, as the server tells it. *approval* is what the host demands for this one, whatever the client
    declares; `client` where it demands nothing."""

    name: str
    input_schema: Json
    description: str | None = None
    read_only: bool = False
    approval: Approval = "client"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call gave: *text* is what model and client read, *images* are for a model that sees. *error* is that of a
    failed `mcp_call` (see `failed` and its kin), None where the call succeeded."""

    text: str
    images: Sequence[Image] = ()
    error: Json | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """What a session is opened with. *call* names the request and the declaration, for headers that are a function of
    it; its `item_id` is empty. *url*, *authorization* and *headers* are the client's own, for a server that only the
    client names, and None for one that the host mapped. *deadline* is in seconds of the monotonic clock."""

    label: str
    call: Call
    deadline: float
    url: str | None = field(default=None, repr=False)
    authorization: str | None = field(default=None, repr=False)
    headers: Json | None = field(default=None, repr=False)
    notice: Callable[[str], None] = field(default=lambda text: None, repr=False)
    """Is told what only the operator may know. The text holds no credential."""


class Unlisted(Exception):
    """The server could not be reached, or could not list its tools. The message may be read by the client, and so
    holds no credential and no URL."""


class Session(Protocol):
    """An open server."""

    async def list_tools(self) -> Sequence[Listed]:
        """All tools, whatever pages they come in.

        :raises Unlisted: they cannot be had.
        """
        ...

    async def call_tool(self, name: str, arguments: Json, call: Call) -> Outcome:
        """Call a tool, by the server's own name, once. A failure is an `Outcome`; what is raised is a fault of ours."""
        ...


class Source(Protocol):
    """A server that can be opened."""

    def open(self, visit: Visit) -> AbstractAsyncContextManager[Session]:
        """A session. Entering it may raise `Unlisted`; leaving it never raises and is bounded."""
        ...


# The `error` of a failed `mcp_call` (openai 3.54.0, `McpCall.error`)...


def failed(text: str) -> Json:
    """The tool itself failed, and says *text*."""
    return {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": text}]}


def refused(code: int, message: str) -> Json:
    """The server answered with a JSON-RPC error."""
    return {"type": "mcp_protocol_error", "code": code, "message": message}


def unreachable(code: int, message: str) -> Json:
    """The server could not be asked: an HTTP status, a connection that failed, or the time that was up."""
    return {"type": "http_error", "code": code, "message": message}
