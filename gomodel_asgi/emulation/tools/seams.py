"""What the loop asks of an MCP server, wherever that is, and of a kind of tool.

A server (`Source`) is opened, lists its tools, and calls one:

    opening = await source.admit(visit)
    session = await stack.enter_async_context(opening(deadline))
    tools = await session.list_tools()
    outcome = await session.call_tool(name, arguments, call)

There is one session for each response and server. It may be entered in one task and left in another; a source whose
SDK binds what it opens to a task gives that one of its own (`sessions.Owned`). Calls may be made from any task, several
at a time, and each may be cancelled. A kind of tool (`Family`) is values in, values out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ...dialects.base import Key
from ...settings import KIB
from ...tools import Approval, Call, Image, Page, Passage

Json = dict[str, Any]

MOST_TOOLS = 1000
"""Of one server. A model can choose among some dozens."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A tool of a server, as the server describes it. *approval* is what the host demands for this one, whatever the
    client declares; `client` where it demands nothing."""

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
    """Takes what only the operator may know. The text holds no credential."""


class Unlisted(Exception):
    """The server could not be reached, or could not list its tools. The message may be read by the client, and so
    holds no credential and no URL; *code* is that of the `http_error` of a call that fails by it."""

    def __init__(self, message: str, code: int = 502) -> None:
        super().__init__(message)
        self.code = code


class Session(Protocol):
    """An open connection to a server."""

    async def list_tools(self) -> Sequence[Listed]:
        """All tools, whatever pages they come in.

        :raises Unlisted: they cannot be had.
        """
        ...

    async def call_tool(self, name: str, arguments: Json, call: Call) -> Outcome:
        """Calls a tool, by the server's own name, once. A failure is an `Outcome`; what is raised is a fault of
        ours."""
        ...


Opening = Callable[[float], AbstractAsyncContextManager[Session]]
"""Opens a session by a deadline, in seconds of the monotonic clock. Entering it may raise `Unlisted`; leaving it never
raises and is bounded."""


class Source(Protocol):
    """A server that can be opened."""

    async def admit(self, visit: Visit) -> Opening:
        """How it is opened for *visit*, for which it may be asked. Nothing is sent to it yet.

        :raises GatewayError: it may not be asked: the host's own answer.
        :raises Unlisted: it cannot be asked as it was declared.
        """
        ...

    def place(self, visit: Visit) -> str | None:
        """What is equal for the same server, and for no other: a list that it has given is that of any visit there.
        None where it has to be listed each time. It may hold a credential."""
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


# What it asks of a kind of tool...


Status = Literal["completed", "failed"]


@dataclass(frozen=True, slots=True)
class Begun:
    """What is known of a call when its item is announced: the client's *tool*, and for a code interpreter where it
    runs."""

    tool: Mapping[str, Any]
    label: str
    name: str
    container_id: str | None
    approval: str | None


@dataclass(frozen=True, slots=True)
class CallResult:
    """How a call ended: *members* are those of its item, *text* what the model reads, *images* what it may see.
    *sources*, *passages* and *files* are what its text may cite from now on."""

    status: Status
    text: str
    members: Json = field(default_factory=dict)
    images: tuple[Image, ...] = ()
    sources: tuple[Page, ...] = ()
    passages: tuple[Passage, ...] = ()
    files: tuple[tuple[str, str, str], ...] = ()
    """Container, file id and name of each."""


@dataclass(frozen=True, slots=True)
class CallInput:
    """A call that has ended: its *arguments*, what the client wants to be *included*, and how many *passages* the
    response has had."""

    begun: Begun
    arguments: Json
    included: frozenset[str] = frozenset()
    passages: int = 0


class Family(Protocol):
    """One kind of tool."""

    name: str
    phases: tuple[str, ...] = ("in_progress",)
    """The events before the result: the first behind the item's announcement, the others when the call begins."""
    text: str | None = None
    """The argument that the client sees as it is written; "" for all, None for none."""
    has_failed_event: bool = False
    """Whether a failure has an event of its own."""

    def function(self, tool: Mapping[str, Any], listed: Listed | None) -> tuple[str, Json]:
        """The description and the parameters of the function that a model is shown."""
        ...

    def read(self, arguments: Json) -> Json:
        """What the host's function is given of the *arguments*.

        :raises InvalidRequest: something is missing or of another type; its message is for the model.
        """
        ...

    def begun(self, call: Begun) -> Json:
        """Returns the item as it is announced."""
        return {"type": f"{self.name}_call"}

    def completed(self, call_input: CallInput, returned: Any) -> CallResult:
        """Returns the result of the call: *returned* is what the host's function gave.

        :raises TypeError: it is none that this kind of tool gives.
        """
        ...

    def failed(self, call_input: CallInput, text: str) -> CallResult:
        """Returns the result of a call that failed; *text* says of that what model and client may know."""
        ...


@dataclass(frozen=True, slots=True)
class Shown:
    """One function that the model is shown for a tool that runs here. *path* is that of the tool's declaration, *tool*
    the declaration without its credentials; *label* is that of its server, "" for a tool of the host's."""

    name: str
    family: Family
    path: str
    tool: Json = field(repr=False)
    label: str = ""
    listed: Listed | None = None
    approval: bool = False
    """Whether a call waits for the client's word."""
    forced: bool = False
    """Whether it is the host that demands it."""

    @property
    def called(self) -> str:
        """The name that the client knows: the server's own, or the family's."""
        return self.listed.name if self.listed is not None else self.family.name

    @property
    def key(self) -> Key:
        """What the function stands for."""
        return ("mcp", self.label, self.called) if self.listed is not None else (self.family.name,)

    def declaration(self) -> Json:
        """Returns the declaration of the function."""
        description, parameters = self.family.function(self.tool, self.listed)
        return {
            "type": "function", "name": self.name, "description": description, "parameters": parameters,
            "strict": False,
        }  # fmt: skip


# Values of hosts and servers, as a model and a client may have them.


MOST_DESCRIBED = 4 * KIB
"""Characters of what a server says about itself or a tool: four times what OpenAI once allowed a function."""
HIDDEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
"""Categories of invisible characters: controls, joiners, marks of direction, tags, private use, unassigned."""
BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Letters and marks that are invisible too; some carry whole hidden messages."""


def plain(text: str, most: int = MOST_DESCRIBED) -> str:
    """*text* of a server's that a model is to read: without invisible characters, every space a plain one, and cut to
    *most* characters."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(char if char in "\n\t" else _seen(char) for char in BLANK.sub("", text))
    return text if len(text) <= most else text[: most - 1] + "…"


def _seen(char: str) -> str:
    category = unicodedata.category(char)
    return " " if category == "Zs" else "" if category in HIDDEN else char


def sound(value: Any) -> Any:
    """*value* as JSON can hold it: half a surrogate pair, which a host's function may have in a text, is none."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {sound(name): sound(member) for name, member in value.items()}
    return [sound(member) for member in value] if isinstance(value, list) else value
