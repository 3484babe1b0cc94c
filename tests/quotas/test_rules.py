"""The host's rules are asked for each request, in whatever form they are written; what is wrong with them is told to
the host, and what is wrong with the configuration when it is made."""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio
import pytest

from gomodel_asgi import Denied, Gateway, MemoryStore, NoStore, Provider, Timeouts, providers
from gomodel_asgi.observers import Warned
from gomodel_asgi.quotas import MemoryCounters, Quota, Quotas
from gomodel_asgi.stores import Encrypted
from gomodel_asgi.testing import FakeProvider

from ..support.driving import ask
from ..support.lab import ONCE
from ..support.seen import Seen, native
from ..support.spending import always, month

HELLO = {"model": "m", "input": "Hello"}
ONE = Quota("day", per="day", requests=1)


def gateway_of(provider: FakeProvider, quotas: Any, *observers: Any, **options: Any) -> Gateway:
    options.setdefault("providers", [native(provider)])
    return Gateway(observers=observers, quotas=quotas, retries=ONCE, **options)


def plain(request: Any) -> list[Quota]:
    assert threading.current_thread() is not threading.main_thread()
    return [ONE]


def generator(request: Any) -> Iterator[Quota]:
    assert threading.current_thread() is not threading.main_thread()
    yield ONE


async def coroutine(request: Any) -> tuple[Quota, ...]:
    return (ONE,)


async def async_generator(request: Any) -> AsyncIterator[Quota]:
    yield ONE


async def with_more(more: str, request: Any) -> list[Quota]:
    return [ONE]


class Callable:
    async def __call__(self, request: Any) -> list[Quota]:
        return [ONE]


FORMS = [
    plain, generator, coroutine, async_generator, partial(with_more, "x"), Callable(),
    lambda request: coroutine(request),
]  # fmt: skip


@pytest.mark.parametrize("rules", FORMS)
async def test_rules_may_be_written_in_any_form(provider: FakeProvider, rules: Any) -> None:
    async with gateway_of(provider, Quotas(rules)) as gateway:
        assert [(await ask(gateway, HELLO)).status for _ in range(2)] == [200, 429]


@pytest.mark.parametrize("given", [None, [], ()])
async def test_rules_that_give_nothing_bound_nothing(provider: FakeProvider, given: Any) -> None:
    async def rules(request: Any) -> Any:
        return given

    async with gateway_of(provider, Quotas(rules)) as gateway:
        answer = await ask(gateway, HELLO)
        assert answer.status == 200 and not [name for name in answer.headers if "ratelimit" in name]
        assert await gateway.quotas.left() == ()


async def test_rules_see_the_request_and_cannot_change_it(provider: FakeProvider) -> None:
    async def rules(request: Any) -> list[Quota]:
        assert (request.model, request.operation, request.tenant) == ("m", "create", "t")
        request.envelope.members.clear()
        return []

    async with gateway_of(provider, Quotas(rules), tenant=lambda scope: "t") as gateway:
        assert (await ask(gateway, HELLO)).status == 200


