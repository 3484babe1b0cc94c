"""Hosted tools that the host runs itself: which there are, what their functions are given, and what they give back.

    Gateway(tools=[tools.web_search(search), tools.mcp({"crm": [lookup_order]})], …)

A client declares a tool of OpenAI's; where no upstream runs it, the model is shown a function, the host's own function
is called, and the client gets what OpenAI would have sent. A function is `async def`, or `def` (which runs in a
thread). It may return a `str`, which is what the model reads, and may raise `ToolError`, whose text model and client
get. Any other exception is for observers alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .arguments import check_flags, check_string, strings, texts
from .routing.request import RoutingRequest

__all__ = [
    "Call",
    "Execution",
    "File",
    "FileReference",
    "FileSource",
    "Image",
    "Page",
    "Passage",
    "Server",
    "Tool",
    "ToolError",
    "code_interpreter",
    "file_search",
    "function",
    "image_generation",
    "mcp",
    "web_search",
]

Family = Literal["web_search", "file_search", "code_interpreter", "image_generation", "mcp"]
FAMILIES: tuple[Family, ...] = ("web_search", "file_search", "code_interpreter", "image_generation", "mcp")
Use = Literal["missing", "always"]
Approval = Literal["client", "always", "never"]
ImageFormat = Literal["png", "webp", "jpeg", "gif", "svg"]

LONGEST_LABEL = 64
"""Characters of a server's label."""


class ToolError(Exception):
    """What went wrong, in words that the model and the client may read."""


# What a function is given...


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a tool by a model.

    *tool* is the client's declaration without its credentials, *arguments* what the model asks for: web_search
    `{"query"}`, file_search `{"queries": [...]}`, code_interpreter `{"code"}`, image_generation `{"prompt"}`, a
    function its own. *request* is the request as the policy saw it: tenant, user, state, app. *container_id* is set for
    a code interpreter: the one that the client named, else the conversation's last, else a new one. All that the client
    sent, this id among it, is the client's word. *deadline* is in seconds of the monotonic clock.
    """

    tool: Mapping[str, Any] = field(repr=False)
    arguments: Mapping[str, Any] = field(repr=False)
    request: RoutingRequest
    response_id: str
    item_id: str
    deadline: float
    container_id: str | None = None
    on_partial: Callable[[bytes], Awaitable[None]] | None = field(default=None, repr=False)

    async def partial(self, data: bytes) -> None:
        """Shows the client an image that is not finished, where it asked for such and streams; else does nothing."""
        if self.on_partial is not None:
            await self.on_partial(data)


@dataclass(frozen=True, slots=True)
class FileReference:
    """A file that the client's input names: by *file_id* or by *file_url*."""

    file_id: str | None
    file_url: str | None
    filename: str | None = None


# What it gives back...


