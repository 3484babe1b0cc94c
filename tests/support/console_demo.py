"""What the screenshots show: half an hour of a gateway that never was, the same each time."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, Self
from uuid import UUID

import pytest
from msgspec.structs import asdict

from gomodel_asgi import Provider
from gomodel_asgi.console import books, page, recorder
from gomodel_asgi.ledger.row import Daily, digest, text_of
from gomodel_asgi.ledger.tables import daily
from gomodel_asgi.observers import Usage
from gomodel_asgi.observers.records import (
    AttemptEnded,
    AttemptStarted,
    BreakerChanged,
    Completed,
    Context,
    Disconnected,
    Ended,
    FirstEvent,
    PolicyDecided,
    Record,
    RequestStarted,
)
from gomodel_asgi.observers.usage import Charge, Cost

from .console_site import Site

NOW = datetime(2026, 11, 27, 14, 32, 8, tzinfo=UTC)
PID = 4711
STEP = 10
STEPS = 180
SEED = 5
LAST_SEED = 8
"""Gives newest rows of which one was refused, one left and one answered by a fallback."""
TENANTS = ["northwind", "acme", "globex", "initech", "umbrella", "hooli"]
MODELS = {"gpt-5.2": ("openai", 2.4), "gpt-5-mini": ("openai", 0.9), "claude-sonnet-5": ("anthropic", 3.1)}
PRICES = {"gpt-5.2": 9, "gpt-5-mini": 1, "claude-sonnet-5": 11}
"""Dollars for a million tokens, about."""
PROVIDERS = {"openai": "openai-eu", "anthropic": "anthropic-eu"}
"""Each with its fallback."""


class Clock(datetime):
    """Stands still."""

    at: datetime = NOW

    @classmethod
    def now(cls, tz: Any = None) -> Self:
        return cls.fromtimestamp(Clock.at.timestamp(), tz)


def stand_still(patch: pytest.MonkeyPatch) -> None:
    """The console's modules are at `NOW`, in the process `PID`."""
    for module in (books, recorder):
        patch.setattr(module, "datetime", Clock)
    patch.setattr(f"{page.__name__}.os", SimpleNamespace(getpid=lambda: PID))


@dataclass
class Play:
    """Tells the console of exchanges: *tell* takes each record."""

    site: Site
    random: random.Random
    number: int = 0

    def tell(self, record: Record) -> None:
        self.site.gateway.setup.observers.notify(record)

    def context(self, model: str, provider: str, tenant: str) -> Context:
        self.number += 1
        row = UUID(int=self.number << 64 | 7 << 76 | 2 << 62)
        known: dict[str, Any] = {
            "request_id": f"req_{self.number:06}",
            "operation": "create",
            "tenant": tenant,
            "model": model,
        }
        where: dict[str, Any] = {
            "target_model": model,
            "served_model": f"{model}-2026-10-01",
            "provider": provider,
            "row": row,
        }
        return Context(1_000_000 + self.number, labels={"team": "support"}, provider_type=provider, **known, **where)

    def exchange(self, ends: bool = True) -> None:
        """One request and what became of it."""
        chance = self.random
        model = chance.choices(list(MODELS), [5, 9, 3])[0]
        provider, pace = MODELS[model]
        context = self.context(model, provider, chance.choices(TENANTS, [9, 7, 4, 3, 2, 1])[0])
        self.tell(RequestStarted(context, bytes=chance.randrange(400, 9000)))
        self.tell(PolicyDecided(context, seconds=0.0004, fallbacks=(PROVIDERS[provider],)))
        self.tell(AttemptStarted(context, number=1))
        if not ends:
            return
        luck, seconds = chance.random(), pace * chance.lognormvariate(0, 0.35)
        if luck < 0.012:
            return self.ended(context, 1, seconds / 5, status=429, error="rate_limit_exceeded")
        attempts = 1
        if luck < 0.05:
            self.fail(context, "upstream_timeout", 504, seconds)
            context = self.context_of(context, PROVIDERS[provider])
            self.tell(AttemptStarted(context, number=2, kind="fallback", reason="upstream_timeout", source=provider))
            attempts, seconds = 2, seconds * 1.6
        if luck > 0.985:
            self.fail(context, "server_error", 500, seconds, "The engine is currently overloaded.")
            return self.ended(context, attempts, seconds, status=502, error="server_error")
        self.tell(FirstEvent(context, seconds=seconds * 0.2))
        self.tell(AttemptEnded(context, number=attempts, status=200, error=None, detail=None, seconds=seconds * 0.2))
        self.ended(context, attempts, seconds, gone=luck > 0.975)

    def context_of(self, context: Context, provider: str) -> Context:
        return Context(**(asdict(context) | {"provider": provider}))

    def fail(self, context: Context, error: str, status: int, seconds: float, detail: str | None = None) -> None:
        self.tell(AttemptEnded(context, number=1, status=status, error=error, detail=detail, seconds=seconds * 0.6))

    def ended(
        self,
        context: Context,
        attempts: int,
        seconds: float,
        *,
        status: int = 200,
        error: str | None = None,
        gone: bool = False,
    ) -> None:
        known: dict[str, Any] = {"status": status, "error": error, "attempts": attempts, "seconds": seconds}
        if error is None:
            used = Usage(
                input_tokens=self.random.randrange(300, 4000),
                cached_tokens=self.random.randrange(0, 300),
                output_tokens=int(seconds * self.random.randrange(60, 90)),
            )
            provider, model = str(context.provider), context.target_model
            charge = Charge(attempts, provider, context.provider_type, model, context.served_model, "default", used)
            known["cost"] = Cost(
                total=Decimal((used.input_tokens + 4 * used.output_tokens) * PRICES[str(model)]).scaleb(-6) / 4
            )
            known |= {"usage": used, "charges": (charge,), "first_event": seconds * 0.2, "events": 64, "bytes": 18_000}
            known |= {"response_id": f"resp_{self.number:06}"}
        if gone:
            ended: Ended = Disconnected(context, reason="gone", **known)
        else:
            ended = Completed(context, outcome="failed" if error else "completed", **known)
        self.tell(ended)


