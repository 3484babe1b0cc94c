"""`HttpxTransport`: a transport of httpx or httpx2 behind our seam, on asyncio and trio.

Strategy: the *transport* of the library, not its client, so there is no cookie jar, no redirect, no environment. What
the library could do with time is switched off (but for connect and pool): deadlines are ours, by cancellation, since
its own count per read and start anew with each byte. After a cancelled read its stream cannot be read again.

What the wrapped library cannot be made to do is refused rather than half done: see `allow_private` and `uds` below.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, suppress
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

import anyio
import anyio.to_thread

from ..arguments import check_flags, check_instance, check_string
from ..errors import GatewayError, UpstreamError, UpstreamProtocolError, UpstreamTruncated, UpstreamUnreachable
from ..seams.transport import Headers, Listener, UpstreamRequest
from .httpx_errors import LIBRARIES, meaning_of
from .request import EXPECTS_BODY, MAX_HEAD, MAX_HEADERS, addresses_of, authority, request_head, unreachable
from .slots import ConnectionLimit, of_process

VERSIONS = (b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2")
CLOSING = 2.0
"""Seconds that closing may take, shielded from cancellation: TLS says goodbye, an HTTP/2 stream is reset."""


def library_of(transport: object) -> ModuleType:
    """Returns httpx or httpx2, whichever *transport* is an `AsyncBaseTransport` of.

    :raises TypeError: it is of neither.
    """
    for kind in type(transport).__mro__:
        library = kind.__module__.partition(".")[0]
        if kind.__name__ == "AsyncBaseTransport" and library in LIBRARIES:
            return import_module(library)
    raise TypeError(
        f"{type(transport).__name__} is neither an httpx.AsyncBaseTransport nor an httpx2.AsyncBaseTransport."
    )


class HttpxReply:
    """A reply that is being read; see `UpstreamReply`. Content codings are left as they came."""

    resumable = False

    def __init__(self, response: Any, stack: AsyncExitStack) -> None:
        self.status: int = response.status_code
        self.headers: Headers = [(name.lower(), value) for name, value in response.headers.raw]
        self._stack = stack
        self._chunks: AsyncIterator[bytes] = response.stream.__aiter__()
        self._failure: GatewayError | None = None

    async def read(self, timeout: float) -> bytes:
        """See `UpstreamReply.read`; a read that was cancelled cannot be repeated.

        :raises GatewayError: the reply broke off, came too late or cannot be used.
        """
        if self._failure is not None:
            raise self._failure
        # Whatever ends this read but a chunk or the end, even cancellation, leaves a stream that cannot be read on.
        self._failure = UpstreamTruncated("The reply was closed.")
        try:
            chunk = await self._next(timeout)
        except GatewayError as error:
            self._failure = error
            raise
        self._failure = None
        return chunk

    async def aclose(self) -> None:
        """Closes the reply within `CLOSING` seconds. Never raises."""
        self._failure = UpstreamTruncated("The reply was closed.")
        await _close(self._stack)
        await _finish(self._chunks)

    async def _next(self, timeout: float) -> bytes:
        try:
            with anyio.fail_after(timeout):
                while not (chunk := await anext(self._chunks, None)):
                    if chunk is None:
                        return b""
                return chunk
        except Exception as error:
            _reraise(error, reading=True)


class Once:
    """A body in one piece. The libraries' own is a generator, which a write that is given up leaves unfinished."""

    def __init__(self, data: bytes) -> None:
        self.data: bytes | None = data

    @property
    def begun(self) -> bool:
        """Whether the head has gone out, and the body is next."""
        return self.data is None

    def __aiter__(self) -> Once:
        return self

    async def __anext__(self) -> bytes:
        """Gives the body, the first time.

        :raises StopAsyncIteration: later.
        """
        data, self.data = self.data, None
        if data is None:
            raise StopAsyncIteration
        return data


@lru_cache(maxsize=4)
def trust(verify: bool, http2: bool) -> ssl.SSLContext:
    """Returns the context of all transports with these options: to read certifi's roots takes 20 ms. *http2* tells two
    apart because httpcore writes into a context which protocols it offers."""
    context: ssl.SSLContext = import_module("httpx").create_ssl_context(verify, trust_env=False)
    return context


