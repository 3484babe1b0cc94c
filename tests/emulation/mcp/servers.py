"""MCP servers of the official SDK and raw ones, and what a session with one is opened with."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import mcp_types as types
from mcp.server import Server as SdkServer
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gomodel_asgi import tools
from gomodel_asgi.deadline import clock
from gomodel_asgi.emulation.tools.remote import source_of
from gomodel_asgi.emulation.tools.seams import Session, Source, Visit
from gomodel_asgi.providers import Provider
from gomodel_asgi.routing.request import Registry, RoutingRequest
from gomodel_asgi.seams.transport import Transport
from gomodel_asgi.wire.json_body import Envelope
from tests.emulation.tools.hosting import House
from tests.support.scripted_upstream import Peer, Upstream, reply

LONG = 30.0
"""Seconds: never reached by a test that passes."""
TOOLS, PAGE = 200, 30
PIXEL = b"\x89PNG pixel"
OBJECT: dict[str, Any] = {"type": "object", "properties": {}}
SPECIAL = ("echo", "fails", "raises", "slow", "structured", "image", "asks")
DONE = {"content": [{"type": "text", "text": "done"}]}
HEADERS = {"authorization": "Bearer canary-host-token"}


# The client's side...


class Notes:
    """What the operator is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, text: str) -> None:
        self.texts.append(text)


def call_of(tenant: str | None = "one", seconds: float = LONG) -> tools.Call:
    """A call of *tenant*'s that has *seconds*."""
    request = RoutingRequest(
        operation="create",
        envelope=Envelope.parse(b'{"model": "m"}'),
        provider=None,
        model="m",
        registry=Registry([Provider("fake", "http://127.0.0.1:9/v1")]),
        scope={"type": "http", "headers": []},
        tenant=tenant,
    )
    return tools.Call(
        tool={}, arguments={}, request=request, response_id="resp_1", item_id="", deadline=clock() + seconds
    )


def visit_of(tenant: str | None = "one", seconds: float = LONG, **members: Any) -> Visit:
    """What a session of *tenant*'s is opened with."""
    call = call_of(tenant, seconds)
    return Visit("shop", call, call.deadline, **members)


Json = dict[str, Any]
Houses = Callable[..., House]
Opened = AbstractAsyncContextManager[Session]


@asynccontextmanager
async def admitted(source: Source, visit: Visit) -> AsyncIterator[Session]:
    """A session with *source*, once that has been admitted."""
    opening = await source.admit(visit)
    async with opening(visit.deadline) as session:
        yield session


def opened(
    source: Any, transport: Transport, notes: Notes | None = None, *, seconds: float = LONG, **options: Any
) -> Opened:
    """A session with *source*, a URL or a server of the SDK; *options* are those of `tools.Server`."""
    made = source_of("shop", tools.Server(source, **options), transport)
    return admitted(made, visit_of(seconds=seconds, notice=notes or Notes()))


# A server of the SDK...


