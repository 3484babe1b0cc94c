"""The fourteen invariants, each a test of its name. What they say is proved in more detail where the rows of the
failure tables are; here stands, for each, the shortest way to see it broken."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from gomodel_asgi import GoModelMiddleware, Limits, RoutingRequest, Target
from gomodel_asgi.observers import Record
from gomodel_asgi.testing import Answer, Cut, ErrorInside, Oversize, Scripted, SetCookie, Stall, Status

from .support.driving import JSON, TIMEOUT, Caller, scope_of, told_failure
from .support.lab import KEY, Lab, anyio_backend, fakes, kind, lab

__all__ = ["anyio_backend", "fakes", "kind", "lab"]

UNARY: dict[str, Any] = {"model": "gpt-5", "input": "hi"}
STREAM = {**UNARY, "stream": True}
SECRETS = [
    (b"authorization", b"Bearer sk-canary-client"),
    (b"cookie", b"session=canary-cookie"),
    (b"x-api-key", b"canary-x-api-key"),
    (b"api-key", b"canary-api-key"),
    (b"x-goog-api-key", b"canary-goog"),
    (b"proxy-authorization", b"Basic canary-proxy"),
    (b"openai-organization", b"org-canary"),
    (b"openai-project", b"proj-canary"),
    (b"x-forwarded-for", b"203.0.113.7, canary"),
    (b"x-csrf-token", b"canary-csrf"),
]


async def test_1_no_byte_of_a_client_credential_or_cookie_is_written_to_an_upstream(lab: Lab) -> None:
    lab.make(lab.provider(lab.bad, api_key=None), lab.provider(lab.good, "good", api_key=None))
    lab.gateway.reload(policy=lambda request: Target("bad", fallbacks=[Target("good")]))
    lab.bad.fail_next(Status(503))

    await lab.ask(UNARY, headers=[JSON, *SECRETS, (b"idempotency-key", b"canary-idempotency")])

    for request in (*lab.bad.requests, *lab.good.requests):
        assert "canary" not in request
        assert request.header("idempotency-key")


@pytest.mark.parametrize("body", [UNARY, STREAM], ids=["unary", "stream"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
async def test_2_no_byte_of_an_upstream_credential_is_written_to_a_client_log_repr_exception_or_record(
    lab: Lab, status: int, body: Any
) -> None:
    records: list[Record] = []
    lab.make(observers=[records.append])
    lab.bad.fail_next(Status(status, message=f"Incorrect API key provided: {KEY}.", code=KEY))

    answer = await lab.ask(body)

    shown = [answer.content, answer.messages, records, lab.gateway, lab.gateway.setup.registry.by_name, answer.raised]
    assert not [one for one in shown if KEY in repr(one)]


async def test_3_only_origins_named_in_code_for_the_chosen_target_are_contacted(lab: Lab) -> None:
    lab.make(lab.provider(lab.bad), lab.provider(lab.good, "good"), policy=lambda request: Target("bad"))
    lab.bad.fail_next(Status(503))

    await lab.ask({**UNARY, "provider": "good", "base_url": lab.good.base_url, "model": "good/x"})

    assert len(lab.bad.requests) == 1
    assert not lab.good.requests


async def test_4_a_credential_is_sent_only_to_the_origin_it_was_returned_with(lab: Lab) -> None:
    async def policy(request: RoutingRequest) -> Target:
        own = Target("bad", api_key=f"sk-canary-{request.tenant}", fallbacks=[Target("good")])
        return own if request.tenant else Target("bad")

    lab.make(
        lab.provider(lab.bad), lab.provider(lab.good, "good"), policy=policy, tenant=lambda scope: scope.get("tenant")
    )
    for tenant in ("a", "b", None, "a"):
        lab.bad.fail_next(Status(503))
        await lab.ask(UNARY, tenant=tenant)

    sent = [request.header("authorization") for request in lab.bad.requests]
    assert sent == ["Bearer sk-canary-a", "Bearer sk-canary-b", f"Bearer {KEY}", "Bearer sk-canary-a"]
    assert {request.header("authorization") for request in lab.good.requests} == {f"Bearer {KEY}"}


async def test_5_a_response_comes_only_from_its_own_requests_exchange(lab: Lab) -> None:
    lab.make()
    callers = [Caller(scope_of(), [json.dumps({**STREAM, "input": f"number {n}"}).encode()]) for n in range(20)]

    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:
            for number, caller in enumerate(callers):
                tasks.start_soon(caller.run, lab.gateway)
                if number % 3 == 0:
                    caller.leave()

    for number, caller in enumerate(callers):
        if number % 3:
            final = caller.events()[-1]["response"]
            assert final["output"][0]["content"][0]["text"] == f"You said: number {number}"


async def test_6_the_upstream_body_is_the_clients_minus_the_hint_and_plus_what_the_target_says(lab: Lab) -> None:
    target = Target("bad", model="other", params={"temperature": 0.5, "user": None})
    lab.make(policy=lambda request: target)
    body = (
        rb'{ "provider" : "bad", "x":[1.50, 1e2, "\u00e9\/", {"b":1,"a":2}], "model":"gpt-5","user":"u", "null":null}'
    )

    await lab.ask(body)

    expected = rb'{"x":[1.50, 1e2, "\u00e9\/", {"b":1,"a":2}],"model":"other","null":null,"temperature":0.5}'
    assert lab.bad.requests[0].body == expected


async def test_7_no_attempt_after_the_first_meaningful_byte(lab: Lab) -> None:
    lab.make(lab.provider(lab.bad), lab.provider(lab.good, "good"))
    lab.gateway.reload(policy=lambda request: Target("bad", fallbacks=[Target("good")]))
    lab.bad.script(Scripted(Answer(text="one two"), (Cut(after_events=5),)))

    assert told_failure((answer := await lab.ask(STREAM)).events(), answer.content) == "upstream_stream_truncated"
    assert (len(lab.bad.requests), len(lab.good.requests)) == (1, 0)


async def test_8_redirects_cookies_environment_proxies_and_netrc_are_not_used(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login canary password canary\n")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, lab.good.base_url)
    monkeypatch.setenv("NETRC", str(netrc))
    lab.make(lab.provider(lab.bad, api_key=None))
    lab.bad.fail_next(SetCookie("canary=1"))
    lab.bad.fail_next(Status(307, headers={"location": lab.good.base_url}))

    answers = [await lab.ask(UNARY) for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 502, 200]
    assert not lab.good.requests
    assert not [request for request in lab.bad.requests if "canary" in request or request.header("authorization")]


@pytest.mark.parametrize("fault", [Cut(after_events=5), Cut(inside_event=5), ErrorInside(after_events=5)])
async def test_9_what_did_not_end_properly_is_never_presented_as_complete(lab: Lab, fault: Any) -> None:
    lab.make()
    for body in (STREAM, UNARY):
        unary_too = fault if body is STREAM else Cut(after_bytes=50)
        lab.bad.script(Scripted(Answer(text="one two"), (unary_too,)))
        answer = await lab.ask(body)
        assert answer.status != 200 or answer.events()[-1]["type"] == "response.failed"
        assert b"response.completed" not in answer.content


async def test_10_client_gone_upstream_closed_and_upstream_gone_client_told(lab: Lab) -> None:
    lab.make()
    lab.bad.fail_next(Stall(after_events=4))
    caller = Caller(scope_of(), [json.dumps(STREAM).encode()])

    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.run, lab.gateway)
            await caller.until(2)
            caller.leave()
        await lab.bad.requests[0].disconnected.wait()
    lab.bad.fail_next(Cut(after_events=4))

    assert (await lab.ask(STREAM)).events()[-1]["type"] == "response.failed"


async def test_11_memory_per_request_is_bounded_by_the_limits(lab: Lab) -> None:
    lab.make(limits=Limits(body=10_000, reply=100_000, event=100_000, buffer=50_000))
    lab.bad.fail_next(Oversize(size=50_000_000))
    lab.bad.fail_next(Oversize(size=50_000_000, after_events=4))

    assert (await lab.ask({**UNARY, "input": "x" * 20_000})).status == 413
    assert (await lab.ask(UNARY)).status == 502
    answer = await lab.ask(STREAM)
    assert len(answer.content) < 300_000
    assert b"response.completed" not in answer.content


async def test_12_a_request_that_is_not_ours_reaches_the_host_unmodified(lab: Lab) -> None:
    seen: list[tuple[Scope, Receive, Send]] = []

    async def host(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, receive, send))

    app = GoModelMiddleware(host, gateway=lab.make())
    scopes = [scope_of("/v1/responses/"), scope_of("/v1/files", method="GET"), {"type": "websocket", "path": "/chat"}]
    for scope in scopes:
        kept = dict(scope)
        caller = Caller(scope)
        await caller.run(app)
        assert seen[-1][0] is scope and scope == kept
        assert seen[-1][1:] == (caller.receive, caller.send)


async def test_13_a_failing_observer_never_fails_a_request(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    def observer(record: Record) -> None:
        raise RuntimeError(f"cannot tell of {record!r}")

    lab.make(observers=[observer])

    assert [(await lab.ask(body)).status for body in (UNARY, STREAM, UNARY)] == [200, 200, 200]
    assert len([one for one in caplog.records if one.name == "gomodel_asgi.observers"]) == 1


def test_14_import_and_construction_do_no_io_and_start_no_thread() -> None:
    code = """
import sys, threading, socket, asyncio
network = "socket.__new__", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "_thread.start_new_thread"
code = ".py", ".pyc", ".so", "METADATA", "entry_points.txt"
def audit(event, args):
    if event in network:
        raise SystemExit(f"{event} {args}")
    if event == "open" and not str(args[0]).endswith(code):
        raise SystemExit(f"opened {args[0]}")
sys.addaudithook(audit)
import gomodel_asgi
gateway = gomodel_asgi.Gateway(providers=[gomodel_asgi.providers.openai(api_key="sk-x"), gomodel_asgi.providers.vllm()])
gomodel_asgi.GoModelMiddleware(print, gateway=gateway)
assert threading.active_count() == 1
"""
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
