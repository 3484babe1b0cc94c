"""What a request may use, before it is sent: its input by its bytes, its output by what it asks for, at the dearest
model that may answer it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
from msgspec import Struct

from ..errors import InvalidRequest
from ..exchange.job import Job, provider_of
from ..observers import Charge, Usage
from ..providers.provider import Provider, dialect_of
from ..routing.target import Target
from ..settings import LITTLE
from ..threads import paced
from ..wire.json_scan import parsed, run
from ..wire.usage import estimated

CAP = "max_output_tokens"
MOST_MEANT = 10**9
"""Tokens that a request can mean."""
LONGEST = 64
"""Bytes of a number or a name that can be meant."""
KINDS = ("input", "cached", "cache_write", "output", "reasoning")


class Estimate(Struct, frozen=True):
    """What one Target may use: of which model, and *usage* of it. *firm* is the part of it that is not a guess."""

    provider: Provider
    model: str | None
    tier: str | None
    usage: Usage
    firm: Usage

    @property
    def type(self) -> str:
        """Returns the provider's type, by which prices are listed; its name where it has none."""
        return self.provider.type or self.provider.name

    def charge(self, usage: Usage) -> Charge:
        """Returns what a price is asked for: *usage* of this model in this tier."""
        return Charge(0, self.provider.name, self.type, self.model, None, self.tier, usage)


async def estimates_of(job: Job, target: Target, expected: int | None) -> list[Estimate]:
    """Returns what *job* may use of each Target of the chain. Where the request does not bound its output, or allows
    more, *expected* tokens of it count; None: the most that it can have.

    :raises InvalidRequest: that is not known.
    :raises LookupError: the policy named an unknown provider.
    """
    size = await input_tokens(job)
    return [_estimate(job, one, size, expected) for one in target.chain()]


async def input_tokens(job: Job) -> int:
    """Returns about how many tokens *job* sends, the earlier conversation included as far as it is known here."""
    size = await _tokens_of(job.request.envelope.raw)
    before = b"" if job.continuation is None else job.continuation.earlier_json()
    return size + (await _tokens_of(before) if before else 0)


async def _tokens_of(body: bytes) -> int:
    return run(estimated(body)) if len(body) <= LITTLE else await paced(estimated(body))


def _estimate(job: Job, target: Target, size: int, expected: int | None) -> Estimate:
    """Returns what *job* may use of one Target.

    :raises InvalidRequest: its output has no bound, and one is needed.
    """
    provider, model = provider_of(target, job), target.model if target.model is not None else job.request.model
    value = _member(job, target, CAP)
    cap = _tokens(value)
    if expected is None:
        output = most_output(provider, model) if value is None else cap
        if output is None:
            message = f"Give '{CAP}', a positive number: what this request may cost has to be known before it is sent."
            raise InvalidRequest(message, param=CAP, code="missing_required_parameter")
        most = output
    else:
        output, most = expected if cap is None else min(cap, expected), 0
    tier = _member(job, target, "service_tier")
    return Estimate(
        provider, model, tier if isinstance(tier, str) else None,
        Usage(input_tokens=size, output_tokens=output, estimated=True),
        Usage(input_tokens=size, output_tokens=most, estimated=True),
    )  # fmt: skip


def _tokens(value: Any) -> int | None:
    """Returns the number of tokens that *value* is, as lenient readers see it; None where it is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return min(value, MOST_MEANT) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _member(job: Job, target: Target, name: str) -> Any:
    """Returns what the policy says of *name*, else the client; None where neither does. Bytes are what nobody can
    mean."""
    if target.params is not None and name in target.params:
        return target.params[name]
    raw = bytes(job.request.envelope.members.get(name, b"null"))
    try:
        return parsed(raw) if len(raw) < LONGEST else raw
    except (msgspec.DecodeError, UnicodeDecodeError):
        return raw


def most_output(provider: Provider, model: str | None) -> int | None:
    """Returns how many tokens *model* of *provider* is asked for where a request does not say, if that is known."""
    if provider.native:
        return None
    known = getattr(dialect_of(provider), "most_output", None)
    return None if known is None else known(model or "")


# What usage counts.


class Weights:
    """How much a token of each kind counts in quotas of tokens: 1 where *given* does not say.

    :raises ValueError: an unknown kind, or a weight that is negative or no number.
    """

    def __init__(self, given: Mapping[str, float | str | Decimal] | None) -> None:
        self.of: dict[str, Fraction] | None = None
        if given is None:
            return
        if unknown := set(given) - set(KINDS):
            raise ValueError(f"weights: {sorted(unknown)} are no kinds of tokens; there are {', '.join(KINDS)}.")
        try:
            found = {kind: Fraction(str(weight)) for kind, weight in given.items()}
        except (ValueError, ZeroDivisionError):
            raise ValueError("weights: give numbers.") from None
        if any(weight < 0 for weight in found.values()):
            raise ValueError("weights: give none below 0.")
        self.of = {kind: found.get(kind, Fraction(1)) for kind in KINDS}

    def tokens(self, usage: Usage) -> int:
        """Returns what *usage* counts, rounded up."""
        if self.of is None:
            return usage.total_tokens
        return math.ceil(sum(self.of[kind] * count for kind, count in _kinds(usage)))


def _kinds(usage: Usage) -> Iterator[tuple[str, int]]:
    """Yields the tokens of *usage*, each once."""
    yield "input", max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens)
    yield "cached", usage.cached_tokens
    yield "cache_write", usage.cache_write_tokens
    yield "output", max(0, usage.output_tokens - usage.reasoning_tokens)
    yield "reasoning", usage.reasoning_tokens
