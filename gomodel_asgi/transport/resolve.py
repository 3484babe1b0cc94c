"""Which addresses a request may be sent to: looked up and judged before anything is connected to.

A name is looked up for each connection anew, and what was judged is what is dialled, as a number: no later answer of
the resolver (DNS rebinding), and no race between addresses, leads to one that was not judged.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from itertools import zip_longest

from anyio import getaddrinfo

from ..errors import UpstreamUnreachable
from ..seams.transport import UpstreamRequest

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
    """Whether *address*, numeric, is one of the open internet. What is not an address is not public."""
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
"""Of one name: whoever owns a name could else have us knock at any number of doors."""


async def addresses_of(request: UpstreamRequest) -> list[str]:
    """Numeric addresses of the request's host, the families by turns, the resolver's favourite first.

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


def unreachable(detail: str) -> UpstreamUnreachable:
    """The error that says no more to the client than that; *detail* is for the operator."""
    return UpstreamUnreachable("No connection to the upstream could be made.", detail=detail)


async def _looked_up(host: str, port: int) -> list[str]:
    families: dict[int, list[str]] = {}
    try:
        found = await getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    except (OSError, ValueError, OverflowError) as error:
        raise unreachable(f"{type(error).__name__}: {error}") from error
    for family, _, _, _, address in found:
        families.setdefault(family, []).append(str(address[0]))
    by_turns = zip_longest(*families.values())
    return list(dict.fromkeys(address for turn in by_turns for address in turn if address is not None))
