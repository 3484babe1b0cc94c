"""The compaction item of ours: what it looks like, and how the items that it stands for are sealed into it.

    "gmc1." base64url( 16 bytes of nonce, ciphertext, 32 bytes of tag )

Each tenant has a key of its own, derived from the store's secret, so that a foreign item is damaged and nothing else.
Encrypt-then-MAC: the text is XORed with SHAKE-256 of key and nonce (FIPS 202, section 6.2, as an extendable-output
function that is read once per nonce), nonce and ciphertext are signed with HMAC-SHA-256 (RFC 2104) under another key.
With a shared store give it a `secret`: without one the keys are the same everywhere, and hide nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from typing import Any

from msgspec import Raw

Json = dict[str, Any]

MARK = "gmc1."
MARKED = re.compile(b'"' + b"".join(rb"(?:%b|\\u00(?i:%02x))" % (re.escape(char).encode(), ord(char)) for char in MARK))
"""How a JSON text begins that begins with it, in every spelling of these characters."""
NONCE_BYTES = 16
TAG_BYTES = 32


# Whether it is one of ours...


def is_ours(item: Json) -> bool:
    """Whether *item* claims to be one of ours."""
    text = item.get("encrypted_content")
    return isinstance(text, str) and is_marked(item.get("type"), text)


def begins_marked(raw: bytes | Raw) -> bool:
    """Whether the JSON text *raw* begins with our mark."""
    return MARKED.match(memoryview(raw)) is not None


def is_marked(type: Any, content: str) -> bool:
    """Whether an item of this type, with this `encrypted_content`, claims to be one of ours."""
    return type == "compaction" and content.startswith(MARK)


# One text...


def sealed(keys: bytes, text: str) -> str:
    """*text* under *keys* (64 bytes), as it stands in an item."""
    nonce = os.urandom(NONCE_BYTES)
    hidden = _crossed(keys[:32], nonce, text.encode("utf-8", "surrogatepass"))
    packed = nonce + hidden + hmac.digest(keys[32:], nonce + hidden, "sha256")
    return MARK + base64.urlsafe_b64encode(packed).decode("ascii")


def opened(keys: bytes, content: str) -> str | None:
    """The text in *content*; None where it was not sealed with *keys*, or has been changed."""
    try:
        packed = base64.b64decode(content[len(MARK) :].encode("ascii"), b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    signed, tag = packed[:-TAG_BYTES], packed[-TAG_BYTES:]
    if len(signed) < NONCE_BYTES or not hmac.compare_digest(hmac.digest(keys[32:], signed, "sha256"), tag):
        return None
    return _crossed(keys[:32], signed[:NONCE_BYTES], signed[NONCE_BYTES:]).decode("utf-8", "surrogatepass")


def _crossed(key: bytes, nonce: bytes, text: bytes) -> bytes:
    stream = hashlib.shake_256(key + nonce).digest(len(text))
    return (int.from_bytes(text) ^ int.from_bytes(stream)).to_bytes(len(text))
