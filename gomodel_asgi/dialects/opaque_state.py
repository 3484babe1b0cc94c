"""Provider-only state inside the `encrypted_content` of a reasoning item.

Some upstreams want back on the next turn what no member of the Responses API holds: signatures, reasoning in their own
form. It travels through the client as one opaque text with a tag that says whose it is, so that content of another
provider, or of a real OpenAI, is recognised and left out.

This is packing, not encryption: who holds the text can read and forge it. It therefore holds nothing that the client
may not see, and what comes back is the client's word: check the shape of a payload like any other input.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from ..tree import parser

PREFIX = "gm1."
"""Names the format and its version. OpenAI's own content begins with `gAAAA`."""


class Seal(msgspec.Struct):
    """What is packed: the type of the provider, its model, and the payload."""

    provider: str
    model: str
    payload: dict[str, Any]


_seal = parser(Seal)


def seal(provider: str, model: str, payload: dict[str, Any]) -> str:
    """*payload* as a text that `unseal` reads for the same provider *type* (`Call.type`)."""
    packed = msgspec.json.encode(Seal(provider, model, payload))
    return PREFIX + base64.urlsafe_b64encode(packed).rstrip(b"=").decode("ascii")


def unpacked(text: str) -> bytes:
    """The JSON in a text of ours; none where it is another's, or damaged."""
    if not text.startswith(PREFIX):
        return b""
    try:
        packed = text[len(PREFIX) :].encode("ascii")
        return base64.b64decode(packed + b"=" * (-len(packed) % 4), b"-_", validate=True)
    except ValueError:
        return b""


def unseal(text: str | None, provider: str, model: str | None = None) -> dict[str, Any] | None:
    """The payload of *text*, or None where it is not ours, damaged, or of another provider type.

    With *model* given, another model's content is foreign too. Never raises.
    """
    found = _opened(text)
    if found is None or found.provider != provider or (model is not None and found.model != model):
        return None
    return found.payload


def payload_of(text: Any) -> dict[str, Any] | None:
    """The payload of *text*, whichever provider type it is for, or None where it is not ours or damaged."""
    found = _opened(text) if isinstance(text, str) else None
    return None if found is None else found.payload


def _opened(text: str | None) -> Seal | None:
    try:
        found: Seal = _seal(unpacked(text or ""))
        return found
    except (ValueError, RecursionError):
        return None