@dataclass(frozen=True, slots=True)
class Page:
    """What a web search found: *text* is what the model reads of it."""

    url: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Passage:
    """What a file search found; *score* is between 0 and 1."""

    file_id: str
    filename: str
    text: str
    score: float | None = None
    attributes: Mapping[str, str | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Image:
    """The bytes of an image; *revised_prompt* is what it was drawn from, where that is not the model's prompt."""

    data: bytes = field(repr=False)
    format: ImageFormat = "png"
    revised_prompt: str | None = None


@dataclass(frozen=True, slots=True)
class File:
    """The bytes of a file."""

    data: bytes = field(repr=False)
    filename: str | None = None
    media_type: str | None = None
    file_id: str | None = None


@dataclass(frozen=True, slots=True)
class Execution:
    """What came of running code. *files* are cited where the model's text links `sandbox:/mnt/data/<filename>`."""

    logs: str = ""
    images: Sequence[Image] = ()
    files: Sequence[File] = ()


FileSource = Callable[[FileReference, RoutingRequest], Any]
"""Gives the bytes of a file that a request names: `bytes`, a `File`, or None where there is none (400)."""


# What a gateway is configured with...


@dataclass(frozen=True, slots=True)
class HostTool:
    """A tool that *function* runs; made by `web_search` and its kin."""

    family: Family
    function: Callable[..., Any]
    use: Use = "missing"
    live: bool = True


@dataclass(frozen=True, slots=True)
class Function:
    """A plain function as a tool of an MCP server; made by `function`."""

    call: Callable[..., Any]
    name: str
    description: str | None = None
    approval: Approval = "client"
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Server:
    """An MCP server: *source* is its URL, an in-process server of the official `mcp` SDK, or a list of functions.

    *headers* go to that URL and nowhere else: a mapping, or a plain or async function of the `Call`. *approval* says
    whether calls need the client's approval: as the client declares (`client`), or whatever it declares. *allowed* are
    the only tools that are shown, None for all. *public* says that the path of the URL is no secret, and is echoed.

    :raises TypeError: a member is of a type that means nothing here.
    :raises ValueError: *approval* is none of the three.
    """

    source: Any
    headers: Mapping[str, str] | Callable[[Call], Any] | None = field(default=None, repr=False)
    approval: Approval = "client"
    allowed: Iterable[str] | None = None
    public: bool = False

    def __post_init__(self) -> None:
        _check_approval("Server", self.approval)
        if isinstance(self.headers, Mapping):
            texts("headers", self.headers)
        elif self.headers is not None and not callable(self.headers):
            raise TypeError(f"Server: headers must be a mapping or a function of the Call, not {_type(self.headers)}.")
        check_flags(public=self.public)
        if isinstance(self.allowed, str):
            raise TypeError("Server: allowed must be a list of names, not one name.")
        if self.allowed is not None:
            object.__setattr__(self, "allowed", strings("allowed", self.allowed))
        if isinstance(self.source, Iterable) and not isinstance(self.source, (str, bytes)):
            object.__setattr__(self, "source", _functions(self.source))

    def __repr__(self) -> str:
        """Without the URL, whose path may be a credential."""
        kind = "a URL" if isinstance(self.source, str) else _type(self.source)
        return f"<Server {kind} approval={self.approval!r}>"


Remote = Callable[[str, Call], Any]


@dataclass(frozen=True, slots=True)
class McpTool:
    """MCP servers by label; made by `mcp`."""

    servers: Mapping[str, Server]
    remote: Remote | None = None
    family: Family = "mcp"


Tool = HostTool | McpTool
"""A hosted tool, as the functions of this module make it."""


def web_search(function: Callable[..., Any], *, use: Use = "missing", live: bool = True) -> HostTool:
    """Searches for `call.arguments["query"]`: *function* gives a list of `Page`.

    With *use* `missing` an upstream that searches by itself does so; with `always` it is never asked to. *live* says
    that the search goes to the web: then it answers no declaration with `external_web_access: false`.

    :raises TypeError: *function* is none.
    :raises ValueError: *use* is neither.
    """
    return _host_tool("web_search", function, use, live)


def file_search(function: Callable[..., Any], *, use: Use = "missing") -> HostTool:
    """Searches for each of `call.arguments["queries"]` in the stores that `call.tool["vector_store_ids"]` names, which
    are the client's word: *function* gives a list of `Passage`.

    :raises TypeError: *function* is none.
    :raises ValueError: *use* is neither `missing` nor `always`.
    """
    return _host_tool("file_search", function, use)


def code_interpreter(function: Callable[..., Any], *, use: Use = "missing") -> HostTool:
    """Runs `call.arguments["code"]` in the host's own sandbox, in the container `call.container_id`: *function* gives
    an `Execution`. The gateway never runs code itself.

    :raises TypeError: *function* is none.
    :raises ValueError: *use* is neither `missing` nor `always`.
    """
    return _host_tool("code_interpreter", function, use)


def image_generation(function: Callable[..., Any], *, use: Use = "missing") -> HostTool:
    """Draws `call.arguments["prompt"]` with the settings of `call.tool`: *function* gives an `Image`, and may call
    `await call.partial(data)` on the way.

    :raises TypeError: *function* is none.
    :raises ValueError: *use* is neither `missing` nor `always`.
    """
    return _host_tool("image_generation", function, use)


def mcp(servers: Mapping[str, Any], *, remote: Remote | None = None) -> McpTool:
    """MCP servers by the label under which clients declare them, each a list of functions, a `Server`, a URL or an
    in-process server. *remote* decides whether a URL that only a client names is asked: it is given the URL and the
    `Call`; None refuses all.

    :raises TypeError: a server is of no such type.
    :raises ValueError: a label is empty or too long, or two functions of a server have the same name.
    """
    if not isinstance(servers, Mapping):
        raise TypeError(f"mcp: give a mapping of labels to servers, not {_type(servers)}.")
    if remote is not None and not callable(remote):
        raise TypeError(f"mcp: remote must be a function of the URL and the Call, not {_type(remote)}.")
    return McpTool({label: _server(label, source) for label, source in servers.items()}, remote)


def function(
    call: Callable[..., Any],
    *,
    name: str | None = None,
    description: str | None = None,
    approval: Approval = "client",
    read_only: bool = False,
) -> Function:
    """A plain function as a tool: its name, docstring and annotations make the tool that the model sees. A parameter
    that is annotated `Call` is filled in, and not shown. *approval* `always` has every call approved by the client,
    whatever it declares; *read_only* says that a call changes nothing.

    :raises TypeError: *call* is no function.
    :raises ValueError: it has no name, or *approval* is none of the three.
    """
    if not callable(call):
        raise TypeError(f"function: call must be a function, not {_type(call)}.")
    check_flags(read_only=read_only)
    for what, text in (("name", name), ("description", description)):
        if text is not None:
            check_string(what, text, "a string, or None")
    _check_approval("function", approval)
    found = name or getattr(call, "__name__", "")
    if not found or found == "<lambda>":
        raise ValueError("function: this one has no name; give it one: tools.function(f, name='…').")
    return Function(call, found, description or inspect.getdoc(call), approval, read_only)


def _host_tool(family: Family, function: Any, use: Use, live: bool = True) -> HostTool:
    """Returns the host's tool of this *family*.

    :raises TypeError: *function* cannot be called.
    :raises ValueError: *use* is unknown.
    """
    if not callable(function):
        raise TypeError(f"{family}: give a function of a tools.Call, not {_type(function)}.")
    check_flags(live=live)
    if use not in ("missing", "always"):
        raise ValueError(f"{family}: use must be 'missing' or 'always', not {use!r}.")
    return HostTool(family, function, use, live)


def _server(label: Any, source: Any) -> Server:
    """Returns *source* as the server *label*.

    :raises TypeError: *label* is no string, or *source* is none of the kinds that can be a server.
    :raises ValueError: *label* is empty or too long.
    """
    if not isinstance(label, str):
        raise TypeError(f"mcp: a label of the servers must be a string, not {_type(label)}.")
    if not label or len(label) > LONGEST_LABEL:
        raise ValueError(f"mcp: a label must have 1 to {LONGEST_LABEL} characters.")
    if isinstance(source, Server):
        return source
    if source is None or isinstance(source, (bytes, int, float, Mapping)):
        what = "a list of functions, a tools.Server, a URL or a server of the mcp SDK"
        raise TypeError(f"mcp: {label!r} must be {what}, not {_type(source)}.")
    if callable(source) and hasattr(source, "__name__"):
        raise TypeError(f"mcp: {label!r} is one function; give a list: {{{label!r}: [{source.__name__}]}}.")
    return Server(source)


def _functions(given: Iterable[Any]) -> tuple[Function, ...]:
    """Returns the functions of one server.

    :raises ValueError: two have the same name.
    """
    made = tuple(one if isinstance(one, Function) else function(one) for one in given)
    names = [one.name for one in made]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"Two functions of one server have the name {name!r}; give one another: tools.function.")
    return made


def _check_approval(where: str, approval: Any) -> None:
    """Checks who approves calls.

    :raises ValueError: *approval* is unknown.
    """
    if approval not in ("client", "always", "never"):
        raise ValueError(f"{where}: approval must be 'client', 'always' or 'never', not {approval!r}.")


def _type(value: Any) -> str:
    return type(value).__name__
