"""Whoever operates a gateway sees what its guards say, and which are asked, without a word of what was said."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.contrib.django import configuration
from gomodel_asgi.contrib.prometheus import PrometheusObserver
from gomodel_asgi.guards import Block, Guard, Note, Replace, Texts
from gomodel_asgi.observers import Guarded, LoggingObserver
from gomodel_asgi.testing import FakeProvider, Reply

from ..support.driving import ask
from ..support.guarding import SECRET, mask
from ..support.lab import ONCE
from ..support.seen import Seen, native, texts


def label(given: Texts) -> Note:
    return Note(("topic",))


def broken(given: Texts) -> None:
    raise TimeoutError(given.texts[0])


def refuse(given: Texts) -> Block | None:
    return Block() if "bomb" in "".join(given.texts) else None


def gateway_of(provider: FakeProvider, *guards: Guard, observers: Any = ()) -> Gateway:
    return Gateway(providers=[native(provider)], guards=guards, retries=ONCE, observers=observers)


async def test_verdicts_are_counted_by_guard_and_stage(provider: FakeProvider) -> None:
    registry = CollectorRegistry()
    guards = Guard("keys", input=mask), Guard("topics", input=label, output=label), Guard("strict", input=refuse)
    async with gateway_of(provider, *guards, observers=[PrometheusObserver(registry)]) as gateway:
        for said in ("Hello", SECRET, "a bomb"):
            await ask(gateway, {"model": "m", "input": said})
    counted = {
        (sample.labels["guard"], sample.labels["stage"], sample.labels["verdict"]): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "gomodel_guard_verdicts_total"
    }
    assert counted == {
        ("keys", "input", "passed"): 1, ("keys", "input", "replaced"): 1, ("topics", "input", "noted"): 2,
        ("strict", "input", "passed"): 2, ("strict", "input", "blocked"): 1, ("topics", "output", "noted"): 2,
    }  # fmt: skip


async def test_a_guard_that_fails_is_logged_once_a_minute_by_the_class_of_what_it_raised(
    provider: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    observer = LoggingObserver(clock=lambda: now[0])
    with caplog.at_level(logging.WARNING, "gomodel_asgi.requests"):
        async with gateway_of(provider, Guard("pii", input=broken), observers=[observer]) as gateway:
            for seconds in (0, 59, 1):
                now[0] += seconds
                await ask(gateway, {"model": "m", "input": SECRET})
    lines = [vars(one) for one in caplog.records if vars(one).get("event") == "guard_failed"]
    assert len(lines) == 2 and SECRET not in caplog.text
    assert [(one["guard"], one["stage"], one["error"], one["count"]) for one in lines] == [
        ("pii", "input", "TimeoutError", 1),
        ("pii", "input", "TimeoutError", 2),
    ]


TEXT: Any = "a"
NUMBER: Any = 1
HALF = "half of a pair: \ud800"


class Unspeakable:
    def __str__(self) -> str:
        raise ValueError

    def __repr__(self) -> str:
        return "Unspeakable()"


NONSENSE = [
    NUMBER, TEXT, Note, [Block()], Block(NUMBER), Replace(()), Replace((NUMBER,)), Replace(TEXT), Note(TEXT),
    Note(NUMBER), Block(HALF), Replace((HALF,)), Note((HALF,)), Note((Unspeakable(),)),  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize("answer", NONSENSE, ids=repr)
async def test_a_guard_that_returns_nonsense_has_failed(provider: FakeProvider, answer: Any) -> None:
    seen = Seen()
    for guard in (Guard("odd", input=lambda given: answer), Guard("odd", output=lambda given: answer)):
        async with gateway_of(provider, guard, observers=[seen]) as gateway:
            for stream in (False, True):
                reply = await ask(gateway, {"model": "m", "input": "Hello", "stream": stream})
                assert (reply.status, reply.error["code"]) == (503, "guard_unavailable"), reply.content
    assert {record.verdict for record in seen.of(Guarded)} == {"failed"}
    assert {record.error for record in seen.of(Guarded)} <= {"TypeError", "ValueError", "UnicodeEncodeError"}


class Marked(str):
    """A text of a library's, as template engines have them."""

    __slots__ = ()