@lru_cache(maxsize=2)
def _body_of(library: ModuleType) -> Any:
    return type("Body", (Once, library.AsyncByteStream), {})


class HttpxTransport:
    """Makes requests through *transport*, an `httpx.AsyncBaseTransport` or `httpx2.AsyncBaseTransport`, as it is given:
    how it pools, and what it keeps between requests, is up to it.

    Without one, httpx is used with a transport of its own for each request, closed with its reply: nothing is shared
    between tenants, and nothing can leak from one request into the next. *proxy* (a URL), *http2* and *verify* (False,
    or an `ssl.SSLContext`) are then httpx's options; the environment is not read.

    `UpstreamRequest.allow_private=False` is refused (`UpstreamUnreachable`) with a transport that was given or with a
    proxy: there it is not we who connect. `uds` is refused with a transport that was given.
    """

    def __init__(
        self,
        transport: Any = None,
        *,
        proxy: str | None = None,
        http2: bool = False,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        if proxy is not None:
            check_string("proxy", proxy, "a URL")
        check_flags(http2=http2)
        check_instance("verify", verify, ssl.SSLContext | bool, "True, False, or an ssl.SSLContext")
        self._given = transport
        self._library = None if transport is None else library_of(transport)
        self._proxy = proxy
        self._http2 = http2
        self._verify = verify
        self._connections = of_process()

    def attach(self, connections: ConnectionLimit, listener: Listener) -> None:
        """Adopts a gateway's limit of *connections*, which bounds those that are made here, not those of a transport
        given.
        """
        self._connections = self._connections.lower(connections)

    async def open(self, request: UpstreamRequest) -> HttpxReply:
        """Sends *request* and waits for the reply's headers; see `Transport`.

        :raises ValueError: a header, the method or the target would break the framing.
        :raises Overloaded: the pool of a transport that was given has no connection free.
        """
        self._refuse(request)
        request_head(request, authority(request.scheme, request.host, request.port))  # for what it refuses
        stack = AsyncExitStack()
        body = _body_of(self._library or import_module("httpx"))(request.body) if request.body else None
        try:
            with anyio.fail_after(request.deadline):
                response = await self._send(request, body, stack)
            _check(response)
            return HttpxReply(response, stack)
        except BaseException as error:
            await _close(stack)
            if not isinstance(error, Exception):
                raise
            _reraise(error, reading=False, sent=body is None or body.begun)

    async def aclose(self) -> None:
        """Closes the transport that was given; without one there is nothing to close."""
        if self._given is not None:
            stack = AsyncExitStack()
            stack.push_async_callback(self._given.aclose)
            await _close(stack)

    # One request...

    async def _send(self, request: UpstreamRequest, body: Once | None, stack: AsyncExitStack) -> Any:
        transport = self._given
        if transport is None:
            slots = self._connections.here()
            await slots.enter(request.timeouts.pool)
            stack.callback(slots.give)
            transport = await self._own(request.uds)
            stack.push_async_callback(transport.aclose)
        response = await self._first(transport, request, body)
        stack.push_async_callback(response.aclose)
        return response

    async def _first(self, transport: Any, request: UpstreamRequest, body: Once | None) -> Any:
        """Returns the response of the first address that answers; with `allow_private` the library itself looks them
        up.

        :raises UpstreamUnreachable: no address answers, or there is none.
        """
        if request.allow_private:
            return await transport.handle_async_request(self._translate(request, body, request.host))
        addresses = await addresses_of(request)
        for address in addresses:
            try:
                return await transport.handle_async_request(self._translate(request, body, address))
            except Exception as error:
                meaning = meaning_of(error, reading=False)
                if address == addresses[-1] or getattr(meaning, "kind", None) != "connect":
                    raise
        raise unreachable("The name has no address.")

    def _translate(self, request: UpstreamRequest, body: Once | None, host: str) -> Any:
        """Returns *request* in the library's form, to be sent to *host*: its own, or an address of it."""
        library = self._library or import_module("httpx")
        own = authority(request.scheme, request.host, request.port)
        headers = [(b"host", own), *request.headers, (b"accept-encoding", b"identity")]
        host = f"[{host}]" if ":" in host else host
        if not request.body and request.method in EXPECTS_BODY:
            headers.append((b"content-length", b"0"))
        translated = library.Request(
            request.method.decode("ascii"),
            f"{request.scheme}://{host}:{request.port}{request.target.decode('ascii')}",
            headers=headers,
            content=request.body,
            extensions=_extensions(request, self._proxy is not None),
        )
        if body is not None:
            translated.stream = body
        return translated

    async def _own(self, uds: str | None) -> Any:
        httpx = import_module("httpx")
        if not isinstance(self._verify, ssl.SSLContext):
            self._verify = await anyio.to_thread.run_sync(trust, self._verify, self._http2)  # not on the event loop
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=0)
        return httpx.AsyncHTTPTransport(
            verify=self._verify, trust_env=False, http2=self._http2, limits=limits, proxy=self._proxy, uds=uds
        )

    def _refuse(self, request: UpstreamRequest) -> None:
        """Checks that the upstream may be connected to.

        :raises UpstreamUnreachable: it may not.
        """
        if not request.allow_private and (self._given is not None or self._proxy or request.uds):
            raise UpstreamUnreachable("This transport cannot know whether the upstream's address is public.")
        if request.uds is not None and self._given is not None:
            raise UpstreamUnreachable("This transport was not made for a Unix socket.")


