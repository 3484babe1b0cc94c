"""What is given from the cache has passed the guards of today, for the request of now: those of another day, or of
another request, may have let more pass."""

from __future__ import annotations

import re
from typing import Any

import pytest

from gomodel_asgi.guards import Block, Guard, Replace, Texts
from gomodel_asgi.observers import CacheChecked, Completed, Ended, Guarded
from gomodel_asgi.testing import Answer, FakeProvider

from ..support.driving import Caller
from ..support.seen import Seen, texts
from ..support.spending import month, settled
from .gateways import KEPT_NOWHERE, asked, gateway_of, result

SECRET = "sk-1234567890"
SAID = f"Take {SECRET} and leave."
KEY = re.compile(r"sk-\d+")


class Changing:
    """A guard's function that the host changes."""

    def __init__(self) -> None:
        self.mode = "none"
        self.asked = 0

    def __call__(self, given: Texts) -> Any:
        self.asked += 1
        match self.mode:
            case "mask":
                return Replace(tuple(KEY.sub("[key]", text) for text in given.texts))
            case "block":
                return Block("No keys here.") if any(map(KEY.search, given.texts)) else None
            case "break":
                raise RuntimeError(given.texts[0])
        return None


def said(caller: Caller, stream: bool) -> str:
    response = caller.events()[-1]["response"] if stream else caller.json()
    deltas = "".join(each["delta"] for each in caller.events() if "delta" in each) if stream else None
    text: str = response["output"][0]["content"][0]["text"]
    assert deltas in (None, text)
    return text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hit_passes_a_guard_that_has_changed(upstream: FakeProvider, stream: bool) -> None:
    seen, guard, body = Seen(), Changing(), KEPT_NOWHERE | {"stream": stream}
    upstream.script(Answer(text=SAID))
    async with gateway_of(upstream, seen, guards=[Guard("keys", output=guard, hold=50)]) as gateway:
        first = await asked(gateway, body)
        guard.mode = "mask"
        second = await asked(gateway, body)
        guard.mode = "block"
        third = await asked(gateway, body)
        guard.mode = "break"
        fourth = await asked(gateway, body)
    assert len(upstream.requests) == 1 and SECRET in said(first, stream)
    assert (result(second), said(second, stream)) == ("hit", SAID.replace(SECRET, "[key]"))
    assert SECRET.encode() not in second.content + third.content + fourth.content
    assert [(each.status, result(each), each.json()["error"]["code"]) for each in (third, fourth)] == [
        (400, "hit", "content_blocked"),
        (503, "hit", "guard_unavailable"),
    ]
    assert [each.result for each in seen.of(CacheChecked)] == ["miss", "hit", "hit", "hit"]
    assert [each.verdict for each in seen.of(Guarded)] == ["passed", "replaced", "blocked", "failed"]
    assert [each.usage is None for each in seen.of(Ended)] == [False, True, True, True]
    assert SECRET not in texts(seen.records)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hit_passes_the_guards_of_its_own_request_whoever_was_answered_first(
    upstream: FakeProvider, stream: bool
) -> None:
    guard = Changing()
    guard.mode = "mask"
    guards = [Guard("keys", output=guard, when=lambda request: request.headers.get("x-user") != "admin")]
    body = KEPT_NOWHERE | {"stream": stream}
    upstream.script(Answer(text=SAID), Answer(text=SAID))
    async with gateway_of(upstream, guards=guards) as gateway:
        found = [await asked(gateway, body, (b"x-user", user)) for user in (b"admin", b"ada", b"ada", b"admin")]
    assert [SECRET in said(caller, stream) for caller in found] == [True, False, False, True]
    assert [result(caller) for caller in found[2:]] == ["hit", "hit"]


async def test_a_blocked_hit_costs_nothing_and_stays_for_those_who_may_have_it(upstream: FakeProvider) -> None:
    guard, seen = Changing(), Seen()
    upstream.script(Answer(text=SAID))
    async with gateway_of(upstream, seen, guards=[Guard("keys", output=guard)], quotas=month()) as gateway:
        await asked(gateway, KEPT_NOWHERE)
        before = await settled(gateway)
        guard.mode = "block"
        assert (await asked(gateway, KEPT_NOWHERE)).status == 400
        assert await settled(gateway) == before
        guard.mode = "none"
        assert result(await asked(gateway, KEPT_NOWHERE)) == "hit"
    assert [each.outcome for each in seen.of(Completed)] == ["completed", "failed", "completed"]


@pytest.mark.parametrize("stream", [False, True])
async def test_no_guard_is_asked_about_a_reply_that_none_looks_at(upstream: FakeProvider, stream: bool) -> None:
    guard = Changing()
    async with gateway_of(upstream, guards=[Guard("keys", input=guard)]) as gateway:
        found = [result(await asked(gateway, KEPT_NOWHERE | {"stream": stream})) for _ in range(2)]
    assert found == ["miss", "hit"] and guard.asked == 2


async def test_requests_that_are_the_same_once_masked_share_an_entry(upstream: FakeProvider) -> None:
    guard = Changing()
    guard.mode = "mask"
    async with gateway_of(upstream, guards=[Guard("keys", input=guard)]) as gateway:
        bodies = [KEPT_NOWHERE | {"input": f"Mine is {key}."} for key in ("sk-1", "sk-2", "pk-3")]
        found = [result(await asked(gateway, body)) for body in bodies]
    assert found == ["miss", "hit", "miss"]
    assert not any(b"sk-" in request.body for request in upstream.requests)
