"""Sessions with real servers of the official SDK: in this process, and over Streamable HTTP on loopback."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest
from mcp.server.mcpserver import MCPServer

from gomodel_asgi.emulation.tools.seams import Outcome, Session, Unlisted
from gomodel_asgi.seams.transport import Transport
from gomodel_asgi.transport import DefaultTransport
from tests.support.serving import Served

from .servers import HEADERS, LONG, PIXEL, TOOLS, Gate, Notes, Opened, Shop, call_of, opened


class Stand:
    """A shop, how it is opened, and the gate before it where it is remote."""

    def __init__(self, kind: str, serve: Served) -> None:
        self.transport: Transport = DefaultTransport()
        self.shop = Shop()
        self.kind = kind
        self.notes = Notes()
        self.gate: Gate | None = None
        self.url = ""
        if kind != "in-process":
            self.gate = Gate(self.shop.app(json_response=kind == "json", stateless_http=kind == "stateless"))
            self.url = serve(self.gate) + "/mcp"

    def open(self, headers: Any = HEADERS) -> Opened:
        if self.gate is None:
            return opened(self.shop.server, self.transport, self.notes)
        return opened(self.url, self.transport, self.notes, headers=headers)


@pytest.fixture(params=["in-process", "json", "stream", "stateless"])
def served(request: pytest.FixtureRequest, serve: Served) -> Stand:
    """Made outside of any event loop: an app of the SDK that is made on trio does not run on uvicorn's."""
    return Stand(request.param, serve)


@pytest.fixture
async def stand(served: Stand) -> AsyncIterator[Stand]:
    yield served
    await served.transport.aclose()


@pytest.fixture
async def session(stand: Stand) -> AsyncIterator[Session]:
    async with stand.open() as session:
        yield session


async def test_all_tools_are_listed_from_all_pages(session: Session, stand: Stand) -> None:
    listed = await session.list_tools()

    assert len({one.name for one in listed}) == len(listed) == TOOLS
    assert [one.name for one in listed if one.read_only] == ["echo"]
    assert listed[0].description == "Does echo."
    assert listed[0].input_schema == {"type": "object", "properties": {"text": {"type": "string"}}}
    assert stand.notes.texts == []


async def test_text_comes_back(session: Session) -> None:
    assert await session.call_tool("echo", {"text": "hello"}, call_of()) == Outcome("hello")


async def test_a_tool_that_was_never_listed_is_called_by_one_request(session: Session, stand: Stand) -> None:
    await session.call_tool("echo", {"text": "hello"}, call_of())

    assert stand.shop.called == ["echo"]
    if stand.gate is not None:
        assert stand.gate.asked == ["server/discover", "tools/call"]


async def test_a_tool_that_fails_says_why(session: Session) -> None:
    outcome = await session.call_tool("fails", {}, call_of())

    said = "No such order.\nTry another."
    content = [{"type": "text", "text": said}]
    assert outcome == Outcome(said, error={"type": "mcp_tool_execution_error", "content": content})


async def test_an_exception_of_the_server_is_a_protocol_error_without_its_text(
    session: Session,
) -> None:
    outcome = await session.call_tool("raises", {}, call_of())

    assert outcome.error is not None
    assert outcome.error["type"] == "mcp_protocol_error"
    assert "vault" not in str(outcome)


async def test_structured_content_alone_is_written_as_json_and_not_checked(session: Session) -> None:
    await session.list_tools()

    assert await session.call_tool("structured", {}, call_of()) == Outcome('{"n":1}')


async def test_an_image_is_a_note_and_the_image(session: Session) -> None:
    outcome = await session.call_tool("image", {}, call_of())

    assert outcome.text == "Here.\n[An image: image/png]"
    assert [(image.data, image.format) for image in outcome.images] == [(PIXEL, "png")]


async def test_a_server_that_asks_the_user_is_told_that_nobody_can(session: Session) -> None:
    outcome = await session.call_tool("asks", {}, call_of())

    assert outcome.error is not None


async def test_a_slow_tool_is_given_up_at_the_deadline_and_the_session_goes_on(session: Session, stand: Stand) -> None:
    outcome = await session.call_tool("slow", {}, call_of(seconds=0.2))

    late = {"type": "http_error", "code": 504, "message": "The server did not answer in time."}
    assert outcome == Outcome(late["message"], error=late)  # type: ignore[arg-type]
    assert await session.call_tool("echo", {"text": "on"}, call_of()) == Outcome("on")


