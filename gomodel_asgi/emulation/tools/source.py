"""What the loop asks of an MCP server, wherever that is: to be opened, to list its tools, to call one.

    opening = await source.admit(visit)
    session = await stack.enter_async_context(opening(deadline))
    tools = await session.list_tools()
    outcome = await session.call_tool(name, arguments, call)

There is one session for each response and server. It may be entered in one task and left in another; a source whose
SDK binds what it opens to a task gives that one of its own (`sessions.Owned`). Calls may be made from any task, several
at a time, and each may be cancelled.
"""

from __future__ import annotations

import re
import unicodedata
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from ...settings import KIB
from ...tools import Approval, Call, File, Image
from ...wire.json_scan import tree

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


# Values of hosts and servers, as a model and a client may have them.


MOST_DESCRIBED = 4 * KIB
"""Characters of what a server says about itself or a tool: four times what OpenAI once allowed a function."""
HIDDEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
"""Categories of characters that nobody sees: controls, joiners, marks of direction, tags, private use, unassigned."""
BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Letters and marks that nobody sees either; some carry whole hidden messages."""


def plain(text: str, most: int = MOST_DESCRIBED) -> str:
    """*text* of a server's that a model is to read: without what nobody sees, every space a plain one, and cut to
    *most* characters."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(char if char in "\n\t" else _seen(char) for char in BLANK.sub("", text))
    return text if len(text) <= most else text[: most - 1] + "…"


def _seen(char: str) -> str:
    category = unicodedata.category(char)
    return " " if category == "Zs" else "" if category in HIDDEN else char


def normal_schema(schema: Any) -> Json:
    """*schema* as the schema of an object, which every upstream takes."""
    if not isinstance(schema, dict):
        return {"type": "object", "properties": {}}
    kept = {name: value for name, value in schema.items() if name != "$schema"}
    properties = kept.get("properties")
    return kept | {"type": "object", "properties": properties if isinstance(properties, dict) else {}}


def mended(arguments: Json, schema: Json) -> Json:
    """*arguments* with those members that *schema* says are objects or lists, and that a model has written as text of
    such (Gemini does), as what they are."""
    properties = schema.get("properties")
    return {
        name: _mended(value, properties.get(name)) if isinstance(value, str) and isinstance(properties, dict) else value
        for name, value in arguments.items()
    }


def _mended(text: str, schema: Any) -> Any:
    kind = {"object": dict, "array": list}.get(str(schema.get("type"))) if isinstance(schema, dict) else None
    if kind is None:
        return text
    try:
        value = tree(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, kind) else text


def sound(value: Any) -> Any:
    """*value* as JSON can hold it: half a surrogate pair, which a host's function may have in a text, is none."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {sound(name): sound(member) for name, member in value.items()}
    return [sound(member) for member in value] if isinstance(value, list) else value


def data_url(image: Image) -> str:
    """*image* as a `data:` URL."""
    kind = "svg+xml" if image.format == "svg" else image.format
    return f"data:image/{kind};base64,{base64_of(image.data)}"


def base64_of(data: bytes) -> str:
    """*data* in base64, as text."""
    return b64encode(data).decode("ascii")


def file_id(file: File) -> str:
    """The id of *file*; one that has none gets one of its name."""
    return file.file_id or f"cfile_{file.filename}"


def image_error(text: str) -> Json:
    """The `error` of an image that was not drawn (openai 3.54.0, `ImageGenerationCall.error`)."""
    return {
        "type": "image_generation_error", "code": "image_generation_failed", "message": text, "param": None,
        "moderation_details": None,
    }  # fmt: skip


def all_of(result: Any, kind: Callable[..., Any], name: str) -> tuple[Any, ...]:
    """*result* as those that the host's function was to give.

    :raises TypeError: it is something else.
    """
    if not isinstance(result, Sequence) or isinstance(result, str | bytes):
        raise TypeError(f"a list of {name} or text was expected, not {type(result).__name__}")
    for one in result:
        if not isinstance(one, kind):  # type: ignore[arg-type]
            raise TypeError(f"a list of {name} was expected, with a {type(one).__name__} in it")
    return tuple(result)
