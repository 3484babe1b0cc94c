"""What whoever is on call sees: breakers that open, upstreams that stand in for others, keys that are refused."""

from __future__ import annotations

import logging
import re
from typing import Any, NoReturn

import anyio
import pytest
from prometheus_client import CollectorRegistry

from gomodel_asgi import Gateway, Target, tools
from gomodel_asgi.contrib.prices import Priced
from gomodel_asgi.contrib.prometheus import GatewayCollector, PrometheusObserver
from gomodel_asgi.errors import Overloaded, StoreUnavailable
from gomodel_asgi.observers import (
    NO_EXCHANGE,
    STORE,
    AsyncObserver,
    AttemptEnded,
    AttemptStarted,
    BreakerChanged,
    Context,
    CredentialRefused,
    LedgerWritten,
    LoggingObserver,
    QuotaChecked,
    Record,
)
from gomodel_asgi.providers.credential import fingerprint
from gomodel_asgi.providers.provider import Provider
from gomodel_asgi.resilience.circuit import MINIMUM, PAUSE
from gomodel_asgi.resilience.health import Health
from gomodel_asgi.stores import MemoryStore
from gomodel_asgi.stores.circuit_breaker import Circuit
from gomodel_asgi.testing import Answer, FakeProvider, Reply, Status, ToolCall

from ..support.clock import Clock
from ..support.driving import ask
from ..support.lab import ONCE
from ..support.seen import KEY, Seen, gateway_of, native, texts
from .test_charges import FAILED, done

HELLO = {"model": "m", "input": "Hello"}


def changes(seen: Seen) -> list[tuple[str | None, str | None, str, str]]:
    return [(one.provider, one.target_model, one.was, one.now) for one in seen.of(BreakerChanged)]


# Circuit breakers...


async def broken(provider: FakeProvider, gateway: Gateway) -> None:
    for _ in range(MINIMUM):
        provider.fail_next(Status(500))
        await ask(gateway, HELLO)


