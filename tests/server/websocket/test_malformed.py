"""JSON whose strings no parser can make text of: a client's frame is refused, an upstream's is passed over or fails its
response, and the connection goes on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import pytest
from websockets.sync.server import ServerConnection

from gomodel_asgi import Provider
from gomodel_asgi.testing import FakeProvider, Reply

from ...support.gateways import Make
from ...support.websocket_client import ENDS, Client, connected
from ...support.websocket_upstream import Event, Upstream, running, whole

HALF = r"\ud800"  # half a surrogate pair: valid by the grammar of JSON, and no text


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with running() as upstream:
        yield upstream


@pytest.fixture
async def client(make: Make, upstream: Upstream) -> AsyncIterator[Client]:
    async with connected(make(Provider("up", upstream.base_url, websocket=True))) as client:
        yield client


@pytest.mark.parametrize(
    "frame",
    [
        '{"type":"%s"}' % HALF,
        '{"type":"response.create","stream_id":"%s","model":"m","input":"x"}' % HALF,
        '{"type":"response.create","model":"%s","input":"x"}' % HALF,
        '{"type":"response.create","model":"m","provider":"%s","input":"x"}' % HALF,
        '{"type":"response.create","model":"m","previous_response_id":"%s","input":"x"}' % HALF,
        '{"type":"response.create","model":"m","conversation":{"id":"%s"},"input":"x"}' % HALF,
        '{"type":"response.steer","previous_response_id":"%s","input":"x"}' % HALF,
        '{"type":"response.steer","previous_response_id":"resp_1","input":"%s"}' % HALF,
    ],
)
async def test_a_frame_whose_text_is_none_is_refused_and_the_connection_goes_on(client: Client, frame: str) -> None:
    await client.send(frame)
    refused = await client.event()
    assert (refused["type"], refused["status"]) == ("error", 400)
    await client.create("hello")
    assert (await client.until(*ENDS))[-1]["type"] == "response.completed"


async def end_of(client: Client, lane: str) -> str:
    """The type of the frame that ends the next response on *lane*, whatever comes on others meanwhile."""
    while True:
        event = await client.event()
        if event.get("stream_id") == lane and event["type"] in (*ENDS, "error"):
            return str(event["type"])


FOREIGN: list[str | bytes] = [
    b'{"type":"\xff","response":{}}',
    b'{"type":"response.created","stream_id":"\xff","response":{}}',
    b'{"type":"response.created","sequence_number":0,"response":{"id":"\xff"}}',
    b'{"type":"response.created","sequence_number":0,"response":{"\xff":1}}',
    b'{"type":"response.output_text.delta","delta":"\xff"}',
    b'{"type":"response.output_item.done","item":{"id":"\xff"}}',
    b'{"type":"response.completed","response":{"id":"resp_x","output":[{"id":"\xff"}]}}',
    b'{"type":"response.steer.accepted","response":"\xff"}',
    b'{"type":"error","error":{"message":"\xff"}}',
    b'"error"',
    b"\xff",
    '{"type":"response.created","sequence_number":0,"response":7}',
    '{"type":"response.created","sequence_number":0,"response":[]}',
    '{"type":"response.created","sequence_number":0,"response":{"%s":1}}' % HALF,
    '{"type":"response.created","sequence_number":0,"response":{"id":"%s"}}' % HALF,
    '{"type":"%s","response":{}}' % HALF,
    '{"type":"response.created","stream_id":"%s","response":{}}' % HALF,
    '{"type":"response.steer.accepted","%s":{},"response":{}}' % HALF,
    '{"type":"error","error":{"message":"%s"}}' % HALF,
    '{"type":"response.completed","response":{"id":"resp_x","output":7}}',
    '{"type":"response.completed","response":{"id":"resp_x","status":"%s","output":[]}}' % HALF,
    '{"type":"response.output_item.done","item":7}',
]


@pytest.mark.parametrize("text", FOREIGN)
@pytest.mark.parametrize("at", ["first", "within"])
async def test_a_foreign_frame_of_an_upstream_fails_at_most_its_own_response(
    client: Client, upstream: Upstream, text: str | bytes, at: str
) -> None:
    def foreign(upstream: Upstream, connection: ServerConnection, frame: Event) -> None:
        if at == "within":
            created = {"type": "response.created", "sequence_number": 0, "response": {"id": "resp_up", "output": []}}
            connection.send(json.dumps(created))
        connection.send(text, text=True)
        whole(upstream, connection, frame)

    upstream.plays.append(foreign)
    await client.create("hello")
    await client.until(*ENDS, "error")
    await client.create("again", stream_id="b")
    assert await end_of(client, "b") == "response.completed"


@pytest.mark.parametrize("text", FOREIGN)
async def test_a_foreign_event_of_an_upstream_without_sockets_fails_at_most_its_own_response(
    make: Make, text: str | bytes
) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    created = b'{"type":"response.created","sequence_number":0,"response":{"id":"resp_up","output":[]}}'
    events = b"".join(b"data: %s\n\n" % one for one in (created, data))
    fake = FakeProvider()
    fake.script(Reply(events, content_type="text/event-stream"))
    with fake.run_in_thread():
        async with connected(make(fake)) as client:
            await client.create("hello")
            await client.until(*ENDS, "error")
            await client.create("again", stream_id="b")
            assert await end_of(client, "b") == "response.completed"
