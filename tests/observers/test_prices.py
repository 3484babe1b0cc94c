"""Cost by the price list: each kind of token at its own price, and nothing invented."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import genai_prices
import pytest

from gomodel_asgi.contrib.prices import Priced, price
from gomodel_asgi.observers import (
    AsyncObserver,
    Charge,
    Completed,
    Context,
    Cost,
    Disconnected,
    Ended,
    Record,
    RequestStarted,
    Usage,
)
from gomodel_asgi.observers.usage import cost_of as charge_cost, price_list, total
from gomodel_asgi.testing import FakeProvider

from ..support.driving import ask
from ..support.seen import Seen, gateway_of, native

MILLION = Decimal(1_000_000)


def listed(provider: str, model: str) -> dict[str, Decimal]:
    """The list's prices for a million tokens, below the first tier."""
    found = genai_prices.calc_price(genai_prices.Usage(input_tokens=1), model, provider_id=provider).model_price
    names = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok")
    values = {name: getattr(found, name, None) for name in names}
    return {name: getattr(value, "base", value) for name, value in values.items() if value is not None}


def ended(usage: Usage | None, kind: str = "openai", model: str | None = "gpt-4o", served: str | None = None) -> Ended:
    context = Context(1, "r", provider="mine", provider_type=kind, target_model=model, served_model=served)
    return Completed(context, status=200, outcome="completed", usage=usage)


def cost_of(record: Ended, **options: dict[str, str]) -> Cost | None:
    seen = Seen()
    Priced(seen, **options)(record)
    return seen.ended.cost


def test_cached_tokens_are_cheaper_and_not_counted_twice() -> None:
    prices = listed("openai", "gpt-4o")
    cost = cost_of(ended(Usage(input_tokens=1000, cached_tokens=400, output_tokens=100)))

    assert cost is not None
    assert cost.input == (600 * prices["input_mtok"] + 400 * prices["cache_read_mtok"]) / MILLION
    assert cost.output == 100 * prices["output_mtok"] / MILLION
    assert cost.total == cost.input + cost.output
    assert cost.model == "openai:gpt-4o"


def test_cache_writes_have_prices_of_their_own_by_how_long_they_last() -> None:
    prices = listed("anthropic", "claude-sonnet-4-5")
    usage = Usage(
        input_tokens=1000, cached_tokens=300, cache_write_tokens=200, cache_write_1h_tokens=50, output_tokens=10
    )
    cost = cost_of(ended(usage, "anthropic", "claude-sonnet-4-5"))

    assert cost is not None
    assert (
        cost.input
        == (
            500 * prices["input_mtok"]
            + 300 * prices["cache_read_mtok"]
            + 150 * prices["cache_write_mtok"]
            + 50 * prices["cache_write_1h_mtok"]
        )
        / MILLION
    )


def test_reasoning_is_paid_once() -> None:
    prices = listed("openai", "gpt-5")
    cost = cost_of(ended(Usage(output_tokens=100, reasoning_tokens=80), model="gpt-5"))

    assert cost is not None and cost.output == 100 * prices["output_mtok"] / MILLION


@pytest.mark.parametrize(
    ("provider_type", "model"),
    [("openai", "no-such-model"), ("vllm", "gpt-4o"), ("fake", "gpt-4o"), ("openai", None)],
    ids=["unknown model", "a known model on a server of one's own", "unknown provider", "no model"],
)
def test_what_the_list_does_not_know_is_unknown(provider_type: str, model: str | None) -> None:
    assert cost_of(ended(Usage(input_tokens=5), provider_type, model)) == Cost()


def test_counts_that_contradict_each_other_have_no_price() -> None:
    assert cost_of(ended(Usage(input_tokens=10, cached_tokens=400))) == Cost()


def test_what_used_nothing_costs_nothing() -> None:
    assert cost_of(ended(None)) is None


def test_an_estimate_stays_one() -> None:
    cost = cost_of(ended(Usage(input_tokens=10, estimated=True)))

    assert cost is not None and cost.estimated and cost.total


def test_the_model_that_served_counts() -> None:
    served = cost_of(ended(Usage(input_tokens=10), model="gpt-4o", served="gpt-4o-mini-2024-07-18"))

    assert served is not None and served.model == "openai:gpt-4o-mini"


def test_an_unknown_name_of_the_served_model_falls_back_on_the_one_asked_for() -> None:
    served = cost_of(ended(Usage(input_tokens=10), model="gpt-4o", served="internal-17"))

    assert served is not None and served.model == "openai:gpt-4o"


def test_a_provider_can_be_priced_as_another() -> None:
    known = cost_of(ended(Usage(input_tokens=10), "vllm", "gpt-4o"), providers={"mine": "openai"})

    assert known is not None and known.total