class Shop:
    """A server of the SDK with 200 tools on seven pages, and some that misbehave. *called* are the names of those that
    were called, *cancelled* of those that were given up."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.cancelled: list[str] = []
        self.listed = 0
        self.lifespans = 0
        self.server: SdkServer[Any] = SdkServer("shop", on_list_tools=self.list_tools, on_call_tool=self.call_tool)

    async def list_tools(self, context: Any, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        self.listed += 1
        start = int(params.cursor) if params is not None and params.cursor else 0
        names = [*SPECIAL, *(f"tool_{number}" for number in range(TOOLS - len(SPECIAL)))]
        found = [self.describe(name) for name in names[start : start + PAGE]]
        following = str(start + PAGE) if start + PAGE < len(names) else None
        return types.ListToolsResult(tools=found, next_cursor=following)

    def describe(self, name: str) -> types.Tool:
        schema = {"type": "object", "properties": {"text": {"type": "string"}}} if name == "echo" else OBJECT
        hints = types.ToolAnnotations(read_only_hint=True) if name == "echo" else None
        output = {"type": "object", "properties": {"n": {"type": "string"}}} if name == "structured" else None
        return types.Tool(
            name=name, description=f"Does {name}.", input_schema=schema, annotations=hints, output_schema=output
        )

    async def call_tool(self, context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        self.called.append(params.name)
        if params.name == "slow":
            try:
                await anyio.sleep(LONG)
            except BaseException:
                self.cancelled.append(params.name)
                raise
        if params.name == "raises":
            raise RuntimeError("the vault is sealed")
        if params.name == "asks":
            await context.session.elicit_form("Who?", OBJECT)
        return answer(params.name, params.arguments or {})

    def app(self, **options: Any) -> ASGIApp:
        return self.server.streamable_http_app(**options)


def answer(name: str, arguments: dict[str, Any]) -> types.CallToolResult:
    if name == "fails":
        return types.CallToolResult(content=[text_of("No such order."), text_of("Try another.")], is_error=True)
    if name == "structured":
        return types.CallToolResult(content=[], structured_content={"n": 1})
    if name == "image":
        image = types.ImageContent(type="image", data=base64.b64encode(PIXEL).decode(), mime_type="image/png")
        return types.CallToolResult(content=[text_of("Here."), image])
    return types.CallToolResult(content=[text_of(str(arguments.get("text", name)))])


def text_of(text: str) -> types.TextContent:
    return types.TextContent(type="text", text=text)


class Gate:
    """Lets in who has the header, and keeps the *heads* of all requests, and what they *asked*."""

    def __init__(self, app: ASGIApp, authorization: str | None = HEADERS["authorization"]) -> None:
        self.app = app
        self.authorization = authorization
        self.heads: list[dict[str, str]] = []
        self.methods: list[str] = []
        self.asked: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        head = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.heads.append(head)
        self.methods.append(scope["method"])
        self.asked.append(head.get("mcp-method", ""))
        if self.authorization is not None and head.get("authorization") != self.authorization:
            await Response(f"refused: {head.get('authorization')}", 401)(scope, receive, send)
            return

        async def with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"set-cookie", b"one=tracked; Path=/")]
            await send(message)

        await self.app(scope, receive, with_cookie)


# A raw one, which says what no SDK would...

Handler = Callable[[dict[str, Any]], Any]


class Raw:
    """A server that answers by *handlers*, a function or a value by method; a `Response` is sent as it is, all else as
    the JSON-RPC result. Revision 2025-06-18, in which a session has an id and begins with `initialize`."""

    def __init__(self, **handlers: Any) -> None:
        self.handlers = {"initialize": INITIALIZED, "tools/list": {"tools": []}}
        self.handlers |= {name.replace("_", "/"): handler for name, handler in handlers.items()}
        self.asked: list[str] = []
        self.capabilities: Any = None
        self.paths: list[str] = []
        self.heads: list[dict[str, str]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope, receive)
            await (await self.answer(request))(scope, receive, send)

    async def answer(self, request: Request) -> Response:
        self.paths.append(request.url.path)
        self.heads.append(dict(request.headers))
        message = json.loads(await request.body() or b"{}")
        method = message.get("method", request.method)
        self.asked.append(method)
        if method == "initialize":
            self.capabilities = message["params"]["capabilities"]
        if "id" not in message and method != "DELETE":
            return Response(status_code=202)
        handler = self.handlers.get(method)
        if handler is None:
            return JSONResponse(error_of(message, -32601, "No such method."), 404)
        result = handler(message) if callable(handler) and not isinstance(handler, Response) else handler
        if isinstance(result, Awaitable):
            result = await result
        if isinstance(result, Response):
            return result
        headers = {"mcp-session-id": "raw-session"} if method == "initialize" and self.handlers.get("DELETE") else {}
        return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": result}, headers=headers)


INITIALIZED = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "raw", "version": "1"},
}


def error_of(message: dict[str, Any], code: int, text: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": message.get("id"), "error": {"code": code, "message": text}}


def tool(name: str, schema: Any = None, **members: Any) -> dict[str, Any]:
    """A tool as it stands in a raw list."""
    return {"name": name, "inputSchema": OBJECT if schema is None else schema, **members}


def result_of(message: dict[str, Any], result: Any = DONE) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


# One by hand, on plain sockets...


def by_hand(end: Callable[[Peer], object] | None = None, *, seen: list[bytes] | None = None, keep: bool = True) -> Any:
    """The script of a server with one tool, `t`. A call is left to *end* where there is one, which ends the connection;
    without *keep* every reply does. *seen* gets all requests."""

    def script(peer: Peer) -> None:
        while (request := peer.request()) is not None:
            if seen is not None:
                seen.append(request)
            message = json.loads(request.partition(b"\r\n\r\n")[2] or b"{}")
            if end is not None and message.get("method") == "tools/call":
                end(peer)
                return
            peer.send(answer_of(message, () if keep else (b"connection: close",)))
            if not keep:
                return

    return script


RESULTS = {"initialize": INITIALIZED, "tools/list": {"tools": [tool("t")]}, "tools/call": DONE}


def answer_of(message: dict[str, Any], headers: tuple[bytes, ...]) -> bytes:
    if message.get("method") == "server/discover":
        return reply(b"", *headers, status=b"404 Not Found")
    if "id" not in message:
        return reply(b"", *headers, status=b"202 Accepted")
    body = json.dumps(result_of(message, RESULTS[message["method"]])).encode()
    return reply(body, b"content-type: application/json", *headers)


# One that only a client names...

NAME, PUBLIC, PRIVATE = "mcp.example", "127.0.0.2", "127.0.0.1"


class Names:
    """A resolver that gives *answers* one after the other, the last again and again."""

    def __init__(self) -> None:
        self.answers: list[str] = [PUBLIC]

    async def __call__(self, host: bytes, port: int, **options: Any) -> list[Any]:
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [(2, 1, 6, "", (found, port))]


Start = Callable[..., Upstream]
