"""Bytes that stand inside JSON."""

from __future__ import annotations

import base64
import binascii


def is_base64(data: object) -> bool:
    """Whether *data* is base64 of something."""
    if not isinstance(data, str) or not data:
        return False
    try:
        base64.b64decode(data, validate=True)
    except (ValueError, binascii.Error):
        return False
    return True


def media_type_of(url: str) -> str | None:
    """The media type of a `data:` URL with sound base64 in it, None for any other URL."""
    head, comma, data = url.partition(",")
    if not head.startswith("data:") or not head.endswith(";base64") or not comma or not is_base64(data):
        return None
    return head.removeprefix("data:").removesuffix(";base64")
