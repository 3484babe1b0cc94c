"""Where a session may go: to the host's servers as they are mapped, to a client's only where the internet is.

Loopback is the internet here: 127.0.0.2 is public, all else is not.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from gomodel_asgi import tools
from gomodel_asgi.emulation.tools.remote import client_named, source_of
from gomodel_asgi.emulation.tools.seams import Outcome, Unlisted
from gomodel_asgi.errors import Denied
from gomodel_asgi.transport import DefaultTransport, Transport
from tests.support.scripted_upstream import Upstream
from tests.support.serving import Served

from .servers import (
    HEADERS,
    NAME,
    PRIVATE,
    Names,
    Notes,
    Opened,
    Raw,
    Start,
    admitted,
    by_hand,
    call_of,
    opened,
    tool,
    visit_of,
)


def named(
    upstream: Upstream, transport: Transport, notes: Notes | None = None, admits: Any = None, **more: Any
) -> Opened:
    """A session with a server that a client names."""
    remote = (lambda url, call: True) if admits is None else admits
    source = client_named(remote, transport)
    given = {"url": f"https://{NAME}:{upstream.port}/mcp?key=canary-query", "notice": notes or Notes(), **more}
    return admitted(source, visit_of(**given))


async def test_a_clients_server_gets_the_clients_credentials_and_no_others(
    names: Names, trusting: Transport, start: Start
) -> None:
    seen: list[bytes] = []
    server = start(by_hand(seen=seen))

    async with named(server, trusting, authorization="canary-token", headers={"x-shop": "canary-shop"}) as session:
        assert [one.name for one in await session.list_tools()] == ["t"]
        assert await session.call_tool("t", {}, call_of()) == Outcome("done")

    for one in seen:
        head = one.partition(b"\r\n\r\n")[0].lower()
        assert head.startswith(b"post /mcp?key=canary-query http/1.1\r\n")
        assert b"\r\nhost: mcp.example:%d\r\n" % server.port in head
        assert b"\r\nauthorization: bearer canary-token" in head and b"\r\nx-shop: canary-shop" in head


async def test_a_clients_server_at_a_private_address_is_not_connected_to(
    names: Names, trusting: Transport, start: Start
) -> None:
    server, notes = start(by_hand(), PRIVATE), Notes()
    names.answers = [PRIVATE]

    with pytest.raises(Unlisted) as refused:
        async with named(server, trusting, notes):
            raise AssertionError("it was opened")

    assert str(refused.value) == "No connection to the server could be made."
    assert server.connections == 0
    assert "is not public" in notes.texts[0] and "canary" not in notes.texts[0]


async def test_a_name_that_becomes_private_in_a_session_is_not_followed(
    names: Names, trusting: Transport, start: Start
) -> None:
    server = start(by_hand(keep=False))
    inside = Upstream(by_hand(), address=(PRIVATE, server.port))

    try:
        async with named(server, trusting) as session:
            await session.list_tools()
            names.answers = [PRIVATE]
            outcome = await session.call_tool("t", {}, call_of())
    finally:
        inside.close()

    assert outcome.text == "No connection to the server could be made."
    assert inside.connections == 0


async def awaited(url: str, call: Any) -> bool:
    return False


def failing(url: str, call: Any) -> bool:
    raise RuntimeError("canary")


@pytest.mark.parametrize(
    "admits", [lambda url, call: False, lambda url, call: None, lambda url, call: "yes", awaited, failing]
)
async def test_a_clients_server_that_the_host_does_not_admit_is_not_asked(
    names: Names, trusting: Transport, start: Start, admits: Any
) -> None:
    server, notes = start(by_hand()), Notes()

    with pytest.raises(Denied, match="not one that may be asked"):
        async with named(server, trusting, notes, admits):
            raise AssertionError("it was opened")

    assert server.connections == 0
    assert "canary" not in "".join(notes.texts)


async def test_the_host_is_asked_with_the_url_and_the_call(names: Names, trusting: Transport, start: Start) -> None:
    asked: list[Any] = []

    def admits(url: str, call: Any) -> bool:
        asked.append((url, call.request.tenant))
        return True

    server = start(by_hand())
    async with named(server, trusting, admits=admits):
        pass

    assert asked == [(f"https://{NAME}:{server.port}/mcp?key=canary-query", "one")]


@pytest.mark.parametrize("more", [{"url": f"http://{NAME}/"}, {"headers": {"cookie": "canary"}}, {"url": None}])
async def test_what_a_client_may_not_declare_is_not_asked(
    names: Names, trusting: Transport, start: Start, more: dict[str, Any]
) -> None:
    server = start(by_hand())

    with pytest.raises(Unlisted, match="cannot be used") as refused:
        async with named(server, trusting, **more):
            raise AssertionError("it was opened")

    assert "canary" not in str(refused.value)
    assert server.connections == 0


PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


async def test_a_proxy_of_the_environment_is_not_used(
    serve: Served, transport: DefaultTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROXIES:
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert os.environ["HTTP_PROXY"]

    async with opened(serve(Raw(tools_list={"tools": [tool("t")]})) + "/mcp", transport) as session:
        assert len(await session.list_tools()) == 1


async def test_what_a_client_says_of_a_mapped_server_is_not_looked_at(
    serve: Served, transport: DefaultTransport
) -> None:
    raw = Raw(tools_list={"tools": [tool("t")]})
    source = source_of("shop", tools.Server(serve(raw) + "/mcp", headers=HEADERS), transport)
    given = visit_of(url="https://canary.example/", authorization="canary", headers={"x-canary": "1"})

    async with admitted(source, given) as session:
        await session.list_tools()

    assert {head["authorization"] for head in raw.heads} == {HEADERS["authorization"]}
    assert not any("x-canary" in head for head in raw.heads)


async def test_connections_are_not_shared_between_tenants(transport: DefaultTransport) -> None:
    server = Upstream(by_hand())
    try:
        source = source_of("shop", tools.Server(f"http://127.0.0.1:{server.port}/mcp", headers=HEADERS), transport)
        counts = []
        for tenant in ("one", "one", "two", None):
            async with admitted(source, visit_of(tenant)) as session:
                await session.list_tools()
            counts.append(server.connections)
    finally:
        await transport.aclose()
        server.close()

    assert counts[0] <= counts[1] < counts[2] < counts[3]
