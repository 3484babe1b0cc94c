"""What a request holds is settled once, whatever becomes of it: no hold stays, and what was used is booked."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import anyio
import pytest

from gomodel_asgi import Gateway, Provider, Retries, Target, Timeouts, tools
from gomodel_asgi.observers import Ended, Record, Usage
from gomodel_asgi.testing import Answer, Cut, FakeProvider, Scripted, Stall, Status, ToolCall

from ..support.driving import Caller, ask, encoded, scope_of
from ..support.lab import ONCE
from ..support.remembering import says
from ..support.seen import native
from ..support.spending import RATES, done, leave, left, month, price, released, settled
from ..support.websocket_client import connected

Json = dict[str, Any]

TIMEOUT = 10.0
HELLO = {"model": "m", "input": "Hello"}


def gateway_of(provider: FakeProvider, *observers: Any, **options: Any) -> Gateway:
    options.setdefault("providers", [native(provider)])
    options.setdefault("retries", ONCE)
    options.setdefault("quotas", month())
    return Gateway(observers=observers, **options)


class Booked:
    """An observer that adds up what the exchanges have used, at what it costs."""

    def __init__(self) -> None:
        self.ended: list[Ended] = []

    def __call__(self, record: Record) -> None:
        if isinstance(record, Ended):
            self.ended.append(record)

    @property
    def sums(self) -> tuple[int, int]:
        charges = [charge for ended in self.ended for charge in ended.charges]
        tokens = [(charge.usage.total_tokens, charge.served_model or charge.target_model) for charge in charges]
        return sum(count for count, _ in tokens), sum(count * RATES.get(model or "", 1) for count, model in tokens)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_books_what_the_upstream_has_reported(provider: FakeProvider, stream: bool) -> None:
    async with gateway_of(provider) as gateway:
        caller = await ask(gateway, HELLO | {"stream": stream})
        response = caller.events()[-1]["response"] if stream else caller.json()

        total = response["usage"]["total_tokens"]
        assert total > 0 and await settled(gateway) == (total, total)


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_request_may_use_is_held_until_it_has_ended(provider: FakeProvider, stream: bool) -> None:
    provider.fail_next(Stall())
    async with gateway_of(provider) as gateway, anyio.create_task_group() as group:
        body = encoded(HELLO | {"stream": stream, "max_output_tokens": 100})
        caller = Caller(scope_of(), [body])
        group.start_soon(caller.run, gateway)
        await provider.received(1)

        found = await left(gateway)
        assert (found.spent, found.held) == (0, -(-len(body) // 4) + 100)
        await released(provider, lambda: caller.complete)
        assert await settled(gateway) > (0, 0)


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
async def test_an_error_of_the_providers_books_nothing(provider: FakeProvider, status: int) -> None:
    provider.fail_next(Status(status))
    async with gateway_of(provider) as gateway:
        await ask(gateway, HELLO)
        assert await settled(gateway) == (0, 0)


async def test_a_failure_that_reports_usage_books_it(provider: FakeProvider) -> None:
    provider.script(done(7, 3, status="failed", error={"code": "server_error", "message": "It broke."}))
    async with gateway_of(provider) as gateway:
        await ask(gateway, HELLO)
        assert await settled(gateway) == (10, 10)


async def test_no_connection_books_nothing(provider: FakeProvider) -> None:
    async with gateway_of(provider, providers=[Provider("fake", "http://127.0.0.1:9/v1")]) as gateway:
        await ask(gateway, HELLO)
        assert await settled(gateway) == (0, 0)


async def test_after_a_fallback_each_attempt_is_priced_at_its_own_model(provider: FakeProvider) -> None:
    provider.script(
        done(7, 3, status="failed", model="dear", error={"code": "server_error", "message": "It broke."}),
        done(11, 5, model="cheap"),
    )
    target = Target("one", model="dear", fallbacks=(Target("two", model="cheap"),))
    providers = [native(provider, "one"), native(provider, "two")]
    async with gateway_of(provider, providers=providers, policy=lambda request: target) as gateway:
        assert (await ask(gateway, HELLO)).status == 200
        assert await settled(gateway) == (26, 10 * 10 + 16 * 2)


@pytest.mark.parametrize("fault", [Cut(before_head=True), Cut(after_bytes=10)], ids=["no head", "half a body"])
async def test_what_was_cut_books_its_input(provider: FakeProvider, fault: Cut) -> None:
    provider.fail_next(fault)
    booked = Booked()
    async with gateway_of(provider, booked) as gateway:
        await ask(gateway, HELLO)
        assert await settled(gateway) == booked.sums > (0, 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_what_timed_out_books_its_input(provider: FakeProvider, stream: bool) -> None:
    provider.fail_next(Stall())
    booked = Booked()
    late = Timeouts(unary=1.0, first_event=1.0)
    async with gateway_of(provider, booked, timeouts=late) as gateway:
        assert (await ask(gateway, HELLO | {"stream": stream})).status == 504
        assert await settled(gateway) == booked.sums > (0, 0)
        provider.release()


@pytest.mark.parametrize("after", range(10))
async def test_a_client_that_leaves_a_stream_at_any_event_has_booked_what_went_by(
    provider: FakeProvider, after: int
) -> None:
    provider.script(Scripted(Answer(text="word " * 20), (Stall(after_events=after),)))
    booked = Booked()
    async with gateway_of(provider, booked) as gateway:
        await leave(provider, gateway, after, HELLO | {"stream": True})
        assert await settled(gateway) == booked.sums > (0, 0)


async def test_a_client_that_leaves_a_unary_call_has_booked_its_input(provider: FakeProvider) -> None:
    provider.fail_next(Stall())
    booked = Booked()
    async with gateway_of(provider, booked) as gateway:
        await leave(provider, gateway, 0, HELLO)
        assert await settled(gateway) == booked.sums > (0, 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_cancelled_is_settled_all_the_same(provider: FakeProvider, stream: bool) -> None:
    provider.fail_next(Stall())
    async with gateway_of(provider) as gateway, anyio.create_task_group() as group:
        caller = Caller(scope_of(), [encoded(HELLO | {"stream": stream})])
        group.start_soon(caller.run, gateway)
        await provider.received(1)
        assert (await left(gateway)).held > 0
        group.cancel_scope.cancel()
    async with gateway:
        assert await settled(gateway) > (0, 0)
    provider.release()


async def test_a_stream_that_is_drained_books_what_went_by(provider: FakeProvider) -> None:
    provider.script(Scripted(Answer(text="word " * 20), (Stall(after_events=8),)))
    booked = Booked()
    async with gateway_of(provider, booked, timeouts=Timeouts(drain=0.01)) as gateway:
        caller = Caller(scope_of(), [encoded(HELLO | {"stream": True})])
        async with anyio.create_task_group() as group:
            group.start_soon(caller.run, gateway)
            await caller.until(2)
            await anyio.wait_all_tasks_blocked()
            await gateway.drain()
        assert await settled(gateway) == booked.sums > (0, 0)
        provider.release()


async def test_an_exception_of_the_hosts_own_code_releases_what_was_held(provider: FakeProvider) -> None:
    async def broken(reference: Any, request: Any) -> bytes:
        raise RuntimeError("no file today")

    file = {"type": "message", "role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}
    providers = [native(provider, dialect="chat")]
    async with gateway_of(provider, providers=providers, files=broken) as gateway:
        await ask(gateway, {"model": "m", "input": [file]})
        assert await settled(gateway) == (0, 0)


async def test_the_turns_of_a_websocket_are_requests_each_by_itself(provider: FakeProvider) -> None:
    async with gateway_of(provider) as gateway, connected(gateway) as client:
        first = await client.talk()
        total = first["usage"]["total_tokens"]
        assert await settled(gateway) == (total, total)
        second = await client.talk("A longer question than that.")
        total += second["usage"]["total_tokens"]
        assert await settled(gateway) == (total, total)


@pytest.mark.parametrize("dialect", ["responses", "chat"])
async def test_a_compaction_counts_whoever_makes_it(dialect: Any) -> None:
    async with FakeProvider(dialect=dialect).serve() as provider:
        if dialect == "chat":
            provider.script(says("chat", "A summary."))
        async with gateway_of(provider, providers=[native(provider, dialect=dialect)]) as gateway:
            caller = await ask(gateway, HELLO, path="/v1/responses/compact")
            total = caller.json()["usage"]["total_tokens"]
            assert caller.status == 200 and await settled(gateway) == (total, total) and total > 0


async def test_all_rounds_of_hosted_tools_are_booked(provider: FakeProvider) -> None:
    async def search(call: tools.Call) -> str:
        return "It is sunny."

    call = Answer(calls=(ToolCall("web_search", {"query": "weather"}),))
    provider.script(call, Answer(text="Sunny."))
    booked = Booked()
    providers = [native(provider, hosted_tools=())]
    async with gateway_of(provider, booked, providers=providers, tools=[tools.web_search(search)]) as gateway:
        caller = await ask(gateway, HELLO | {"tools": [{"type": "web_search"}]})
        assert caller.status == 200 and len(provider.requests) == 2
        total = caller.json()["usage"]["total_tokens"]
        assert await settled(gateway) == booked.sums == (total, total)


async def test_a_reply_to_the_hosts_own_code_is_settled_when_it_is_read_or_let_go(provider: FakeProvider) -> None:
    async with gateway_of(provider) as gateway:
        total = (await (await gateway.respond(HELLO)).json())["usage"]["total_tokens"]
        assert await settled(gateway) == (total, total)
        async with await gateway.respond(HELLO | {"stream": True}):
            assert (await left(gateway)).held > 0
        assert (await settled(gateway)) > (total, total)


async def test_what_only_looks_or_counts_reserves_nothing(provider: FakeProvider) -> None:
    async with gateway_of(provider) as gateway:
        id = (await ask(gateway, HELLO)).json()["id"]
        before = await settled(gateway)
        for path, method in [
            (f"/v1/responses/{id}", "GET"), ("/v1/models", "GET"), (f"/v1/responses/{id}/input_items", "GET"),
            ("/v1/responses/input_tokens", "POST"), (f"/v1/responses/{id}", "DELETE"),
        ]:  # fmt: skip
            caller = await ask(gateway, HELLO if method == "POST" else b"", path=path, method=method)
            assert caller.status == 200, path
        assert await settled(gateway) == before


@pytest.mark.parametrize("fails", [False, True], ids=["not known", "raises"])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_reserved_is_booked_where_the_price_cannot_be_told_any_more(
    provider: FakeProvider, caplog: pytest.LogCaptureFixture, stream: bool, fails: bool
) -> None:
    def forgets(type: str, model: str, usage: Usage) -> Decimal | None:
        if usage.estimated:
            return price(type, model, usage)
        if fails:
            raise KeyError("sk-canary-of-the-hosts")
        return None

    body = encoded(HELLO | {"stream": stream, "max_output_tokens": 100})
    async with gateway_of(provider, quotas=month(price=forgets)) as gateway:
        caller = await ask(gateway, body)
        total = (caller.events()[-1]["response"] if stream else caller.json())["usage"]["total_tokens"]
        reserved = -(-len(body) // 4) + 100
        assert await settled(gateway) == (total, reserved) and total < reserved
    lines = [record.getMessage() for record in caplog.records if record.name == "gomodel_asgi.quotas"]
    raised = "The price of a request could not be found: KeyError; what it had reserved is booked."
    unknown = "No price is known any more for what a request has used; what it had reserved is booked."
    (line,) = lines
    assert line.startswith(raised if fails else unknown)


async def test_a_price_that_is_not_known_any_more_is_nothing_where_the_host_says_so(provider: FakeProvider) -> None:
    def forgets(type: str, model: str, usage: Usage) -> Decimal | None:
        return price(type, model, usage) if usage.estimated else None

    async with gateway_of(provider, quotas=month(price=forgets, on_unknown="free")) as gateway:
        total = (await ask(gateway, HELLO)).json()["usage"]["total_tokens"]
        assert await settled(gateway) == (total, 0)


async def test_the_sum_that_holds_is_the_sum_that_is_told(provider: FakeProvider) -> None:
    booked = Booked()
    async with gateway_of(provider, booked, retries=Retries(per_target=2)) as gateway:
        for number in range(20):
            if number % 5 == 1:
                provider.fail_next(Status(503))
            elif number % 5 == 3:
                provider.fail_next(Cut(after_bytes=10))
            await ask(gateway, HELLO | {"stream": bool(number % 2)})
        assert await settled(gateway) == booked.sums
