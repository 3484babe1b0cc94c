"""Retry, fallback, breaker and gate: what is tried again, where, how often, and when no more."""

from __future__ import annotations

import json
from email.utils import formatdate
from typing import Any

import anyio
import pytest

from gomodel_asgi import Limits, Retries, RoutingRequest, Target, Timeouts
from gomodel_asgi.observers import AttemptEnded
from gomodel_asgi.resilience.circuit import MINIMUM, PAUSE
from gomodel_asgi.resilience.retry import retry_after
from gomodel_asgi.testing import Answer, Cut, ErrorInside, Scripted, Stall, Status

from ..support.driving import TIMEOUT, Caller, scope_of
from ..support.exchanges import EVENTS, STREAM, UNARY, answered_by, streamed
from ..support.lab import Lab, anyio_backend, fakes, kind, lab, until

__all__ = ["anyio_backend", "fakes", "kind", "lab"]

SOON = {"retry-after-ms": "1"}


def chained(lab: Lab, *fallbacks: Target, first: Target | None = None, **options: Any) -> None:
    """*bad* and *good* behind a policy that names *fallbacks* (by default: good) behind *first* (by default: bad)."""
    target = first or Target("bad", fallbacks=fallbacks or [Target("good")])
    options.setdefault("retries", Retries(per_target=1))
    lab.make(lab.provider(lab.bad), lab.provider(lab.good, "good"), policy=lambda request: target, **options)


# The same upstream again...


@pytest.mark.parametrize("body", [UNARY, STREAM], ids=["unary", "stream"])
@pytest.mark.parametrize("status", [429, 502, 503, 504, 529])
async def test_a_busy_upstream_is_asked_once_more(lab: Lab, status: int, body: Any) -> None:
    lab.make(retries=Retries())
    lab.bad.fail_next(Status(status, headers=SOON))

    answer = await lab.ask(body)

    answered_by(answer, "bad")
    assert answer.headers["x-gomodel-attempts"] == "2"
    assert lab.bad.requests[0].body == lab.bad.requests[1].body


@pytest.mark.parametrize("status", [400, 408, 409, 422, 500])
async def test_other_statuses_are_asked_once(lab: Lab, status: int) -> None:
    lab.make(retries=Retries())
    lab.bad.fail_next(Status(status, headers=SOON))

    assert (await lab.ask(UNARY)).status == status
    assert len(lab.bad.requests) == 1


@pytest.mark.parametrize("status", [408, 409, 500])
async def test_the_list_of_what_is_retried_can_be_widened(lab: Lab, status: int) -> None:
    lab.make(retries=Retries(on={status}))
    lab.bad.fail_next(Status(status, headers=SOON))

    answered_by(await lab.ask(UNARY), "bad")


async def test_the_list_of_what_is_retried_can_be_narrowed(lab: Lab) -> None:
    lab.make(retries=Retries(on=()))
    lab.bad.fail_next(Status(503, headers=SOON))

    assert (await lab.ask(UNARY)).status == 503
    assert len(lab.bad.requests) == 1


async def test_a_connection_that_closes_before_the_reply_is_tried_again(lab: Lab) -> None:
    lab.make(retries=Retries())
    lab.bad.fail_next(Cut(before_head=True))

    answer = await lab.ask(UNARY)

    assert (answer.status, answer.headers["x-gomodel-attempts"]) == (200, "2")


async def test_an_upstream_that_stays_busy_is_given_up_and_its_client_told_not_to_retry(lab: Lab) -> None:
    lab.make(retries=Retries())
    for _ in range(5):
        lab.bad.fail_next(Status(429, message="Busy.", headers=SOON))

    answer = await lab.ask(UNARY)

    assert (answer.status, answer.error["message"]) == (429, "Busy.")
    assert (answer.headers["x-should-retry"], answer.headers["x-gomodel-attempts"]) == ("false", "2")
    assert len(lab.bad.requests) == 2


async def test_a_timeout_is_not_retried_since_the_answer_may_have_been_made(lab: Lab) -> None:
    lab.make(lab.provider(lab.bad, timeouts=Timeouts(unary=0.2)), retries=Retries())
    lab.bad.fail_next(Stall())

    assert (await lab.ask(UNARY)).status == 504
    assert len(lab.bad.requests) == 1


