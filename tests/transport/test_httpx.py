"""A library's transport behind our seam: told by its class, its exceptions ours, nothing carried over."""

from __future__ import annotations

import inspect
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import httpx
import httpx2
import pytest
import trustme

from gomodel_asgi.errors import (
    GatewayError,
    Overloaded,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamTruncated,
    UpstreamUnreachable,
)
from gomodel_asgi.transport import HttpxTransport, Transport
from gomodel_asgi.transport.httpx_errors import MEANINGS, meaning_of
from gomodel_asgi.transport.httpx_transport import trust

from ..support.requests import fetch, post
from ..support.scripted_upstream import Peer, answer, chunked, reply
from .conftest import WRAPPED, Kind, Serve, label


@pytest.fixture(params=WRAPPED, ids=label)
def kind(request: pytest.FixtureRequest) -> Kind:
    assert isinstance(request.param, Kind)
    return request.param


def exceptions_of(library: ModuleType) -> list[type[Exception]]:
    return [kind for _, kind in inspect.getmembers(library, inspect.isclass) if issubclass(kind, Exception)]


@pytest.mark.parametrize("error", exceptions_of(httpx) + exceptions_of(httpx2), ids=repr)
def test_every_exception_of_the_libraries_has_a_meaning_of_its_own(error: type[Exception]) -> None:
    assert error.__name__ in MEANINGS
    made = error.__new__(error)
    for reading in (True, False):
        assert isinstance(meaning_of(made, reading=reading), GatewayError)


def test_the_table_names_nothing_that_the_libraries_do_not_have() -> None:
    assert set(MEANINGS) == {error.__name__ for error in exceptions_of(httpx) + exceptions_of(httpx2)}


def test_a_subclass_means_what_its_nearest_listed_base_means() -> None:
    class Mine(httpx2.ConnectTimeout):
        pass

    meaning = meaning_of(Mine("x"), reading=False)

    assert isinstance(meaning, UpstreamTimeout)
    assert meaning.kind == "connect"
    assert meaning_of(ValueError(), reading=False) is None


OPENING: list[tuple[str, type[GatewayError], str | None]] = [
    ("ConnectError", UpstreamUnreachable, "connect"),
    ("ConnectTimeout", UpstreamTimeout, "connect"),
    ("PoolTimeout", Overloaded, None),
    ("ReadTimeout", UpstreamTimeout, "timeout"),
    ("ReadError", UpstreamProtocolError, "closed"),
    ("RemoteProtocolError", UpstreamProtocolError, None),
]


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize(("name", "expected", "why"), OPENING)
async def test_an_exception_before_the_headers_is_ours(
    library: Any, name: str, expected: type[GatewayError], why: str | None
) -> None:
    def fail(request: Any) -> Any:
        assert type(request) is library.Request
        raise getattr(library, name)("secret of the operator's")

    transport = HttpxTransport(library.MockTransport(fail))

    with pytest.raises(expected) as caught:
        await transport.open(post(80))
    assert getattr(caught.value, "kind", None) == why
    assert "secret" not in str(caught.value)
    assert "secret" in str(caught.value.detail)


async def test_an_exception_that_is_none_of_the_networks_is_left_alone() -> None:
    def fail(request: Any) -> Any:
        raise LookupError("a bug")

    with pytest.raises(LookupError):
        await HttpxTransport(httpx.MockTransport(fail)).open(post(80))


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_a_body_that_fails_is_ours_and_is_closed_once(library: Any) -> None:
    class Failing(library.AsyncByteStream):  # type: ignore[misc]
        closed = 0

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"one"
            raise library.ReadError("cut")

        async def aclose(self) -> None:
            self.closed += 1

    stream = Failing()
    transport = HttpxTransport(library.MockTransport(lambda request: library.Response(200, stream=stream)))
    reply = await transport.open(post(80))

    assert await reply.read(1) == b"one"
    for _ in range(2):
        with pytest.raises(UpstreamTruncated):
            await reply.read(1)
    await reply.aclose()
    assert stream.closed == 1


@pytest.mark.parametrize("other", [object(), httpx.Client, httpx.HTTPTransport(trust_env=False), "transport"])
def test_what_is_no_transport_of_either_library_is_refused_at_construction(other: object) -> None:
    with pytest.raises(TypeError, match=r"httpx\.AsyncBaseTransport"):
        HttpxTransport(other)


