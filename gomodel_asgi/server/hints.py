"""The provider hint, gathered from where a client may put it; it never goes further than this."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote_plus

from ..errors import InvalidRequest, ProviderConflict
from ..wire.headers import HINT

LONGEST = 256  # a provider's name has 64 characters at the most; what is longer is no hint but an attempt


def split_query(raw: bytes) -> tuple[str, list[str]]:
    """The raw query without its `provider` members, and those members' values.

    :raises InvalidRequest: the query holds bytes that no URL may hold.
    """
    if not raw:
        return "", []
    if any(byte <= 0x20 or byte >= 0x7F for byte in raw):
        raise InvalidRequest("The query string is not a valid one.", code="invalid_query")
    kept, hints = [], []
    for part in raw.decode("ascii").split("&"):
        name, _, value = part.partition("=")
        if unquote_plus(name) == "provider":
            hints.append(unquote_plus(value))
        else:
            kept.append(part)
    return "&".join(kept), hints


def agreed(body: str | None, headers: Iterable[tuple[bytes, bytes]], query: list[str]) -> str | None:
    """The one hint that all explicit sources give, None where there is none.

    :raises ProviderConflict: two of them disagree.
    :raises InvalidRequest: a hint holds what no name can hold.
    """
    given = [value.decode("latin-1") for name, value in headers if name == HINT]
    if not given and not query:
        return _checked(body or None)
    found = {hint.strip() for hint in (*given, *query, body or "")} - {""}
    if len(found) > 1:
        raise ProviderConflict("The provider hints in body, header and query disagree; give one.")
    return _checked(next(iter(found), None))


def _checked(hint: str | None) -> str | None:
    if hint is not None and (len(hint) > LONGEST or not hint.isprintable()):
        raise InvalidRequest("'provider' is not a provider's name.", param="provider", code="invalid_type")
    return hint
