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
from typing import Any

import msgspec

from ..envelope import Envelope, invalid_json

Json = dict[str, Any]

MARK = "gmc1."
# Members of a body that are lists of items.
LISTS = ("input", "items")
# The mark, or a letter of it that is escaped: without one of these in it, a body has no item of ours.
SIGNS = (MARK.encode(), *(b"\\u00" + code for code in (b"67", b"6d", b"6D", b"63", b"31", b"2e", b"2E")))
NONCE_BYTES = 16
TAG_BYTES = 32


NOTHING = msgspec.Raw(b"")


class Opening(msgspec.Struct):
    """An item as far as it tells whether it is one of ours."""

    type: msgspec.Raw = NOTHING
    encrypted_content: msgspec.Raw = NOTHING


_openings = msgspec.json.Decoder(list[Opening]).decode
_opening = msgspec.json.Decoder(Opening).decode
_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_any = msgspec.json.Decoder().decode


# Whether it is one of ours...


def has_mark(envelope: Envelope) -> bool:
    """Whether an item that bears our mark stands in the request. Text that speaks of the mark is text.

    :raises InvalidRequest: an item cannot be examined.
    """
    if not any(sign in envelope.raw for sign in SIGNS):
        return False
    return any(bears_mark(bytes(envelope.members[name])) for name in LISTS if name in envelope.members)


def is_ours(item: Json) -> bool:
    """Whether *item* claims to be one of ours."""
    text = item.get("encrypted_content")
    return isinstance(text, str) and is_marked(item.get("type"), text)


def is_marked(type: Any, content: str) -> bool:
    """Whether an item of this type, with this `encrypted_content`, claims to be one of ours."""
    return type == "compaction" and content.startswith(MARK)


def bears_mark(items: bytes) -> bool:
    """Whether one of *items* (JSON) claims to be one of ours; False for what is no list.

    :raises InvalidRequest: they cannot be looked at: nested too deeply, say.
    """
    if not items.startswith(b"["):
        return False
    try:
        return any(_is_marked(one) for one in _openings(items))
    except msgspec.ValidationError:  # among the items is one that is no object
        return any(_is_marked(_opening(raw)) for raw in _raws(items) if bytes(raw).startswith(b"{"))
    except (msgspec.MsgspecError, RecursionError):
        raise invalid_json("its items cannot be looked at.") from None


def _is_marked(one: Opening) -> bool:
    type, content = bytes(one.type), bytes(one.encrypted_content)
    texts = type.startswith(b'"') and content.startswith(b'"')
    return texts and is_marked(_any(type), _any(content))


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
