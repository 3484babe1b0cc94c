"""The table of `docs/failures.md` is true: each of its rows is played, with the default settings."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from gomodel_asgi import Denied, Gateway, Limits, Provider, RoutingRequest, Target, Timeouts
from gomodel_asgi.errors import GatewayError
from gomodel_asgi.observers import AttemptStarted, Record
from gomodel_asgi.resilience.circuit import MINIMUM
from gomodel_asgi.testing import (
    Answer,
    Cut,
    Empty,
    ErrorInside,
    FakeProvider,
    Fault,
    Html,
    Malformed,
    Oversize,
    Stall,
    Status,
    ToolCall,
)

PAGE = Path(__file__).parents[1] / "docs" / "failures.md"
HEAD = ["what happens", "`code`", "retry", "fallback", "breaker"]
TABLE = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text().partition("## What triggers a fallback")[2].partition("\nTo see it")[0].splitlines()
    if line.startswith("|")
]
ROWS = {row[0]: row[1:] for row in TABLE[2:]}
STREAM = {"model": "m", "input": "Hello", "stream": True}
UNARY = {"model": "m", "input": "Hello"}
SOON = Timeouts(first_event=0.2, unary=0.2, idle=0.2)


@dataclass(frozen=True)
class Play:
    """How a row is brought about: what the first of two providers does, and how the gateway stands to it."""

    faults: tuple[Fault, ...] = ()
    body: dict[str, Any] = field(default_factory=lambda: UNARY)
    first: dict[str, Any] = field(default_factory=dict)
    """Members of the Target that is asked first."""
    provider: dict[str, Any] = field(default_factory=dict)
    gateway: dict[str, Any] = field(default_factory=dict)
    dialect: Literal["responses", "gemini"] = "responses"
    nobody_listens: bool = False
    garbles: bool = False
    opened: bool = False
    """The breaker is open before."""
    full: bool = False
    """Another request holds the only place at the provider."""
    refuses: bool = False


def statuses(*given: int, **options: Any) -> list[Play]:
    return [Play((Status(status),), **options) for status in given]


PLAYS: dict[str, list[Play]] = {
    "no connection: refused, unknown name, TLS": [Play(nobody_listens=True)],
    "the connection closes before a reply": [Play((Cut(before_head=True),)), Play((Cut(before_head=True),), STREAM)],
    "status 429, 502, 503, 504 or 529": statuses(429, 502, 503, 504, 529),
    "status 500, and any other above it": statuses(500, 501, 505, 520, 599),
    "status 408": statuses(408),
    "status 400, 404, 409, 422, and any other 4xx": statuses(400, 404, 405, 409, 413, 418, 422, 451),
    "status 401, 402 or 403 to the provider's key": statuses(401, 402, 403),
    "status 401, 402 or 403 to a key that the Target brings": statuses(401, 402, 403, first={"api_key": "sk-canary"}),
    "a redirect": [Play((Status(302, headers={"location": "http://127.0.0.1:1/"}),))],
    "no reply within the Target's own time-out": [
        Play((Stall(),), body, first={"timeouts": SOON}) for body in (UNARY, STREAM)
    ],
    "no reply within the gateway's time-out": [
        Play((Stall(),), body, gateway={"timeouts": SOON}) for body in (UNARY, STREAM)
    ],
    "a web page, no JSON, an empty or too large reply": [
        *(Play((fault,)) for fault in (Html(), Malformed(), Empty())),
        Play((Oversize(size=4096),), gateway={"limits": Limits(reply=4096)}),
    ],
    "a reply that stops before its end": [Play((Cut(after_bytes=5),))],
    "a stream that stops before its first meaningful event": [Play((Cut(after_events=n),), STREAM) for n in (0, 1)],
    "an error in a stream before that event, which names no status, or a busy one": [
        Play((ErrorInside(after_events=n, code=code),), STREAM)
        for n in (0, 1)
        for code in ("server_error", "rate_limit_exceeded", "something_else")
    ],
    "an error in a stream before that event, which names a 4xx": [
        Play((ErrorInside(after_events=n, code="invalid_request_error"),), STREAM) for n in (0, 1)
    ],
    "a stream that stops, or fails, after that event": [
        Play((Cut(after_events=4),), STREAM),
        Play((ErrorInside(after_events=4),), STREAM),
        Play((Stall(after_events=4),), STREAM, first={"timeouts": Timeouts(idle=0.2)}),
    ],
    "the model garbles a tool's call (Gemini)": [Play(dialect="gemini", garbles=True)],
    "the breaker is open": [Play(opened=True)],
    "no place under the provider's concurrency limit": [
        Play(full=True, provider={"max_concurrency": 1}, gateway={"timeouts": Timeouts(pool=0.0)})
    ],
    "the request cannot be put to this provider": [Play(body={**UNARY, "n": 3}, dialect="gemini")],
    "your policy refuses": [Play(refuses=True)],
}


@pytest.fixture
def anyio_backend() -> str:
    """What is retried is decided above the event loop: `resilience/test_retries.py` plays it on both."""
    return "asyncio"


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gomodel_asgi.upstream.chain.backoff", lambda retry: 0.0)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of ours that nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_the_table_and_the_plays_have_the_same_rows() -> None:
    assert TABLE[0] == HEAD
    assert list(ROWS) == list(PLAYS)


@pytest.mark.parametrize(
    ("row", "play"), [pytest.param(row, play, id=f"{row}-{n}") for row in PLAYS for n, play in enumerate(PLAYS[row])]
)
async def test_a_row_of_the_table_says_what_happens(row: str, play: Play, closed_port: int) -> None:
    code, retry, fallback, breaker = ROWS[row]
    async with playing(play, closed_port) as played:
        assert is_code(played.code, code), played.code
        assert ["no", "yes"][played.asked_first > 1] == retry
        assert ["no", "yes"][played.asked_second > 0] == fallback
        assert ["no", "counts"][played.counted > 0] == breaker


@dataclass
class Played:
    """What became of one request."""

    code: str | None
    asked_first: int
    asked_second: int
    counted: int
    """How many failures the breaker of the first provider has counted."""


OURS = {row[1].strip("`") for row in TABLE[2:] if row[1].startswith("`")}


def is_code(code: str | None, written: str) -> bool:
    """Whether *code* is the one that a row names in backticks, or (where it says whose it is) none of those."""
    if written.startswith("`"):
        return code == written.strip("`")
    return code is not None and (code not in OURS or written == "in the stream")


@asynccontextmanager
async def playing(play: Play, closed_port: int) -> AsyncIterator[Played]:
    """Sends the request of *play* to a gateway of two providers, and says what came of it."""
    with FakeProvider(dialect=play.dialect).run_in_thread() as bad, FakeProvider().run_in_thread() as good:
        records: list[Record] = []
        url = f"http://127.0.0.1:{closed_port}/v1" if play.nobody_listens else bad.base_url
        options = {"api_key": "sk-canary", "dialect": play.dialect} | play.provider
        gateway = Gateway(
            providers=[Provider("first", url, **options), Provider("second", good.base_url)],
            policy=_policy(play),
            observers=[records.append],
            **play.gateway,
        )
        async with gateway, AsyncExitStack() as held:
            await _prepare(gateway, bad, play, held)
            records.clear()
            counted = gateway.health()["first"].failures
            code = await _ask(gateway, play.body)
            asked = [record.provider for record in records if isinstance(record, AttemptStarted)]
            yield Played(
                code, asked.count("first"), asked.count("second"), gateway.health()["first"].failures - counted
            )
            bad.release()


def _policy(play: Play) -> Callable[[RoutingRequest], Target]:
    def route(request: RoutingRequest) -> Target:
        if play.refuses:
            raise Denied("Not you.")
        return Target("first", **play.first, fallbacks=[Target("second")])

    return route


async def _prepare(gateway: Gateway, bad: FakeProvider, play: Play, held: AsyncExitStack) -> None:
    if play.opened:
        for _ in range(MINIMUM):
            bad.fail_next(Status(500))
            await _ask(gateway, UNARY)
    if play.full:
        bad.fail_next(Stall(after_events=4))
        reply = await gateway.respond(STREAM)
        assert reply.provider == "first"
        held.push_async_callback(reply.aclose)
    if play.garbles:
        garbled = Answer(calls=[ToolCall("weather", '{"city": ')])
        bad.script(garbled, garbled)
    for fault in play.faults:
        for _ in range(3):
            bad.fail_next(fault)


async def _ask(gateway: Gateway, body: dict[str, Any]) -> str | None:
    """The code of what failed: of the refusal, of the error in the stream, or of what led to the fallback."""
    try:
        reply = await gateway.respond(body)
        errors = [str(event["code"]) async for event in reply if event.get("type") == "error"]
    except GatewayError as error:
        return error.code
    return errors[0] if errors else reply.headers.get("x-gomodel-fallback")
