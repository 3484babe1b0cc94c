"""Servers that misbehave: each is an `Outcome` with an error, or `Unlisted`, in words that name no place and no key."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse

from gomodel_asgi.emulation.tools.mcp_client import MOST_PAGES
from gomodel_asgi.emulation.tools.seams import MOST_TOOLS, Json, Listed, Outcome, Unlisted
from gomodel_asgi.transport import DefaultTransport
from gomodel_asgi.transport.mcp_http import MOST_REPLY
from tests.support.scripted_upstream import Upstream
from tests.support.serving import Served

from .servers import DONE, HEADERS, OBJECT, Notes, Raw, by_hand, call_of, error_of, opened, result_of, tool

# The generator in which the SDK reads a stream of events is one that it leaves unfinished; trio reports that.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

METADATA = "http://169.254.169.254/latest/meta-data"


class Bench:
    """Serves raw servers, and asks them through sessions."""

    def __init__(self, serve: Served, transport: DefaultTransport) -> None:
        self.serve = serve
        self.transport = transport
        self.notes = Notes()
        self.url = ""

    def raw(self, path: str = "/mcp", **handlers: Any) -> Raw:
        server = Raw(**handlers)
        self.url = self.serve(server) + path
        return server

    async def list(self, seconds: float = 10.0) -> list[Listed]:
        async with opened(self.url, self.transport, self.notes, headers=HEADERS, seconds=seconds) as session:
            return list(await session.list_tools())

    async def unlisted(self, seconds: float = 10.0) -> str:
        """What is said of a server that cannot be listed."""
        with pytest.raises(Unlisted) as failed:
            await self.list(seconds)
        self.check(str(failed.value))
        return str(failed.value)

    async def call(self, seconds: float = 10.0) -> Outcome:
        """What a call gives; the session goes on after it."""
        async with opened(self.url, self.transport, self.notes, headers=HEADERS) as session:
            outcome = await session.call_tool("t", {}, call_of(seconds=seconds))
            await session.list_tools()
        self.check(str(outcome))
        return outcome

    async def error(self, seconds: float = 10.0) -> Json:
        """The error of a call that fails."""
        outcome = await self.call(seconds)
        assert outcome.error is not None
        assert outcome.text == outcome.error["message"]
        return outcome.error

    def check(self, said: str) -> None:
        for text in ("canary", "://", "169.254", "127.0.0.1"):
            assert text not in said
        assert not any("canary" in text or "://" in text for text in self.notes.texts)


@pytest.fixture
async def bench(serve: Served) -> AsyncIterator[Bench]:
    transport = DefaultTransport()
    yield Bench(serve, transport)
    await transport.aclose()


def stream(*events: dict[str, Any] | bytes) -> Response:
    """A stream of server-sent events."""
    pieces = [one if isinstance(one, bytes) else b"data: %s\n\n" % json.dumps(one).encode() for one in events]
    return StreamingResponse(iter(pieces), media_type="text/event-stream")


NOTIFICATION = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}}


# What is well...


async def test_a_server_of_an_older_revision_is_asked_as_it_wants_to_be(bench: Bench) -> None:
    server = bench.raw(tools_list={"tools": [tool("t")]}, tools_call=DONE)

    assert await bench.call() == Outcome("done")
    assert server.asked == [
        "server/discover", "initialize", "notifications/initialized", "tools/call", "tools/list",
    ]  # fmt: skip


async def test_a_stream_of_events_is_read_to_its_answer(bench: Bench) -> None:
    bench.raw(tools_call=lambda message: stream(NOTIFICATION, NOTIFICATION, result_of(message)))

    assert await bench.call() == Outcome("done")


async def test_a_session_that_has_an_id_is_ended_with_it(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    server = bench.raw(tools_call=DONE, DELETE=Response())

    await bench.call()

    assert server.asked[-1] == "DELETE"
    assert {head.get("mcp-session-id") for head in server.heads[2:]} == {"raw-session"}
    assert "GET" not in server.asked
    said = [record.getMessage() for record in caplog.records if record.name.startswith(("mcp", "httpx2"))]
    assert said and not any("raw-session" in text for text in said)
    assert server.heads[-1]["authorization"] == HEADERS["authorization"]


# Failures of a call...


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
async def test_a_status_is_an_http_error_with_its_code(bench: Bench, status: int) -> None:
    bench.raw(tools_call=PlainTextResponse(f"see {METADATA}, canary", status))

    message = f"The server answered with HTTP status {status}."
    assert await bench.error() == {"type": "http_error", "code": status, "message": message}


@pytest.mark.parametrize("status", [200, 400, 404, 500])
async def test_a_json_rpc_error_is_a_protocol_error_in_the_servers_words(bench: Bench, status: int) -> None:
    bench.raw(tools_call=lambda message: JSONResponse(error_of(message, -32602, "No\u200b such tool."), status))

    assert await bench.error() == {"type": "mcp_protocol_error", "code": -32602, "message": "No such tool."}


@pytest.mark.parametrize("as_stream", [False, True], ids=["json", "stream"])
async def test_a_server_that_quotes_its_credentials_does_not_show_them(bench: Bench, as_stream: bool) -> None:
    def handler(message: dict[str, Any]) -> Response:
        said = {
            "content": [{"type": "text", "text": f"{HEADERS['authorization']} at /canary-path-0123456789?k=canary-q"}]
        }
        return stream(result_of(message, said)) if as_stream else JSONResponse(result_of(message, said))

    bench.raw("/canary-path-0123456789?k=canary-q", tools_call=handler)

    assert await bench.call() == Outcome("[redacted] at /[redacted]?k=[redacted]")


QUOTED = f"{HEADERS['authorization']} canary-path-0123456789"


@pytest.mark.parametrize(
    "handlers",
    [
        {"initialize": lambda message: JSONResponse(error_of(message, -32600, QUOTED))},
        {"initialize": PlainTextResponse(QUOTED, 401)},
        {"initialize": Response(b"{}", media_type=f"text/{QUOTED}")},
        {"initialize": Response(status_code=307, headers={"location": f"https://other.example/{QUOTED}"})},
        {"tools_list": lambda message: JSONResponse(error_of(message, -32600, QUOTED), 500)},
        {"tools_list": lambda message: stream(b"data: %s\n\n" % QUOTED.encode())},
        {"tools_list": Response(QUOTED.encode(), media_type="application/json")},
        {"tools_list": {"tools": QUOTED}},
    ],
)
async def test_a_server_that_quotes_them_where_it_cannot_be_listed_does_not_show_them(
    bench: Bench, handlers: dict[str, Any]
) -> None:
    bench.raw("/canary-path-0123456789", **handlers)

    assert await bench.unlisted()


async def test_a_server_that_quotes_them_in_its_list_does_not_show_them(bench: Bench) -> None:
    bench.raw(tools_list={"tools": [tool("t", description=QUOTED, inputSchema={"description": QUOTED})]})

    (listed,) = await bench.list()

    assert "canary-host-token" not in str(listed)
    assert listed.description is not None and listed.description.startswith("[redacted]")


async def test_a_reply_in_a_coding_that_nobody_asked_for_is_not_decoded(bench: Bench) -> None:
    def handler(message: dict[str, Any]) -> Response:
        coded = gzip.compress(json.dumps(result_of(message)).encode())
        return Response(coded, media_type="application/json", headers={"content-encoding": "gzip"})

    bench.raw(tools_call=handler)

    assert (await bench.error())["type"] == "mcp_protocol_error"


@pytest.mark.parametrize(
    "location", [METADATA, "//169.254.169.254/", "https://127.0.0.1/mcp", "http://u:p@127.0.0.1/", "http://[", "\xe9"]
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_place_is_not_followed(bench: Bench, status: int, location: str) -> None:
    bench.raw(tools_call=Response(status_code=status, headers={"location": location}))

    message = "The server redirects to another place, which is not followed."
    assert await bench.error() == {"type": "http_error", "code": status, "message": message}


async def test_a_redirect_within_the_server_is_followed_with_the_method_kept(bench: Bench) -> None:
    server = bench.raw(tools_call=DONE)
    inner = server.answer

    async def answer(request: Any) -> Response:
        if request.url.path != "/mcp/":
            server.paths.append(request.url.path)
            return RedirectResponse("/mcp/", 307)
        return await inner(request)

    server.answer = answer  # type: ignore[method-assign]
    assert await bench.call() == Outcome("done")
    assert server.paths.count("/mcp") == 1


async def test_a_redirect_without_an_end_is_given_up(bench: Bench) -> None:
    server = bench.raw(tools_call=RedirectResponse("/mcp", 307))

    assert (await bench.error())["message"] == "The server redirects without an end."
    assert server.asked.count("tools/call") == 4


BLOCK = b" " * 65536


async def huge() -> AsyncIterator[bytes]:
    for _ in range(2 * MOST_REPLY // len(BLOCK)):
        yield BLOCK


async def many_events() -> AsyncIterator[bytes]:
    event = b"data: %s\n\n" % json.dumps({**NOTIFICATION, "params": {"progressToken": 1, "progress": 1}}).encode()
    for _ in range(2 * MOST_REPLY // len(event) // 100):
        yield event * 100


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (huge, "application/json", "larger than 4 MiB"),
        (huge, "text/event-stream", "larger than 4 MiB"),
        (many_events, "text/event-stream", "more than 1000 events"),
    ],
)
async def test_a_huge_reply_is_cut_off(bench: Bench, body: Any, kind: str, said: str) -> None:
    bench.raw(tools_call=lambda message: StreamingResponse(body(), media_type=kind))

    assert said in (await bench.error())["message"]


ASKS = {"method": "elicitation/create", "params": {"message": "?", "requestedSchema": OBJECT}}


@pytest.mark.parametrize(
    "given",
    [
        PlainTextResponse("done"),
        Response(status_code=202),
        Response(status_code=204),
        Response(b"{", media_type="application/json"),
        Response(b"[]", media_type="application/json"),
        Response(b"[" * 100_000, media_type="application/json"),
        JSONResponse({"jsonrpc": "2.0", "id": 3}),
        stream(b"data: {\n\n"),
        stream(),
        stream(NOTIFICATION),
        {},
        {"content": "done"},
        {"content": [{"type": "video"}]},
        {"content": [], "isError": "perhaps"},
        {"inputRequests": {"a": ASKS}, "resultType": "input_required"},
    ],
)
async def test_an_answer_that_is_none_is_an_error(bench: Bench, given: Any) -> None:
    bench.raw(tools_call=given)

    assert (await bench.error(seconds=3.0))["type"] in ("mcp_protocol_error", "http_error")


async def test_a_server_that_asks_for_more_on_the_way_is_refused(bench: Bench) -> None:
    asking = {"jsonrpc": "2.0", "id": 9, "method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}}
    server = bench.raw(tools_call=lambda message: stream(asking, result_of(message)))

    assert await bench.call() == Outcome("done")
    assert "sampling" not in json.dumps(server.capabilities)


# Servers that cannot be listed...


async def test_a_server_that_is_not_there_is_unlisted(bench: Bench) -> None:
    bench.url = "http://127.0.0.1:1/mcp"

    assert await bench.unlisted() == "No connection to the server could be made."
    assert "ConnectionRefusedError" in bench.notes.texts[0] or "ConnectError" in bench.notes.texts[0]


async def test_a_server_that_does_not_answer_is_unlisted_at_the_deadline(bench: Bench) -> None:
    async def never(message: Any) -> Any:
        await anyio.sleep(10)

    bench.raw(initialize=never)

    assert await bench.unlisted(seconds=0.5) == "The server did not answer in time."


async def test_what_is_said_is_about_the_last_that_was_tried(bench: Bench) -> None:
    def handler(message: dict[str, Any]) -> Response:
        return JSONResponse(error_of(message, -32600, "Not today."))

    bench.raw(server_discover=PlainTextResponse("?", 500), initialize=handler)

    assert await bench.unlisted() == "Not today."


async def test_a_list_that_does_not_come_is_unlisted_at_the_deadline(bench: Bench) -> None:
    async def never(message: Any) -> Any:
        await anyio.sleep(10)

    bench.raw(tools_list=never)

    assert await bench.unlisted(seconds=1.5) == "The server did not answer in time."


async def test_a_tool_with_a_bad_schema_is_left_out_and_the_operator_told(bench: Bench) -> None:
    tools = [tool("good"), tool("bad", {"type": "string"}), tool("worse", None), "none", tool("good"), {"name": "bare"}]
    tools[2] = {"name": "worse", "inputSchema": [], "outputSchema": 1}
    bench.raw(tools_list={"tools": tools})

    assert [one.name for one in await bench.list()] == ["good", "bare"]
    assert bench.notes.texts == [
        "The tool 'bad' is left out: its schema is not of an object.",
        "The tool 'worse' is left out: its schema is no object.",
        "The tool 'None' is left out: it is no object.",
        "A second tool 'good' is left out.",
    ]


def endless(message: dict[str, Any]) -> dict[str, Any]:
    return {"tools": [], "nextCursor": "again"}


def crowded(message: dict[str, Any]) -> dict[str, Any]:
    return {"tools": [tool(f"t{number}") for number in range(MOST_TOOLS + 1)]}


def heavy(message: dict[str, Any]) -> dict[str, Any]:
    cursor = int(message.get("params", {}).get("cursor", 0))
    one = {**OBJECT, "default": "x" * 60_000}
    return {"tools": [tool(f"t{cursor + number}", one) for number in range(30)], "nextCursor": str(cursor + 30)}


@pytest.mark.parametrize(
    ("handler", "said"),
    [(endless, f"more than {MOST_PAGES} pages"), (crowded, f"more than {MOST_TOOLS} tools"), (heavy, "MiB")],
)
async def test_a_list_without_an_end_is_refused(bench: Bench, handler: Any, said: str) -> None:
    server = bench.raw(tools_list=handler)

    assert said in await bench.unlisted(seconds=30)
    assert server.asked.count("tools/list") <= MOST_PAGES


async def test_an_empty_cursor_ends_the_list(bench: Bench) -> None:
    bench.raw(tools_list={"tools": [tool("t")], "nextCursor": ""})

    assert len(await bench.list()) == 1


# Servers that go...


@pytest.fixture
def upstream() -> Iterator[list[Upstream]]:
    started: list[Upstream] = []
    yield started
    for one in started:
        one.close()
        assert one.errors == []


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: 1000\r\n\r\n"
ENDS = {
    "at once": lambda peer: None,
    "by a reset": lambda peer: peer.reset(),
    "in the head": lambda peer: peer.send(b"HTTP/1.1 200 OK\r\ncont"),
    "in json": lambda peer: peer.send(HEAD % b"application/json", b'{"jsonrpc"'),
    "in a stream": lambda peer: peer.send(HEAD % b"text/event-stream", b'data: {"jsonrpc"'),
    "with garbage": lambda peer: peer.send(b"garbage\r\n\r\n"),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
async def test_a_server_that_dies_in_a_call_costs_that_call_alone(
    bench: Bench, upstream: list[Upstream], end: Any
) -> None:
    upstream.append(Upstream(by_hand(end)))
    bench.url = f"http://127.0.0.1:{upstream[0].port}/mcp"

    assert (await bench.error())["type"] == "http_error"


async def test_a_call_is_never_sent_twice(bench: Bench, upstream: list[Upstream]) -> None:
    calls: list[int] = []
    upstream.append(Upstream(by_hand(lambda peer: calls.append(peer.number))))
    bench.url = f"http://127.0.0.1:{upstream[0].port}/mcp"

    await bench.error()

    assert len(calls) == 1


async def test_a_server_that_hangs_at_the_end_does_not_hold_the_session(bench: Bench) -> None:
    async def never(message: Any) -> Any:
        await anyio.sleep(60)

    server = bench.raw(tools_call=DONE, DELETE=never)

    with anyio.fail_after(30):
        assert await bench.call() == Outcome("done")
    assert server.asked[-1] == "DELETE"
