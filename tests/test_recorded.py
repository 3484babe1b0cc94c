"""Real exchanges of the Responses API, replayed by an upstream: what it gets and what the client gets are the same
bytes as without the gateway, but for the hint and the stamp."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.testing import FakeProvider, Reply

from .support.driving import JSON, ask

FILE = Path(__file__).parents[2] / "shared" / "recorded" / "responses.jsonl"
pytestmark = pytest.mark.skipif(not FILE.exists(), reason="the recorded exchanges are not here")


def recorded() -> list[dict[str, Any]]:
    if not FILE.exists():
        return []
    return [json.loads(line) for line in FILE.read_text().splitlines()]


RECORDED = recorded()
STREAMS = [one for one in RECORDED if isinstance(one["reply"], str)]
UNARY = [one for one in RECORDED if not isinstance(one["reply"], str)]


def body_of(exchange: dict[str, Any]) -> bytes:
    """The request as somebody else's JSON library would write it: with spaces, escapes as they come."""
    return json.dumps(exchange["request"]).encode()


def compact(exchange: dict[str, Any], **more: Any) -> bytes:
    """The same without spaces between the top-level members, whose values stay as they are."""
    members = {**exchange["request"], **more}
    inner = (b"%s:%s" % (json.dumps(name).encode(), json.dumps(value).encode()) for name, value in members.items())
    return b"{%s}" % b",".join(inner)


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeProvider]:
    with FakeProvider().run_in_thread() as provider:
        yield provider


def gateway_of(upstream: FakeProvider, exchange: dict[str, Any], **options: Any) -> Gateway:
    upstream.clear()
    type = "openrouter" if has_preferences(exchange) else None
    return Gateway(providers=[Provider("up", upstream.base_url, type=type, api_key="sk-canary-house-key")], **options)


def has_preferences(exchange: dict[str, Any]) -> bool:
    """Whether `provider` is OpenRouter's own member, so that the hint must come another way."""
    return "provider" in exchange["request"]


def hinted(exchange: dict[str, Any]) -> bytes:
    return compact(exchange) if has_preferences(exchange) else compact(exchange, provider="up")


HINT = (b"x-gomodel-provider", b"up")


def passed_over(exchange: dict[str, Any]) -> bool:
    """Whether the exchange is an answer with a status that is passed as it came."""
    return int(exchange["status"]) == 200


@pytest.mark.parametrize("number", range(len(UNARY)))
async def test_a_recorded_request_and_its_reply_pass_byte_for_byte(upstream: FakeProvider, number: int) -> None:
    exchange = UNARY[number]
    raw = json.dumps(exchange["reply"], indent=1).encode()
    async with gateway_of(upstream, exchange, stamp=False) as gateway:
        upstream.script(Reply(raw, exchange["status"], exchange["content_type"] or "application/json"))

        answer = await ask(gateway, hinted(exchange), headers=[JSON, HINT])

    assert upstream.requests[0].body == compact(exchange)
    if passed_over(exchange):
        assert (answer.status, answer.content) == (200, raw)
    else:
        assert answer.error


@pytest.mark.parametrize("number", range(len(UNARY)))
async def test_a_recorded_response_is_stamped_and_otherwise_the_same(upstream: FakeProvider, number: int) -> None:
    exchange = UNARY[number]
    async with gateway_of(upstream, exchange) as gateway:
        upstream.script(Reply(exchange["reply"], exchange["status"]))

        answer = await ask(gateway, body_of(exchange))

    assert upstream.requests[0].json() == exchange["request"]
    if passed_over(exchange) and exchange["reply"].get("object") == "response":
        assert list(answer.json())[0] == "provider" or "provider" in exchange["reply"]
        assert answer.json() == {**exchange["reply"], "provider": "up"}


def cuts(stream: bytes, sizes: Iterator[int]) -> list[bytes]:
    pieces, at = [], 0
    while at < len(stream):
        size = next(sizes)
        pieces.append(stream[at : at + size])
        at += size
    return pieces


def at_random(seed: int) -> Iterator[int]:
    chance = random.Random(seed)
    while True:
        yield chance.choice((1, 2, 3, 10, 100, 1000, 10_000))


def ones() -> Iterator[int]:
    while True:
        yield 1


@pytest.mark.parametrize("how", ["random-1", "random-2", "random-3", "every byte"])
@pytest.mark.parametrize("number", range(len(STREAMS)))
async def test_a_recorded_stream_passes_byte_for_byte_however_it_is_cut(
    upstream: FakeProvider, number: int, how: str
) -> None:
    exchange = STREAMS[number]
    stream = exchange["reply"].encode()
    pieces = cuts(stream, ones() if how == "every byte" else at_random(int(how[-1])))
    async with gateway_of(upstream, exchange, stamp=False) as gateway:
        upstream.script(Reply(content_type=exchange["content_type"], chunks=pieces))

        answer = await ask(gateway, hinted(exchange), headers=[JSON, HINT])

    assert upstream.requests[0].body == compact(exchange)
    assert answer.content == stream
    assert all(piece.endswith(b"\n\n") for piece in answer.pieces)


@pytest.mark.parametrize("number", range(len(STREAMS)))
async def test_only_the_lifecycle_events_of_a_recorded_stream_are_stamped(upstream: FakeProvider, number: int) -> None:
    exchange = STREAMS[number]
    stream = exchange["reply"].encode()
    async with gateway_of(upstream, exchange) as gateway:
        upstream.script(Reply(content_type=exchange["content_type"], chunks=cuts(stream, at_random(number))))

        answer = await ask(gateway, body_of(exchange))

    theirs, ours = stream.split(b"\n\n"), answer.content.split(b"\n\n")
    assert len(theirs) == len(ours)
    changed = [(one, other) for one, other in zip(theirs, ours, strict=True) if one != other]
    assert len(changed) >= 2
    for one, other in changed:
        assert other.replace(b'"provider":"up",', b"", 1) == one
        assert b'"response":{"provider":"up",' in other
