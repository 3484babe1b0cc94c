"""HTTP/1.1 on asyncio: fast, and strict about where one reply ends and the next begins.

framing       no I/O: where a reply begins and ends
connection    one socket: one reply at a time, one timer, backpressure both ways
pool          which connection serves whom, and who waits
client        the entry point, `Http11Transport`; from a name to a socket and TLS
"""

from .client import Http11Transport

__all__ = ["Http11Transport"]
