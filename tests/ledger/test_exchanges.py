"""A row for each exchange, whichever door it came through and however it ended, with what it has used and cost."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from gomodel_asgi import Denied, Gateway, Provider, RoutingRequest, Target
from gomodel_asgi.errors import GatewayError
from gomodel_asgi.ledger import JsonLines, Ledger, Row
from gomodel_asgi.observers import Usage
from gomodel_asgi.testing import Answer, Cut, FakeProvider, Prompt, Stall, Status

from ..support.driving import Caller, ask, encoded, scope_of
from ..support.lab import ONCE
from ..support.websocket_client import connected

pytestmark = pytest.mark.anyio
HELLO = {"model": "gpt-5", "input": "Hello"}
HOUSE = "sk-canary-house-key"
START, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def price(type: str, model: str, usage: Usage) -> Decimal | None:
    """A dollar for each thousand tokens; of `odd` nobody knows."""
    return None if model.startswith("odd") else Decimal(usage.total_tokens) / 1000


class Books:
    """A gateway with a ledger, and what it has written."""

    def __init__(self, gateway: Gateway, ledger: Ledger) -> None:
        self.gateway = gateway
        self.ledger = ledger

    async def rows(self) -> list[Row]:
        assert await self.ledger.flush()
        async with aclosing(self.ledger.rows(START, END)) as found:
            return [row async for row in found]

    async def row(self) -> Row:
        """The only one."""
        (found,) = await self.rows()
        return found


@asynccontextmanager
async def books(provider: FakeProvider, path: Path, **options: Any) -> AsyncGenerator[Books, None]:
    of_ledger = {
        name: options.pop(name) for name in ("content", "audit", "spill", "on_full", "sink") if name in options
    }
    ledger = Ledger(of_ledger.pop("sink", None) or JsonLines(path / "ledger.jsonl"), price=price, **of_ledger)
    options.setdefault("providers", [Provider("fake", provider.base_url, api_key=HOUSE)])
    async with Gateway(ledger=ledger, retries=ONCE, **options) as gateway:
        yield Books(gateway, ledger)


def user(name: str) -> Any:
    return SimpleNamespace(is_authenticated=True, identity=name)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_a_row_with_all_that_is_known(provider: FakeProvider, tmp_path: Path, stream: bool) -> None:
    def policy(request: RoutingRequest) -> Target:
        return Target("fake", model="inner", labels={"team": "a"})

    def tenant(scope: Any) -> str:
        return "acme"

    async with books(provider, tmp_path, policy=policy, tenant=tenant) as own:
        before = datetime.now(UTC) - timedelta(milliseconds=1)
        caller = await ask(own.gateway, HELLO | {"stream": stream}, user=user("ada"))
        row = await own.row()
    response = caller.events()[-1]["response"] if stream else caller.json()
    assert before <= row.started <= datetime.now(UTC)
    assert (row.kind, row.operation, row.stream, row.outcome, row.status) == (
        "exchange",
        "create",
        stream,
        "completed",
        200,
    )
    assert (row.tenant, row.principal, row.labels) == ("acme", "ada", {"team": "a"})
    assert (row.model_asked, row.model_target, row.model_served) == ("gpt-5", "inner", response["model"])
    assert (row.provider, row.response_id, row.request_id) == ("fake", response["id"], caller.headers["x-request-id"])
    assert (row.input_tokens, row.output_tokens) == (
        response["usage"]["input_tokens"], response["usage"]["output_tokens"]
    )  # fmt: skip
    assert row.cost == Decimal(response["usage"]["total_tokens"]) / 1000
    assert row.price_list == "host" and not row.estimated and row.tier == response["service_tier"]
    assert row.first_event is not None and 0 < row.first_event <= row.seconds
    (attempt,) = row.attempts
    assert (attempt.provider, attempt.model, attempt.status, attempt.kind) == ("fake", "inner", 200, "first")


async def refused(provider: FakeProvider, tmp_path: Path, **request: Any) -> Row:
    def policy(request: RoutingRequest) -> Target:
        raise Denied("No.")

    async with books(provider, tmp_path, policy=policy) as own:
        await ask(own.gateway, **request)
        row = await own.row()
    assert not row.attempts and row.cost == row.input_tokens == 0 and row.price_list is None
    return row


async def test_what_the_policy_refuses_has_a_row(provider: FakeProvider, tmp_path: Path) -> None:
    row = await refused(provider, tmp_path, body=HELLO, user=user("ada"))
    assert (row.status, row.error_code, row.outcome) == (403, "permission_denied", "failed")
    assert (row.tenant, row.principal, row.model_asked) == ("ada", "ada", "gpt-5")


@pytest.mark.parametrize(
    ("status", "request_of"),
    [
        (400, {"body": b"{"}),
        (415, {"body": HELLO, "headers": []}),
        (405, {"method": "PUT"}),
        (404, {"path": "/elsewhere"}),
        (404, {"path": "/v1/responses/resp_none", "method": "GET"}),
    ],
)
async def test_what_is_refused_before_the_policy_has_a_row(
    provider: FakeProvider, tmp_path: Path, status: int, request_of: dict[str, Any]
) -> None:
    async with books(provider, tmp_path) as own:
        await ask(own.gateway, user=user("ada"), **request_of)
        row = await own.row()
    assert (row.status, row.tenant, row.outcome) == (status, "ada", "failed")


async def test_each_attempt_counts_at_its_own_model(provider: FakeProvider, tmp_path: Path) -> None:
    provider.fail_next(Cut(after_events=0))
    target = Target("one", model="large", fallbacks=(Target("two", model="small"),))
    providers = [Provider(name, provider.base_url, api_key=HOUSE) for name in ("one", "two")]
    async with books(provider, tmp_path, providers=providers, policy=lambda request: target) as own:
        caller = await ask(own.gateway, HELLO | {"stream": True})
        row = await own.row()
    used = caller.events()[-1]["response"]["usage"]["total_tokens"]
    first, second = row.attempts
    assert (first.provider, first.model, first.code, first.kind) == (
        "one",
        "large",
        "upstream_stream_truncated",
        "first",
    )
    assert (second.provider, second.model, second.code, second.kind) == ("two", "small", None, "fallback")
    assert first.usage is not None and first.usage.estimated and row.estimated
    assert row.input_tokens + row.output_tokens == first.usage.total_tokens + used
    assert row.cost == Decimal(first.usage.total_tokens + used) / 1000
    assert (row.provider, row.model_target) == ("two", "small")


async def test_a_cost_of_which_a_part_is_unknown_is_unknown(provider: FakeProvider, tmp_path: Path) -> None:
    provider.fail_next(Cut(after_events=0))
    target = Target("fake", model="odd", fallbacks=(Target("fake", model="small"),))
    async with books(provider, tmp_path, policy=lambda request: target) as own:
        await ask(own.gateway, HELLO | {"stream": True})
        row = await own.row()
        (whole,) = await own.ledger.sums(row.started.date(), row.started.date() + timedelta(days=1), by=())
        assert await own.ledger.spent(None, START) == 0
    assert row.cost is None and row.input_tokens > 0
    assert whole.unpriced == 1 and whole.cost == 0 and whole.input_tokens == row.input_tokens


async def test_a_client_that_leaves_has_a_row_with_what_was_used(provider: FakeProvider, tmp_path: Path) -> None:
    provider.fail_next(Stall(after_events=3))
    async with books(provider, tmp_path) as own:
        async with anyio.create_task_group() as tasks:
            caller = Caller(scope_of(), [encoded(HELLO | {"stream": True})])
            tasks.start_soon(caller.run, own.gateway)
            await caller.until(2)
            caller.leave()
        provider.release()
        row = await own.row()
    assert (row.outcome, row.estimated) == ("gone", True)
    assert row.input_tokens > 0 and row.cost is not None and row.cost > 0


async def test_the_hosts_own_requests_have_rows(provider: FakeProvider, tmp_path: Path) -> None:
    async with books(provider, tmp_path) as own:
        async with await own.gateway.respond(HELLO, tenant="acme") as reply:
            await reply.read()
        with pytest.raises(GatewayError):
            await own.gateway.respond(HELLO | {"stream": 5}, tenant="acme")
        one, other = await own.rows()
    assert (one.tenant, one.outcome) == ("acme", "completed") and one.input_tokens > 0
    assert (other.tenant, other.outcome) == ("acme", "failed")


async def test_each_turn_on_a_websocket_has_a_row(provider: FakeProvider, tmp_path: Path) -> None:
    async with books(provider, tmp_path) as own:
        async with connected(own.gateway, user=user("ada")) as client:
            first = await client.talk()
            await client.talk(previous_response_id=first["id"])
        one, other = sorted(await own.rows(), key=lambda row: row.started)
    assert one.response_id == first["id"] != other.response_id
    assert {one.principal, other.principal} == {"ada"} and one.operation == other.operation == "create"
    assert one.input_tokens > 0 and other.input_tokens > 0


async def ended(gateway: Gateway, path: str) -> Any:
    """The response at *path*, asked for until it is completed, as clients do."""
    with anyio.fail_after(20):
        while True:
            found = (await ask(gateway, path=path, method="GET", headers=())).json()
            if found["status"] == "completed":
                return found
            await anyio.sleep(0.01)


async def test_work_of_ours_in_the_background_is_one_request_and_its_tokens_once(
    provider: FakeProvider, tmp_path: Path
) -> None:
    providers = [Provider("fake", provider.base_url, dialect="responses", stateful=False)]
    async with books(provider, tmp_path, providers=providers) as own:
        caller = await ask(own.gateway, HELLO | {"background": True})
        id = caller.json()["id"]
        path = f"/v1/responses/{id}"
        seen = await ended(own.gateway, path)
        assert len(provider.requests) == 1
        rows = await own.rows()
    first = [row for row in rows if row.operation == "create" and row.kind == "exchange"]
    (settled,) = [row for row in rows if row.kind == "settled"]
    assert [row.response_id for row in (*first, settled)] == [id, id]
    assert first[0].outcome == "queued" and settled.outcome == "completed"
    assert sum(row.input_tokens for row in rows) == settled.input_tokens == seen["usage"]["input_tokens"]
    assert sum(row.cost or 0 for row in rows) == settled.cost


async def test_work_of_an_upstreams_in_the_background_is_settled_once_whoever_sees_its_end(
    provider: FakeProvider, tmp_path: Path
) -> None:
    async with books(provider, tmp_path) as own, books(provider, tmp_path, store=own.gateway.store) as other:
        id = (await ask(own.gateway, HELLO | {"background": True})).json()["id"]
        path = f"/v1/responses/{id}"
        seen = await ended(own.gateway, path)
        for gateway in (own.gateway, other.gateway, other.gateway):
            assert (await ask(gateway, path=path, method="GET", headers=())).status == 200
        await own.rows()
        rows = await other.rows()
    (settled,) = [row for row in rows if row.kind == "settled"]
    assert (
        settled.response_id == id and settled.provider == "fake" and settled.started.timestamp() == seen["created_at"]
    )
    assert sum(row.input_tokens for row in rows) == settled.input_tokens == seen["usage"]["input_tokens"] > 0
    assert sum(row.cost or 0 for row in rows) == settled.cost


async def test_a_background_stream_that_was_read_to_its_end_is_not_settled_again(
    provider: FakeProvider, tmp_path: Path
) -> None:
    async with books(provider, tmp_path) as own:
        caller = await ask(own.gateway, HELLO | {"background": True, "stream": True})
        response = caller.events()[-1]["response"]
        assert response["status"] == "completed"
        await ask(own.gateway, path=f"/v1/responses/{response['id']}", method="GET", headers=())
        rows = await own.rows()
    assert sum(row.input_tokens for row in rows) == response["usage"]["input_tokens"]
    assert response["background"] and [row.kind for row in rows].count("settled") == 1


async def test_a_request_is_written_down_before_its_upstream_is_asked_where_that_is_wanted(
    provider: FakeProvider, tmp_path: Path
) -> None:
    opened: list[Any] = []

    def seen(prompt: Prompt) -> Answer:
        opened.extend(json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines())
        return Answer(text="Hello")

    provider.script(seen)
    async with books(provider, tmp_path, audit=True) as own:
        assert (await ask(own.gateway, HELLO, user=user("ada"))).status == 200
        row = await own.row()
    assert [(one["outcome"], one["tenant"], one["model_asked"]) for one in opened] == [("open", "ada", "gpt-5")]
    assert (str(row.id), row.outcome) == (opened[0]["id"], "completed")


class Broken(JsonLines):
    """A sink that is away."""

    async def write(self, entries: Any) -> int:
        raise OSError("away")


async def test_what_cannot_be_written_down_before_is_refused_where_that_is_wanted(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gomodel_asgi.ledger.ledger.AUDIT", 0.05)
    sink = Broken(tmp_path / "none.jsonl")
    async with books(provider, tmp_path, sink=sink, audit=True, on_full="refuse") as own:
        caller = await ask(own.gateway, HELLO)
        assert (caller.status, caller.error["code"]) == (503, "ledger_unavailable")
        assert caller.headers["retry-after"] == "1"
    async with books(provider, tmp_path, sink=sink, audit=True) as own:
        assert (await ask(own.gateway, HELLO)).status == 200


async def test_what_costs_is_refused_while_neither_sink_nor_spill_takes_rows_where_that_is_wanted(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gomodel_asgi.ledger.writer.QUEUE", 2)
    sink = Broken(tmp_path / "none.jsonl")
    async with books(provider, tmp_path, sink=sink, on_full="refuse") as own:
        statuses = [(await ask(own.gateway, HELLO)).status for _ in range(4)]
        assert statuses == [200, 200, 503, 503]
        assert (await ask(own.gateway, path="/v1/models", method="GET", headers=())).status == 200
    async with books(provider, tmp_path, sink=sink) as own:
        assert [(await ask(own.gateway, HELLO)).status for _ in range(4)] == [200] * 4
        assert own.ledger.dropped == 2


async def test_no_secret_is_in_any_row_or_content(provider: FakeProvider, tmp_path: Path) -> None:
    provider.script(Answer(text=f"Your key is {HOUSE}, or sk-canary-tenants."))
    provider.fail_next(Status(401, code=f"bad {HOUSE}"), Status(500, code="sk-canary-tenants"))
    headers = [
        (b"content-type", b"application/json"), (b"authorization", b"Bearer sk-canary-client"),
        (b"cookie", b"session=canary"), (b"x-api-key", b"sk-canary-other"),
    ]  # fmt: skip
    tools = [{"type": "mcp", "server_label": "x", "server_url": "http://x", "authorization": "canary",
              "headers": {"x": "canary"}}]  # fmt: skip

    def policy(request: RoutingRequest) -> Target:
        return Target("fake", headers={"x-key": "sk-canary-tenants"})

    async with books(provider, tmp_path, policy=policy, content=lambda request: True, audit=True) as own:
        for _ in range(3):
            await ask(own.gateway, HELLO | {"tools": tools, "instructions": "Speak."}, headers=headers)
        await own.rows()
    written = (tmp_path / "ledger.jsonl").read_text() + (tmp_path / "ledger.jsonl.contents").read_text()
    assert written.count("\n") == 6 + 3
    assert "canary" not in written


@pytest.mark.parametrize("dialect", ["responses", "chat", "anthropic", "gemini"])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_kept_quotes_no_key_whoever_said_it(
    provider: FakeProvider, tmp_path: Path, dialect: str, stream: bool
) -> None:
    with FakeProvider(dialect=dialect).run_in_thread() as other:  # type: ignore[arg-type]
        other.script(Answer(text=f"It is {HOUSE}."))
        providers = [Provider("fake", other.base_url, dialect=dialect, api_key=HOUSE)]  # type: ignore[arg-type]
        async with books(provider, tmp_path, providers=providers, content=lambda request: True) as own:
            await ask(own.gateway, HELLO | {"input": f"Is it {HOUSE}?", "stream": stream})
            said = await own.ledger.content_of((await own.row()).id)
    assert said is not None and said[1] is not None and b"It is" in said[1]
    assert b"canary" not in said[0] + said[1]


async def test_a_name_that_no_table_could_hold_is_kept_apart_from_all_others(
    provider: FakeProvider, tmp_path: Path
) -> None:
    names = ["a\0b", "a?b", "x" * 5000, "x" * 5001, "\ud800"]
    async with books(provider, tmp_path, tenant=lambda scope: scope["name"]) as own:
        for name in names:
            await ask(own.gateway, HELLO, name=name)
        assert len({row.tenant for row in await own.rows()}) == len(names)
        spent = [await own.ledger.spent(name, START) for name in names]
    assert all(one > 0 for one in spent) and len(set(spent)) == 1


async def test_the_price_list_is_read_beside_the_event_loop(provider: FakeProvider, tmp_path: Path) -> None:
    script = (
        "import sys, threading, anyio\n"
        "from datetime import UTC, datetime\n"
        "from gomodel_asgi import Gateway, Provider\n"
        "from gomodel_asgi.ledger import JsonLines, Ledger\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('genai_prices', 'genai_prices.data'):\n"
        "            print(threading.current_thread() is threading.main_thread())\n"
        "sys.meta_path.insert(0, Watch())\n"
        "async def main():\n"
        "    ledger = Ledger(JsonLines(sys.argv[2]))\n"
        "    async with Gateway(providers=[Provider('openai', sys.argv[1])], ledger=ledger) as gateway:\n"
        "        await (await gateway.respond({'model': 'gpt-4o', 'input': 'hi'})).json()\n"
        "    first, last = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)\n"
        "    async for row in ledger.rows(first, last):\n"
        "        print(row.cost > 0, row.price_list)\n"
        "anyio.run(main)\n"
    )
    command = [sys.executable, "-c", script, provider.base_url, str(tmp_path / "ledger.jsonl")]
    done = await anyio.run_process(command, cwd=Path(__file__).parents[2])
    assert done.stdout.decode().split() == ["False", "False", "True", version("genai-prices")]