async def test_a_provider_and_a_target_have_retries_of_their_own(lab: Lab) -> None:
    lab.make(
        lab.provider(lab.bad, retries=Retries(per_target=1)),
        retries=Retries(),
        policy=lambda request: Target("bad", retries=Retries(per_target=3) if request.model == "three" else None),
    )
    for model, attempts in (("one", 1), ("three", 3)):
        lab.bad.clear()
        lab.bad.fail_next(Status(503, headers=SOON))
        lab.bad.fail_next(Status(503, headers=SOON))
        await lab.ask({**UNARY, "model": model})
        assert len(lab.bad.requests) == attempts


async def test_retries_are_a_fraction_of_the_traffic(lab: Lab) -> None:
    lab.make(retries=Retries())
    for _ in range(100):
        lab.bad.fail_next(Status(503, headers=SOON))

    for number in range(30):
        await lab.ask({**UNARY, "model": f"m{number}"})  # each model has a breaker of its own

    assert 30 < len(lab.bad.requests) <= 30 + 10 + 30 * 0.2


# Retry-After...


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": formatdate(0, usegmt=True)}, 0.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Wed, 99 Foo 2099 00:00:00 GMT"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_each_of_its_spellings(given: dict[str, str], seconds: float | None) -> None:
    assert retry_after([(name.encode(), value.encode()) for name, value in given.items()]) == seconds


@pytest.mark.parametrize("given", ["3600", "1e9", formatdate(4102444800, usegmt=True)], ids=["hour", "absurd", "date"])
async def test_a_longer_wait_than_allowed_is_passed_on_instead(lab: Lab, given: str) -> None:
    lab.make(retries=Retries())
    lab.bad.fail_next(Status(429, retry_after=given))

    answer = await lab.ask(UNARY)

    assert (answer.status, answer.headers["retry-after"]) == (429, given)
    assert len(lab.bad.requests) == 1


async def test_a_longer_wait_than_allowed_means_the_fallback(lab: Lab) -> None:
    chained(lab, retries=Retries())
    lab.bad.fail_next(Status(429, retry_after=3600))

    answered_by(await lab.ask(UNARY), "good")
    assert len(lab.bad.requests) == 1


@pytest.mark.parametrize("given", ["-5", "soon", "0"])
async def test_a_wait_that_is_nonsense_is_none(lab: Lab, given: str) -> None:
    lab.make(retries=Retries())
    lab.bad.fail_next(Status(429, retry_after=given))

    assert (await lab.ask(UNARY)).status == 200


# Fallbacks...


async def test_attempts_count_over_all_targets(lab: Lab) -> None:
    fallbacks = [Target("good"), Target("bad", model="other")]
    chained(lab, *fallbacks, retries=Retries(attempts=3, per_target=2))
    for fake in (lab.bad, lab.bad, lab.good, lab.good):
        fake.fail_next(Status(503, headers=SOON))

    assert (await lab.ask(UNARY)).status == 503
    assert (len(lab.bad.requests), len(lab.good.requests)) == (2, 1)


async def test_a_fallback_gets_nothing_of_the_target_before_it(lab: Lab) -> None:
    first = Target(
        "bad",
        model="one",
        api_key="sk-canary-first",
        headers={"x-first": "1"},
        params={"temperature": 1, "store": None},
        fallbacks=[Target("good", model="two", api_key="sk-canary-second", params={"top_p": 0.5})],
    )
    chained(lab, first=first)
    lab.bad.fail_next(Status(503))

    answered_by(await lab.ask({**UNARY, "store": True, "provider": "bad"}), "good")

    before, after = lab.bad.requests[0], lab.good.requests[0]
    assert before.json() == {**UNARY, "model": "one", "temperature": 1}
    assert after.json() == {**UNARY, "model": "two", "store": True, "top_p": 0.5}
    assert after.header("authorization") == "Bearer sk-canary-second"
    assert after.header("x-first") is None
    assert "sk-canary-first" not in after and "sk-canary-second" not in before


@pytest.mark.parametrize("status", [401, 403])
async def test_a_tenants_own_refused_key_never_spends_the_houses_money(lab: Lab, status: int) -> None:
    chained(lab, first=Target("bad", api_key="sk-canary-tenant", fallbacks=[Target("good")]))
    lab.bad.fail_next(Status(status))

    answer = await lab.ask(UNARY)

    assert (answer.status, answer.error["code"]) == (502, "upstream_auth_error")
    assert not lab.good.requests


