"""What a call of an MCP server gave, as an `Outcome`: content blocks become one text, and images for who sees.

Text is joined; what is no text is named by a note; structured content stands in only where no text says the same (a
server that gives both writes the text from it). Values in, values out.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable
from typing import Any

import msgspec

from ...tools import Image
from .source import Outcome, failed

FORMATS = frozenset({"png", "jpeg", "webp", "gif"})
"""Of images: what models take. SVG is a text to them at best."""
NOTHING_SAID = "The tool failed without saying why."


def outcome_of(result: Any) -> Outcome:
    """The outcome of a `CallToolResult` of the `mcp` SDK."""
    text = "\n".join(_said(block) for block in result.content)
    if not any(_has_words(block) for block in result.content) and result.structured_content is not None:
        written = msgspec.json.encode(result.structured_content, enc_hook=str).decode()
        text = f"{written}\n{text}" if text else written
    images = tuple(_images(result.content))
    if not result.is_error:
        return Outcome(text, images)
    return Outcome(text or NOTHING_SAID, images, failed(text or NOTHING_SAID))


def _said(block: Any) -> str:
    if block.type == "text":
        return str(block.text)
    if block.type in ("image", "audio"):
        return f"[{'An image' if block.type == 'image' else 'Audio'}: {block.mime_type}]"
    if block.type == "resource_link":
        return f"[A resource: {block.name} {block.uri}]"
    text = getattr(block.resource, "text", None)
    return f"[A file: {block.resource.mime_type or block.resource.uri}]" if text is None else str(text)


def _has_words(block: Any) -> bool:
    if block.type == "text":
        return bool(block.text)
    return block.type == "resource" and bool(getattr(block.resource, "text", None))


def _images(content: Iterable[Any]) -> Iterable[Image]:
    for block in content:
        kind = block.mime_type.lower().removeprefix("image/") if block.type == "image" else ""
        kind = "jpeg" if kind == "jpg" else kind
        if kind in FORMATS:
            try:
                data = binascii.a2b_base64("".join(block.data.split()), strict_mode=True)
                yield Image(data, kind)  # type: ignore[arg-type]  # one of FORMATS
            except ValueError:
                continue
