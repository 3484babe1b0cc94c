"""The head of a request as it goes on the wire (RFC 9112, 3 and 5), and how large that of a reply may be."""

from __future__ import annotations

from ..seams.transport import UpstreamRequest

OWN = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade", b"te", b"trailer"}
)
"""Headers that say how the message is framed: a second one, from elsewhere, would make two readings of one request."""
DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_HEAD = 64 * 1024
"""Bytes of a reply's head, interim replies included. Servers and clients allow 8 to 64 KiB."""
MAX_HEADERS = 200
EXPECTS_BODY = frozenset({b"POST", b"PUT", b"PATCH"})


def authority(scheme: str, host: str, port: int) -> bytes:
    """The value of the `host` header: brackets around IPv6, no default port.

    :raises ValueError: *scheme* is neither http nor https, or *host* is not ASCII (an internationalised name must come
        in its `xn--` form).
    """
    if scheme not in DEFAULT_PORTS:
        raise ValueError(f"The scheme {scheme!r} is neither http nor https.")
    name = f"[{host}]" if ":" in host else host
    return (name if DEFAULT_PORTS[scheme] == port else f"{name}:{port}").encode("ascii")


def request_head(request: UpstreamRequest, host: bytes) -> bytes:
    """Request line and headers of *request*, with the empty line, for the `host` header *host*.

    :raises ValueError: CR, LF or NUL anywhere, a space in method or target, or a header that is the transport's own.
    """
    return finished(opening(request, host), request)


def opening(request: UpstreamRequest, host: bytes) -> bytes:
    """All of the head but the body's length and the empty line: what two requests of one kind have in common.

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
    """The head that begins with *opening*."""
    if request.body is not None:
        return b"%bcontent-length: %d\r\n\r\n" % (opening, len(request.body))
    return opening + (b"content-length: 0\r\n\r\n" if request.method in EXPECTS_BODY else b"\r\n")


def check(head: bytes, ends: int, request_line: bytes) -> None:
    """Refuse what would read as more lines or words than were written.

    The whole head is searched at once, as that is cheaper than each value: it must hold exactly *ends* line ends.
    """
    if head.count(b"\n") != ends or head.count(b"\r") != ends or b"\0" in head:
        raise ValueError("CR, LF or NUL in a request line or header.")
    if b" " in request_line:
        raise ValueError("A space in a method or request target.")