async def test_a_breaker_tells_when_it_opens_is_tried_and_closes(
    provider: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    seen, clock = Seen(), Clock()
    with caplog.at_level(logging.INFO, "gomodel_asgi.requests"):
        async with gateway_of(provider, seen, LoggingObserver(), retries=ONCE) as gateway:
            gateway.setup.health.clock = clock
            await broken(provider, gateway)
            assert (await ask(gateway, HELLO)).status == 503
            clock.now += PAUSE
            assert (await ask(gateway, HELLO)).status == 200

    assert changes(seen) == [
        ("fake", "m", "closed", "open"),
        ("fake", "m", "open", "half-open"),
        ("fake", "m", "half-open", "closed"),
    ]
    assert {one.context.exchange for one in seen.of(BreakerChanged)} == {0}
    assert KEY not in texts(seen.records)
    told = [vars(one) for one in caplog.records if vars(one).get("event", "").startswith("breaker")]
    assert [(one["levelno"], one["event"], one["provider"], one["target_model"]) for one in told] == [
        (logging.WARNING, "breaker_opened", "fake", "m"),
        (logging.INFO, "breaker_closed", "fake", "m"),
    ]


def test_a_probe_that_fails_is_told_as_open_again() -> None:
    clock, told = Clock(), []
    health = Health(clock, on_change=lambda provider, model, was, now: told.append((was, now)))
    breaker = health.breaker(Provider("up", "http://127.0.0.1:9/v1"), "m", "key")
    for _ in range(MINIMUM):
        permit = breaker.admit(None)
        assert permit is not None
        permit.leave(True)
    clock.now += PAUSE
    probe = breaker.admit(None)
    assert probe is not None
    probe.leave(True)

    assert told == [("closed", "open"), ("open", "half-open"), ("half-open", "open")]


def test_a_breaker_that_is_open_for_one_tenant_alone_is_not_told() -> None:
    told: list[Any] = []
    health = Health(Clock(), on_change=lambda *change: told.append(change))
    breaker = health.breaker(Provider("up", "http://127.0.0.1:9/v1"), "m", "key")
    for tenant, fails in [("good", False), *[("bad", True)] * MINIMUM]:
        permit = breaker.admit(tenant)
        assert permit is not None
        permit.leave(fails)

    assert breaker.admit("bad") is None and not told


def test_looking_at_a_breaker_changes_nothing() -> None:
    clock = Clock()
    health = Health(clock)
    breaker = health.breaker(Provider("up", "http://127.0.0.1:9/v1"), "m", "key")
    for tenant in "ab":
        permit = breaker.admit(tenant)
        assert permit is not None
        permit.leave(True)
    clock.now += 1000
    before = [(name, repr(getattr(breaker, name))) for name in ("known", "since", "failing", "answered", "was")]
    health.of_all(["up"], False)

    assert before == [(name, repr(getattr(breaker, name))) for name, _ in before]


def test_the_breaker_of_the_store_is_told_under_its_own_name() -> None:
    clock = Clock()
    circuit, told = Circuit(clock), []
    circuit.on_change = lambda was, now: told.append((was, now))
    circuit.timed_out(circuit.enter())
    with pytest.raises(StoreUnavailable):
        circuit.enter()
    clock.now += 60
    probe = circuit.enter()
    circuit.timed_out(probe)
    clock.now += 60
    circuit.answered(circuit.enter())

    opened, tried, closed = ("closed", "open"), ("open", "half-open"), ("half-open", "closed")
    assert told == [opened, tried, ("half-open", "open"), tried, closed]


async def test_a_store_that_hangs_is_told_to_observers(provider: FakeProvider) -> None:
    class Hanging(MemoryStore):
        """Does not answer in time."""

        immediate = False

        async def get(self, collection: str, key: str) -> NoReturn:
            raise StoreUnavailable("It does not answer.") from TimeoutError()

    seen = Seen()
    async with gateway_of(provider, seen, store=Hanging()) as gateway:
        await ask(gateway, path="/v1/responses/resp_1", method="GET")

    assert changes(seen)[:1] == [(STORE, None, "closed", "open")]


# Fallbacks...


async def test_a_fallback_says_why_in_record_and_header(provider: FakeProvider) -> None:
    provider.fail_next(Status(429, code="slow_down"))
    target = Target("one", fallbacks=(Target("two"),))
    providers = [native(provider, "one"), native(provider, "two")]
    seen = Seen()
    async with gateway_of(provider, seen, providers=providers, retries=ONCE, policy=lambda request: target) as gateway:
        caller = await ask(gateway, HELLO)
        plain = await ask(gateway, HELLO)

    assert (caller.status, caller.headers["x-gomodel-fallback"]) == (200, "slow_down")
    assert "x-gomodel-fallback" not in plain.headers
    second = seen.of(AttemptStarted)[1]
    assert (second.kind, second.reason, second.source, second.provider) == ("fallback", "slow_down", "one", "two")
    assert [one.kind for one in seen.of(AttemptEnded)] == ["first", "fallback", "first"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stream_from_a_fallback_says_so_too_also_where_nobody_observes(
    provider: FakeProvider, stream: bool
) -> None:
    provider.fail_next(Status(500))
    target = Target("one", fallbacks=(Target("two"),))
    providers = [native(provider, "one"), native(provider, "two")]
    async with gateway_of(provider, providers=providers, retries=ONCE, policy=lambda request: target) as gateway:
        caller = await ask(gateway, HELLO | {"stream": stream})
        provider.fail_next(Status(500))
        reply = await gateway.respond(HELLO | {"stream": stream})
        await reply.read()

    assert caller.headers["x-gomodel-fallback"] == reply.headers["x-gomodel-fallback"] == "upstream_error"


async def test_a_compaction_that_a_fallback_has_made_says_so_too() -> None:
    target = Target("one", fallbacks=(Target("two"),))
    async with FakeProvider(dialect="chat").serve() as provider:
        provider.fail_next(Status(500))
        providers = [native(provider, name, dialect="chat") for name in ("one", "two")]
        async with gateway_of(provider, providers=providers, retries=ONCE, policy=lambda request: target) as gateway:
            caller = await ask(gateway, HELLO, path="/v1/responses/compact")

    assert (caller.status, caller.headers["x-gomodel-fallback"]) == (200, "upstream_error")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_loop_that_a_fallback_has_answered_says_so_too(provider: FakeProvider, stream: bool) -> None:
    provider.fail_next(Status(429, code="slow_down"))
    provider.script(Answer(calls=[ToolCall("web_search", {"query": "cats"})]), Answer(text="Cats."))
    target = Target("one", fallbacks=(Target("two"),))
    providers = [native(provider, name, hosted_tools=(), stateful=False) for name in ("one", "two")]
    searching = tools.web_search(lambda call: [tools.Page("https://example.com", "Cats", "Text.")])
    body = HELLO | {"tools": [{"type": "web_search"}], "stream": stream}
    seen = Seen()
    async with gateway_of(
        provider, seen, providers=providers, retries=ONCE, policy=lambda request: target, tools=[searching]
    ) as gateway:
        caller = await ask(gateway, body)

    assert (caller.status, caller.headers["x-gomodel-fallback"]) == (200, "slow_down")
    kinds = [(one.provider, one.kind, one.source) for one in seen.of(AttemptStarted)]
    assert kinds == [("one", "first", None), ("two", "fallback", "one"), ("two", "first", None)]


async def test_a_code_that_is_no_word_cannot_break_the_header(provider: FakeProvider) -> None:
    provider.fail_next(Status(500, code='a\r\nset-cookie: x, "ü"' + "y" * 300))
    target = Target("one", fallbacks=(Target("two"),))
    providers = [native(provider, "one"), native(provider, "two")]
    async with gateway_of(provider, providers=providers, retries=ONCE, policy=lambda request: target) as gateway:
        caller = await ask(gateway, HELLO)

    value = caller.headers["x-gomodel-fallback"]
    assert re.fullmatch(r"[\x21-\x2b\x2d-\x7e]{1,128}", value), value


async def test_an_open_breaker_is_why_another_upstream_is_asked(provider: FakeProvider) -> None:
    target = Target("one", fallbacks=(Target("two"),))
    providers = [native(provider, "one"), native(provider, "two")]
    seen = Seen()
    async with gateway_of(
        provider, seen, providers=providers, retries=ONCE, policy=lambda request: Target("one")
    ) as gateway:
        await broken(provider, gateway)
        gateway.reload(policy=lambda request: target)
        caller = await ask(gateway, HELLO)

    assert caller.headers["x-gomodel-fallback"] == "overloaded"
    last = seen.of(AttemptStarted)[-1]
    assert (last.kind, last.reason, last.source) == ("fallback", "overloaded", "one")


# Refused credentials...


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_refused_key_is_told_by_a_fingerprint(provider: FakeProvider, status: int) -> None:
    provider.fail_next(Status(status))
    seen = Seen()
    async with gateway_of(provider, seen, retries=ONCE) as gateway:
        await ask(gateway, HELLO)

    (refused,) = seen.of(CredentialRefused)
    assert (refused.provider, refused.brought, refused.fingerprint) == ("fake", False, fingerprint(KEY)[:8])
    assert refused.request_id and KEY not in texts(seen.records)


async def test_a_key_that_the_target_brought_is_not_the_houses(provider: FakeProvider) -> None:
    provider.fail_next(Status(401))
    seen, registry = Seen(), CollectorRegistry()
    async with gateway_of(
        provider,
        seen,
        PrometheusObserver(registry),
        retries=ONCE,
        policy=lambda request: Target("fake", api_key="sk-a-tenants-own"),
    ) as gateway:
        await ask(gateway, HELLO)

    assert seen.of(CredentialRefused)[0].brought
    assert registry.get_sample_value("gomodel_credential_refusals_total", {"provider": "fake"}) is None


def refusal(digits: str, brought: bool = False) -> CredentialRefused:
    return CredentialRefused(Context(1, "r", provider="p"), fingerprint=digits, brought=brought)


def test_a_refused_key_is_an_error_once_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    observer = LoggingObserver(clock=clock)
    with caplog.at_level(logging.INFO, "gomodel_asgi.requests"):
        for digits in ("aaaaaaaa", "aaaaaaaa", "bbbbbbbb"):
            observer(refusal(digits))
        observer(refusal("cccccccc", brought=True))
        clock.now += 3600
        observer(refusal("aaaaaaaa"))

    assert {one.levelno for one in caplog.records} == {logging.ERROR}
    assert [one.message.split("the fingerprint ")[1][:8] for one in caplog.records] == [
        "aaaaaaaa", "bbbbbbbb", "aaaaaaaa",
    ]  # fmt: skip


def test_what_is_remembered_for_the_log_is_bounded() -> None:
    observer = LoggingObserver(logging.getLogger("nobody"), clock=Clock())
    for number in range(3000):
        observer(refusal(f"{number:08x}"))
        observer(checked(f"q{number}", "unavailable"))

    assert len(observer.refused) <= 1000 and len(observer.away) <= 1000


# Quotas and the ledger...


def checked(name: str, outcome: Any, held: int = 0) -> QuotaChecked:
    return QuotaChecked(Context(1, "r", tenant="acme"), name=name, unit="money", outcome=outcome, held=held)


def test_counters_that_do_not_answer_are_told_once_and_once_when_they_are_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    observer = LoggingObserver()
    with caplog.at_level(logging.INFO, "gomodel_asgi.requests"):
        for outcome in ("admitted", "unavailable", "unavailable", "refused", "admitted", "unavailable"):
            observer(checked("month", outcome))

    told = [vars(one) for one in caplog.records]
    assert [(one["levelname"], one["event"], one["quota"], one["unit"]) for one in told] == [
        ("WARNING", "quota_unavailable", "month", "money"),
        ("INFO", "quota_available", "month", "money"),
        ("WARNING", "quota_unavailable", "month", "money"),
    ]


def test_quotas_and_the_ledger_are_counted_without_tenants() -> None:
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)
    for outcome in ("admitted", "refused", "refused", "unavailable", "shadow"):
        observer(checked("month", outcome, held=7))
    for result, rows in (("written", 500), ("spilled", 20), ("written", 3)):
        observer(LedgerWritten(NO_EXCHANGE, rows=rows, result=result))  # type: ignore[arg-type]

    labels = {"quota": "month", "unit": "money"}
    assert registry.get_sample_value("gomodel_quota_refusals_total", labels) == 2
    assert registry.get_sample_value("gomodel_quota_held", labels) == 7
    assert registry.get_sample_value("gomodel_quota_errors_total") == 1
    assert registry.get_sample_value("gomodel_ledger_rows_total", {"result": "written"}) == 503
    assert registry.get_sample_value("gomodel_ledger_rows_total", {"result": "spilled"}) == 20


# What a scrape shows...


async def test_a_scrape_shows_the_state_of_each_breaker_and_how_it_came_there(provider: FakeProvider) -> None:
    registry = CollectorRegistry()
    async with gateway_of(provider, PrometheusObserver(registry), retries=ONCE) as gateway:
        GatewayCollector(gateway, registry)
        await ask(gateway, HELLO | {"model": "other"})
        await broken(provider, gateway)

        def state(model: str) -> dict[str, float | None]:
            names = ("closed", "half-open", "open")
            labels = {"provider": "fake", "model": model}
            return {
                name: registry.get_sample_value("gomodel_breaker_state", labels | {"state": name}) for name in names
            }

        assert state("m") == {"closed": 0, "half-open": 0, "open": 1}
        assert state("other") == {"closed": 1, "half-open": 0, "open": 0}
        opened = {"provider": "fake", "model": "m", "to": "open"}
        assert registry.get_sample_value("gomodel_breaker_transitions_total", opened) == 1
        failed = {"provider": "fake", "kind": "first", "error": "upstream_error"}
        assert registry.get_sample_value("gomodel_attempts_total", failed) == MINIMUM


async def test_of_several_credentials_the_worst_state_is_shown(provider: FakeProvider) -> None:
    registry, keys = CollectorRegistry(), iter([f"key {number}" for number in range(2)])
    async with gateway_of(
        provider, retries=ONCE, policy=lambda request: Target("fake", api_key=str(request.body["user"]))
    ) as gateway:
        GatewayCollector(gateway, registry)
        for _ in range(MINIMUM):
            provider.fail_next(Status(500))
            await ask(gateway, HELLO | {"user": "bad"})
        await ask(gateway, HELLO | {"user": next(keys)})

    labels = {"provider": "fake", "model": "m", "state": "open"}
    assert registry.get_sample_value("gomodel_breaker_state", labels) == 1


async def test_models_in_a_scrape_stay_bounded(provider: FakeProvider) -> None:
    registry = CollectorRegistry()
    async with gateway_of(provider) as gateway:
        GatewayCollector(gateway, registry, values=3)
        for number in range(6):
            await ask(gateway, HELLO | {"model": f"m{number}"})

        (family,) = [one for one in registry.collect() if one.name == "gomodel_breaker_state"]
    assert {sample.labels["model"] for sample in family.samples} == {"m0", "m1", "m2", "other"}


async def test_a_scrape_from_a_thread_of_its_own_is_answered_while_requests_come(provider: FakeProvider) -> None:
    registry = CollectorRegistry()

    def scrape() -> None:
        for _ in range(200):
            list(registry.collect())

    async with gateway_of(provider) as gateway:
        GatewayCollector(gateway, registry)
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, scrape)
            for number in range(30):
                await ask(gateway, HELLO | {"model": f"m{number}"})