BAD: dict[str, tuple[Any, type[BaseException], str]] = {
    "an exception": (lambda: 1 / 0, ZeroDivisionError, "division"),
    "no quota": (lambda: ["day"], TypeError, "not a Quota"),
    "no list": (lambda: 7, TypeError, "int"),
    "a bad quota": (lambda: [Quota("day", per="day", tokens=-1)], ValueError, "tokens"),
    "one quota twice": (lambda: [ONE, ONE], ValueError, "twice"),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_is_wrong_with_rules_is_a_500_that_tells_the_host_and_nobody_else(
    provider: FakeProvider, case: str
) -> None:
    give, kind, word = BAD[case]

    async def rules(request: Any) -> Any:
        return give()

    async with gateway_of(provider, Quotas(rules)) as gateway:
        refused = await ask(gateway, HELLO)

    assert refused.status == 500 and provider.requests == []
    assert isinstance(refused.raised, kind) and word in str(refused.raised)
    assert word not in refused.error["message"]


async def test_rules_may_refuse_a_request_in_words_of_their_own(provider: FakeProvider) -> None:
    async def rules(request: Any) -> Any:
        raise Denied("Your account is closed.")

    async with gateway_of(provider, Quotas(rules)) as gateway:
        refused = await ask(gateway, HELLO)

    assert (refused.status, refused.error["message"]) == (403, "Your account is closed.")


async def test_rules_that_take_too_long_are_a_504(provider: FakeProvider) -> None:
    async def rules(request: Any) -> Any:
        await anyio.sleep_forever()

    async with gateway_of(provider, Quotas(rules), timeouts=Timeouts(policy=0.01)) as gateway:
        assert (await ask(gateway, HELLO)).status == 504


async def test_rules_that_fail_in_the_shadow_refuse_nothing(provider: FakeProvider) -> None:
    async def rules(request: Any) -> Any:
        return 1 / 0

    seen = Seen()
    async with gateway_of(provider, Quotas(rules, shadow=True), seen) as gateway:
        assert (await ask(gateway, HELLO)).status == 200

    assert [one.message for one in seen.of(Warned)] == ["quotas: PolicyFailed; the request was not counted"]


# Prices...


async def test_a_price_that_is_unknown_is_told_to_the_host_before_anything_is_sent(provider: FakeProvider) -> None:
    async with gateway_of(provider, month()) as gateway:
        refused = await ask(gateway, HELLO | {"model": "secret"})

    assert refused.status == 500 and provider.requests == []
    for word in ("'secret'", "'fake'", "price="):
        assert word in str(refused.raised)


async def test_a_price_that_is_unknown_can_be_counted_as_free(provider: FakeProvider) -> None:
    async with gateway_of(provider, month(on_unknown="free")) as gateway:
        assert (await ask(gateway, HELLO | {"model": "secret"})).status == 200
        assert [one.spent > 0 for one in await gateway.quotas.left()] == [True, False]


async def test_a_price_function_that_raises_is_told_to_the_host(provider: FakeProvider) -> None:
    def broken(type: str, model: str, usage: Any) -> Any:
        raise KeyError(model)

    async with gateway_of(provider, month(price=broken)) as gateway:
        refused = await ask(gateway, HELLO)

    assert refused.status == 500 and isinstance(refused.raised, KeyError)


async def test_without_a_price_function_the_price_list_is_asked(provider: FakeProvider) -> None:
    quotas = Quotas(lambda request: [Quota("month", per="month", money=1)])
    one = [native(provider, type="openai")]
    async with gateway_of(provider, quotas, providers=one) as gateway:
        assert (await ask(gateway, HELLO | {"model": "gpt-4o-mini"})).status == 200
        assert (await ask(gateway, HELLO | {"model": "gpt-nobody-knows"})).status == 500
        (found,) = await gateway.quotas.left()
        assert 0 < found.spent < 1


def test_providers_of_a_type_that_may_have_no_price_are_named_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    own = Provider("claude", "http://127.0.0.1:9/v1", dialect="anthropic")
    typed = Provider("typed", "http://127.0.0.1:9/v1", dialect="anthropic", type="anthropic")
    Gateway(providers=[own, typed], quotas=always(ONE))
    assert "claude" not in caplog.text
    Gateway(providers=[own, typed], quotas=always(ONE, price=None))
    assert "claude" in caplog.text and "type=" in caplog.text and "typed" not in caplog.text


def test_self_hosted_providers_without_a_price_are_named_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    given = [providers.ollama(), providers.openai(api_key="sk-canary")]
    Gateway(providers=given, quotas=always(ONE))
    assert "ollama" not in caplog.text
    Gateway(providers=given, quotas=always(ONE, price=None))
    assert "ollama" in caplog.text and "price" in caplog.text and "openai" not in caplog.text


# What is refused when it is made...


async def no_rules(request: Any) -> list[Quota]:
    return []


REFUSED: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "rules": ({"rules": [ONE]}, TypeError),
    "counters": ({"counters": "redis://"}, TypeError),
    "zone": ({"zone": "Mars/Olympus"}, ValueError),
    "week_starts": ({"week_starts": "someday"}, ValueError),
    "weights": ({"weights": {"thoughts": 1}}, ValueError),
    "weights ": ({"weights": {"cached": -1}}, ValueError),
    "weights  ": ({"weights": {"cached": "much"}}, ValueError),
    "expected_output": ({"expected_output": -1}, ValueError),
    "expected_output ": ({"expected_output": 1.5}, TypeError),
    "reserve": ({"reserve": "best"}, ValueError),
    "price": ({"price": 1}, TypeError),
    "on_unknown": ({"on_unknown": "guess"}, ValueError),
    "on_unavailable": ({"on_unavailable": "panic"}, ValueError),
    "clock": ({"clock": datetime.now}, ValueError),
    "clock ": ({"clock": datetime.now(UTC)}, TypeError),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_with_the_name_of_its_argument(case: str) -> None:
    given, kind = REFUSED[case]
    with pytest.raises(kind, match=re.escape(case.strip())):
        Quotas(**{"rules": no_rules, **given})


def test_only_quotas_are_taken_for_quotas() -> None:
    with pytest.raises(TypeError, match="quotas"):
        Gateway(providers=[Provider("fake", "http://127.0.0.1:9/v1")], quotas=no_rules)  # type: ignore[arg-type]


class Shared(MemoryStore):
    shared = True


def test_counters_of_one_process_are_refused_beside_a_store_that_several_share() -> None:
    nobody = [Provider("fake", "http://127.0.0.1:9/v1")]
    store: Any
    for store in (Shared(), Encrypted(Shared(), b"k" * 32)):
        with pytest.raises(ValueError, match="counters"):
            Gateway(providers=nobody, quotas=Quotas(no_rules), store=store)
        Gateway(providers=nobody, quotas=Quotas(no_rules, counters=MemoryCounters(per_process=True)), store=store)
    for store in (MemoryStore(), NoStore(), Encrypted(MemoryStore(), b"k" * 32)):
        Gateway(providers=nobody, quotas=Quotas(no_rules), store=store)
