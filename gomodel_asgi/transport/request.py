"""What a request needs before anything is sent: the addresses it may be sent to, the race between them, and its head.

A name is looked up for each connection anew, and what was judged is what is dialled, as a number: no later answer of
the resolver (DNS rebinding), and no race between addresses, leads to one that was not judged.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from itertools import zip_longest
from typing import TypeVar

import anyio
import msgspec
from anyio import getaddrinfo

from ..errors import UpstreamProtocolError, UpstreamTimeout, UpstreamUnreachable
from ..seams.transport import Headers, UpstreamRequest
from ..settings import CLOSED, CONNECT
from .slots import Slots


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where an MCP server is, and what each request to it carries; see `UpstreamRequest`. *secrets* are taken out of
    its replies."""

    scheme: str
    host: str
    port: int
    target: bytes
    headers: Headers
    credential: str
    allow_private: bool
    secrets: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """The URL without a path, the port always there."""
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"<Place {self.origin}>"


# Which addresses are public (IANA special-purpose registries, RFC 6890), and so may be reached by a tenant's URL.


NAT64 = IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are the IPv4 address that is really reached."""
INWARD = (
    IPv4Network("192.0.0.0/24"),  # RFC 6890; Oracle's cloud answers 192.0.0.192
    IPv4Network("192.88.99.0/24"),  # RFC 7526: relays of 6to4
    IPv4Network("168.63.129.16/32"),  # public by number, but Azure's own: what each of its machines may ask
    IPv6Network("3fff::/20"),  # RFC 9637: documentation
    IPv6Network("5f00::/16"),  # RFC 9602: segment routing
)
"""What no provider answers at, and `ipaddress` of some Python calls global."""
TUNNELS = (IPv6Network("2002::/16"), IPv6Network("2001::/32"))
"""6to4 and Teredo: an IPv4 address inside, perhaps a private one, and no provider's API behind it."""


def is_public(address: str) -> bool:
    """Returns whether *address*, numeric, is one of the open internet. What is not an address is not public."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return _is_global(_embedded(parsed))


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_global(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address) and (address.is_site_local or any(address in net for net in TUNNELS)):
        return False
    if any(address in network for network in INWARD if network.version == address.version):
        return False
    special = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_link_local
    return address.is_global and not special and not address.is_loopback and not address.is_private


MOST_ADDRESSES = 8
"""Of one name: whoever owns a name could otherwise make us connect to any number of machines."""


async def addresses_of(request: UpstreamRequest) -> list[str]:
    """Returns the numeric addresses of the request's host, IPv6 and IPv4 by turns, the resolver's first one first.

    With `allow_private=False` one that is not public refuses the name, whatever its others are: no provider's name has
    one, and where it has, somebody else decides which is tried first.

    :raises UpstreamUnreachable: there is no such name, or it may not be connected to.
    """
    host = request.host
    literal = ":" in host or host.replace(".", "").isdigit()
    found = [host] if literal else await _looked_up(host, request.port)
    if not request.allow_private:
        for address in found:
            if not is_public(address):
                raise unreachable(f"The address {address} is not public.")
    return found[:MOST_ADDRESSES]


def unconnected(message: str = "No connection to the upstream could be made in time.") -> UpstreamTimeout:
    """Returns the error of an upstream whose connection took longer than it may: nothing has been sent."""
    error = UpstreamTimeout(message)
    error.kind, error.sent = CONNECT, False
    return error


def unanswered(
    message: str = "The upstream closed the connection without a reply.",
) -> UpstreamProtocolError:
    """Returns the error of an upstream that closed a connection on which it was to answer."""
    error = UpstreamProtocolError(message)
    error.kind = CLOSED
    return error


def unreachable(detail: str) -> UpstreamUnreachable:
    """Returns the error of an upstream without a connection; *detail* is for the operator, not for the client."""
    return UpstreamUnreachable("No connection to the upstream could be made.", detail=detail)


async def _looked_up(host: str, port: int) -> list[str]:
    """Returns the addresses of *host*.

    :raises UpstreamUnreachable: the name cannot be resolved.
    """
    families: dict[int, list[str]] = {}
    try:
        found = await getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    except (OSError, ValueError, OverflowError) as error:
        raise unreachable(f"{type(error).__name__}: {error}") from error
    for family, _, _, _, address in found:
        families.setdefault(family, []).append(str(address[0]))
    by_turns = zip_longest(*families.values())
    return list(dict.fromkeys(address for turn in by_turns for address in turn if address is not None))


STAGGER = 0.25
"""Seconds before the next address is tried beside the last one (RFC 8305, 5: "Connection Attempt Delay")."""

Connection = TypeVar("Connection")


async def race(
    addresses: Iterable[str],
    dial: Callable[[str], Awaitable[Connection]],
    slots: Slots,
    drop: Callable[[Connection], Awaitable[None]],
) -> Connection:
    """Returns a connection to the first of *addresses* that answers (RFC 8305). The first one has a slot; others begin
    beside it only where there is one to spare. Those that are too late are cancelled, or closed by *drop*.

    :raises OSError: none of them answers; the last one's error, whatever it is.
    """
    untried, running, made = deque(addresses), 0, list[Connection]()
    failure: Exception = OSError("The name has no address.")
    ended = anyio.Event()

    async def attempt(address: str) -> None:
        nonlocal running, failure
        try:
            made.append(await dial(address))
            tasks.cancel_scope.cancel()
        except Exception as error:
            failure = error
        finally:
            running -= 1
            if running:
                slots.give()
            ended.set()

    try:
        async with anyio.create_task_group() as tasks:
            while untried:
                if not running or slots.spare():
                    running += 1
                    tasks.start_soon(attempt, untried.popleft())
                ended = anyio.Event()
                with anyio.move_on_after(STAGGER):
                    await ended.wait()
        if not made:
            raise failure
        return made.pop(0)
    finally:
        for connection in made:  # all but the first, or all where we are cancelled
            await drop(connection)


# The head of a request as it goes on the wire (RFC 9112, 3 and 5), and how large that of a reply may be.


OWN = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade", b"te", b"trailer"}
)
"""Headers that say how the message is framed: a second one, from elsewhere, would make two readings of one request."""
DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_HEAD = 64 * 1024
"""Bytes of a reply's head, interim replies included. Servers and clients allow 8 to 64 KiB."""
MAX_HEADERS = 200
"""Headers of one reply."""
EXPECTS_BODY = frozenset({b"POST", b"PUT", b"PATCH"})