async def test_a_tenants_own_refused_key_falls_back_where_the_policy_says_so(lab: Lab) -> None:
    own = Target("bad", api_key="sk-canary-tenant", fallbacks=[Target("good")], retries=Retries(on={"auth"}))
    chained(lab, first=own)
    lab.bad.fail_next(Status(401))

    answered_by(await lab.ask(UNARY), "good")


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_a_4xx_goes_to_a_fallback_only_where_the_target_says_so(lab: Lab, status: int) -> None:
    chained(lab, first=Target("bad", fallbacks=[Target("good")], retries=Retries(on={status}, per_target=1)))
    lab.bad.fail_next(Status(status))

    answered_by(await lab.ask(UNARY), "good")


BOUND: dict[str, dict[str, Any]] = {
    "conversation": {"conversation": "conv_1"},
    "item_reference": {"input": [{"type": "item_reference", "id": "msg_1"}]},
    "file_id": {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]},
    "encrypted_content": {"input": [{"type": "reasoning", "encrypted_content": "x", "summary": []}]},
}


@pytest.mark.parametrize("members", BOUND.values(), ids=BOUND)
async def test_a_request_bound_to_one_upstream_never_crosses_to_another(lab: Lab, members: dict[str, Any]) -> None:
    chained(lab)
    lab.bad.fail_next(Status(503))

    assert (await lab.ask({**UNARY, **members})).status == 503
    assert not lab.good.requests


async def test_the_answer_of_the_last_candidate_is_the_one_that_is_passed(lab: Lab) -> None:
    chained(lab)
    lab.bad.fail_next(Status(503, message="first"))
    lab.good.fail_next(Status(500, message="last"))

    answer = await lab.ask(UNARY)

    assert (answer.status, answer.error["message"]) == (500, "last")
    assert answer.headers["x-gomodel-attempts"] == "2"


async def test_observers_are_told_each_attempt_and_why_it_ended(lab: Lab) -> None:
    ended: list[AttemptEnded] = []

    def observe(record: object) -> None:
        if isinstance(record, AttemptEnded):
            ended.append(record)

    chained(lab, observers=[observe])
    lab.bad.fail_next(Status(503, code="busy"))

    await lab.ask(UNARY)

    assert [(one.number, one.provider, one.status, one.error) for one in ended] == [
        (1, "bad", 503, "busy"),
        (2, "good", 200, None),
    ]
    assert all(one.seconds >= 0 for one in ended)


# The gate...


async def test_events_are_held_while_a_fallback_is_left_and_leave_together_with_the_first_meaningful_one(
    lab: Lab,
) -> None:
    chained(lab, stamp=False)
    lab.bad.script(Scripted(streamed(), (Stall(after_events=2),)))
    caller = Caller(scope_of(), [json.dumps(STREAM).encode()])

    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.run, lab.gateway)
            await lab.bad.received()
            assert caller.messages == []
            await lab.release(lambda: caller.messages)

    assert caller.content == b"".join(EVENTS)
    assert caller.pieces[0].startswith(b"".join(EVENTS[:3]))


async def test_with_no_fallback_left_events_leave_as_they_come(lab: Lab) -> None:
    lab.make(stamp=False)
    lab.bad.script(Scripted(streamed(), (Stall(after_events=1),)))
    caller = Caller(scope_of(), [json.dumps(STREAM).encode()])

    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.run, lab.gateway)
            await caller.until(2)
            assert caller.content == EVENTS[0]
            lab.bad.release()

    assert caller.content == b"".join(EVENTS)


@pytest.mark.parametrize("kind", [("http11", "asyncio")], indirect=True, ids=["http11"])
async def test_the_gate_opens_when_its_time_has_passed(lab: Lab) -> None:
    chained(lab, stamp=False, timeouts=Timeouts(gate=0.1))
    lab.bad.script(Scripted(streamed(), (Stall(after_events=2),)))
    caller = Caller(scope_of(), [json.dumps(STREAM).encode()])

    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.run, lab.gateway)
            await caller.until(2)
            assert caller.content == b"".join(EVENTS[:2])
            lab.bad.release()

    assert caller.content == b"".join(EVENTS)
    assert not lab.good.requests


