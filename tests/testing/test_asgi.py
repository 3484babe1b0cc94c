"""The fake provider as an ASGI app: driven by hand, and behind a server that is not its own."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
import uvicorn
from starlette.types import Message

from gomodel_asgi.testing import Answer, Cut, FakeProvider, Fault, Garbage, Oversize, Reply, Slow, Stall, Trailing
from gomodel_asgi.testing.server import ScriptedCut

TIMEOUT = 10.0


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Client:
    """A caller on the other side of ASGI: gives *incoming*, keeps what is sent, and stays until `leave` is set."""

    def __init__(self, *incoming: Message) -> None:
        self.incoming = list(incoming)
        self.sent: list[Message] = []
        self.leave = anyio.Event()

    async def receive(self) -> Message:
        if self.incoming:
            return self.incoming.pop(0)
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        await anyio.lowlevel.checkpoint()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


def scope_of(**members: Any) -> dict[str, Any]:
    return {"type": "http", "method": "POST", "path": "/v1/responses", "query_string": b"", "headers": [], **members}


def ask(**members: Any) -> Message:
    return {"type": "http.request", "body": json.dumps({"model": "m", "input": "hi", **members}).encode()}


async def call(client: Client, *faults: Fault, provider: FakeProvider | None = None) -> FakeProvider:
    provider = provider or FakeProvider()
    provider.fail_next(*faults)
    with anyio.fail_after(TIMEOUT):
        await provider(scope_of(), client.receive, client.send)
    return provider


async def test_a_unary_reply_has_its_length_and_one_end() -> None:
    client = Client(ask())
    await call(client)

    assert client.sent[0]["status"] == 200
    assert (b"content-length", b"%d" % len(client.body)) in client.sent[0]["headers"]
    assert [message["more_body"] for message in client.sent[1:]] == [True, False]


async def test_a_stream_is_sent_event_by_event() -> None:
    client = Client(ask(stream=True))
    await call(client)

    assert [message["body"].endswith(b"\n\n") for message in client.sent[1:-1]] == [True] * 12
    assert not any(name == b"content-length" for name, _ in client.sent[0]["headers"])


async def test_a_body_in_pieces_is_one_request() -> None:
    body = ask()["body"]
    pieces = [{"type": "http.request", "body": bytes([byte]), "more_body": True} for byte in body]
    provider = await call(Client(*pieces, {"type": "http.request"}))

    assert provider.requests[0].body == body


async def test_a_client_that_leaves_within_its_body_is_not_in_the_journal() -> None:
    client = Client({"type": "http.request", "body": b"{", "more_body": True})
    client.leave.set()
    provider = await call(client)

    assert (provider.requests, client.sent) == ([], [])


async def test_a_stall_ends_when_the_client_leaves() -> None:
    client, provider = Client(ask(stream=True)), FakeProvider()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: call(client, Stall(after_events=2), provider=provider))
        with anyio.fail_after(TIMEOUT):
            request = await provider.received()
            client.leave.set()
            await request.disconnected.wait()

    assert not request.answered.is_set()
    assert len(client.sent) <= 3


async def test_a_stall_ends_when_it_is_released() -> None:
    client, provider = Client(ask(stream=True)), FakeProvider()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: call(client, Stall(), provider=provider))
        with anyio.fail_after(TIMEOUT):
            request = await provider.received()
            provider.release()
            await request.answered.wait()

    assert client.body.endswith(b"data: [DONE]\n\n")


async def test_slow_and_oversize_replies_come_whole() -> None:
    slow, large = Client(ask()), Client(ask())
    await call(slow, Slow(10))
    await call(large, Oversize(size=200_000))

    assert max(len(message["body"]) for message in slow.sent[1:]) == 10
    assert json.loads(slow.body)["status"] == json.loads(large.body)["status"] == "completed"


@pytest.mark.parametrize("faults", [[Cut(after_events=1)], [Garbage()], [Trailing()], [Cut(inside_chunk=0)]])
async def test_what_breaks_the_connection_is_raised_to_the_server(faults: Sequence[Fault]) -> None:
    client = Client(ask(stream=True))
    with pytest.raises(ScriptedCut):
        await call(client, *faults)


async def test_a_failing_send_is_raised_as_it_is() -> None:
    class Gone(Exception):
        pass

    async def send(message: Message) -> None:
        raise Gone

    with pytest.raises(Gone):
        await FakeProvider()(scope_of(), Client(ask()).receive, send)


async def test_a_status_without_a_body_has_no_length() -> None:
    client, provider = Client(ask()), FakeProvider()
    provider.script(Reply(status=204))
    await provider(scope_of(), client.receive, client.send)

    assert client.sent[0]["status"] == 204
    assert not any(name == b"content-length" for name, _ in client.sent[0]["headers"])


async def test_the_raw_path_is_what_the_journal_shows() -> None:
    client, provider = Client({"type": "http.request"}), FakeProvider()
    await provider(scope_of(path="/a b", raw_path=b"/a%20b", method="GET"), client.receive, client.send)

    assert provider.requests[0].path == "/a%20b"


async def test_lifespan_is_served_and_websockets_are_refused() -> None:
    provider = FakeProvider()
    lifespan = Client({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    await provider({"type": "lifespan"}, lifespan.receive, lifespan.send)
    websocket = Client({"type": "websocket.connect"})
    await provider({"type": "websocket", "path": "/v1/responses"}, websocket.receive, websocket.send)

    assert [message["type"] for message in lifespan.sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert websocket.sent == [{"type": "websocket.close", "code": 1000}]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_behind_uvicorn_it_streams_and_breaks_off() -> None:
    provider = FakeProvider()
    provider.script(Answer(text="one two"))
    provider.fail_next(Cut(after_events=2))
    server = uvicorn.Server(uvicorn.Config(provider, log_config=None, lifespan="off"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listening])
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/v1") as http:
                whole = await http.post("/responses", json={"model": "m", "input": "hi", "stream": True})
                with pytest.raises(httpx.RemoteProtocolError):
                    await http.post("/responses", json={"model": "m", "input": "hi", "stream": True})
            server.should_exit = True

    assert whole.text.endswith("data: [DONE]\n\n")