def authority(scheme: str, host: str, port: int) -> bytes:
    """Returns the value of the `host` header: brackets around IPv6, no default port.

    :raises ValueError: *scheme* is neither http nor https, or *host* is not ASCII (an internationalised name must come
        in its `xn--` form).
    """
    if scheme not in DEFAULT_PORTS:
        raise ValueError(f"The scheme {scheme!r} is neither http nor https.")
    name = f"[{host}]" if ":" in host else host
    return (name if DEFAULT_PORTS[scheme] == port else f"{name}:{port}").encode("ascii")


def request_head(request: UpstreamRequest, host: bytes) -> bytes:
    """Returns the request line and headers of *request* with the empty line (RFC 9112, 2.1), *host* as its `host`
    header.

    :raises ValueError: CR, LF or NUL anywhere, a space in method or target, or a header that is the transport's own.
    """
    return finished(opening(request, host), request)


def opening(request: UpstreamRequest, host: bytes) -> bytes:
    """Returns the head without the body's length and the empty line: what two requests of one kind have in common.

    :raises ValueError: as `request_head`.
    """
    lines = [b"%s %s HTTP/1.1\r\nhost: %s\r\naccept-encoding: identity" % (request.method, request.target, host)]
    for name, value in request.headers:
        if name in OWN:
            raise ValueError(f"Header {name!r} belongs to the transport.")
        lines.append(b"%s: %s" % (name, value))
    lines.append(b"")
    head = b"\r\n".join(lines)
    check(head, len(lines) + 1, request.method + request.target)
    return head


def finished(opening: bytes, request: UpstreamRequest) -> bytes:
    """Returns the whole head that begins with *opening*."""
    if request.body is not None:
        return b"%bcontent-length: %d\r\n\r\n" % (opening, len(request.body))
    return opening + (b"content-length: 0\r\n\r\n" if request.method in EXPECTS_BODY else b"\r\n")


def check(head: bytes, ends: int, request_line: bytes) -> None:
    """Checks that *head* reads as no more lines and words than were written.

    The whole head is searched at once, as that is cheaper than each value: it must hold exactly *ends* line ends.

    :raises ValueError: CR, LF or NUL in the head, or a space in *request_line*.
    """
    if head.count(b"\n") != ends or head.count(b"\r") != ends or b"\0" in head:
        raise ValueError("CR, LF or NUL in a request line or header.")
    if b" " in request_line:
        raise ValueError("A space in a method or request target.")
