"""What was said, kept beside the rows for those exchanges that the host names: off by default, in a table of its own.

Of the request its `instructions` and `input`, of the answer its `output`: no tools, whose declarations may carry
credentials, and no header; keys of the house and of Targets are blacked out. Sealed with AES-256-GCM where there is a
key: one byte of format, twelve of nonce, ciphertext and tag. Each row has keys of its own, derived from the given one,
its id and which of the two it is: a value that is moved under another row does not open there.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from ..arguments import check_count, check_function, check_instance
from ..extras import missing
from ..routing.request import RoutingRequest
from ..settings import KIB
from ..threads import awaitable
from ..wire.json_body import Envelope
from ..wire.redaction import redacted
from .row import Kept

SIZE = 64 * KIB
"""Bytes of the request, and of the answer, that are kept unless the host says otherwise."""
KEY_BYTES = 32
"""AES-256."""
NONCE_BYTES = 12
"""The length that GCM is made for (NIST SP 800-38D, 8.2)."""
FORMAT = b"\x01"

Keep = Callable[[RoutingRequest], bool | timedelta | None | Awaitable[bool | timedelta | None]]


class RequestContent(msgspec.Struct):
    """What is kept of a request."""

    instructions: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Answered(msgspec.Struct):
    """What is kept of an answer."""

    output: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_answered = msgspec.json.Decoder(Answered).decode


class Content:
    """Keeps what is said in the exchanges that *keep* (plain or async) names, asked with each `RoutingRequest` that the
    policy has let in: True keeps it for *life*, a timedelta for so long, None or False not at all.

    *key* (32 random bytes, the same on every worker) seals it, which needs the extra `encryption`; None: it lies in
    clear. *size* bytes are kept of a request, and as many of an answer.

    :raises TypeError: an argument is of the wrong type.
    :raises ValueError: *key* is not 32 bytes, or *size* is below zero.
    :raises ImportError: there is a *key*, and cryptography is not installed.
    """

    def __init__(
        self, keep: Keep, *, key: bytes | None, life: timedelta = timedelta(days=30), size: int = SIZE
    ) -> None:
        check_function("keep", keep, "a function of the request")
        if key is not None:
            check_instance("key", key, bytes, f"{KEY_BYTES} bytes, or None")
            if len(key) != KEY_BYTES:
                raise ValueError(f"key: it must be {KEY_BYTES} bytes.")
        check_instance("life", life, timedelta, "a timedelta")
        check_count("size", size)
        self._keep = awaitable(keep)
        if key is not None:
            _cipher(key)
        self._key = key
        self.life = life
        self.size = size

    def __repr__(self) -> str:
        return f"<Content {'in clear' if self._key is None else 'encrypted'}>"

    async def life_of(self, request: RoutingRequest) -> timedelta | None:
        """Returns how long to keep what is said with *request*; None: not at all."""
        answer = await self._keep(request)
        if isinstance(answer, timedelta):
            return answer
        return self.life if answer else None

    def kept(
        self,
        id: UUID,
        tenant: str | None,
        expires: datetime,
        envelope: Envelope,
        answer: bytes | None,
        secrets: tuple[str, ...],
    ) -> Kept:
        """Returns the content of the exchange *id*: of its request, and of its *answer* (a response object)."""
        members = envelope.members
        names = [name for name in RequestContent.__struct_fields__ if name in members]
        content = RequestContent(**{name: members[name] for name in names})
        request, long = self._cut(redacted(secrets, msgspec.json.encode(content)))
        response, longer = (None, False) if answer is None else self._cut(redacted(secrets, _output(answer)))
        return Kept(
            id=id,
            tenant=tenant,
            expires=expires,
            request=self._sealed(id, b"request", request),
            response=None if response is None else self._sealed(id, b"response", response),
            truncated=long or longer,
            encrypted=self._key is not None,
        )

    def opened(self, kept: Kept) -> tuple[bytes, bytes | None]:
        """Returns the request and the answer in *kept*, in clear.

        :raises ValueError: they are sealed with another key, or with none that is here.
        """
        answer = kept.response
        return (
            self._opened(kept, b"request", kept.request),
            None if answer is None else self._opened(kept, b"response", answer),
        )

    def _cut(self, data: bytes) -> tuple[bytes, bool]:
        return data[: self.size], len(data) > self.size

    def _sealed(self, id: UUID, part: bytes, data: bytes) -> bytes:
        if self._key is None:
            return data
        nonce = os.urandom(NONCE_BYTES)
        return FORMAT + nonce + bytes(_cipher(self._key, id, part).encrypt(nonce, data, FORMAT))

    def _opened(self, kept: Kept, part: bytes, data: bytes) -> bytes:
        """Returns *data* in the clear: *part* of the content *kept*.

        :raises ValueError: it is sealed, and the key is another or missing.
        """
        if not kept.encrypted:
            return data
        if self._key is None:
            raise ValueError("This content is sealed: give the key.")
        from cryptography.exceptions import InvalidTag

        nonce, text = data[1 : 1 + NONCE_BYTES], data[1 + NONCE_BYTES :]
        try:
            return bytes(_cipher(self._key, kept.id, part).decrypt(nonce, text, data[:1]))
        except (InvalidTag, ValueError):
            raise ValueError("This content is sealed with another key.") from None


def _output(answer: bytes) -> bytes:
    try:
        return msgspec.json.encode(_answered(answer))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return b"{}"


def _cipher(key: bytes, id: UUID | None = None, part: bytes = b"") -> Any:
    """Returns the cipher for *part* of the content *id*.

    :raises ImportError: the extra `encryption` is not installed.
    """
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise missing("encryption", "Sealed content needs cryptography") from error
    return AESGCM(key if id is None else hmac.digest(key, id.bytes + part, "sha256"))
