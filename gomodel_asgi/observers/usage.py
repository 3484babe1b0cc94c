"""What upstreams have used, and what that costs by the price list of `genai-prices`. No network call is ever made.

The library is imported when the first price is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from functools import lru_cache
from importlib import import_module
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from ..extras import missing


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens of one answer.

    *input_tokens* include *cached_tokens* (read from a cache) and *cache_write_tokens* (written to one; of these
    *cache_write_1h_tokens* for an hour); *output_tokens* include *reasoning_tokens*.
    *estimated*: guessed from sizes, not reported.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        """Input and output together: neither counts what the other does."""
        return self.input_tokens + self.output_tokens


class Cost(Struct, frozen=True, kw_only=True):
    """What an answer cost, in US dollars; every part None where no price is known (see `contrib.prices`).

    *model* is the price list's name of the model. *estimated* as the usage is. *parts* are the costs of each charge, in
    the order of these, where there are several.
    """

    total: Decimal | None = None
    input: Decimal | None = None
    output: Decimal | None = None
    model: str | None = None
    estimated: bool = False
    parts: tuple[Cost, ...] = ()


class Charge(Struct, frozen=True):
    """What one attempt has used, by its *number*, and of whom: of the model that was asked for (*target_model*), or
    that the upstream says it used (*served_model*), in the tier that it says it used."""

    number: int
    provider: str
    provider_type: str | None
    target_model: str | None
    served_model: str | None
    service_tier: str | None
    usage: Usage


COUNTS = tuple(name for name in Usage.__struct_fields__ if name != "estimated")


def total(charges: Iterable[Charge]) -> Usage | None:
    """Returns the sum of *charges*; None where there is none."""
    found = [charge.usage for charge in charges]
    if len(found) < 2:
        return found[0] if found else None
    counts = {name: sum(getattr(usage, name) for usage in found) for name in COUNTS}
    return Usage(**counts, estimated=any(usage.estimated for usage in found))


# Prices...


PRICED_AS: Mapping[str, str] = MappingProxyType({"gemini": "google", "xai": "x-ai", "bedrock": "aws"})
"""Our provider types under the price list's names, where these differ."""

Price = Callable[[str, str, Usage], Decimal | None]
"""A host's own: what usage at a model of a provider type costs in US dollars; None where it does not know."""


@lru_cache(maxsize=1)
def price_list() -> Any:
    """Returns the library, with its list read: that takes most of a second, so do it beside the event loop.

    :raises ImportError: it is not installed.
    """
    try:
        library: Any = import_module("genai_prices")
    except ImportError as error:
        raise missing("prices", "Prices need genai-prices") from error
    with suppress(LookupError):
        library.calc_price(library.Usage(input_tokens=1), "no such model")  # which it reads with the first price
    return library


def price(provider: str, model: str, usage: Usage, tier: str | None = None) -> Cost | None:
    """Returns the cost of *usage* by the price list, or None where it does not know this provider's model.

    Cached and cache-written tokens are a part of the input and have prices of their own; reasoning is a part of the
    output and costs what output costs, unless the list says otherwise.

    :raises ImportError: the extra `prices` is not installed.
    """
    context = None if tier is None else {"service_tier": tier}
    library = price_list()
    try:
        found = library.calc_price(_counted(library, usage), model, provider_id=provider, price_context=context)
    except (LookupError, ValueError):  # unknown, or counts that contradict each other
        return None
    return Cost(
        total=found.total_price,
        input=found.input_price,
        output=found.output_price,
        model=f"{found.provider.id}:{found.model.id}",
        estimated=usage.estimated,
    )


def price_of(charge: Charge, providers: Mapping[str, str] = PRICED_AS) -> Cost:
    """Returns what *charge* cost by the price list: at the model that served, else at the one that was asked for; of
    what it does not know every part is None. *providers* are names or types of ours under those of the list.

    :raises ImportError: the extra `prices` is not installed.
    """
    kind = charge.provider_type or ""
    provider = providers.get(charge.provider) or providers.get(kind) or kind
    for model in (charge.served_model, charge.target_model):
        if model and (found := price(provider, model, charge.usage, charge.service_tier)) is not None:
            return found
    return Cost(estimated=charge.usage.estimated)


def cost_of(charge: Charge, price: Price | None = None) -> Decimal | None:
    """Returns what *charge* cost in US dollars, None where that is not known: by the host's *price*, asked for the
    model that served, then for the one that was asked for; without it by the price list.

    :raises ImportError: there is no *price*, and the extra `prices` is not installed.
    """
    if price is None:
        return price_of(charge).total
    for model in (charge.served_model, charge.target_model):
        if model and (found := price(charge.provider_type or "", model, charge.usage)) is not None:
            return found
    return None


def _counted(library: Any, usage: Usage) -> Any:
    return library.Usage(
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cached_tokens or None,
        cache_write_tokens=usage.cache_write_tokens or None,
        cache_write_1h_tokens=usage.cache_write_1h_tokens or None,
        output_tokens=usage.output_tokens,
        output_reasoning_tokens=usage.reasoning_tokens or None,
    )