async def test_bytes_are_those_of_the_wire_whatever_their_coding(transport: Transport, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(reply(b"\x1f\x8bnot gzip", b"Content-Encoding: gzip"))

    answer = await fetch(transport, post(serve(script).port))

    assert answer.body == b"\x1f\x8bnot gzip"
    assert (b"content-encoding", b"gzip") in answer.headers


async def test_cookies_and_redirects_and_the_environment_are_not_followed(
    transport: Transport, serve: Serve, tmp_path: Path
) -> None:
    heard: list[bytes] = []

    def script(peer: Peer) -> None:
        while (request := peer.request()) is not None:
            heard.append(request)
            peer.send(reply(b"", b"set-cookie: a=b", b"location: /elsewhere", status=b"302 Found"))

    port = serve(script).port
    statuses = [(await fetch(transport, post(port, target=b"/a%2Fb?c=%20"))).status for _ in range(2)]

    assert statuses == [302, 302]
    assert len(heard) == 2
    for request in heard:
        assert request.startswith(b"POST /a%2Fb?c=%20 HTTP/1.1\r\n")
        assert b"cookie" not in request.lower()
        assert request.lower().count(b"accept-encoding: identity") == 1
        assert request.lower().count(b"content-length: 2\r\n") == 1


async def test_a_post_without_a_body_has_length_zero(transport: Transport, serve: Serve) -> None:
    heard: list[bytes | None] = []

    def script(peer: Peer) -> None:
        heard.append(peer.request())
        peer.send(reply(b""))

    await fetch(transport, post(serve(script).port, None))

    assert b"content-length: 0\r\n" in (heard[0] or b"").lower()


async def test_a_read_that_timed_out_is_not_repeated(transport: Transport, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(chunked(b"one", end=b""))
        peer.gone()

    reply = await transport.open(post(serve(script).port))
    assert not reply.resumable
    assert await reply.read(10) == b"one"
    for _ in range(2):
        with pytest.raises(UpstreamTimeout):
            await reply.read(0.01)
    await reply.aclose()


async def test_a_cancelled_reader_closes_all_the_same(transport: Transport, serve: Serve) -> None:
    """The upstream sees the end, and the next request is served."""

    def script(peer: Peer) -> None:
        peer.request()
        if peer.number == 1:
            peer.send(chunked(b"one", end=b""))
            assert peer.gone()
        else:
            peer.send(reply(b"two"))

    port = serve(script).port
    opened = await transport.open(post(port))
    with anyio.CancelScope() as scope:
        try:
            await opened.read(10)
            scope.cancel()
            await opened.read(10)
        finally:
            await opened.aclose()

    assert scope.cancelled_caught
    with pytest.raises(UpstreamTruncated):
        await opened.read(1)
    assert (await fetch(transport, post(port))).body == b"two"


async def test_our_own_keeps_nothing_between_requests(serve: Serve) -> None:
    transport, port = HttpxTransport(), serve(answer).port

    assert [(await fetch(transport, post(port))).body for _ in range(2)] == [b"connection 1", b"connection 2"]


async def test_what_cannot_be_promised_is_refused(serve: Serve) -> None:
    port = serve(answer).port
    given = HttpxTransport(httpx.AsyncHTTPTransport(trust_env=False))
    proxied = HttpxTransport(proxy=f"http://127.0.0.1:{port}")

    rows: list[tuple[HttpxTransport, dict[str, Any]]] = [
        (given, {"allow_private": False}),
        (proxied, {"allow_private": False}),
        (given, {"uds": "/socket"}),
        (HttpxTransport(), {"uds": "/socket", "allow_private": False}),
    ]
    for transport, options in rows:
        with pytest.raises(UpstreamUnreachable):
            await transport.open(post(port, **options))
    await given.aclose()


async def test_a_proxy_is_asked_for_the_whole_url(serve: Serve) -> None:
    heard: list[bytes | None] = []

    def script(peer: Peer) -> None:
        heard.append(peer.request())
        peer.send(reply(b"by proxy"))

    transport = HttpxTransport(proxy=f"http://127.0.0.1:{serve(script).port}")

    assert (await fetch(transport, post(8000, host="api.example"))).body == b"by proxy"
    assert (heard[0] or b"").startswith(b"POST http://api.example:8000/v1/responses HTTP/1.1\r\n")


async def test_a_unix_socket_is_an_upstream(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    serve(answer, path=path)

    assert (await fetch(HttpxTransport(), post(80, uds=str(path)))).body == b"connection 1"


async def test_trust_is_certifis_or_as_given(serve: Serve) -> None:
    authority, server = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    port = serve(answer, context=server).port

    for verify in (trusting, False):
        assert (await fetch(HttpxTransport(verify=verify), post(port, scheme="https"))).status == 200
    with pytest.raises(UpstreamUnreachable):
        await fetch(HttpxTransport(), post(port, scheme="https"))


def test_certifis_roots_are_read_once_in_a_process() -> None:
    assert trust(True, False) is trust(True, False) and trust(False, False) is trust(False, False)
    assert len({trust(verify, http2) for verify in (True, False) for http2 in (True, False)}) == 4


async def test_the_body_is_read_as_it_comes(transport: Transport, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(chunked(b"one", b"", end=b"")[:-5])
        peer.request()

    reply = await transport.open(post(serve(script).port))

    assert await reply.read(10) == b"one"
    await reply.aclose()


def test_importing_the_seam_imports_neither_httpx_nor_a_parser() -> None:
    """What is not needed is imported on first use."""
    code = (
        "import sys, gomodel_asgi.seams.transport as base; loaded = set(sys.modules);"
        "print([name for name in ('httpx', 'httpx2', 'httptools') if name in loaded])"
    )

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert found.strip() == "[]"
