"""Real clients over real servers: the openai SDK, the Agents SDK, and a raw client for what no SDK would send."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from socket import SHUT_RDWR, SO_LINGER, SOL_SOCKET
from struct import pack
from typing import Any

import pytest
from agents import Agent, OpenAIProvider, RunConfig, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI, OpenAI, omit
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.connection import Connection

from gomodel_asgi import Gateway, GoModelMiddleware, Limits, Provider, RoutingRequest, Target, Unauthenticated
from gomodel_asgi.testing import Answer, FakeProvider, Scripted, Stall, ToolCall

from ...support.websocket_client import ENDS
from ...support.websocket_servers import SERVERS, serving


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def guarded(request: RoutingRequest) -> Target:
    """Lets in whoever has the key of these tests."""
    if request.headers.get("authorization") != "Bearer sk-canary-client":
        raise Unauthenticated
    return Target("fake")


@pytest.fixture
def app(provider: FakeProvider) -> ASGIApp:
    gateway = Gateway(providers=[Provider("fake", provider.base_url)], policy=guarded, limits=Limits(body=100_000))
    return GoModelMiddleware(Starlette(), gateway=gateway)


@pytest.fixture(params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def address(kind: str, app: ASGIApp) -> Iterator[str]:
    with serving(kind, app) as address:
        yield address


@pytest.fixture
def socket(address: str) -> Iterator[Connection]:
    """A raw client, let in."""
    with dialled(address) as connection:
        yield connection


def dialled(address: str, key: str = "sk-canary-client", **options: Any) -> ClientConnection:
    headers = {"Authorization": f"Bearer {key}"}
    return connect(f"ws://{address}/v1/responses", additional_headers=headers, close_timeout=1, proxy=None, **options)


def frames_of(socket: Connection) -> list[dict[str, Any]]:
    """The frames up to an end or an error."""
    frames = [json.loads(socket.recv(timeout=20))]
    while frames[-1]["type"] not in (*ENDS, "error"):
        frames.append(json.loads(socket.recv(timeout=20)))
    return frames


def create(socket: Connection, **members: Any) -> list[dict[str, Any]]:
    socket.send(json.dumps({"type": "response.create", "model": "m", "input": "hello", **members}))
    return frames_of(socket)


# SDKs...


def test_the_openai_sdk_talks_and_continues_what_is_not_stored(address: str, provider: FakeProvider) -> None:
    with (
        OpenAI(base_url=f"http://{address}/v1", api_key="sk-canary-client") as client,
        client.responses.connect() as connection,
    ):
        texts: list[str] = []
        previous: str | None = None
        for text in ("one", "two", "three"):
            provider.script(Answer(text=f"to {text}"))
            connection.response.create(model="m", input=text, store=False, previous_response_id=previous or omit)
            for event in connection:
                if event.type == "response.completed":
                    texts.append(event.response.output_text)
                    previous = event.response.id
                    break
    assert texts == ["to one", "to two", "to three"]
    assert [len(request.json()["input"]) for request in provider.requests] == [3, 3, 5]


async def test_the_openai_sdk_is_told_of_an_unknown_id_and_goes_on(address: str, provider: FakeProvider) -> None:
    async with (
        AsyncOpenAI(base_url=f"http://{address}/v1", api_key="sk-canary-client") as client,
        client.responses.connect() as connection,
    ):
        await connection.response.create(model="m", input="x", previous_response_id="resp_unknown", stream_id="a")
        error: Any = await connection.recv()
        assert (error.type, error.error.code) == ("error", "previous_response_not_found")
        await connection.response.create(model="m", input="x")
        async for event in connection:
            assert event.type != "error"
            if event.type == "response.completed":
                break


async def test_the_agents_sdk_runs_a_tool_loop_on_one_connection(address: str, provider: FakeProvider) -> None:
    set_tracing_disabled(True)

    @function_tool
    def weather(city: str) -> str:
        return f"rain in {city}"

    provider.script(Answer(calls=[ToolCall("weather", {"city": "Oslo"})]), Answer(text="Take an umbrella."))
    client = AsyncOpenAI(base_url=f"http://{address}/v1", api_key="sk-canary-client")
    models = OpenAIProvider(openai_client=client, use_responses_websocket=True)
    agent = Agent(name="a", model="m", tools=[weather])
    try:
        result = await Runner.run(agent, "Weather?", run_config=RunConfig(model_provider=models))
    finally:
        await models.aclose()
        await client.close()
    assert result.final_output == "Take an umbrella."
    assert "rain in Oslo" in json.dumps(provider.requests[1].json()["input"])


# The door...


def test_the_policy_refuses_before_the_handshake(address: str, kind: str) -> None:
    with pytest.raises(InvalidStatus) as refused, dialled(address, key="sk-canary-wrong"):
        pass
    status = refused.value.response.status_code
    assert status == 401 or (kind == "granian" and status == 403)  # granian has no way to send a response


def test_below_a_mount_the_connection_is_served_too(kind: str, provider: FakeProvider) -> None:
    gateway = Gateway(providers=[Provider("fake", provider.base_url)], policy=guarded)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:  # a mounted app sees none
        async with gateway:
            yield

    host = Starlette(routes=[Mount("/llm", app=gateway)], lifespan=lifespan)
    with serving(kind, host) as address:
        headers = {"Authorization": "Bearer sk-canary-client"}
        with connect(
            f"ws://{address}/llm/v1/responses", additional_headers=headers, proxy=None, close_timeout=1
        ) as socket:
            assert create(socket)[-1]["type"] == "response.completed"


# Faults...


@pytest.mark.parametrize("frame", ["{", "[]", b"\x00\xff", "x" * 150_000])
def test_a_bad_frame_is_an_error_and_the_socket_stays_open(socket: Connection, frame: str | bytes) -> None:
    socket.send(frame)
    assert frames_of(socket)[-1]["error"]["code"] in ("invalid_json", "invalid_frame", "request_too_large")
    assert create(socket)[-1]["type"] == "response.completed"


def test_a_frame_of_100_mb_is_refused_and_the_server_goes_on(address: str) -> None:
    with dialled(address) as socket:
        try:
            socket.send("x" * 100_000_000)
            assert frames_of(socket)[-1]["error"]["code"] == "request_too_large"
        except ConnectionClosed as closed:
            assert closed.rcvd is None or closed.rcvd.code in (1005, 1009)  # the server's own limit came first
    with dialled(address) as socket:
        assert create(socket)[-1]["type"] == "response.completed"


def test_ten_thousand_frames_at_once_are_all_answered_and_others_are_served_meanwhile(address: str) -> None:
    with dialled(address, max_queue=None) as flooding, dialled(address) as other:
        for _ in range(10_000):
            flooding.send("{}")
        assert create(other)[-1]["type"] == "response.completed"
        for _ in range(200):
            assert json.loads(flooding.recv(timeout=20))["error"]["code"] == "unknown_event_type"


@pytest.mark.parametrize("phase", ["upgraded", "asked", "streaming", "waiting"])
def test_a_client_that_vanishes_leaves_nothing_behind(address: str, provider: FakeProvider, phase: str) -> None:
    provider.script(Scripted(None, (Stall(after_events=2 if phase == "streaming" else 0),)))
    socket = dialled(address, ping_interval=None)
    creates = {"upgraded": 0, "waiting": 2}.get(phase, 1)
    for _ in range(creates):
        socket.send(json.dumps({"type": "response.create", "model": "m", "input": "hello"}))
    if phase == "streaming":
        assert json.loads(socket.recv(timeout=20))["type"] == "response.created"
    if creates:
        until(lambda: bool(provider.requests))
    vanish(socket)
    if creates:
        until(provider.requests[0].disconnected.is_set)
    assert len(provider.requests) == min(creates, 1)
    provider.clear()
    with dialled(address) as again:
        assert create(again)[-1]["type"] == "response.completed"


def vanish(connection: Connection) -> None:
    """Break the connection off, without a closing frame and without a FIN."""
    connection.socket.setsockopt(SOL_SOCKET, SO_LINGER, pack("ii", 1, 0))
    connection.socket.shutdown(SHUT_RDWR)
    connection.socket.close()


def until(condition: Callable[[], bool]) -> None:
    """Wait until *condition* holds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)
