"""What stands on each page."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from gomodel_asgi import Denied, Provider, RoutingRequest, Target, tools
from gomodel_asgi.console import View
from gomodel_asgi.ledger import JsonLines, Ledger, SqlLedger
from gomodel_asgi.observers import BreakerChanged, Context, ToolCalled, Usage
from gomodel_asgi.testing import FakeProvider, Status

from ..support.console import HTML, JSON, data, look, send, tenant_of, viewed
from ..support.gateways import Make
from ..support.ledgers import entries, row, sqlite_engine


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # SQLAlchemy needs it


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncGenerator[AsyncEngine, None]:
    made = sqlite_engine(tmp_path / "ledger.sqlite3")
    yield made
    await made.dispose()


def price(type: str, model: str, usage: Usage) -> Decimal | None:
    """A thousandth of a dollar a token; of `odd` nobody knows."""
    return None if model.startswith("odd") else Decimal(usage.total_tokens) / 1000


TODAY = datetime.now(UTC)


# Now...


async def test_the_figures_are_those_of_what_has_happened(provider: FakeProvider, make: Make) -> None:
    gateway = make(provider, public=True)
    console = viewed(gateway)
    figures = {one["key"]: one for one in (await data(console))["figures"]}
    assert {key: one["value"] for key, one in figures.items()} == {
        "requests": 0, "errors": None, "p50": None, "p95": None, "tokens": 0, "in_flight": 0, "today": None,
    }  # fmt: skip
    provider.fail_next(Status(400))
    used = 0
    for _ in range(4):
        answer = (await send(gateway)).json()
        used += answer["usage"]["total_tokens"] if "usage" in answer else 0
    found = await data(console)
    figures = {one["key"]: one["value"] for one in found["figures"]}
    assert (figures["requests"], figures["errors"], figures["tokens"], figures["in_flight"]) == (4, 0.25, used, 0)
    assert 0 < figures["p50"] <= figures["p95"]
    assert found["models"] == [
        {"name": "m", "requests": 4, "failed": 1, "tokens": used, "slowest": found["models"][0]["slowest"]}
    ]
    assert [one["outcome"] for one in found["exchanges"]] == ["completed"] * 3 + ["failed"]
    assert found["worker"]["pid"] > 0 and not found["worker"]["draining"]


async def test_it_says_that_the_worker_is_draining(provider: FakeProvider, make: Make) -> None:
    gateway = make(provider)
    console = viewed(gateway)
    await gateway.drain()
    assert (await data(console))["worker"]["draining"]
    assert b"draining" in (await look(console)).content


async def test_it_remembers_the_last_500(provider: FakeProvider, make: Make) -> None:
    gateway = make(provider, public=True, policy=refuse)
    console = viewed(gateway)
    for number in range(503):
        await send(gateway, model=f"m{number}")
    found = await data(console)
    assert [one["model"] for one in found["exchanges"]] == [f"m{number}" for number in range(502, 2, -1)]
    assert {one["key"]: one["value"] for one in found["figures"]}["requests"] == 503


async def refuse(request: RoutingRequest) -> Target:
    raise Denied("Not today.")


# Costs...


async def test_what_was_spent_today_is_the_ledgers(provider: FakeProvider, make: Make, engine: AsyncEngine) -> None:
    ledger = Ledger(SqlLedger(engine), price=price)
    gateway = make(provider, public=True, tenant=tenant_of, ledger=ledger)
    mine, whole = viewed(gateway, View({"acme"})), viewed(gateway)
    answer = (await send(gateway, "acme")).json()
    await send(gateway, "globex")
    await ledger.flush()
    cost = Decimal(answer["usage"]["total_tokens"]) / 1000
    found = await data(mine)
    assert Decimal(found["today"]["cost"]) == cost
    assert Decimal(found["exchanges"][0]["cost"]) == cost
    assert Decimal((await data(whole))["today"]["cost"]) > cost


async def filled(engine: AsyncEngine) -> Ledger:
    """Costs of three tenants on two days."""
    ledger = Ledger(SqlLedger(engine))
    await ledger.sink.write(
        entries(
            *(row(TODAY, "acme", "0.5", provider="a", model_target=f"m{number}") for number in range(3)),
            row(TODAY, "globex", "0.25", outcome="failed"),
            row(TODAY, None, "4", labels={"team": "b", "app": "x"}),
            row(TODAY - timedelta(days=1), "globex", None),
        )
    )
    return ledger


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("day", [TODAY.date().isoformat(), (TODAY - timedelta(days=1)).date().isoformat()]),
        ("tenant", [None, "acme", "globex"]),
        ("label", ["app=x, team=b", "team=a"]),
        ("provider", ["fake", "a"]),
        ("model", ["gpt-5"]),
    ],
)
async def test_costs_are_summed_by_what_is_asked_for(
    provider: FakeProvider, make: Make, engine: AsyncEngine, by: str, names: list[Any]
) -> None:
    console = viewed(make(provider, ledger=await filled(engine)))
    found = await data(console, "/costs", query=f"by={by}")
    assert {one["name"] for one in found["rows"]} >= set(names)
    assert Decimal(found["total"]["cost"]) == Decimal("5.75") and found["total"]["unpriced"] == 1
    page = (await look(console, "/costs", query=f"by={by}")).content.decode()
    assert all(name is None or name in page for name in names)


async def test_costs_are_of_the_days_and_the_tenant_that_are_asked_for(
    provider: FakeProvider, make: Make, engine: AsyncEngine
) -> None:
    console = viewed(make(provider, ledger=await filled(engine)))
    yesterday = (TODAY - timedelta(days=1)).date().isoformat()
    found = await data(console, "/costs", query=f"by=tenant&since={yesterday}&until={yesterday}")
    assert [(one["name"], one["requests"], one["unpriced"]) for one in found["rows"]] == [("globex", 1, 1)]
    found = await data(console, "/costs", query="by=tenant&tenant=acme")
    assert [one["name"] for one in found["rows"]] == ["acme"]


async def test_costs_of_another_tenant_are_not_shown_and_not_asked_for(
    provider: FakeProvider, make: Make, engine: AsyncEngine
) -> None:
    console = viewed(make(provider, ledger=await filled(engine)), View({"globex"}))
    asked: list[str] = []

    def listener(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        if "gomodel_" in statement:
            asked.append(f"{statement} {parameters}")

    sql.event.listen(engine.sync_engine, "before_cursor_execute", listener)
    for query, names in (("by=tenant", ["globex"]), ("by=tenant&tenant=acme", []), ("tenant=globex", None)):
        asked.clear()
        found = await data(console, "/costs", query=query)
        assert names is None or [one["name"] for one in found["rows"]] == names
        [only] = asked  # one query a page, with the filter in it
        assert "tenant" in only.partition("WHERE")[2] and "acme" not in only


@pytest.mark.parametrize(
    "query",
    ["by=nothing", "since=x", "until=2026-13-01", "since=2026-02-01&until=2026-01-01", "since=2020-01-01"]
    + ["until=9999-12-31", "since=9999-12-31", "since=9999-12-31&until=9999-12-31", "until=0001-01-01&by=x"],
)
async def test_what_cannot_be_summed_is_said(
    provider: FakeProvider, make: Make, engine: AsyncEngine, query: str
) -> None:
    console = viewed(make(provider, ledger=await filled(engine)))
    found = await look(console, "/costs", query=query, accept=JSON)
    assert found.status == 400 and "at most a year" in found.json()["note"] and not found.json()["rows"]
    assert (await look(console, "/costs", query=query)).status == 400


async def test_without_a_ledger_costs_say_what_to_do(provider: FakeProvider, make: Make) -> None:
    console = viewed(make(provider))
    assert "Ledger(SqlLedger(engine))" in (await data(console, "/costs"))["note"]
    assert b"Ledger(SqlLedger(engine))" in (await look(console, "/costs")).content


async def test_costs_of_a_file_are_read_where_it_is_small_and_say_what_to_do_where_not(
    provider: FakeProvider, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(JsonLines(tmp_path / "ledger.jsonl"))
    await ledger.sink.write(entries(row(TODAY, "acme", "0.5")))
    console = viewed(make(provider, ledger=ledger))
    assert [Decimal(one["cost"]) for one in (await data(console, "/costs"))["rows"]] == [Decimal("0.5")]
    assert (await data(console))["today"]["cost"] is None  # which would read the file at each look
    ledger.sink.path.unlink()  # type: ignore[attr-defined]
    ledger.sink.path.mkdir()  # type: ignore[attr-defined]
    note = (await data(console, "/costs"))["note"]
    assert "cannot be read" in note and "SqlLedger" in note


async def test_a_database_that_is_away_fails_no_page(provider: FakeProvider, make: Make, tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'empty.sqlite3'}")
    console = viewed(make(provider, ledger=Ledger(SqlLedger(engine))))
    assert "cannot be read" in (await data(console, "/costs"))["note"]
    found = await data(console)
    assert found["today"]["cost"] is None and "cannot be read" in found["today"]["note"]
    for accept in (HTML, JSON):
        away = await look(console, "/requests/01890000-0000-7000-8000-000000000000", accept=accept)
        assert away.status == 503 and b"cannot be read" in away.content
    await engine.dispose()


# One request...


async def test_each_attempt_says_why_it_was_made(provider: FakeProvider, make: Make, engine: AsyncEngine) -> None:
    async def route(request: RoutingRequest) -> Target:
        return Target("first", fallbacks=[Target("second")])

    with FakeProvider(name="second").run_in_thread() as second:
        houses = [Provider("first", provider.base_url), Provider("second", second.base_url)]
        ledger = Ledger(SqlLedger(engine), price=price)
        gateway = make(*houses, policy=route, public=True, ledger=ledger)
        console, other = viewed(gateway), viewed(gateway, View({"nobody"}))
        for _ in range(2):
            provider.fail_next(Status(503))
        assert (await send(gateway)).status == 200
    [one] = (await data(console))["exchanges"]
    remembered = await data(console, f"/requests/{one['id']}")
    why = [attempt["why"] for attempt in remembered["attempts"]]
    assert why[0] == "What the policy named."
    assert why[1].startswith("The same again, since attempt 1 failed: ")
    assert why[-1].startswith("Fallback, since first did not answer: ")
    assert (remembered["from"], remembered["exchange"]["fallbacks"]) == ("memory", ["second"])
    await ledger.flush()
    fresh = viewed(gateway)  # which has seen nothing
    written = await data(fresh, f"/requests/{one['id']}")
    assert written["from"] == "ledger"
    same = ("number", "provider", "model", "kind", "why", "status", "error", "usage", "cost", "outcome")
    for ours, theirs in zip(remembered["attempts"], written["attempts"], strict=True):
        assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}
    for name in ("id", "model", "provider", "outcome", "status", "cost", "usage", "attempts", "request_id"):
        assert remembered["exchange"][name] == written["exchange"][name], name
    for accept in (HTML, JSON):
        assert (await look(fresh, f"/requests/{one['id']}", accept=accept)).status == 200
        assert (await look(other, f"/requests/{one['id']}", accept=accept)).status == 404


async def test_a_row_of_another_tenant_is_not_there(provider: FakeProvider, make: Make, engine: AsyncEngine) -> None:
    ledger = Ledger(SqlLedger(engine))
    theirs, nobodys = row(TODAY, "globex"), row(TODAY, None)
    await ledger.sink.write(entries(theirs, nobodys))
    gateway = make(provider, ledger=ledger)
    for view, expected in (
        (View(View.ALL), [200, 200]),
        (View({"globex"}), [200, 404]),
        (View({None}), [404, 200]),
        (View({"acme"}), [404, 404]),
        (View(set()), [404, 404]),
    ):
        console = viewed(gateway, view)
        assert [(await look(console, f"/requests/{one.id}")).status for one in (theirs, nobodys)] == expected


# Providers...


async def test_providers_show_state_and_what_has_happened_to_who_sees_everybody(
    provider: FakeProvider, make: Make
) -> None:
    gateway = make(provider, public=True)
    whole, part = viewed(gateway), viewed(gateway, View({"acme"}))
    await send(gateway, model="secret-model")
    gateway.setup.observers.notify(BreakerChanged.of("fake", "secret-model", "closed", "open"))
    found = await data(whole, "/providers")
    [one] = found["providers"]
    assert (one["name"], one["state"], one["requests"], one["available"]) == ("fake", "closed", 1, True)
    assert [breaker["model"] for breaker in found["breakers"]] == ["secret-model"]
    assert [(event["kind"], event["text"]) for event in found["events"]] == [("breaker", "closed → open")]
    limited = await look(part, "/providers", accept=JSON)
    assert b"secret-model" not in limited.content and limited.json()["providers"][0]["state"] == "closed"
    assert "requests" not in limited.json()["providers"][0] and limited.json()["events"] == []


async def test_a_breaker_that_opens_is_told_though_the_gateway_had_no_observers(
    provider: FakeProvider, make: Make
) -> None:
    gateway = make(provider, public=True)
    await send(gateway)  # the breaker is older than the console
    console = viewed(gateway)
    for _ in range(40):
        provider.fail_next(Status(503))
    for _ in range(30):
        await send(gateway)
    provider.clear()
    found = await data(console, "/providers")
    assert "closed → open" in [event["text"] for event in found["events"]]
    assert [breaker["state"] for breaker in found["breakers"]] == ["open"]
    assert found["breakers"][0]["retry_after"] > 0 and not found["providers"][0]["available"]


# Explain...


async def by_tenant(request: RoutingRequest) -> Target:
    if request.tenant == "barred":
        raise Denied("Not you.")
    return Target("fake", model="large" if request.tenant == "acme" else "small", fallbacks=[Target("fake")])


async def test_the_policy_is_asked_as_the_chosen_tenant_and_nothing_is_sent(provider: FakeProvider, make: Make) -> None:
    gateway = make(provider, policy=by_tenant, public=True)
    console = viewed(gateway, View({"acme", "globex", "barred"}, explain=True))
    for tenant, model in (("acme", "large"), ("globex", "small")):
        found = await data(console, "/explain", query=f"tenant={tenant}&model=m")
        assert [one["model"] for one in found["result"]["candidates"]] == [model, "m"]
        assert (
            f'<td class="wide">{model}'.encode()
            in (await look(console, "/explain", query=f"tenant={tenant}&model=m")).content
        )
    found = await data(console, "/explain", query="tenant=barred")
    assert (found["result"]["error"]["status"], found["result"]["error"]["message"]) == (403, "Not you.")
    assert not provider.requests and not (await data(console))["exchanges"]


async def test_only_for_tenants_of_the_view_and_only_where_it_may(provider: FakeProvider, make: Make) -> None:
    gateway = make(provider, policy=by_tenant, public=True)
    console = viewed(gateway, View({"acme"}, explain=True))
    for query in ("tenant=globex", "tenant=", "model=m"):
        for accept in (HTML, JSON):
            found = await look(console, "/explain", query=query, accept=accept)
            assert found.status == 404 and b"small" not in found.content
    barred = viewed(gateway, View(View.ALL, detail=True))
    assert (await look(barred, "/explain", query="tenant=acme")).status == 404
    assert b"Explain" not in (await look(barred)).content


@pytest.mark.parametrize("body", ["[]", "{", "1", "[" * 9000, '{"a": "' + "x" * 17_000 + '"}', '{"model": 3}'])
async def test_a_body_that_means_nothing_is_said(provider: FakeProvider, make: Make, body: str) -> None:
    console = viewed(make(provider, policy=by_tenant, public=True))
    found = await look(console, "/explain", query=f"body={body}", accept=JSON)
    assert found.status == 400 and found.json()["note"]


async def test_a_policy_that_fails_says_so_without_its_own_words(provider: FakeProvider, make: Make) -> None:
    async def route(request: RoutingRequest) -> Target:
        if request.model == "unknown":
            return Target("nowhere")
        raise ValueError("a secret of the host")

    console = viewed(make(provider, policy=route, public=True))
    found = await look(console, "/explain", query="model=m", accept=JSON)
    assert found.json()["result"]["error"]["status"] == 500 and b"secret" not in found.content
    found = await look(console, "/explain", query="model=unknown", accept=JSON)
    assert found.status == 400 and "nowhere" in found.json()["note"]


# Tools...


def crm(customer: str) -> str:
    """Looks a customer up."""
    return customer


async def search(call: tools.Call) -> list[tools.Page]:
    return []


async def test_tools_show_what_is_configured_and_what_was_called(provider: FakeProvider, make: Make) -> None:
    hosted = [tools.web_search(search), tools.mcp({"crm": [crm], "far": "https://mcp.example/secret-path"})]
    gateway = make(provider, public=True, tools=hosted)
    whole, part = viewed(gateway), viewed(gateway, View({"acme"}))
    await data(part, "/tools")
    for tenant, outcome in (("acme", "completed"), ("globex", "failed"), ("globex", "timeout")):
        gateway.setup.observers.notify(
            ToolCalled(
                Context(7, "req", tenant=tenant), tool="mcp", label="crm", name="crm", seconds=0.5,
                outcome=outcome, bytes_in=10, bytes_out=20, detail=None,  # type: ignore[arg-type]
            )
        )  # fmt: skip
    found = await look(whole, "/tools", accept=JSON)
    assert [(one["tool"], one["label"], one["runs"]) for one in found.json()["configured"]] == [
        ("web_search", None, "a function"), ("mcp", "crm", "a function"), ("mcp", "far", "a server at a URL"),
    ]  # fmt: skip
    assert b"secret-path" not in found.content
    [calls] = found.json()["calls"]
    assert (calls["calls"], calls["failed"], calls["timeout"], calls["refused"], calls["mean"]) == (3, 1, 1, 0, 0.5)
    [mine] = (await data(part, "/tools"))["calls"]
    assert (mine["calls"], mine["failed"], mine["bytes_in"], mine["bytes_out"]) == (1, 0, 10, 20)