def test_a_service_tier_without_a_price_of_its_own_costs_the_standard_one() -> None:
    usage = Usage(input_tokens=1000)

    assert price("openai", "gpt-4o", usage, "default") == price("openai", "gpt-4o", usage)


def test_a_disconnect_is_priced_and_other_records_pass() -> None:
    seen, context = Seen(), Context(1, "r", provider="openai", provider_type="openai", target_model="gpt-4o")
    started: Record = RequestStarted(context)
    priced = Priced(seen)
    priced(started)
    priced(Disconnected(context, status=200, usage=Usage(input_tokens=10), reason="gone"))

    assert seen.records[0] is started
    assert seen.ended.cost is not None and seen.ended.cost.total


def charge(model: str, usage: Usage, kind: str = "openai", served: str | None = None, number: int = 1) -> Charge:
    return Charge(number, "mine", kind, model, served, None, usage)


def charged(*charges: Charge) -> Ended:
    context = Context(1, "r", provider="mine", provider_type="openai", target_model="gpt-4o-mini")
    return Completed(context, status=200, outcome="completed", usage=total(charges), charges=charges)


def test_each_attempt_costs_what_its_own_model_does() -> None:
    large, small = Usage(input_tokens=1000), Usage(input_tokens=500, output_tokens=20)
    cost = cost_of(charged(charge("gpt-4o", large), charge("gpt-4o-mini", small, number=2)))
    apart = [price("openai", "gpt-4o", large), price("openai", "gpt-4o-mini", small)]

    assert cost is not None and list(cost.parts) == apart
    assert cost.total == sum(one.total for one in apart if one is not None and one.total is not None)
    assert cost.model is None and cost.input is not None and cost.output is not None


def test_one_attempt_of_unknown_cost_makes_the_sum_unknown() -> None:
    known, unknown = charge("gpt-4o", Usage(input_tokens=1000)), charge("mystery", Usage(input_tokens=1))
    cost = cost_of(charged(known, unknown))

    assert cost is not None and cost.total is None
    assert [one.total is None for one in cost.parts] == [False, True]


def test_a_price_of_the_hosts_own_is_asked_for_the_model_that_served_first() -> None:
    asked: list[tuple[str, str]] = []

    def own(kind: str, model: str, usage: Usage) -> Decimal | None:
        asked.append((kind, model))
        return Decimal(usage.input_tokens) if model == "asked-for" else None

    found = charge_cost(charge("asked-for", Usage(input_tokens=3), kind="vllm", served="served-by"), own)

    assert (found, asked) == (Decimal(3), [("vllm", "served-by"), ("vllm", "asked-for")])
    assert charge_cost(charge("other", Usage(input_tokens=3), kind="vllm"), own) is None


def test_without_one_the_price_list_says_what_an_attempt_cost() -> None:
    usage = Usage(input_tokens=1000)
    listed_price = price("openai", "gpt-4o", usage)

    assert listed_price is not None and charge_cost(charge("gpt-4o", usage)) == listed_price.total
    assert charge_cost(charge("mystery", usage)) is None


def test_the_price_list_is_loaded_when_the_first_price_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import sys, gomodel_asgi.observers.usage; sys.exit('genai_prices' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0

    monkeypatch.setitem(sys.modules, "genai_prices", None)
    price_list.cache_clear()
    with pytest.raises(ImportError, match=r"Prices need genai-prices: run `.* install .*"):
        charge_cost(charge("gpt-4o", Usage(input_tokens=1)))
    assert charge_cost(charge("gpt-4o", Usage(input_tokens=1)), lambda *given: Decimal(0)) == 0


async def test_the_cost_stands_in_the_completed_record(provider: FakeProvider) -> None:
    seen = Seen()
    openai = native(provider, "openai")
    async with gateway_of(provider, Priced(seen), providers=[openai]) as gateway:
        await ask(gateway, {"model": "gpt-4o", "input": "Hello"})

    assert seen.ended.usage is not None
    assert seen.ended.cost == price("openai", "gpt-4o", seen.ended.usage)
    assert seen.ended.cost is not None and seen.ended.cost.total


async def test_closing_closes_what_it_wraps() -> None:
    got: list[Record] = []

    async def sink(record: Record) -> None:
        got.append(record)

    priced = Priced(AsyncObserver(sink))
    priced(ended(Usage(input_tokens=10)))
    await priced.aclose()

    assert len(got) == 1


def test_nothing_is_asked_of_the_network() -> None:
    """In a process that may not open a socket, a price is still found."""
    script = """
import sys
def refuse(event, arguments):
    if event.startswith("socket."):
        raise SystemExit(f"network: {event}")
sys.addaudithook(refuse)
from gomodel_asgi.contrib.prices import price
from gomodel_asgi.observers import Usage
print(price("openai", "gpt-4o", Usage(input_tokens=1_000_000)).total > 0)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)

    assert (ran.returncode, ran.stdout.strip()) == (0, "True"), ran.stderr
