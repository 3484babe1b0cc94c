"""A request that was answered before is answered again without an upstream, in whichever form it is asked for."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openai
import pytest
from prometheus_client import CollectorRegistry

from gomodel_asgi import Gateway, Limits, Provider, Target
from gomodel_asgi.cache import ResponseCache
from gomodel_asgi.contrib.prometheus import PrometheusObserver
from gomodel_asgi.ledger import JsonLines, Ledger
from gomodel_asgi.observers import CacheChecked, Context, Ended, Warned
from gomodel_asgi.stores import MemoryStore, NoStore
from gomodel_asgi.testing import Answer, FakeProvider, Reply, Status

from ..support.driving import ask
from ..support.seen import Seen
from ..support.serving import Served
from ..support.spending import month, price, settled
from .gateways import HELLO, KEPT_NOWHERE, LOOK, SAID, always, asked, gateway_of, result


def without_ids(response: dict[str, Any]) -> dict[str, Any]:
    """What two tellings of one answer have in common."""
    output = [{**item, "id": ""} for item in response["output"]]
    return response | {"id": "", "created_at": 0, "completed_at": 0, "output": output}


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
async def test_one_entry_answers_whole_and_as_a_stream_whichever_it_was_made_of(
    upstream: FakeProvider, first: bool, second: bool
) -> None:
    upstream.script(SAID)
    body = KEPT_NOWHERE | {"tools": [LOOK]}
    async with gateway_of(upstream) as gateway:
        miss = await asked(gateway, body | {"stream": first})
        hit = await asked(gateway, body | {"stream": second})

    assert (result(miss), result(hit)) == ("miss", "hit") and len(upstream.requests) == 1
    assert "age" not in miss.headers and int(hit.headers["age"]) >= 0
    assert hit.headers["x-gomodel-provider"] == "house" and hit.headers["x-gomodel-attempts"] == "0"
    was = miss.events()[-1]["response"] if first else miss.json()
    now = hit.events()[-1]["response"] if second else hit.json()
    assert without_ids(was) == without_ids(now) and was["usage"] == now["usage"] and now["provider"] == "house"
    assert was["id"] != now["id"]
    assert not {item["id"] for item in was["output"] if "encrypted_content" not in item} & {
        item["id"] for item in now["output"] if "encrypted_content" not in item
    }


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_hits_pass_the_validation_of_openais_own_client(upstream: FakeProvider, serve: Served) -> None:
    upstream.script(SAID)
    gateway = gateway_of(upstream)
    body = KEPT_NOWHERE | {"tools": [LOOK]}
    async with openai.AsyncOpenAI(
        base_url=f"{serve(gateway)}/v1", api_key="sk", max_retries=0, _strict_response_validation=True
    ) as client:
        miss = await client.responses.create(**body)
        hit = await client.responses.create(**body)
        async with client.responses.stream(
            **{name: body[name] for name in ("model", "input", "store", "tools")}
        ) as events:
            kinds = [event.type async for event in events]
            streamed = await events.get_final_response()

    assert len(upstream.requests) == 1
    assert miss.output_text == hit.output_text == streamed.output_text == "Good day."
    assert len({miss.id, hit.id, streamed.id}) == 3
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    assert kinds.count("response.output_text.delta") == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hit_that_is_stored_is_a_turn_of_its_own_that_its_client_can_go_on_with(stream: bool) -> None:
    with FakeProvider(dialect="chat").run_in_thread() as upstream:
        upstream.script(Answer(text="It is Ada."), Answer(text="Yes."), Answer(text="Still."))
        async with gateway_of(upstream) as gateway:
            miss = await asked(gateway, HELLO, tenant="acme")
            hit = await asked(gateway, HELLO | {"stream": stream}, tenant="acme")
            assert result(hit) == "hit"
            told = hit.events()[-1]["response"] if stream else hit.json()
            for id in (miss.json()["id"], told["id"]):
                more = await asked(gateway, {"model": "m", "input": "Sure?", "previous_response_id": id}, tenant="acme")
                assert more.status == 200 and result(more) == "bypass"
            found = await ask(
                gateway, method="GET", path=f"/v1/responses/{told['id']}", headers=[(b"x-tenant", b"acme")]
            )
            assert found.json()["output"] == told["output"]
        assert b"It is Ada." in upstream.requests[-1].body


async def test_what_an_upstream_keeps_itself_bypasses_the_cache(provider: FakeProvider) -> None:
    async with gateway_of(provider) as gateway:
        assert [result(await asked(gateway, HELLO)) for _ in range(2)] == ["bypass", "bypass"]


async def test_two_tenants_with_the_same_bytes_never_share_an_answer(upstream: FakeProvider) -> None:
    async with gateway_of(upstream) as gateway:
        for tenant in ("", "acme", "globex", "None"):
            assert result(await asked(gateway, KEPT_NOWHERE, tenant=tenant)) == "miss"
        for tenant in ("", "acme", "globex", "None"):
            assert result(await asked(gateway, KEPT_NOWHERE, tenant=tenant)) == "hit"
    assert len(upstream.requests) == 4


async def test_a_conversation_that_is_sent_whole_is_cached_with_the_ids_of_its_items(upstream: FakeProvider) -> None:
    body = KEPT_NOWHERE | {"tools": [LOOK], "include": ["reasoning.encrypted_content"]}
    upstream.script(SAID)
    async with gateway_of(upstream) as gateway:
        first = (await asked(gateway, body, tenant="acme")).json()
        call = next(item for item in first["output"] if item["type"] == "function_call")
        said = {"type": "function_call_output", "call_id": call["call_id"], "output": "seen"}
        output = [item for item in first["output"] if item["type"] != "reasoning" or item.get("encrypted_content")]
        turn = body | {"input": [{"role": "user", "content": "Hello"}, *output, said]}
        assert [result(await asked(gateway, turn, tenant="acme")) for _ in range(2)] == ["miss", "hit"]


async def test_a_scope_divides_the_answers_of_a_tenant(upstream: FakeProvider) -> None:
    cache = ResponseCache(when=always, scope=lambda request: request.headers.get("x-user"))
    async with gateway_of(upstream, cache=cache) as gateway:
        found = [
            result(await asked(gateway, KEPT_NOWHERE, (b"x-user", user), tenant="acme")) for user in (b"a", b"b", b"a")
        ]
    assert found == ["miss", "miss", "hit"]


async def test_a_key_that_the_target_brings_needs_a_scope_and_tells_accounts_apart(upstream: FakeProvider) -> None:
    def policy(request: Any) -> Target:
        return Target("house", api_key=request.headers["x-key"])

    for scope, expected in ((None, ["bypass"] * 3), (lambda request: "", ["miss", "miss", "hit"])):
        async with gateway_of(upstream, policy=policy, cache=ResponseCache(when=always, scope=scope)) as gateway:
            found = [
                result(await asked(gateway, KEPT_NOWHERE, (b"x-key", key)))
                for key in (b"sk-first-key", b"sk-second-key", b"sk-first-key")
            ]
        assert found == expected


async def test_providers_models_and_what_the_target_puts_over_the_request_tell_entries_apart(
    upstream: FakeProvider,
) -> None:
    targets = [
        Target("house"),
        Target("house", model="other"),
        Target("house", params={"temperature": 0.5}),
        Target("house", headers={"x-extra": "1"}),
        Target("second"),
    ]

    def policy(request: Any) -> Target:
        return targets[int(request.headers["x-target"])]

    providers = [Provider(name, upstream.base_url, dialect=upstream.dialect) for name in ("house", "second")]
    async with gateway_of(upstream, policy=policy, providers=providers) as gateway:
        for expected in ("miss", "hit"):
            for number in range(len(targets)):
                caller = await asked(gateway, KEPT_NOWHERE, (b"x-target", b"%d" % number))
                assert result(caller) == expected, targets[number]


async def test_a_request_is_fresh_or_kept_nowhere_as_its_cache_control_says(upstream: FakeProvider) -> None:
    async with gateway_of(upstream) as gateway:
        given = [b"no-store", b"max-age=60", b"", b"no-cache", b"No-Store, max-age=60", b"max-age=60"]
        found = [result(await asked(gateway, KEPT_NOWHERE, (b"cache-control", value))) for value in given]
    assert found == ["bypass", "miss", "hit", "miss", "bypass", "hit"]


async def test_nothing_is_cached_unless_the_host_says_so(upstream: FakeProvider) -> None:
    cache = ResponseCache(when=lambda request: request.headers.get("x-cache") == "yes")
    async with gateway_of(upstream, cache=cache) as gateway:
        found = [
            result(await asked(gateway, KEPT_NOWHERE, (b"x-cache", value))) for value in (b"no", b"yes", b"no", b"yes")
        ]
    assert found == ["bypass", "miss", "bypass", "hit"]


async def test_a_host_function_that_fails_bypasses_the_cache_and_is_told(upstream: FakeProvider) -> None:
    seen = Seen()

    def broken(request: Any) -> bool:
        raise ValueError("with a secret")

    async with gateway_of(upstream, seen, cache=ResponseCache(when=broken)) as gateway:
        caller = await asked(gateway, KEPT_NOWHERE)
    assert caller.status == 200 and result(caller) == "bypass"
    assert [one.message for one in seen.of(Warned)] == ["the cache: ValueError; the request bypasses it"]


@pytest.mark.parametrize("stream", [False, True])
async def test_only_what_has_completed_is_kept(upstream: FakeProvider, stream: bool) -> None:
    upstream.script(Answer(text="Half", incomplete="max_output_tokens"), Reply(b"{}", status=500), Answer(text="All"))
    async with gateway_of(upstream) as gateway:
        found = [await asked(gateway, KEPT_NOWHERE | {"stream": stream}) for _ in range(4)]
    assert [result(one) for one in found] == ["miss", "miss", "miss", "hit"] and found[1].status >= 500


async def test_the_answer_of_a_fallback_is_not_kept_for_its_target(provider: FakeProvider) -> None:
    with FakeProvider().run_in_thread() as bad:
        bad.fail_next(Status(503))
        providers = [Provider("bad", bad.base_url), Provider("good", provider.base_url)]
        policy = lambda request: Target("bad", fallbacks=[Target("good")])  # noqa: E731
        async with gateway_of(provider, providers=providers, policy=policy) as gateway:
            found = [await asked(gateway, KEPT_NOWHERE) for _ in range(3)]
    assert [result(one) for one in found] == ["miss", "miss", "hit"]
    assert [one.headers["x-gomodel-provider"] for one in found] == ["good", "bad", "bad"]


async def test_an_answer_that_is_too_large_is_not_kept(upstream: FakeProvider) -> None:
    async with gateway_of(upstream, cache=ResponseCache(when=always, size=100)) as gateway:
        assert [result(await asked(gateway, KEPT_NOWHERE)) for _ in range(2)] == ["miss", "miss"]


async def test_forgetting_empties_the_cache_of_one_tenant_alone(upstream: FakeProvider) -> None:
    async with gateway_of(upstream) as gateway:
        for tenant in ("acme", "globex"):
            await asked(gateway, KEPT_NOWHERE, tenant=tenant)
        assert await gateway.cache.forget("acme") == 1
        found = [result(await asked(gateway, KEPT_NOWHERE, tenant=tenant)) for tenant in ("acme", "globex", "acme")]
        assert found == ["miss", "hit", "hit"]
        await gateway.forget("globex")
        assert result(await asked(gateway, KEPT_NOWHERE, tenant="globex")) == "miss"


async def test_forgetting_the_cache_leaves_stored_responses_alone() -> None:
    with FakeProvider(dialect="chat").run_in_thread() as upstream:
        async with gateway_of(upstream) as gateway:
            id = (await asked(gateway, HELLO, tenant="acme")).json()["id"]
            await gateway.cache.forget("acme")
            found = await ask(gateway, method="GET", path=f"/v1/responses/{id}", headers=[(b"x-tenant", b"acme")])
            assert found.status == 200


async def test_a_hit_uses_nothing_of_a_budget_and_is_told_as_cached(upstream: FakeProvider) -> None:
    seen = Seen()
    async with gateway_of(upstream, seen, quotas=month()) as gateway:
        await asked(gateway, KEPT_NOWHERE)
        before = await settled(gateway)
        hit = await asked(gateway, KEPT_NOWHERE)
        assert result(hit) == "hit" and await settled(gateway) == before and before[0] > 0

    assert [one.result for one in seen.of(CacheChecked)] == ["miss", "hit"]
    first, second = seen.of(Ended)
    assert (first.cached, second.cached) == (False, True)
    assert second.usage is None and second.attempts == 0 and second.response_id == hit.json()["id"]
    assert second.provider == "house" and second.status == 200


class Away(MemoryStore):
    """A store that does not answer any more."""

    away = False

    async def get(self, collection: str, key: str) -> Any:
        if self.away and collection == "cached":
            raise ConnectionError("with a secret")
        return await super().get(collection, key)


async def test_a_store_that_is_away_makes_a_miss_and_is_told(upstream: FakeProvider) -> None:
    seen, store = Seen(), Away()
    async with gateway_of(upstream, seen, store=store) as gateway:
        await asked(gateway, KEPT_NOWHERE)
        store.away = True
        caller = await asked(gateway, KEPT_NOWHERE)
    assert caller.status == 200 and result(caller) == "miss" and len(upstream.requests) == 2
    assert [one.message for one in seen.of(Warned)] == ["the cache: ConnectionError"]


def test_a_cache_needs_a_store_and_is_one() -> None:
    house = Provider("house", "http://127.0.0.1:9/v1")
    with pytest.raises(ValueError, match="store"):
        Gateway(providers=[house], store=NoStore(), cache=ResponseCache(when=always))
    with pytest.raises(TypeError, match="ResponseCache"):
        Gateway(providers=[house], cache=True)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="no cache"):
        _ = Gateway(providers=[house]).cache
    for wrong in ({"ttl": 0}, {"ttl": float("inf")}, {"size": -1}):
        with pytest.raises(ValueError, match=": give"):
            ResponseCache(when=always, **wrong)
    with pytest.raises(TypeError, match="function"):
        ResponseCache(when=True)  # type: ignore[arg-type]


async def test_the_hosts_own_calls_and_routes_have_the_cache_too(upstream: FakeProvider) -> None:
    async with gateway_of(upstream) as gateway:
        replies = [await gateway.respond(KEPT_NOWHERE) for _ in range(2)]
        assert [one.headers["x-gomodel-cache"] for one in replies] == ["miss", "hit"]
        first, second = [await one.json() for one in replies]
    assert without_ids(first) == without_ids(second)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("stream", [False, True])
async def test_workers_with_one_store_share_the_answers_behind_the_reply(open_atomic: Any, stream: bool) -> None:
    with FakeProvider(dialect="chat").run_in_thread() as upstream:
        async with gateway_of(upstream, store=open_atomic()) as first:
            assert result(await asked(first, HELLO | {"stream": stream}, tenant="acme")) == "miss"
        async with gateway_of(upstream, store=open_atomic()) as second:
            assert result(await asked(second, HELLO, tenant="acme")) == "hit"
            assert result(await asked(second, HELLO, tenant="globex")) == "miss"
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_ledger_books_a_hit_as_cached_and_for_nothing(upstream: FakeProvider, tmp_path: Path) -> None:
    ledger = Ledger(JsonLines(tmp_path / "rows"), price=price)
    async with gateway_of(upstream, ledger=ledger) as gateway:
        for _ in range(2):
            await asked(gateway, KEPT_NOWHERE)
        assert await ledger.flush()
        first, last = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
        async with aclosing(ledger.rows(first, last)) as found:
            rows = sorted([row async for row in found], key=lambda row: row.cached)
    assert [row.cached for row in rows] == [False, True]
    assert rows[0].cost and rows[1].cost == 0 and not rows[1].attempts and rows[1].output_tokens == 0
    assert rows[1].provider == "house" and rows[1].outcome == "completed" and rows[1].status == 200


async def test_answers_count_in_what_a_tenant_may_keep() -> None:
    with FakeProvider(dialect="chat").run_in_thread() as upstream:
        async with gateway_of(upstream, limits=Limits(tenant_entries=2)) as gateway:
            bodies = [KEPT_NOWHERE | {"input": text} for text in ("a", "b", "c")]
            for body in bodies:
                await asked(gateway, body, tenant="acme")
            found = [result(await asked(gateway, body, tenant="acme")) for body in reversed(bodies)]
    assert found == ["hit", "hit", "miss"]


def test_lookups_are_counted_by_their_result() -> None:
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry=registry)
    for kind in ("hit", "hit", "miss"):
        observer(CacheChecked(Context(1, "r"), result=kind))
    found = [
        registry.get_sample_value("gomodel_cache_lookups_total", {"result": kind}) for kind in ("hit", "miss", "bypass")
    ]
    assert found == [2, 1, 0]