async def test_what_a_library_derives_from_str_is_a_text(provider: FakeProvider) -> None:
    guard = Guard("odd", input=lambda given: Replace(tuple(map(Marked, given.texts))), output=lambda given: None)
    async with gateway_of(provider, guard) as gateway:
        for stream in (False, True):
            assert (await ask(gateway, {"model": "m", "input": "Hello", "stream": stream})).status == 200
    guard = Guard("odd", output=lambda given: Replace((Marked("so"),) * len(given.texts)), hold=0)
    async with gateway_of(provider, guard, Guard("no", input=lambda given: None)) as gateway:
        for stream in (False, True):
            reply = await ask(gateway, {"model": "m", "input": "Hello", "stream": stream})
            assert reply.raised is None and b'"text":"so' in reply.content
    async with gateway_of(provider, Guard("odd", input=lambda given: Block(Marked("no")))) as gateway:
        assert (await ask(gateway, {"model": "m", "input": "Hello"})).error["message"] == "no"


@pytest.mark.parametrize("answer", [Block(HALF), Replace((HALF,))], ids=repr)
async def test_a_stream_on_its_way_ends_whole_where_a_guard_says_what_cannot_be_sent(
    provider: FakeProvider, answer: Any
) -> None:
    async with gateway_of(provider, Guard("odd", output=lambda given: answer, hold=0)) as gateway:
        reply = await ask(gateway, {"model": "m", "input": "Hello", "stream": True})
    assert reply.raised is None and b"response.failed" in reply.content and b"guard_unavailable" in reply.content


async def test_explain_names_the_guards_that_would_be_asked(provider: FakeProvider) -> None:
    guards = (
        Guard("keys", input=mask, when=lambda request: request.model == "m"),
        Guard("topics", output=label),
        Guard("never", input=mask, output=mask, when=lambda request: False),
    )
    async with gateway_of(provider, *guards) as gateway:
        assert (await gateway.explain({"model": "m", "input": "Hello"})).guards == ("keys", "topics")
        assert (await gateway.explain({"model": "other", "input": "Hello"})).guards == ("topics",)
    assert not provider.requests


ELSEWHERE = Provider("p", "http://127.0.0.1:9/v1")
LISTED = Guard("listed", input=mask)


def made() -> list[Guard]:
    return [Guard("made", input=mask), LISTED]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ([LISTED], ["listed"]),
        ([f"{__name__}.LISTED", Guard("own", input=mask)], ["listed", "own"]),
        (f"{__name__}.made", ["made", "listed"]),
    ],
)
def test_django_takes_guards_by_object_and_by_dotted_path(given: Any, names: list[str]) -> None:
    gateway = configuration.build({"PUBLIC": True, "PROVIDERS": [ELSEWHERE], "GUARDS": given})
    assert gateway.setup.guards is not None
    assert [guard.name for guard in gateway.setup.guards.guards] == names  # type: ignore[attr-defined]


@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize("status", [400, 401, 429, 500])
async def test_what_an_upstream_says_of_a_failure_is_in_no_record_before_guards_have_seen_it(
    provider: FakeProvider, status: int, guarded: bool
) -> None:
    seen = Seen()
    guards = [Guard("keys", output=mask)] if guarded else []
    error = {"message": f"You said {SECRET}.", "code": f"said {SECRET}", "type": f"of {SECRET}"}
    provider.script(Reply(json.dumps({"error": error}).encode(), status=status))
    async with gateway_of(provider, *guards, observers=[seen]) as gateway:
        answer = await ask(gateway, {"model": "m", "input": "Hello"})
    assert answer.status >= 400
    records = texts(seen.records)
    assert (SECRET in records) is not guarded
    assert f"said {SECRET}" not in "".join(str(getattr(one, "error", "")) for one in seen.records)
