"""`allow_private=False`: what a name stands for is judged before anything is connected to, and nothing else is.

Loopback is the internet here: 127.0.0.2 and 127.0.0.3 are public, all else is not.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest
import trustme

from gomodel_asgi.errors import UpstreamUnreachable
from gomodel_asgi.settings import Limits
from gomodel_asgi.transport import Http11Transport, HttpxTransport, UpstreamRequest
from gomodel_asgi.transport.request import MOST_ADDRESSES, addresses_of, race
from gomodel_asgi.transport.slots import ConnectionLimit
from gomodel_asgi.transport.websocket import connect

from ..support.requests import fetch, post
from ..support.scripted_upstream import Peer, Upstream, answer, reply
from .conftest import ASYNCIO, HTTP11, TRIO, Kind, Serve, label

PUBLIC, OTHER, PRIVATE = "127.0.0.2", "127.0.0.3", "127.0.0.1"
NAME = "api.example"

Open = Callable[[UpstreamRequest], Awaitable[object]]


@pytest.fixture(
    params=[*HTTP11, Kind("httpx", ASYNCIO), Kind("httpx", TRIO), Kind("websocket", ASYNCIO), Kind("websocket", TRIO)],
    ids=label,
)
def kind(request: pytest.FixtureRequest) -> Kind:
    assert isinstance(request.param, Kind)
    return request.param


class Names:
    """A resolver that gives *answers* one after the other, the last again and again."""

    def __init__(self) -> None:
        self.answers: list[list[str]] = []
        self.asked = 0

    async def __call__(self, host: bytes, port: int, **options: Any) -> list[Any]:
        self.asked += 1
        if not self.answers:
            raise OSError("no such name")
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [(10 if ":" in address else 2, 1, 6, "", (address, port)) for address in found]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names()
    monkeypatch.setattr("gomodel_asgi.transport.request.getaddrinfo", names)
    return names


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gomodel_asgi.transport.request.is_public", lambda address: address in (PUBLIC, OTHER))


async def refused(websocket: bytes) -> None:
    raise AssertionError(websocket)


def opening(kind: Kind, trust: ssl.SSLContext | None = None) -> Open:
    """Asks the upstream once, in the way of *kind*, with a connection of its own."""

    async def by_http(request: UpstreamRequest) -> object:
        transport = (
            Http11Transport(ssl_context=trust) if kind.name == "http11" else HttpxTransport(verify=trust or True)
        )
        try:
            return (await fetch(transport, request)).body
        finally:
            await transport.aclose()

    async def by_websocket(request: UpstreamRequest) -> object:
        return (await connect(request, Limits(), refused, ConnectionLimit(1).here(), trust)).status  # type: ignore[union-attr]

    return by_websocket if kind.name == "websocket" else by_http


@pytest.fixture
def ask(kind: Kind) -> Open:
    return opening(kind)


def tenants(port: int, **options: Any) -> UpstreamRequest:
    return post(port, **{"host": NAME, "allow_private": False, **options})


@pytest.fixture
def pair(serve: Serve) -> Iterator[tuple[Upstream, Upstream]]:
    """The same port on a public and on a private address."""
    while True:
        public = serve(answer, address=(PUBLIC, 0))
        try:
            private = serve(answer, address=(PRIVATE, public.port))
        except OSError:  # the kernel has given that port to somebody else there
            continue
        break
    yield public, private


@pytest.mark.parametrize("found", [[PRIVATE], [PUBLIC, PRIVATE], [PRIVATE, PUBLIC], [PUBLIC, OTHER, "::1"]])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_name_with_any_private_address_is_not_connected_to(
    ask: Open, names: Names, internet: None, pair: tuple[Upstream, Upstream], found: list[str], scheme: str
) -> None:
    names.answers = [found]

    with pytest.raises(UpstreamUnreachable) as caught:
        await ask(tenants(pair[0].port, scheme=scheme))

    assert [one.connections for one in pair] == [0, 0]
    assert not any(address in caught.value.message for address in found)


@pytest.mark.parametrize("host", [PRIVATE, "::1", "::ffff:127.0.0.1", "2130706433", "127.1", "0177.0.0.1"])
async def test_a_private_number_is_not_connected_to(ask: Open, serve: Serve, host: str) -> None:
    upstream = serve(answer)

    with pytest.raises(UpstreamUnreachable):
        await ask(tenants(upstream.port, host=host))

    assert upstream.connections == 0


@pytest.mark.parametrize(
    "found", ["::ffff:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::808:808", "2002:7f00:1::", "::127.0.0.1", "fe80::1%lo"]
)
async def test_a_private_address_within_another_is_private(ask: Open, names: Names, found: str) -> None:
    names.answers = [["8.8.8.8", found]]

    with pytest.raises(UpstreamUnreachable):
        await ask(tenants(9))


async def test_what_was_judged_is_what_is_connected_to(
    ask: Open, names: Names, internet: None, pair: tuple[Upstream, Upstream]
) -> None:
    """Whatever the resolver says a moment later."""
    names.answers = [[PUBLIC], [PRIVATE]]

    await ask(tenants(pair[0].port))

    assert [one.connections for one in pair] == [1, 0]
    assert names.asked == 1


async def test_each_connection_is_judged_anew(
    ask: Open, names: Names, internet: None, pair: tuple[Upstream, Upstream]
) -> None:
    names.answers = [[PUBLIC], [PRIVATE]]
    await ask(tenants(pair[0].port))

    with pytest.raises(UpstreamUnreachable):
        await ask(tenants(pair[0].port))

    assert [one.connections for one in pair] == [1, 0]


@pytest.mark.parametrize("kind", HTTP11, ids=label, indirect=True)
async def test_a_reconnection_is_judged_anew(names: Names, internet: None, serve: Serve, kind: Kind) -> None:
    """One that stands is used on; when it is gone, the name may have come to mean something else."""
    closing = lambda peer: (peer.request(), peer.send(reply(b"first")))  # noqa: E731
    upstream, transport = serve(closing, address=(PUBLIC, 0)), Http11Transport()
    names.answers = [[PUBLIC], [PRIVATE]]
    await fetch(transport, tenants(upstream.port))

    with pytest.raises(UpstreamUnreachable):
        await fetch(transport, tenants(upstream.port, fresh=True))

    await transport.aclose()
    assert upstream.connections == 1


async def test_the_next_address_is_tried_where_one_does_not_answer(
    ask: Open, names: Names, internet: None, serve: Serve
) -> None:
    upstream = serve(answer, address=(OTHER, 0))
    names.answers = [[PUBLIC, OTHER]]

    await ask(tenants(upstream.port))

    assert upstream.connections == 1


async def test_where_no_address_answers_the_upstream_is_unreachable(
    ask: Open, names: Names, internet: None, serve: Serve
) -> None:
    nowhere: list[list[list[str]]] = [[[PUBLIC, OTHER]], [[]], []]
    for names.answers in nowhere:
        with pytest.raises(UpstreamUnreachable):
            await ask(tenants(1))


async def test_the_certificate_and_the_host_are_those_of_the_name(
    kind: Kind, names: Names, internet: None, serve: Serve
) -> None:
    authority, server = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(server)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    asked: list[str | None] = []
    server.sni_callback = lambda sock, name, context: asked.append(name)
    heads: list[bytes] = []

    def script(peer: Peer) -> None:
        if (request := peer.request()) is not None:
            heads.append(request.lower())
            peer.send(reply(b"", status=b"403 No"))

    upstream = serve(script, context=server, address=(PUBLIC, 0))
    names.answers = [[PUBLIC]]

    await opening(kind, trust)(tenants(upstream.port, scheme="https"))
    with pytest.raises(UpstreamUnreachable):
        await opening(kind, trust)(tenants(upstream.port, scheme="https", host="other.example"))

    assert asked == [NAME, "other.example"]
    assert len(heads) == 1 and heads[0].count(b"\r\nhost: %s:%d\r\n" % (NAME.encode(), upstream.port)) == 1


async def test_of_many_addresses_a_few_are_tried(names: Names) -> None:
    names.answers = [[f"8.8.8.{number}" for number in range(100)]]

    assert len(await addresses_of(tenants(80))) == MOST_ADDRESSES


async def test_the_families_take_turns(names: Names) -> None:
    names.answers = [["2606:4700::1", "2606:4700::2", "8.8.8.8", "2606:4700::1"]]

    assert await addresses_of(tenants(80)) == ["2606:4700::1", "8.8.8.8", "2606:4700::2"]


@pytest.mark.parametrize("kind", [Kind("http11", ASYNCIO), Kind("httpx", TRIO)], indirect=True, ids=["asyncio", "trio"])
async def test_of_two_connections_made_in_one_moment_one_is_closed_and_its_slot_given_back(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gomodel_asgi.transport.request.STAGGER", 0.001)
    limit, go_on, dropped = ConnectionLimit(2), anyio.Event(), list[str]()
    assert limit.here().take()

    async def dial(address: str) -> str:
        if address == "b":
            go_on.set()
        else:
            await go_on.wait()
        return address

    async def drop(connection: str) -> None:
        dropped.append(connection)

    assert await race(["a", "b"], dial, limit.here(), drop) == "b"

    assert dropped == ["a"]
    assert limit.open == 1


@pytest.mark.parametrize("kind", [Kind("http11", ASYNCIO), Kind("httpx", TRIO)], indirect=True, ids=["asyncio", "trio"])
async def test_a_race_that_is_cancelled_leaves_no_attempt_and_keeps_only_the_slot_that_it_was_given(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gomodel_asgi.transport.request.STAGGER", 0.001)
    limit, begun, ended = ConnectionLimit(2), list[str](), list[str]()
    assert limit.here().take()

    async def dial(address: str) -> str:
        begun.append(address)
        try:
            if len(begun) == 2:
                tasks.cancel_scope.cancel()
            await anyio.sleep_forever()
        finally:
            ended.append(address)
        return address

    async def refuse(connection: str) -> None:
        raise AssertionError(connection)

    async def racing() -> None:
        await race(["a", "b"], dial, limit.here(), refuse)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(racing)

    assert sorted(ended) == begun == ["a", "b"]
    assert limit.open == 1
