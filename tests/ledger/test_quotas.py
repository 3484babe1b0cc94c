"""What the ledger says of quotas, and what both say was spent."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.ledger import JsonLines, Ledger
from gomodel_asgi.observers import Usage
from gomodel_asgi.quotas import Quota, Quotas
from gomodel_asgi.testing import Cut, FakeProvider

from ..support.driving import ask
from ..support.lab import ONCE
from ..support.ledgers import rows_of

pytestmark = pytest.mark.anyio
HELLO = {"model": "gpt-5", "input": "Hello"}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def price(type: str, model: str, usage: Usage) -> Decimal | None:
    return Decimal(usage.total_tokens) / 1000


async def test_a_request_that_a_quota_refuses_has_a_row_that_names_it(provider: FakeProvider, tmp_path: Path) -> None:
    ledger = Ledger(JsonLines(tmp_path / "ledger.jsonl"), audit=True)
    quotas = Quotas(lambda request: [Quota("few", requests=1, per="day")])
    providers = [Provider("fake", provider.base_url)]
    async with Gateway(providers=providers, ledger=ledger, quotas=quotas, tenant=lambda scope: "acme") as gateway:
        assert [(await ask(gateway, HELLO)).status for _ in range(2)] == [200, 429]
        assert await ledger.flush()
        one, other = sorted(await rows_of(ledger.sink), key=lambda row: row.started)
    assert (one.quota, other.quota, other.status, other.outcome) == (None, "few", 429, "failed")
    assert other.cost == 0 and not other.attempts


async def test_quotas_and_ledger_say_the_same_of_what_was_spent(provider: FakeProvider, tmp_path: Path) -> None:
    """By the price function of the quotas, which the ledger has where it is given none."""
    provider.fail_next(Cut(after_events=0))
    ledger = Ledger(JsonLines(tmp_path / "ledger.jsonl"))
    quotas = Quotas(lambda request: [Quota("month", money=100, per="month")], price=price)
    providers = [Provider("fake", provider.base_url)]
    async with Gateway(
        providers=providers, ledger=ledger, quotas=quotas, tenant=lambda scope: "acme", retries=ONCE
    ) as gateway:
        for number in range(5):
            await ask(gateway, HELLO | {"stream": number % 2 == 0})
        assert await ledger.flush()
        (left,) = await gateway.quotas.left(tenant="acme")
        spent = await gateway.ledger.spent("acme", datetime.now(UTC).replace(day=1, hour=0, minute=0))
    assert spent > 0 and left.spent == spent
