"""No cache keeps an answer of ours, and nothing on the way holds a stream back: whatever the answer is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gomodel_asgi import Gateway, RateLimited, RoutingRequest, Target
from gomodel_asgi.exchange.reply import JSON_TYPE, STREAM_TYPE, Reply
from gomodel_asgi.testing import Cut, Status

from ..support.driving import Caller, ask
from ..support.exchanges import STREAM, UNARY
from ..support.lab import Lab, anyio_backend, fakes, kind, lab
from ..support.remembering import provider_of, says
from ..support.websocket_client import knocking

__all__ = ["anyio_backend", "fakes", "kind", "lab"]

WHOLE = "private, no-store"
STREAMED = "private, no-store, no-transform"


def cached(answer: Caller) -> str:
    """The one `cache-control` of *answer*."""
    (found,) = [value for name, value in answer.messages[0]["headers"] if name == b"cache-control"]
    return str(found.decode())


async def refusing(request: RoutingRequest) -> Target:
    raise RateLimited("Slower.", retry_after=3)


Ask = Callable[[Lab], Any]

ANSWERS: dict[str, tuple[int, Ask]] = {
    "json": (200, lambda lab: ask(lab.make(), UNARY)),
    "models": (200, lambda lab: ask(lab.make(), path="/v1/models", method="GET", headers=())),
    "a malformed body": (400, lambda lab: ask(lab.make(), "{")),
    "an unknown path": (404, lambda lab: ask(lab.make(), UNARY, path="/nowhere")),
    "a wrong method": (405, lambda lab: ask(lab.make(), UNARY, method="PUT")),
    "an unknown id": (404, lambda lab: ask(lab.make(), path="/v1/responses/resp_x", method="GET", tenant="t")),
    "a policy's refusal": (429, lambda lab: ask(lab.make(policy=refusing), UNARY)),
    "an upstream's error": (418, lambda lab: failing(lab)),
}


async def failing(lab: Lab) -> Caller:
    lab.bad.fail_next(Status(418))
    return await ask(lab.make(), UNARY)


@pytest.mark.parametrize("answer", list(ANSWERS))
async def test_no_cache_keeps_an_answer(lab: Lab, answer: str) -> None:
    status, asked = ANSWERS[answer]

    found = await asked(lab)

    assert (found.status, cached(found)) == (status, WHOLE)


@pytest.mark.parametrize("faults", [[], [Cut(after_events=3)]], ids=["whole", "cut"])
async def test_nothing_on_the_way_changes_a_stream(lab: Lab, faults: list[Any]) -> None:
    if faults:
        lab.bad.fail_next(*faults)

    found = await ask(lab.make(), STREAM)

    assert (found.status, cached(found)) == (200, STREAMED)


async def test_a_stream_that_is_replayed_is_a_stream(lab: Lab) -> None:
    gateway = lab.make(provider_of("chat", lab.bad))
    lab.bad.script(says("chat", "Done."))
    id = (await ask(gateway, UNARY)).json()["id"]

    found = await ask(gateway, path=f"/v1/responses/{id}", method="GET", query=b"stream=true")

    assert (found.status, cached(found)) == (200, STREAMED)


@pytest.mark.parametrize(("body", "expected"), [(UNARY, WHOLE), (STREAM, STREAMED), ("{", WHOLE)])
async def test_the_hosts_own_routes_answer_so_too(lab: Lab, body: Any, expected: str) -> None:
    gateway = lab.make()

    async def endpoint(request: Request) -> Response:
        return await gateway.endpoint(request)

    app = Starlette(routes=[Route("/ask", endpoint, methods=["POST"])])

    assert cached(await ask(app, body, path="/ask")) == expected


@pytest.mark.parametrize(("body", "expected"), [(UNARY, WHOLE), (STREAM, STREAMED)])
async def test_a_reply_to_the_hosts_own_code_answers_so_too(lab: Lab, body: Any, expected: str) -> None:
    gateway = lab.make()

    async def endpoint(request: Request) -> Response:
        return (await gateway.respond(body)).response()

    app = Starlette(routes=[Route("/ask", endpoint, methods=["POST"])])

    assert cached(await ask(app, b"", path="/ask")) == expected


async def test_a_refused_upgrade_is_an_answer_like_others(lab: Lab) -> None:
    gateway: Gateway = lab.make(policy=refusing)

    async with knocking(gateway) as client:
        await client.ended.wait()

    headers = dict(client.messages[0]["headers"])
    assert client.messages[0]["status"] == 429
    assert (headers[b"cache-control"], headers[b"retry-after"]) == (WHOLE.encode(), b"3")


def test_no_reply_can_be_made_without_it() -> None:
    whole = Reply(status=200, raw_headers=[JSON_TYPE], provider="", model=None, attempts=0)
    streamed = Reply(status=200, raw_headers=[STREAM_TYPE], provider="", model=None, attempts=0)

    assert (whole.headers["cache-control"], streamed.headers["cache-control"]) == (WHOLE, STREAMED)
