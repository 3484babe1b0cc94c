"""Several guards on one stream: the one that holds most decides for all, and each sees what the one before has left."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from gomodel_asgi import Gateway
from gomodel_asgi.guards import Block, Guard, Note, Replace, Texts
from gomodel_asgi.observers import Guarded
from gomodel_asgi.testing import Answer, FakeProvider

from ..support.driving import ask
from ..support.lab import ONCE
from ..support.seen import Seen, native

TEXT = "Ada pays with 4111 1111 1111 1111, and Bob with nothing at all, since Ada has said that she would pay for him."
MASKED = re.sub(r"\d{4}( \d{4}){3}", "[card]", TEXT).replace("Ada", "[name]")


def masking(pattern: str, put: str) -> Callable[[Texts], Replace]:
    return lambda given: Replace(tuple(re.sub(pattern, put, text) for text in given.texts))


CARDS = masking(r"\d{4}( \d{4}){3}", "[card]")
NAMES = masking("Ada", "[name]")


def left(given: Texts) -> Block | None:
    return Block() if re.search(r"Ada|\d{4}( \d{4}){3}", "".join(given.texts)) else None


def fails(given: Texts) -> None:
    raise RuntimeError


async def streamed(provider: FakeProvider, *guards: Guard, observers: Any = ()) -> Any:
    provider.script(Answer(text=TEXT))
    async with Gateway(providers=[native(provider)], guards=guards, retries=ONCE, observers=observers) as gateway:
        return await ask(gateway, {"model": "m", "input": "Hello", "stream": True})


@pytest.mark.parametrize("holds", [(3, 20), (20, 3), (25, 25), ("all", 3), (3, "all")])
async def test_what_each_of_them_replaces_stands_in_no_event(provider: FakeProvider, holds: Any) -> None:
    guards = Guard("names", output=NAMES, hold=holds[0]), Guard("cards", output=CARDS, hold=holds[1])
    answer = await streamed(provider, *guards)
    said = "".join(one["delta"] for one in answer.events() if one["type"] == "response.output_text.delta")
    assert said == MASKED == answer.events()[-1]["response"]["output"][0]["content"][0]["text"]


async def test_each_sees_what_the_one_before_has_left(provider: FakeProvider) -> None:
    seen = Seen()
    guards = (
        Guard("names", output=NAMES, hold=20), Guard("cards", output=CARDS, hold=20),
        Guard("left", output=left, hold=2), Guard("topics", output=lambda given: Note(("money",)), hold=0),
    )  # fmt: skip
    answer = await streamed(provider, *guards, observers=[seen])
    assert answer.events()[-1]["type"] == "response.completed"
    assert {(one.guard, one.verdict) for one in seen.of(Guarded)} == {
        ("names", "replaced"), ("cards", "replaced"), ("left", "passed"), ("topics", "noted")
    }  # fmt: skip
    refused = await streamed(provider, guards[2], *guards[:2])
    assert refused.events()[-1]["type"] == "response.incomplete"


async def test_one_that_only_notes_and_fails_keeps_the_others_from_nothing(provider: FakeProvider) -> None:
    guards = Guard("notes", output=fails, hold=5, on_error="pass"), Guard("cards", output=CARDS, hold=20)
    answer = await streamed(provider, *guards)
    assert "[card]" in answer.content.decode() and "4111" not in answer.content.decode()
    assert answer.events()[-1]["type"] == "response.completed"