async def test_a_look_that_a_request_came_between_is_repeated(provider: FakeProvider) -> None:
    registry = CollectorRegistry()
    async with gateway_of(provider) as gateway:
        await ask(gateway, HELLO)
        health, failures = gateway.health, iter([RuntimeError("changed")])

        def changing() -> Any:
            for failure in failures:
                raise failure
            return health()

        gateway.health = changing  # type: ignore[method-assign]
        GatewayCollector(gateway, registry)
        labels = {"provider": "fake", "model": "m", "state": "closed"}
        assert registry.get_sample_value("gomodel_breaker_state", labels) == 1


async def test_dropped_records_are_counted_also_behind_prices(provider: FakeProvider) -> None:
    async def sink(record: Record) -> None:
        await anyio.sleep_forever()

    registry = CollectorRegistry()
    slow = AsyncObserver(sink, queue=1, farewell=0)
    async with gateway_of(provider, Priced(slow)) as gateway:
        GatewayCollector(gateway, registry)
        await ask(gateway, HELLO)
        dropped = registry.get_sample_value("gomodel_observer_dropped_total")

    assert dropped and dropped <= slow.dropped


async def test_tokens_and_cost_are_those_of_the_model_that_used_them(provider: FakeProvider) -> None:

    provider.script(Reply(FAILED), done(11, 5))
    target = Target("openai", model="gpt-4o", fallbacks=(Target("mine", model="nobody-knows"),))
    providers = [native(provider, "openai"), native(provider, "mine")]
    registry = CollectorRegistry()
    async with gateway_of(
        provider,
        Priced(PrometheusObserver(registry)),
        providers=providers,
        retries=ONCE,
        policy=lambda request: target,
    ) as gateway:
        await ask(gateway, HELLO)

    def tokens(**labels: str) -> float | None:
        return registry.get_sample_value("gomodel_tokens_total", {**labels, "type": "input", "estimated": "false"})

    assert tokens(provider="openai", model="gpt-4o") == 7
    assert tokens(provider="mine", model="nobody-knows") == 11
    assert registry.get_sample_value("gomodel_cost_usd_total", {"provider": "openai", "model": "gpt-4o"})
    unknown = {"provider": "mine", "model": "nobody-knows"}
    assert registry.get_sample_value("gomodel_cost_unknown_total", unknown) == 1
    labels = {"source": "openai", "target": "mine", "reason": "server_error"}
    assert registry.get_sample_value("gomodel_fallbacks_total", labels) == 1


def test_a_wait_is_never_told_shorter_than_it_is() -> None:
    assert dict(Overloaded("x", retry_after=1.4).headers())[b"retry-after"] == b"2"
    assert dict(Overloaded("x", retry_after=0.2).headers())[b"retry-after"] == b"1"
    assert dict(Overloaded("x", retry_after=3.0).headers())[b"retry-after"] == b"3"
