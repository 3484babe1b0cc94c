"""What guards have taken out is in no entry of the cache."""

from __future__ import annotations

import pytest

from gomodel_asgi import Gateway, MemoryStore, Provider
from gomodel_asgi.cache import ResponseCache
from gomodel_asgi.guards import Guard, Replace, Texts
from gomodel_asgi.routing.request import RoutingRequest
from gomodel_asgi.testing import Answer, FakeProvider

pytestmark = pytest.mark.anyio
CARD = "4111 1111 1111 1111"


def mask(given: Texts) -> Replace:
    return Replace(tuple(text.replace(CARD, "[card]") for text in given.texts))


@pytest.mark.parametrize("dialect", ["responses", "chat"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_cached_answer_is_what_the_guards_have_let_pass(dialect: str, stream: bool) -> None:
    store = MemoryStore()
    with FakeProvider(dialect=dialect).run_in_thread() as fake:  # type: ignore[arg-type]
        fake.script(Answer(text=f"Your card is {CARD}, is it not?"))
        async with Gateway(
            providers=[Provider("fake", fake.base_url, dialect=dialect)],  # type: ignore[arg-type]
            store=store,
            cache=ResponseCache(when=lambda request: True),
            guards=[Guard("cards", output=mask, hold=30)],
        ) as gateway:
            body = {"model": "m", "input": "Hello", "store": False, "stream": stream}
            found = []
            for _ in range(2):
                async with await gateway.respond(body) as reply:
                    found.append((reply.headers["x-gomodel-cache"], await reply.read()))
        assert [result for result, _ in found] == ["miss", "hit"] and len(fake.requests) == 1
    assert all(b"[card]" in answer and CARD.encode() not in answer for _, answer in found)


async def test_an_answer_that_no_guard_has_seen_is_given_to_no_request_that_they_look_at() -> None:
    def when(request: RoutingRequest) -> bool:
        return request.headers.get("x-staff") != "yes"

    with FakeProvider(dialect="chat").run_in_thread() as fake:
        async with Gateway(
            providers=[Provider("fake", fake.base_url, dialect="chat")],
            cache=ResponseCache(when=lambda request: True),
            guards=[Guard("cards", output=mask, when=when)],
        ) as gateway:
            found = []
            for staff in (b"yes", b"no", b"yes", b"no"):
                fake.script(Answer(text=f"Your card is {CARD}, is it not?"))
                scope = {"type": "http", "headers": [(b"x-staff", staff)], "state": {}}
                async with await gateway.respond({"model": "m", "input": "Hello"}, scope=scope) as reply:
                    found.append((reply.headers["x-gomodel-cache"], CARD.encode() in await reply.read()))
    assert found == [("miss", True), ("miss", False), ("hit", True), ("hit", False)]
