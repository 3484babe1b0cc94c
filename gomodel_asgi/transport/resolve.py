"""Which addresses a request may be sent to: looked up and judged before anything is connected to.

A name is looked up for each connection anew, and what was judged is what is dialled, as a number: no later answer of
the resolver (DNS rebinding), and no race between addresses, leads to one that was not judged.
"""

from __future__ import annotations

import socket
from itertools import zip_longest

from anyio import getaddrinfo

from ..errors import UpstreamUnreachable
from ..seams.transport import UpstreamRequest
from .addresses import is_public

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
