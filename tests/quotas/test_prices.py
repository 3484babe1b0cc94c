"""What a request may cost is guessed a little too high, and what it has cost is counted exactly."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings, strategies as st

from gomodel_asgi import Provider
from gomodel_asgi.observers import Charge, Usage
from gomodel_asgi.quotas.estimate import Estimate
from gomodel_asgi.quotas.prices import Prices, micro, rounded

ONE = Provider("mine", "http://127.0.0.1:9/v1", type="openai")


def expected(usage: Usage, model: str = "gpt-4o-mini") -> Estimate:
    return Estimate(ONE, model, None, usage, usage)


@given(st.integers(0, 2**53))
def test_an_estimate_is_rounded_up_by_a_sixteenth_at_most(tokens: int) -> None:
    assert tokens <= rounded(tokens) <= tokens + tokens / 16


@given(st.decimals(0, 10**6, allow_nan=False, allow_infinity=False))
def test_money_is_rounded_up_to_millionths(dollars: Decimal) -> None:
    assert 0 <= micro(dollars) - dollars * 1_000_000 < 1


@settings(deadline=None)  # the first one imports the list
@given(st.integers(0, 100_000), st.integers(0, 100_000))
def test_the_lists_price_of_an_estimate_is_no_less_than_its_price_of_the_usage(input: int, output: int) -> None:
    usage = Usage(input_tokens=input, output_tokens=output)
    prices, one = Prices(None), expected(usage)
    exact, guess = prices.cost([one.charge(usage)]), prices.guess(one, usage, 0.0)
    assert exact is not None and guess is not None and exact <= guess <= exact * 17 / 16 + 1


def test_a_price_function_is_asked_exactly_and_each_time() -> None:
    calls: list[tuple[str, str, int]] = []

    def price(type: str, model: str, usage: Usage) -> Decimal:
        calls.append((type, model, usage.input_tokens))
        return Decimal("0.5")

    usage = Usage(input_tokens=1001)
    prices = Prices(price)
    assert [prices.guess(expected(usage), usage, 0.0) for _ in range(2)] == [500_000, 500_000]
    assert calls == [("openai", "gpt-4o-mini", 1001)] * 2


def test_one_unknown_price_makes_the_sum_unknown() -> None:
    known = Charge(1, "mine", "openai", "gpt-4o-mini", None, None, Usage(input_tokens=1))
    unknown = Charge(2, "mine", "openai", "nobody-knows", None, None, Usage(input_tokens=1))
    assert Prices(None).cost([known]) == 1
    assert Prices(None).cost([known, unknown]) is None
    assert Prices(None).cost([]) == 0


def test_without_the_extra_the_host_is_told_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from gomodel_asgi.observers.usage import price_list

    price_list.cache_clear()
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(ImportError, match="prices"):
        Prices(None).cost([Charge(1, "mine", "openai", "m", None, None, Usage(input_tokens=1))])
    price_list.cache_clear()
