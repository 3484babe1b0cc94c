"""Who sees the console, and what of it."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from gomodel_asgi.console import Console, View
from gomodel_asgi.testing import FakeProvider, Status

from ..support.console import HTML, JSON, WHOLE, data, look, send, tenant_of, viewed
from ..support.driving import Caller, scope_of
from ..support.gateways import Make
from ..support.lab import ONCE

PATHS = ["/", "/providers", "/costs", "/tools", "/explain", "/requests/x", "/events", "/static/console.css", "/nothing"]


async def test_without_allow_there_is_no_console(provider: FakeProvider, make: Make) -> None:
    gateway: Any = make(provider)
    with pytest.raises(TypeError):
        Console(gateway)  # type: ignore[call-arg]
    for wrong in (None, True, View(View.ALL)):
        with pytest.raises(TypeError, match="allow"):
            Console(gateway, allow=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Gateway"):
        Console(object(), allow=lambda request: None)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [None, "acme", ["acme"], {1}, True, {"acme": 1}])
def test_a_view_is_of_a_set_of_tenants_or_says_that_it_is_of_all(wrong: Any) -> None:
    with pytest.raises(TypeError):
        View(wrong)
    with pytest.raises(TypeError):
        View()  # type: ignore[call-arg]


def test_a_view_shows_its_tenants_and_no_others() -> None:
    named = {"acme"}
    view = View(named)
    named.add("globex")
    assert view.shows("acme") and not view.shows("globex") and not view.shows(None)
    assert View({None}).shows(None) and not View(set()).shows(None)
    assert View(View.ALL).shows(None) and View(View.ALL).shows("acme")
    assert (view.detail, view.explain) == (False, False)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_whom_allow_does_not_let_in_gets_the_same_404_everywhere(
    provider: FakeProvider, make: Make, path: str, method: str
) -> None:
    found = await look(viewed(make(provider), None), path, method=method)
    assert found.status == 404
    assert found.content == (b"" if method == "HEAD" else b"There is nothing here.")
    assert "allow" not in found.headers


async def test_allow_is_asked_for_each_request_with_the_request(provider: FakeProvider, make: Make) -> None:
    asked: list[Request] = []

    def allow(request: Request) -> View | None:
        asked.append(request)
        return View(View.ALL) if request.headers["accept"].startswith("text") else None

    console = Console(make(provider), allow=allow)
    for path in ("/", "/static/console.js", "/costs"):
        assert (await look(console, path, accept=HTML)).status == 200
        assert (await look(console, path, accept=JSON)).status == 404
    assert [request.url.path for request in asked] == [p for p in ("/", "/static/console.js", "/costs") for _ in "ab"]


async def test_a_plain_allow_runs_beside_the_event_loop(provider: FakeProvider, make: Make) -> None:
    threads: list[int] = []

    def allow(request: Request) -> View:
        threads.append(threading.get_ident())
        return WHOLE

    assert (await look(Console(make(provider), allow=allow))).status == 200
    assert threads != [threading.get_ident()]


@pytest.mark.parametrize("accept", [HTML, JSON])
@pytest.mark.parametrize("answer", [ValueError("canary of a session"), True, "acme", ()])
async def test_where_allow_fails_nobody_gets_in_and_the_host_is_told(
    provider: FakeProvider, make: Make, answer: Any, accept: Any
) -> None:
    async def allow(request: Request) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    failing = await look(Console(make(provider), allow=allow), accept=accept)
    refused = await look(viewed(make(provider), None), accept=accept)
    assert isinstance(failing.raised, ValueError if isinstance(answer, Exception) else TypeError)
    assert (failing.status, failing.headers, failing.content) == (404, refused.headers, refused.content)


async def test_allow_may_answer_with_a_status_of_its_own(provider: FakeProvider, make: Make) -> None:
    async def allow(request: Request) -> View | None:
        raise HTTPException(303, "canary", {"Location": "/login"})

    found = await look(Console(make(provider), allow=allow))
    assert (found.status, found.headers["location"]) == (303, "/login")
    assert b"canary" not in found.content and found.raised is None


async def test_allow_has_ten_seconds(provider: FakeProvider, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gomodel_asgi.console.console.ALLOW", 0.01)

    async def allow(request: Request) -> View | None:
        await anyio.sleep_forever()
        raise AssertionError

    assert (await look(Console(make(provider), allow=allow))).status == 404


async def test_one_tenant_sees_nothing_of_another(provider: FakeProvider, make: Make) -> None:
    gateway = make(provider, tenant=tenant_of, public=True)
    whole, part = viewed(gateway), viewed(gateway, View({"acme"}, detail=True, explain=True))
    await data(part)
    for tenant in ("acme", "globex-secret", None):
        assert (await send(gateway, tenant, model=f"model-of-{tenant}")).status == 200
    everything = await data(whole)
    assert [one["tenant"] for one in everything["exchanges"]] == [None, "globex-secret", "acme"]
    mine = await data(part)
    assert [one["tenant"] for one in mine["exchanges"]] == ["acme"]
    assert {one["key"]: one["value"] for one in mine["figures"]}["requests"] == 1
    for path in ("/", "/providers", "/tools", "/costs", "/explain"):
        for accept in (HTML, JSON):
            found = await look(part, path, accept=accept)
            assert found.status == 200
            assert b"globex-secret" not in found.content and b"model-of-None" not in found.content
    for one in everything["exchanges"]:
        for id in (one["id"], one["request_id"], one["response_id"]):
            assert (await look(part, f"/requests/{id}")).status == (200 if one["tenant"] == "acme" else 404)
            assert (await look(whole, f"/requests/{id}")).status == 200


async def test_what_is_under_way_is_shown_to_whom_it_belongs(provider: FakeProvider, make: Make) -> None:
    from gomodel_asgi.testing import Stall

    gateway = make(provider, tenant=tenant_of, public=True)
    whole, mine, others = viewed(gateway), viewed(gateway, View({"acme"})), viewed(gateway, View({"globex"}))
    provider.fail_next(Stall(after_events=1))
    headers = [(b"content-type", b"application/json"), (b"x-tenant", b"acme")]
    caller = Caller(scope_of(headers=headers), [b'{"model": "m", "input": "Hello", "stream": true}'])
    async with anyio.create_task_group() as group:
        group.start_soon(caller.run, gateway)
        await caller.until(2)
        for console, count in ((whole, 1), (mine, 1), (others, 0)):
            found = await data(console)
            assert (found["under_way_count"], len(found["under_way"])) == (count, count)
        [running] = (await data(mine))["under_way"]
        assert (running["outcome"], running["provider"]) == ("running", "fake")
        assert (await look(mine, f"/requests/{running['id']}")).status == 200
        assert (await look(others, f"/requests/{running['id']}")).status == 404
        caller.leave()
        provider.release()
    assert (await data(whole))["under_way_count"] == 0


@pytest.mark.parametrize("detail", [True, False])
async def test_the_words_of_upstreams_are_for_those_who_may_read_details(
    provider: FakeProvider, make: Make, detail: bool
) -> None:
    gateway = make(provider, public=True, retries=ONCE)
    console = viewed(gateway, View(View.ALL, detail=detail))
    provider.fail_next(Status(503, "the upstream's own words"))
    assert (await send(gateway)).status >= 500
    [one] = (await data(console))["exchanges"]
    for path in ("/", f"/requests/{one['id']}"):
        for accept in (HTML, JSON):
            found = await look(console, path, accept=accept)
            assert (b"own words" in found.content) is (detail and path != "/"), path