def play(site: Site) -> None:
    """Tell the console of *site* of half an hour of exchanges, some of which are under way."""
    told, play = site.console._recorder, Play(site, random.Random(SEED))
    start = 1_000_000.0
    for step in range(STEPS + 1):
        behind = (STEPS - step) * STEP
        told.clock = lambda behind=behind: start - behind  # type: ignore[misc]
        Clock.at = NOW - timedelta(seconds=behind)
        if step == 0:
            told.since = NOW - timedelta(hours=9, minutes=14)
        busy = 22 + 9 * math.sin(step / 17) + (14 if 96 < step < 112 else 0)
        if step == STEPS:
            play.random = random.Random(LAST_SEED)
        count = max(1, int(play.random.gauss(busy, 3)))
        for number in range(count):
            Clock.at = NOW - timedelta(seconds=behind + STEP * (1 - number / count))
            play.exchange()
        if step == 104:
            play.tell(BreakerChanged.of("openai", "gpt-5.2", "closed", "open"))
        if step == 110:
            play.tell(BreakerChanged.of("openai", "gpt-5.2", "open", "closed"))
    for behind in (7, 4, 1):
        told.clock = lambda behind=behind: start - behind  # type: ignore[misc]
        Clock.at = NOW - timedelta(seconds=behind)
        play.exchange(ends=False)
    told.clock = lambda: start
    Clock.at = NOW


def days(random: random.Random) -> Iterator[Daily]:
    """What thirty days have cost."""
    for behind in range(30):
        day = NOW.date() - timedelta(days=behind)
        share = (0.45 if day.weekday() > 4 else 1.0) * (0.6 if not behind else 1.0) * (1 - behind / 75)
        for place, tenant in enumerate(TENANTS, start=1):
            for model, (provider, _) in MODELS.items():
                requests = int(share * random.gauss(5200, 500) / place)
                yield _day(day, tenant, provider, model, requests, random)


def _day(day: date, tenant: str, provider: str, model: str, requests: int, random: random.Random) -> Daily:
    tokens = requests * random.randrange(1500, 2100)
    cost = Decimal(tokens * PRICES[model]).scaleb(-6)
    labels = text_of({"team": "support"})
    key = digest(day.isoformat(), tenant, provider, model, labels).hex()
    counts: dict[str, Any] = {
        "requests": requests,
        "failed": requests // 90,
        "input_tokens": tokens,
        "output_tokens": tokens // 9,
    }
    known: dict[str, Any] = {"cached_tokens": tokens // 6, "reasoning_tokens": tokens // 30, "cost": cost}
    return Daily(key=key, day=day, tenant=tenant, provider=provider, model=model, labels=labels, **counts, **known)


async def spend(site: Site) -> None:
    """Put thirty days into the ledger of *site*."""
    async with site.engine.begin() as connection:
        await connection.execute(daily.insert(), [asdict(one) for one in days(random.Random(5))])


def providers(url: str) -> list[Provider]:
    """Those that the pages name."""
    return [Provider(name, url, api_key="sk-canary-house-key") for name in (*PROVIDERS, *PROVIDERS.values())]