@pytest.mark.parametrize("fault", [ErrorInside(after_events=2), Cut(after_events=2)], ids=["error", "cut"])
async def test_behind_the_gate_a_failure_is_never_seen(lab: Lab, fault: Any) -> None:
    chained(lab, stamp=False)
    lab.bad.script(Scripted(streamed(), (fault,)))
    lab.good.script(streamed())

    answer = await lab.ask(STREAM)

    answered_by(answer, "good")
    assert answer.content == b"".join(EVENTS)


@pytest.mark.parametrize("fault", [ErrorInside(after_events=3), Cut(after_events=3)], ids=["error", "cut"])
async def test_nothing_is_tried_after_the_first_meaningful_event(lab: Lab, fault: Any) -> None:
    chained(lab)
    lab.bad.script(Scripted(Answer(text="one two three"), (fault,)))

    answer = await lab.ask(STREAM)

    answered_by(answer, "bad")
    assert answer.events()[-1]["type"] == "response.failed"
    assert not lab.good.requests


# Breakers...


async def fail(lab: Lab, times: int, **body: Any) -> None:
    for _ in range(times):
        lab.bad.fail_next(Status(500))
        await lab.ask({**UNARY, **body})


async def test_a_failing_upstream_is_left_alone(lab: Lab) -> None:
    lab.make()
    await fail(lab, MINIMUM)
    asked = len(lab.bad.requests)

    answer = await lab.ask(UNARY)

    assert (answer.status, answer.error["code"]) == (503, "overloaded")
    assert 1 <= int(answer.headers["retry-after"]) <= PAUSE
    assert len(lab.bad.requests) == asked
    assert not lab.gateway.health()["bad"].available


async def test_an_open_breaker_means_the_fallback(lab: Lab) -> None:
    chained(lab, first=Target("bad"))
    await fail(lab, MINIMUM)
    lab.gateway.reload(policy=lambda request: Target("bad", fallbacks=[Target("good")]))

    answered_by(await lab.ask(UNARY), "good")


async def test_a_breaker_belongs_to_one_model_and_one_credential(lab: Lab) -> None:
    async def policy(request: RoutingRequest) -> Target:
        return Target("bad", api_key=str(request.metadata.get("key", "sk-canary-house")))

    lab.make(policy=policy)
    await fail(lab, MINIMUM, metadata={"key": "sk-canary-tenant"})

    assert (await lab.ask({**UNARY, "metadata": {"key": "sk-canary-tenant"}})).status == 503
    assert (await lab.ask(UNARY)).status == 200
    assert (await lab.ask({**UNARY, "model": "other", "metadata": {"key": "sk-canary-tenant"}})).status == 200


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_the_clients_own_errors_never_open_a_breaker(lab: Lab, status: int) -> None:
    lab.make()
    for _ in range(2 * MINIMUM):
        lab.bad.fail_next(Status(status))
        await lab.ask(UNARY)

    assert (await lab.ask(UNARY)).status == 200


async def test_streams_that_break_off_count_against_the_upstream(lab: Lab) -> None:
    lab.make()
    for _ in range(MINIMUM):
        lab.bad.script(Scripted(Answer(text="one two"), (Cut(after_events=4),)))
        await lab.ask(STREAM)

    assert lab.gateway.health()["bad"].failures == MINIMUM
    assert (await lab.ask(STREAM)).status == 503


# Concurrency...


async def test_a_tenants_flood_is_turned_away_and_others_are_served(lab: Lab) -> None:
    lab.make(limits=Limits(tenant_concurrency=1), tenant=lambda scope: scope["tenant"])
    lab.bad.fail_next(Stall())
    lab.bad.fail_next(Stall())
    callers = [Caller(scope_of(tenant="greedy"), [json.dumps(UNARY).encode()]) for _ in range(4)]

    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:
            for caller in callers:
                tasks.start_soon(caller.run, lab.gateway)
            await lab.bad.received()
            await until(lambda: sum(bool(caller.messages) for caller in callers) == 2)
            lab.bad.fail_next(Stall())
            other = Caller(scope_of(tenant="modest"), [json.dumps(UNARY).encode()])
            tasks.start_soon(other.run, lab.gateway)
            await lab.bad.received(2)
            await lab.release(lambda: all(one.messages for one in (*callers, other)))

    assert sorted(caller.status for caller in callers) == [200, 200, 503, 503]
    assert other.status == 200