async def test_calls_of_several_tasks_run_at_once(session: Session, stand: Stand) -> None:
    outcomes: dict[str, list[str]] = {"slow": [], "echo": []}

    async def ask(name: str, seconds: float) -> None:
        outcome = await session.call_tool(name, {"text": name}, call_of(seconds=seconds))
        outcomes[name].append(outcome.text)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(ask, "slow", 3.0)
        for _ in range(10):
            group.start_soon(ask, "echo", LONG)

    assert outcomes == {"slow": ["The server did not answer in time."] * 3, "echo": ["echo"] * 10}
    assert stand.shop.called.count("slow") == 3


async def test_a_plain_function_that_goes_on_in_its_thread_does_not_hold_the_call(transport: DefaultTransport) -> None:
    server, release = MCPServer("plain"), threading.Event()

    @server.tool()
    def stay() -> str:
        release.wait(LONG)
        return "late"

    @server.tool()
    def go() -> str:
        return "on"

    try:
        async with opened(server, transport) as session:
            outcome = await session.call_tool("stay", {}, call_of(seconds=0.2))
            assert outcome.text == "The server did not answer in time."
            assert (await session.call_tool("go", {}, call_of())).text == "on"
    finally:
        release.set()


async def test_a_session_may_be_left_in_another_task_than_it_was_entered_in(stand: Stand) -> None:
    opening = stand.open()
    entered: list[Session] = []

    async def enter() -> None:
        entered.append(await opening.__aenter__())

    async def leave() -> None:
        await opening.__aexit__(None, None, None)

    for step in (enter, leave):
        async with anyio.create_task_group() as group:
            group.start_soon(step)

    outcome = await entered[0].call_tool("echo", {}, call_of())
    assert outcome.error is not None
    assert outcome.error["type"] == "http_error"


async def test_a_session_that_is_over_answers_calls_with_an_error(stand: Stand) -> None:
    async with stand.open() as session:
        pass

    outcome = await session.call_tool("echo", {}, call_of())

    assert outcome.error is not None
    with pytest.raises(Unlisted):
        await session.list_tools()


@pytest.mark.parametrize("served", ["json", "stream", "stateless"], indirect=True)
async def test_credentials_go_with_every_request_and_no_cookie_does(stand: Stand) -> None:
    async with stand.open() as session:
        await session.list_tools()
        await session.call_tool("echo", {}, call_of())

    assert stand.gate is not None
    assert {head.get("authorization") for head in stand.gate.heads} == {HEADERS["authorization"]}
    assert not any("cookie" in head for head in stand.gate.heads)
    assert all(head["user-agent"].startswith("gomodel-asgi/") for head in stand.gate.heads)
    assert "GET" not in stand.gate.methods


@pytest.mark.parametrize("served", ["json", "stream"], indirect=True)
async def test_a_server_that_refuses_the_credentials_is_named_by_its_status_alone(stand: Stand) -> None:
    with pytest.raises(Unlisted) as refused:
        async with stand.open({"authorization": "Bearer canary-wrong"}):
            raise AssertionError("it was opened")

    assert str(refused.value) == "The server answered with HTTP status 401."
    assert refused.value.__cause__ is None
    assert stand.notes.texts and "canary" not in "".join(stand.notes.texts)


HeaderFunction = Callable[[Any], Any]


async def in_a_while(call: Any) -> dict[str, str]:
    await anyio.lowlevel.checkpoint()
    return {**HEADERS, "x-tenant": str(call.request.tenant)}


def at_once(call: Any) -> dict[str, str]:
    return {**HEADERS, "x-tenant": str(call.request.tenant)}


@pytest.mark.parametrize("served", ["json"], indirect=True)
@pytest.mark.parametrize("function", [in_a_while, at_once])
async def test_headers_may_be_a_function_of_the_call(stand: Stand, function: HeaderFunction) -> None:
    async with stand.open(function) as session:
        await session.list_tools()

    assert stand.gate is not None
    assert {head["x-tenant"] for head in stand.gate.heads} == {"one"}


def failing(call: Any) -> dict[str, str]:
    raise RuntimeError("canary: the vault is sealed")


@pytest.mark.parametrize("served", ["json"], indirect=True)
@pytest.mark.parametrize(
    "function", [failing, lambda call: {"host": "evil"}, lambda call: None, lambda call: {"a": "\n"}]
)
async def test_a_function_of_headers_that_fails_or_gives_none_lists_nothing(
    stand: Stand, function: HeaderFunction
) -> None:
    with pytest.raises(Unlisted, match="The credentials for the server could not be had."):
        async with stand.open(function):
            raise AssertionError("it was opened")

    assert stand.gate is not None and stand.gate.heads == []
    assert len(stand.notes.texts) == 1 and "canary" not in stand.notes.texts[0]
