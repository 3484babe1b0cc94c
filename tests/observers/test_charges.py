"""What an exchange has used, attempt by attempt: each token once, whatever became of it."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from gomodel_asgi import Gateway, Provider, Retries, Target, Timeouts
from gomodel_asgi.observers import AttemptEnded, AttemptStarted, Charge, Ended, Observers, Trace, Usage
from gomodel_asgi.testing import Answer, Cut, ErrorInside, FakeProvider, Reply, Scripted, Stall, Status
from gomodel_asgi.testing.model import Prompt, default_answer, speech_of

from ..support.driving import Caller, ask, encoded, scope_of
from ..support.lab import ONCE, until
from ..support.remembering import MODELS, says
from ..support.seen import Seen, gateway_of, native
from ..support.websocket_client import connected

Json = dict[str, Any]

TIMEOUT = 5.0
HELLO = {"model": "m", "input": "Hello"}
FAILED = {
    "id": "resp_1", "object": "response", "status": "failed", "model": "m-2024", "output": [],
    "error": {"code": "server_error", "message": "It broke."},
    "usage": {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10},
}  # fmt: skip
BROKE = Usage(input_tokens=7, output_tokens=3)
TWICE = Retries(per_target=2)


def asked(stream: bool) -> Json:
    return HELLO | {"stream": True} if stream else HELLO


def done(input: int, output: int, **members: Any) -> Reply:
    usage = {"input_tokens": input, "output_tokens": output, "total_tokens": input + output}
    return Reply({"id": "resp_2", "object": "response", "status": "completed", "output": [], "usage": usage} | members)


def guess(stream: bool = False, text: int = 0) -> Usage:
    """What a request has used at least."""
    size = len(encoded(asked(stream)))
    return Usage(input_tokens=-(-size // 4), output_tokens=-(-text // 4), estimated=True)


def used(seen: Seen) -> list[Usage]:
    """What each attempt has used, which is what the exchange has used."""
    ended = seen.ended
    assert [charge.number for charge in ended.charges] == sorted({charge.number for charge in ended.charges})
    whole = Usage() if ended.usage is None else ended.usage
    for name in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"):
        assert getattr(whole, name) == sum(getattr(charge.usage, name) for charge in ended.charges)
    assert whole.estimated is any(charge.usage.estimated for charge in ended.charges)
    return [charge.usage for charge in ended.charges]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_one_charge_of_the_model_that_served(provider: FakeProvider, stream: bool) -> None:
    seen = Seen()
    async with gateway_of(provider, seen, policy=lambda request: Target("fake", model="inner")) as gateway:
        caller = await ask(gateway, asked(stream))

    response = caller.events()[-1]["response"] if stream else caller.json()
    usage = Usage(input_tokens=response["usage"]["input_tokens"], output_tokens=response["usage"]["output_tokens"])
    assert seen.ended.charges == (Charge(1, "fake", "fake", "inner", response["model"], "default", usage),)
    assert used(seen) == [usage]


async def test_what_a_failed_attempt_has_reported_stays_when_another_one_answers(provider: FakeProvider) -> None:
    provider.script(Reply(FAILED), done(11, 5))
    seen = Seen()
    async with gateway_of(provider, seen, retries=TWICE) as gateway:
        assert (await ask(gateway, HELLO)).status == 200

    assert used(seen) == [BROKE, Usage(input_tokens=11, output_tokens=5)]
    assert seen.of(AttemptEnded)[0].usage == BROKE


async def test_the_last_failed_attempt_is_counted_once(provider: FakeProvider) -> None:
    provider.script(Reply(FAILED), Reply(FAILED))
    seen = Seen()
    async with gateway_of(provider, seen, retries=TWICE) as gateway:
        await ask(gateway, HELLO)

    assert used(seen) == [BROKE, BROKE]


async def test_each_charge_has_the_provider_model_and_tier_of_its_own_attempt(provider: FakeProvider) -> None:
    provider.script(Reply(FAILED | {"service_tier": "flex"}), done(11, 5, model="small-2025", service_tier="priority"))
    target = Target("one", model="large", fallbacks=(Target("two", model="small"),))
    providers = [native(provider, "one"), native(provider, "two")]
    seen = Seen()
    async with gateway_of(provider, seen, providers=providers, retries=ONCE, policy=lambda request: target) as gateway:
        assert (await ask(gateway, HELLO)).status == 200

    assert seen.ended.charges == (
        Charge(1, "one", "one", "large", "m-2024", "flex", BROKE),
        Charge(2, "two", "two", "small", "small-2025", "priority", Usage(input_tokens=11, output_tokens=5)),
    )
    started = seen.of(AttemptStarted)
    assert [(one.kind, one.reason) for one in started] == [("first", None), ("fallback", "server_error")]


async def test_a_retry_says_which_error_led_to_it(provider: FakeProvider) -> None:
    provider.fail_next(Status(503, code="oops"))
    seen = Seen()
    async with gateway_of(provider, seen, retries=TWICE) as gateway:
        assert (await ask(gateway, HELLO)).status == 200

    started = seen.of(AttemptStarted)
    assert [(one.kind, one.reason) for one in started] == [("first", None), ("retry", "oops")]


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
async def test_an_error_of_the_providers_without_usage_costs_nothing(provider: FakeProvider, status: int) -> None:
    provider.fail_next(Status(status))
    seen = Seen()
    async with gateway_of(provider, seen, retries=ONCE) as gateway:
        await ask(gateway, HELLO)

    assert used(seen) == [] and seen.ended.usage is None and seen.ended.attempts == 1


async def test_no_connection_costs_nothing(provider: FakeProvider) -> None:
    seen = Seen()
    nobody = [Provider("fake", "http://127.0.0.1:9/v1")]
    async with gateway_of(provider, seen, providers=nobody, retries=ONCE) as gateway:
        await ask(gateway, HELLO)

    assert used(seen) == [] and seen.ended.attempts == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_an_attempt_that_timed_out_has_used_its_input_also_where_another_one_answers(
    provider: FakeProvider, stream: bool
) -> None:
    target = Target("slow", fallbacks=(Target("fast"),))
    slow = native(provider, "slow", timeouts=Timeouts(first_event=0.3, unary=0.3))
    seen = Seen()
    async with gateway_of(
        provider, seen, providers=[slow, native(provider, "fast")], retries=ONCE, policy=lambda request: target
    ) as gateway:
        await ask(gateway, HELLO)  # what is loaded at the first request must not take the time
        seen.records.clear()
        provider.fail_next(Stall())
        assert (await ask(gateway, asked(stream))).status == 200
        provider.release()

    first, second = used(seen)
    assert first == guess(stream) and not second.estimated
    assert seen.of(AttemptStarted)[1].reason == "upstream_timeout"


@pytest.mark.parametrize("fault", [Cut(before_head=True), Cut(after_bytes=10)], ids=["no head", "half a body"])
async def test_an_attempt_that_was_cut_has_used_its_input(provider: FakeProvider, fault: Cut) -> None:
    provider.fail_next(fault)
    seen = Seen()
    async with gateway_of(provider, seen, retries=ONCE) as gateway:
        await ask(gateway, HELLO)

    assert used(seen) == [guess()]


async def test_what_is_no_answer_of_the_api_has_used_its_input(provider: FakeProvider) -> None:
    provider.script(Reply("Hello", content_type="application/json"))
    seen = Seen()
    async with gateway_of(provider, seen, retries=ONCE) as gateway:
        assert (await ask(gateway, HELLO)).status == 502

    assert used(seen) == [guess()]


@pytest.mark.parametrize("dialect", ["responses", "chat", "anthropic", "gemini"])
async def test_what_went_by_before_an_error_in_a_stream_is_charged(dialect: Any) -> None:
    seen = Seen()
    async with FakeProvider(dialect=dialect).serve() as provider:
        provider.script(Scripted(Answer(text="word " * 40), (ErrorInside(after_events=20),)))
        one = [native(provider, dialect=dialect)]
        async with gateway_of(provider, seen, providers=one, retries=ONCE) as gateway:
            await ask(gateway, {"model": MODELS[dialect], "input": "Hello", "stream": True})

    (usage,) = used(seen)
    assert seen.ended.error and usage.estimated
    assert usage.input_tokens > 0 and usage.output_tokens >= 10


def test_an_attempt_that_another_one_follows_in_the_same_trail_is_not_forgotten() -> None:
    trace = Trace(Observers([lambda record: None]))
    trace.know(operation="create")
    for number in (7, 11):
        step = trace.attempt("p", "p", "m", ())
        trace.sends(b"{}", 2)
        trace.received(encoded({"status": "completed", "usage": {"input_tokens": number, "output_tokens": 1}}))
        step.answered(200)
    trace.end(200)

    assert [charge.usage.input_tokens for charge in trace.charges()] == [7, 11]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("given", [False, True], ids=["whole", "streamed"])
async def test_an_answer_without_usage_is_estimated_by_what_it_says(
    provider: FakeProvider, stream: bool, given: bool
) -> None:
    text = "word " * 20
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
    response = {"id": "resp_1", "object": "response", "model": "m", "status": "completed", "output": [item]}
    delta = {"type": "response.output_text.delta", "item_id": "msg_1", "delta": text}
    created = {"type": "response.created", "response": response | {"status": "in_progress", "output": []}}
    stream_of = events(created, delta, {"type": "response.completed", "response": response})
    provider.script(Reply(stream_of, content_type="text/event-stream") if given else Reply(response))
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        assert (await ask(gateway, asked(stream))).status == 200

    assert used(seen) == [guess(stream, len(text))] and seen.ended.error is None


async def test_an_answer_that_says_nothing_and_counts_nothing_is_not_charged(provider: FakeProvider) -> None:
    """As that to a request that is only to be prepared (`generate: false`), or worked on in the background."""
    for status in ("completed", "queued"):
        provider.script(Reply({"id": "resp_1", "object": "response", "model": "m", "status": status, "output": []}))
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        for _ in range(2):
            assert (await ask(gateway, HELLO)).status == 200

    assert [(one.charges, one.usage) for one in seen.of(Ended)] == [((), None)] * 2


def events(*given: Json) -> bytes:
    return b"".join(b"data: " + encoded(event) + b"\n\n" for event in given)


async def left(provider: FakeProvider, gateway: Gateway, after: int, stream: bool) -> None:
    """A client that leaves once it has so many events."""
    caller = Caller(scope_of(), [encoded(asked(stream))])
    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as group:
            group.start_soon(caller.run, gateway)
            await provider.received(1)
            while after and len(caller.events() if caller.messages else []) < after:
                await caller.until(len(caller.messages) + 1)
            await anyio.wait_all_tasks_blocked()  # the app has returned from `send`
            caller.leave()
    provider.release()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_before_the_first_byte_has_used_the_input(
    provider: FakeProvider, stream: bool
) -> None:
    provider.fail_next(Stall())
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        await left(provider, gateway, 0, stream)

    assert used(seen) == [guess(stream)]


@pytest.mark.parametrize("after", range(1, 10))
async def test_a_client_that_leaves_at_any_event_has_used_what_went_by(provider: FakeProvider, after: int) -> None:
    provider.script(Scripted(Answer(text="word " * 20), (Stall(after_events=after),)))
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        await left(provider, gateway, after, stream=True)

    (usage,) = used(seen)
    assert usage.estimated and usage.input_tokens == guess(stream=True).input_tokens
    assert (usage.output_tokens > 0) is (after > 4)


async def test_a_stream_that_is_drained_has_used_what_went_by(provider: FakeProvider) -> None:
    provider.script(Scripted(Answer(text="word " * 20), (Stall(after_events=8),)))
    seen = Seen()
    async with gateway_of(provider, seen, timeouts=Timeouts(drain=0.01)) as gateway:
        caller = Caller(scope_of(), [encoded(asked(True))])
        async with anyio.create_task_group() as group:
            group.start_soon(caller.run, gateway)
            await caller.until(2)
            await anyio.wait_all_tasks_blocked()
            await gateway.drain()
        provider.release()

    (usage,) = used(seen)
    assert seen.ended.error == "server_shutdown" and usage.estimated and usage.output_tokens > 0


async def test_the_turns_of_a_websocket_are_charged_each_by_itself(provider: FakeProvider) -> None:
    seen = Seen()
    async with gateway_of(provider, seen) as gateway, connected(gateway) as client:
        first = await client.talk()
        second = await client.talk("A longer question than that.")
        await until(lambda: len(seen.of(Ended)) == 2)

    found = [(one.input_tokens, one.output_tokens) for ended in seen.of(Ended) for one in [ended.charges[0].usage]]
    assert found == [(one["usage"]["input_tokens"], one["usage"]["output_tokens"]) for one in (first, second)]


@pytest.mark.parametrize("dialect", ["responses", "chat"])
async def test_a_compaction_is_charged_whoever_makes_it(dialect: Any) -> None:
    seen = Seen()
    async with FakeProvider(dialect=dialect).serve() as provider:
        if dialect == "chat":
            provider.script(says("chat", "A summary."))
        one = [native(provider, dialect=dialect)]
        async with gateway_of(provider, seen, providers=one) as gateway:
            caller = await ask(gateway, {"model": "m", "input": "Hello"}, path="/v1/responses/compact")

    usage = caller.json()["usage"]
    assert caller.status == 200 and usage["input_tokens"] > 0
    assert used(seen) == [Usage(input_tokens=usage["input_tokens"], output_tokens=usage["output_tokens"])]


class Counting:
    """A model that repeats what the user said, and keeps count of what its provider reports of it."""

    def __init__(self) -> None:
        self.input = self.output = 0

    def __call__(self, prompt: Prompt) -> Answer:
        answer = default_answer(prompt)
        speech = speech_of(prompt, answer)
        self.input += speech.input
        self.output += speech.output
        return answer


@pytest.mark.parametrize("dialect", ["responses", "chat", "anthropic", "gemini"])
async def test_the_sum_of_charges_is_what_the_provider_has_counted(dialect: Any) -> None:
    counting, seen = Counting(), Seen()
    async with FakeProvider(dialect=dialect, model=counting).serve() as provider:
        one = [native(provider, dialect=dialect)]
        async with gateway_of(provider, seen, providers=one, retries=ONCE) as gateway:
            for number in range(24):
                if number % 4 == 3:
                    provider.script(Reply({"error": {"message": "No."}}, status=(503, 400, 429)[number % 3]))
                text = "word " * (number + 1)
                await ask(gateway, {"model": MODELS[dialect], "input": text, "stream": number % 2 == 0})

    charges = [charge for ended in seen.of(Ended) for charge in ended.charges]
    assert len(charges) == 18 and not any(charge.usage.estimated for charge in charges)
    assert sum(charge.usage.input_tokens for charge in charges) == counting.input
    assert sum(charge.usage.output_tokens for charge in charges) == counting.output


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", ["responses", "chat", "anthropic"])
async def test_a_context_that_is_compacted_first_is_a_charge_of_its_own(dialect: Any, stream: bool) -> None:
    counting, seen = Counting(), Seen()
    speech = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Noted."}]}
    items = [{"role": "user", "content": "word " * 400}, speech, {"role": "user", "content": "?"}]
    managed = [{"type": "compaction", "compact_threshold": 100}]
    body = {"model": MODELS[dialect], "input": items, "context_management": managed, "stream": stream}
    async with FakeProvider(dialect=dialect, model=counting).serve() as provider:
        one = [native(provider, dialect=dialect, stateful=False)]
        async with gateway_of(provider, seen, providers=one) as gateway:
            caller = await ask(gateway, body)

    first, second = used(seen)
    assert seen.of(AttemptEnded)[0].usage == first and len(seen.of(AttemptEnded)) == len(seen.of(AttemptStarted)) == 2
    response = caller.events()[-1]["response"] if stream else caller.json()
    assert first.input_tokens > 400 > second.input_tokens
    assert first.input_tokens + second.input_tokens == counting.input == response["usage"]["input_tokens"]
    assert first.output_tokens + second.output_tokens == counting.output == response["usage"]["output_tokens"]


async def test_a_compaction_whose_answer_fails_stays_charged() -> None:
    seen = Seen()
    speech = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Noted."}]}
    items = [{"role": "user", "content": "word " * 400}, speech, {"role": "user", "content": "?"}]
    managed = [{"type": "compaction", "compact_threshold": 100}]
    async with FakeProvider(dialect="chat").serve() as provider:
        provider.script(Answer(text="A summary."), Scripted(None, (Status(400),)))
        one = [native(provider, dialect="chat")]
        async with gateway_of(provider, seen, providers=one, retries=ONCE) as gateway:
            caller = await ask(gateway, {"model": "m", "input": items, "context_management": managed})

    (usage,) = used(seen)
    assert caller.status == 400 and usage.input_tokens > 400 and seen.ended.attempts == 2


async def test_background_work_is_charged_once_where_it_is_done() -> None:
    seen = Seen()
    async with FakeProvider(dialect="chat").serve() as provider:
        async with gateway_of(provider, seen, providers=[native(provider, dialect="chat")]) as gateway:
            queued = (await ask(gateway, HELLO | {"background": True})).json()
            await until(lambda: len(seen.of(Ended)) == 2)
            path = f"/v1/responses/{queued['id']}"
            response: Json = {"usage": None}
            with anyio.fail_after(TIMEOUT):
                while response["usage"] is None:
                    response = (await ask(gateway, path=path, method="GET")).json()

    charges = [charge for ended in seen.of(Ended) for charge in ended.charges]
    assert [(one.usage.input_tokens, one.usage.output_tokens) for one in charges] == [
        (response["usage"]["input_tokens"], response["usage"]["output_tokens"])
    ]


async def test_looking_a_response_up_is_charged_to_nobody(provider: FakeProvider) -> None:
    async with gateway_of(provider) as gateway:
        id = (await ask(gateway, HELLO)).json()["id"]
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        await ask(gateway, path=f"/v1/responses/{id}", method="GET")

    assert seen.ended.charges == () and seen.ended.usage is None


# Those who must not miss an end...


def ended_trace(*observers: Any) -> tuple[Trace, list[Any]]:
    trace, calls = Trace(Observers(observers)), []
    trace.ending.append(lambda trace, record: calls.append((trace, record)))
    return trace, calls


def test_owners_are_told_of_the_end_once_and_before_observers() -> None:
    order: list[str] = []
    trace = Trace(Observers([lambda record: order.append("observer")]))
    trace.ending.append(lambda trace, record: order.append("owner"))
    trace.end(200)
    trace.end(None, "gone")

    assert order == ["owner", "observer"]


def test_owners_are_told_also_where_nobody_observes() -> None:
    trace, calls = ended_trace()
    trace.end(200)

    ((told, record),) = calls
    assert told is trace and isinstance(record, Ended) and record.status == 200


def test_an_owner_that_raises_stops_no_other_and_is_logged_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    def broken(trace: Trace, record: Ended) -> None:
        raise RuntimeError("sk-secret")

    trace = Trace(Observers())
    calls: list[Ended] = []
    trace.ending += [broken, lambda trace, record: calls.append(record)]
    with caplog.at_level(logging.ERROR, "gomodel_asgi.observers"):
        trace.end(200)

    assert len(calls) == 1
    assert "RuntimeError" in caplog.text and "sk-secret" not in caplog.text
