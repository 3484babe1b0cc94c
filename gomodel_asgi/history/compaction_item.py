"""The compaction item of ours: what it looks like, and how the items that it stands for are sealed into it.

    "gmc2." base64url( 12 bytes of nonce, ciphertext and tag )        AES-256-GCM (NIST SP 800-38D)
    "gmc3." 48 hexadecimal digits                                      the random id of a text in the store

Each tenant has a key of its own, and mark and tenant are authenticated with the text, so that a foreign item is a
damaged one and nothing else. Items of the first format ("gmc1.") are recognized, and never open.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from ..wire.json_scan import parser

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

Json = dict[str, Any]

FAMILY = "gmc"
SEALED, KEPT = f"{FAMILY}2.", f"{FAMILY}3."
MARKS = (f"{FAMILY}1.", SEALED, KEPT)
NONCE_BYTES = 12


def _spellings(char: str) -> bytes:
    return rb"(?:%b|\\u00(?i:%02x))" % (re.escape(char).encode(), ord(char))


MARKED = re.compile(
    b'"' + b"".join(map(_spellings, FAMILY)) + b"(?:" + b"|".join(map(_spellings, "123")) + b")" + _spellings(".")
)
"""How a JSON text begins that begins with a mark, in every spelling of its characters."""

_items = parser(list[Json])


# Whether it is one of ours...


def is_ours(item: Json) -> bool:
    """Returns whether *item* claims to be one of ours."""
    text = item.get("encrypted_content")
    return isinstance(text, str) and is_marked(item.get("type"), text)


def begins_marked(raw: bytes | Raw) -> bool:
    """Returns whether the JSON text *raw* begins with a mark of ours."""
    return MARKED.match(memoryview(raw)) is not None


def is_marked(type: Any, content: str) -> bool:
    """Returns whether an item of this type, with this `encrypted_content`, claims to be one of ours."""
    return type == "compaction" and content.startswith(MARKS)


# One text...


def cipher() -> type[AESGCM] | None:
    """AES-GCM of the extra `encryption`; None where that is not installed."""
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        return None
    return AESGCM


def sealed(aead: AESGCM, owner: bytes, text: bytes) -> str:
    """*text* as it stands in an item of *owner*."""
    nonce = os.urandom(NONCE_BYTES)
    packed = nonce + aead.encrypt(nonce, text, SEALED.encode() + owner)
    return SEALED + base64.urlsafe_b64encode(packed).decode("ascii")


def opened(aead: AESGCM, owner: bytes, content: str) -> bytes | None:
    """The text in *content*; None where it was not sealed by *aead* for *owner*, or has been changed."""
    from cryptography.exceptions import InvalidTag

    given = content.removeprefix(SEALED)
    try:
        packed = base64.b64decode(given.encode("ascii"), b"-_", validate=True)
        if base64.urlsafe_b64encode(packed).decode("ascii") != given:
            return None  # bits that base64 has no use for were changed
        return aead.decrypt(packed[:NONCE_BYTES], packed[NONCE_BYTES:], SEALED.encode() + owner)
    except (binascii.Error, ValueError, InvalidTag):
        return None


def items_in(text: bytes) -> list[Json] | None:
    """The items in the *text* of a compaction item; None where it is damaged."""
    try:
        return _items(text)  # type: ignore[no-any-return]
    except (msgspec.MsgspecError, RecursionError):
        return None
