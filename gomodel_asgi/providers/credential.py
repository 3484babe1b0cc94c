"""What a provider is paid with: a key as it is given, and the credential that a request carries."""

from __future__ import annotations

import hashlib
import inspect
import re
import secrets
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from ..arguments import refusal
from ..wire.headers import Headers
from ..wire.read_only import read_only


class Secret(Protocol):
    """A string that does not show itself: pydantic's `SecretStr`, known by its shape."""

    def get_secret_value(self) -> str:
        """Returns the string."""


ApiKey = str | Secret | Callable[[], str | Secret | Awaitable[str | Secret]]
KEY = re.compile(r"[\x21-\x7e]+")


class Credential(msgspec.Struct, frozen=True):
    """A key ready to be sent: *fingerprint* identifies it without revealing it, *headers* carry it."""

    key: str | None
    fingerprint: str
    headers: Headers

    def __repr__(self) -> str:
        return f"<Credential {self.fingerprint}>"


def check_key(key: Any, name: str = "api_key") -> None:
    """Refuses what cannot be an `api_key`, of a Provider or a Target; messages call it *name*. Its characters are
    looked at when it is used.

    :raises TypeError: it is of another type.
    :raises ValueError: it is empty.
    """
    if isinstance(key, str):
        if not key:
            raise ValueError(f"{name}: it is empty; give the key, or None.")
    elif key is not None and not callable(key) and not hasattr(key, "get_secret_value"):
        raise refusal(name, "a string, a SecretStr or a function that gives one", key)


async def resolved_key(key: ApiKey | None) -> str | None:
    """Returns *key* as a string, called and awaited where it is a function."""
    if key is None or isinstance(key, str):
        return key
    if callable(key):
        answer = key()
        value = await answer if inspect.isawaitable(answer) else answer
        return value if isinstance(value, str) else value.get_secret_value()
    return key.get_secret_value()


def credential_of(key: str | None, auth: str, provider: str) -> Credential:
    """Returns what the *key* of the *provider* of this name is sent as, by its *auth*.

    :raises ValueError: it holds what cannot stand in a header; the message never holds it.
    """
    if key is not None and not KEY.fullmatch(key):
        raise ValueError(f"api_key of provider '{provider}': a key must be printable ASCII without spaces.")
    headers: Headers = []
    if key is not None and auth == "bearer":
        headers = [(b"authorization", b"Bearer " + key.encode("ascii"))]
    elif key is not None and auth != "none":
        headers = [(auth.lower().encode("ascii"), key.encode("ascii"))]
    return Credential(key, fingerprint(key), read_only(headers))


_salt = secrets.token_bytes(16)


@lru_cache(maxsize=4096)
def fingerprint(key: str | None) -> str:
    """Returns a digest that identifies a credential without revealing it, keyed with a secret of this process."""
    return "" if key is None else hashlib.blake2b(key.encode(), key=_salt, digest_size=12).hexdigest()
