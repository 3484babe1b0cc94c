"""Which headers may cross, in which direction. Allow-lists: what is not named here stays where it is."""

from __future__ import annotations

import hashlib
import hmac
import random
import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from ..errors import InvalidRequest

Headers = list[tuple[bytes, bytes]]

# Who answered, and after how many attempts; a client's own header of the provider's name is a hint.
PROVIDER = HINT = b"x-gomodel-provider"
MODEL = b"x-gomodel-model"
ATTEMPTS = b"x-gomodel-attempts"

UPSTREAM_ID = b"x-upstream-request-id"
TO_CLIENT = {
    b"retry-after": b"retry-after",
    b"retry-after-ms": b"retry-after-ms",
    b"x-should-retry": b"x-should-retry",
    b"openai-processing-ms": b"openai-processing-ms",
    b"openai-version": b"openai-version",
    b"x-request-id": UPSTREAM_ID,
    b"request-id": UPSTREAM_ID,
}
"""Headers of an upstream that the client may see, and the names under which it does."""
TO_CLIENT_PREFIX = b"x-ratelimit-"

# What identifies somebody, or belongs to one hop (RFC 9110, 7.6.1): no option may forward these.
NEVER_FORWARDED = frozenset(
    {
        "authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api-key", "x-goog-api-key",
        "openai-organization", "openai-project", "host", "content-length", "content-type", "content-encoding",
        "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect", "accept-encoding",
        "proxy-connection", "proxy-authenticate", "idempotency-key"
    },
)  # fmt: skip

FALLBACK = b"x-gomodel-fallback"
UNSUPPORTED = b"x-gomodel-unsupported"
CACHE = b"x-gomodel-cache"
INDEX = re.compile(r"\[[0-9]+\]")
UNPRINTABLE = re.compile(r"[^\x21-\x2b\x2d-\x7e]")  # the comma among it
MOST_NAMES = 20
"""Names in the value of one header: servers and proxies bound its length."""
MOST_OF_NAME = 128  # characters: a client's own names may have any length
MOST_OF_NAMES = 512  # bytes

REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:=-]{1,128}")
TOKEN = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]{1,128}")  # RFC 9110, 5.6.2; a transport of the host's need not check
VISIBLE = re.compile(rb"[\x20-\x7e\t]*")
SINGLE = frozenset({b"authorization", b"host", b"content-type", b"content-length", b"content-encoding"})


# Keep caches from storing an answer, and proxies from holding a stream back to compress it (RFC 9111, 5.2.2).
CACHE_CONTROL = (b"cache-control", b"private, no-store")
VARY = (b"vary", b"authorization, cookie")  # a cache that stores it all the same gives it to nobody else
CACHE_CONTROL_OF_STREAMS = (b"cache-control", b"private, no-store, no-transform")


def cache_header(operation: str | None, headers: Headers) -> Headers:
    """Returns `x-gomodel-cache: bypass` where a reply to a create, which has *headers*, says nothing of the cache: its
    request did not get that far."""
    if operation != "create" or header(headers, CACHE) is not None:
        return []
    return [(CACHE, b"bypass")]


def is_safe(value: bytes, limit: int = 1024) -> bool:
    """Returns whether *value* may stand in a header: printable ASCII of at most *limit* bytes."""
    return len(value) <= limit and VISIBLE.fullmatch(value) is not None


def read(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Returns the request's headers by lower-case name, the first of each.

    :raises InvalidRequest: a header that must be single is repeated (RFC 9110, 5.3): two readers could disagree.
    """
    pairs = headers if isinstance(headers, list) else [*headers]
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    found = {}
    for name, value in pairs:
        if name not in found:
            found[name] = value
        elif name in SINGLE:
            raise InvalidRequest(f"The header '{name.decode()}' is repeated.", code="repeated_header")
    return found


def request_id(given: bytes | None) -> str:
    """Returns the caller's request id if it is well-formed, else a new one."""
    if given is not None and REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return f"req_{random.getrandbits(128):032x}"  # has to be unique, not secret; `random` reseeds itself after a fork


def unsupported(paths: Iterable[str]) -> bytes:
    """Returns the value of `x-gomodel-unsupported`: the members at *paths* without the indexes of lists, each once, as
    many as the bounds allow. What is no printable ASCII, or would end a name, is replaced."""
    names = dict.fromkeys(UNPRINTABLE.sub("?", INDEX.sub("", path))[:MOST_OF_NAME] for path in paths)
    value = ", ".join(list(names)[:MOST_NAMES])
    if len(value) > MOST_OF_NAMES:
        value = value[: value.rfind(", ", 0, MOST_OF_NAMES)]
    return value.encode("ascii")


def fallback(reason: str) -> bytes:
    """Returns the value of `x-gomodel-fallback`: the code of the failure, which an upstream may have chosen, in
    printable ASCII."""
    return UNPRINTABLE.sub("?", reason[:MOST_OF_NAME]).encode("ascii")


def idempotency_key(tenant: str | None, credential: str, value: bytes) -> bytes:
    """Returns the client's key bound to tenant and credential: equal keys of two tenants never meet upstream. None, ""
    and "None" are three tenants.

    The same on every worker and for every attempt of one Target, since nothing random goes in.
    """
    whose = b"-" if tenant is None else b"+" + tenant.encode("utf-8", "surrogatepass")
    return hmac.new(credential.encode(), b"%s\0%s" % (whose, value), hashlib.sha256).hexdigest().encode()


def for_client(
    upstream: Iterable[tuple[bytes, bytes]], redacted: Callable[[bytes], bytes], *, limits: bool = True
) -> Headers:
    """Returns those of an upstream's headers that the client may see, *redacted*, its request id under a name of its
    own; without *limits* not those on the rate limits of the operator's account."""
    passed: Headers = []
    for name, value in upstream:
        shown = TO_CLIENT.get(name)
        if shown is None:
            if not limits or not name.startswith(TO_CLIENT_PREFIX) or not TOKEN.fullmatch(name):
                continue
            shown = name
        if REQUEST_ID.fullmatch(value) if shown == UPSTREAM_ID else is_safe(value):
            passed.append((shown, redacted(value)))
    return passed


def header(headers: Headers, name: bytes) -> bytes | None:
    """Returns the first header of this (lower-case) name."""
    return next((value for key, value in headers if key == name), None)


@lru_cache(maxsize=4096)
def named(provider: str, model: str, attempts: int) -> Headers:
    """Returns the headers that say who answered; without the model where that cannot stand in a header."""
    value = model.encode()
    served = [(MODEL, value)] if value and is_safe(value, 256) else []
    return [(PROVIDER, provider.encode("ascii")), *served, (ATTEMPTS, b"%d" % attempts)]
