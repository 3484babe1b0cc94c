"""The same over every kind of upstream: native with a socket, native without, and each translated dialect."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from gomodel_asgi import Provider, Retries, RoutingRequest
from gomodel_asgi.testing import FakeProvider, Reply
from gomodel_asgi.tools import FileReference

from ...support.gateways import Make
from ...support.websocket_client import ENDS, Client, connected
from ...support.websocket_upstream import Upstream, running


def events(*objects: Any, named: bool = False) -> Reply:
    """A stream of these objects."""
    lines = [(f"event: {one['type']}\n" if named else "") + f"data: {json.dumps(one)}\n\n" for one in objects]
    return Reply("".join(lines), content_type="text/event-stream")


def chat() -> Reply:
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    delta = {**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": None}]}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    end = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage}
    return events(delta, end)


def anthropic() -> Reply:
    message: dict[str, Any] = {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
    }
    message["usage"] = {"input_tokens": 1, "output_tokens": 1}
    return events(
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
        named=True,
    )


def gemini() -> Reply:
    content = {"role": "model", "parts": [{"text": "hi"}]}
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
    return events({"candidates": [{"content": content, "finishReason": "STOP", "index": 0}], "usageMetadata": usage})


REPLIES: dict[str, Callable[[], Reply]] = {"chat": chat, "anthropic": anthropic, "gemini": gemini}
TRANSLATED = list(REPLIES)
KINDS = ["native", "socket", *TRANSLATED]


@dataclass
class House:
    """A *client* of a gateway in front of one *kind* of upstream."""

    kind: str
    client: Client
    fake: FakeProvider
    upstream: Upstream

    def fails(self) -> None:
        """The next create fails with status 400."""
        error = {"message": "no", "type": "invalid_request_error", "param": None, "code": "bad"}
        if self.kind == "socket":
            said = json.dumps({"type": "error", "status": 400, "error": error})
            self.upstream.plays.append(lambda upstream, connection, frame: connection.send(said))
        else:
            self.fake.clear()
            self.fake.script(Reply({"error": error}, status=400))

    def answers(self, times: int = 1) -> None:
        """The next creates are answered."""
        if self.kind in REPLIES:
            self.fake.script(*[REPLIES[self.kind]() for _ in range(times)])

    @property
    def asked(self) -> int:
        return len(self.fake.requests) + len(self.upstream.frames)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with running() as upstream:
        yield upstream


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def house(kind: str, make: Make, provider: FakeProvider, upstream: Upstream) -> AsyncIterator[House]:
    if kind == "socket":
        given = Provider("p", upstream.base_url, websocket=True)
    else:
        given = Provider("p", provider.base_url, dialect="responses" if kind == "native" else kind)  # type: ignore[arg-type]
    async with connected(make(given, retries=Retries(attempts=1))) as client:
        yield House(kind, client, provider, upstream)


async def test_creates_are_answered_one_after_the_other(house: House) -> None:
    house.answers(3)
    for number in range(3):
        await house.client.create(f"turn {number}")
    for _ in range(3):
        response = await house.client.response()
        assert (response["status"], response["provider"]) == ("completed", "p")
        assert response["output"][-1]["content"][0]["text"]


async def test_every_event_of_a_lane_echoes_its_stream_id(house: House) -> None:
    house.answers()
    await house.client.create("hello", stream_id="a")
    assert {event["stream_id"] for event in await house.client.until(*ENDS)} == {"a"}


async def test_a_chain_that_is_not_stored_is_continued(house: House) -> None:
    house.answers(3)
    previous = await house.client.talk("one", store=False)
    for text in ("two", "three"):
        following = await house.client.talk(text, store=False, previous_response_id=previous["id"])
        assert following["previous_response_id"] == previous["id"]
        previous = following
    if house.kind != "socket":
        sent = house.fake.requests[-1].body.decode()
        assert [sent.count(f'"{text}"') for text in ("one", "two", "three")] == [1, 1, 1]


async def test_a_chain_that_is_stored_is_continued(house: House) -> None:
    house.answers(2)
    first = await house.client.talk("one")
    await house.client.talk("two", previous_response_id=first["id"])


@pytest.mark.parametrize("store", [True, False])
async def test_a_warm_start_is_continued(house: House, store: bool) -> None:
    house.answers(1)
    warmed = await house.client.talk("context", generate=False, store=store)
    assert warmed["output"] == []
    assert house.asked == (1 if house.kind == "socket" else 0)
    await house.client.talk("question", store=store, previous_response_id=warmed["id"])
    if house.kind != "socket":
        assert '"context"' in house.fake.requests[-1].body.decode()


async def test_an_unknown_id_is_told_and_asks_no_model(house: House) -> None:
    await house.client.create("more", store=False, previous_response_id="resp_unknown")
    error = await house.client.error()
    assert (error["status"], error["error"]["code"]) == (400, "previous_response_not_found")
    assert error["error"]["param"] == "previous_response_id"
    house.answers()
    await house.client.talk("whole conversation", store=False)


@pytest.mark.parametrize("kind", ["native", *TRANSLATED])
async def test_a_failed_continuation_evicts_its_id_alone(house: House) -> None:
    house.answers(2)
    first = await house.client.talk("one", store=False)
    second = await house.client.talk("two", store=False, previous_response_id=first["id"])
    house.fails()
    await house.client.create("three", store=False, previous_response_id=second["id"])
    assert (await house.client.error())["status"] == 400
    await house.client.create("three", store=False, previous_response_id=second["id"])
    assert (await house.client.error())["error"]["code"] == "previous_response_not_found"
    house.answers()
    await house.client.talk("two again", store=False, previous_response_id=first["id"])


async def test_a_failure_is_one_frame_and_the_next_create_succeeds(house: House) -> None:
    house.fails()
    await house.client.create("one", stream_id="a")
    error = await house.client.error()
    assert (error["status"], error["stream_id"], error["error"]["message"]) == (400, "a", "no")
    house.answers()
    await house.client.talk("two")


async def test_after_a_reconnect_the_whole_conversation_recovers(house: House, make: Make) -> None:
    house.answers(2)
    first = await house.client.talk("one", store=False)
    socket = house.kind == "socket"
    url = house.upstream.base_url if socket else house.fake.base_url
    dialect: Any = house.kind if house.kind in TRANSLATED else "responses"
    async with connected(
        make(Provider("p", url, dialect=dialect, websocket=socket), retries=Retries(attempts=1))
    ) as again:
        await again.create("two", store=False, previous_response_id=first["id"])
        assert (await again.error())["error"]["code"] == "previous_response_not_found"
        await again.talk([{"role": "user", "content": "one"}, {"role": "user", "content": "two"}], store=False)


async def test_a_file_of_an_earlier_turn_is_given_to_an_upstream_that_cannot_read_its_id(
    make: Make, provider: FakeProvider
) -> None:
    asked = []

    async def read(reference: FileReference, request: RoutingRequest) -> bytes:
        asked.append(reference.file_id)
        return b"The word is heron."

    with FakeProvider(dialect="gemini").run_in_thread() as other:
        given = [Provider("up", provider.base_url), Provider("gemini", other.base_url, dialect="gemini")]
        async with connected(make(*given, files=read)) as client:
            content = [{"type": "input_file", "file_id": "f1"}]
            first = await client.talk([{"role": "user", "content": content}], store=False, model="up/m")
            await client.talk("And now?", store=False, previous_response_id=first["id"], model="gemini/m")
        parts = other.requests[-1].json()["contents"][0]["parts"]

    assert asked == ["f1"] and parts[0]["inlineData"]["mimeType"] == "text/plain"
