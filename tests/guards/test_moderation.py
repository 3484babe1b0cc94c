"""A guard that is called `moderation` answers the member of that name, in the API's own form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.responses import Response

from gomodel_asgi import Gateway, MemoryStore
from gomodel_asgi.cache import ResponseCache
from gomodel_asgi.guards import Block, Guard, Note, Texts
from gomodel_asgi.observers import Guarded
from gomodel_asgi.testing import Answer, FakeProvider

from ..support.driving import ask
from ..support.lab import ONCE
from ..support.seen import Seen, native

MODEL = "omni-moderation-latest"
SCORE = {"model": MODEL}
BLOCK = {"model": MODEL, "policy": {"input": {"mode": "block"}, "output": {"mode": "block"}}}


def flag(given: Texts) -> Note | None:
    said = " ".join(given.texts)
    return Note(("violence",)) if "fight" in said else Note(("hate",)) if "hate" in said else None


def broken(given: Texts) -> None:
    raise RuntimeError("away")


def gateway_of(provider: FakeProvider, dialect: Any, *guards: Guard, **options: Any) -> Gateway:
    return Gateway(providers=[native(provider, dialect=dialect)], guards=guards, retries=ONCE, **options)


async def asked(gateway: Gateway, stream: bool, moderation: Any, **body: Any) -> Any:
    answer = await ask(gateway, {"model": "m", "input": "Hello", "stream": stream, "moderation": moderation, **body})
    assert answer.status == 200, answer.content
    return answer.events()[-1]["response"] if stream else answer.json()


@pytest.mark.parametrize("hold", [20, "all"])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_flagged_stands_in_the_answer_and_no_upstream_is_asked_for_it(
    provider: FakeProvider, dialect: str, stream: bool, hold: Any
) -> None:
    guard = Guard("moderation", input=flag, output=flag, hold=hold)
    async with gateway_of(provider, dialect, guard) as gateway:
        provider.script(Answer(text="They fight all day long, and nobody knows why."))
        response = await asked(gateway, stream, SCORE)
        again = await ask(gateway, path=f"/v1/responses/{response['id']}", method="GET")
    assert "moderation" not in provider.requests[0].json()
    assert response["moderation"]["input"] == {
        "type": "moderation_result", "model": MODEL, "flagged": False, "categories": {}, "category_scores": {},
        "category_applied_input_types": {},
    }  # fmt: skip
    assert response["moderation"]["output"] == {
        "type": "moderation_result", "model": MODEL, "flagged": True, "categories": {"violence": True},
        "category_scores": {"violence": 1.0}, "category_applied_input_types": {"violence": ["text"]},
    }  # fmt: skip
    found = Response.model_validate(response).moderation
    assert found is not None and found.output.type == "moderation_result"
    assert again.json()["moderation"] == response["moderation"]


async def test_what_a_client_wants_to_be_blocked_is_blocked(provider: FakeProvider, dialect: str) -> None:
    seen = Seen()
    guard = Guard("moderation", input=flag, output=flag, hold=10)
    async with gateway_of(provider, dialect, guard, observers=[seen]) as gateway:
        refused = await ask(gateway, {"model": "m", "input": "I hate it", "moderation": BLOCK})
        assert (refused.status, refused.error["code"]) == (400, "content_blocked") and not provider.requests
        provider.script(
            Answer(text="They fight all day long."), Answer(text="In the end, all of a sudden, they fight.")
        )
        refused = await ask(gateway, {"model": "m", "input": "Hello", "moderation": BLOCK})
        assert (refused.status, refused.error["code"]) == (400, "content_blocked")
        response = await asked(gateway, True, BLOCK)
    assert response["status"] == "incomplete" and response["incomplete_details"] == {"reason": "content_filter"}
    assert response["moderation"]["output"]["flagged"] is True
    assert [record.verdict for record in seen.of(Guarded)].count("blocked") == 3


async def test_one_that_blocks_by_itself_blocks_whatever_the_client_wants(provider: FakeProvider, dialect: str) -> None:
    guard = Guard("moderation", input=lambda given: Block("No."))
    async with gateway_of(provider, dialect, guard) as gateway:
        for member in ({}, {"moderation": SCORE}):
            answer = await ask(gateway, {"model": "m", "input": "Hello", **member})
            assert answer.status == 400 and answer.error["message"] == "No."


@pytest.mark.parametrize("stream", [False, True])
async def test_what_nobody_has_looked_at_is_told_as_an_error(
    provider: FakeProvider, dialect: str, stream: bool
) -> None:
    guard = Guard("moderation", input=broken, on_error="pass")
    async with gateway_of(provider, dialect, guard) as gateway:
        response = await asked(gateway, stream, SCORE)
    codes = {stage: response["moderation"][stage]["code"] for stage in ("input", "output")}
    assert codes == {"input": "guard_unavailable", "output": "not_moderated"}
    assert Response.model_validate(response).moderation is not None


@pytest.mark.parametrize(
    "member",
    ["on", {}, {"model": 1}, {"model": "m", "policy": {"input": {"mode": "maybe"}}}, {"model": "m", "policy": 1}],
)
async def test_a_malformed_member_is_refused(provider: FakeProvider, dialect: str, member: Any) -> None:
    async with gateway_of(provider, dialect, Guard("moderation", input=flag)) as gateway:
        answer = await ask(gateway, {"model": "m", "input": "Hello", "moderation": member})
    assert answer.status == 400 and answer.error["param"].startswith("moderation") and not provider.requests


async def test_without_such_a_guard_the_member_is_the_upstreams_affair(provider: FakeProvider, dialect: str) -> None:
    async with gateway_of(provider, dialect, Guard("other", input=flag, output=flag)) as gateway:
        answer = await ask(gateway, {"model": "m", "input": "Hello", "moderation": SCORE})
    if dialect == "chat":
        assert answer.status == 400 and not provider.requests
    else:
        assert provider.requests[0].json()["moderation"] == SCORE


async def test_an_answer_that_asked_for_moderation_is_cached_apart(provider: FakeProvider, dialect: str) -> None:
    cache = ResponseCache(when=lambda request: True)
    guard = Guard("moderation", output=flag)
    async with gateway_of(provider, dialect, guard, store=MemoryStore(), cache=cache) as gateway:
        for member in ({"moderation": SCORE}, {}):
            for _ in range(2):
                provider.script(Answer(text="They fight."))
                answer = await ask(gateway, {"model": "m", "input": "Hello", "store": False, **member})
                assert ("moderation" in answer.json()) is bool(member), answer.content
    assert len(provider.requests) == 2


async def test_a_conversation_goes_on_with_moderation_asked_for(provider: FakeProvider, dialect: str) -> None:
    async with gateway_of(provider, dialect, Guard("moderation", input=flag, output=flag)) as gateway:
        provider.script(Answer(text="They fight."), Answer(text="Yes."))
        first = await asked(gateway, False, SCORE)
        second = await asked(gateway, False, SCORE, previous_response_id=first["id"])
    assert second["moderation"]["input"]["categories"] == {"violence": True}, "what was said before counts"
    assert "moderation" not in json.dumps(provider.requests[-1].json())


async def test_in_the_background_the_answer_has_it_too(provider: FakeProvider, dialect: str) -> None:
    async with gateway_of(provider, dialect, Guard("moderation", input=flag, output=flag)) as gateway:
        provider.script(Answer(text="They fight."), Answer(text="They fight."))
        for moderation, status in ((SCORE, "completed"), (BLOCK, "incomplete")):
            begun = await ask(gateway, {"model": "m", "input": "Hi", "background": True, "moderation": moderation})
            path = f"/v1/responses/{begun.json()['id']}"
            await ask(gateway, path=path, method="GET", query=b"stream=true")
            found = (await ask(gateway, path=path, method="GET")).json()
            assert found["status"] == status and found["error"] is None
            if status == "completed":
                assert found["moderation"]["output"]["flagged"] is True
            else:
                assert found["incomplete_details"] == {"reason": "content_filter"} and found["output"] == []