def _extensions(request: UpstreamRequest, by_proxy: bool) -> dict[str, Any]:
    """Returns httpcore's per-request options. `target`: the path as it came; `sni_hostname`: whose certificate."""
    timeouts = {"connect": request.timeouts.connect, "pool": request.timeouts.pool, "read": None, "write": None}
    extensions: dict[str, Any] = {"timeout": timeouts, "target": request.target}
    if by_proxy:
        del extensions["target"]  # a proxy needs the whole URL in the request line
    if not request.allow_private:
        extensions["sni_hostname"] = request.host.rstrip(".")  # and that of the certificate: the URL has a number
    return extensions


def _check(response: Any) -> None:
    """Refuses what the libraries let pass and Http11Transport would not, as far as they report it.

    :raises UpstreamProtocolError: the reply cannot be used.
    """
    version = response.extensions.get("http_version", b"HTTP/1.1")
    names = [name.lower() for name, _ in response.headers.raw]
    size = sum(len(name) + len(value) + 4 for name, value in response.headers.raw)
    framings = b"content-length" in names or version == b"HTTP/1.0"
    reasons = {
        "its version is not HTTP/1.1": version not in VERSIONS,
        "its status is out of range": not 200 <= response.status_code <= 599,
        "its head is too large": len(names) > MAX_HEADERS or size > MAX_HEAD,
        "its framing is ambiguous": b"transfer-encoding" in names and framings,
    }
    for reason, holds in reasons.items():
        if holds:
            raise UpstreamProtocolError(f"The upstream's reply cannot be used: {reason}.")


def _reraise(error: Exception, *, reading: bool, sent: bool = True) -> NoReturn:
    """Raises our error for *error*, or *error* itself where it does not come from the network. *sent*: the upstream may
    have the request.

    :raises GatewayError: always, or *error* itself.
    """
    ours = meaning_of(error, reading=reading)
    if ours is None:
        raise error
    if isinstance(ours, UpstreamError) and not sent:
        ours.sent = False
    raise ours from error


async def _finish(chunks: AsyncIterator[bytes]) -> None:
    # The libraries' streams are generators within generators, and closing the outer one leaves the inner ones to the
    # collector, which trio reports. Reading on from what is closed gives what had come already, then raises through all
    # of them.
    if isinstance(chunks, AsyncGenerator):
        with anyio.move_on_after(CLOSING, shield=True), suppress(Exception):
            while await anext(chunks, None) is not None:
                pass
            await chunks.aclose()


async def _close(stack: AsyncExitStack) -> None:
    # A library that fails to close has nothing more to say: the reply is over, and its caller must go on.
    with anyio.move_on_after(CLOSING, shield=True), suppress(Exception):
        await stack.aclose()
