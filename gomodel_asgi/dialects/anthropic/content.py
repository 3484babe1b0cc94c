"""Parts of a conversation as content blocks of the Messages API."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from ..losses import Losses, malformed
from ..parts import Audio, Content, File, Image, Part, Refusal, Text

Json = dict[str, Any]

IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
TEXT_TYPES = frozenset({"application/json", "application/xml", "application/x-ndjson", "application/yaml"})
FILES_BETA = "files-api-2025-04-14"


class Blocks:
    """Renders parts. *betas* collects the beta features that the blocks need, *ttl* is that of cache breakpoints."""

    def __init__(self, losses: Losses, betas: set[str], ttl: str | None = None) -> None:
        self.losses = losses
        self.betas = betas
        self.cache_control: Json = {"type": "ephemeral", **({"ttl": ttl} if ttl else {})}

    def render(self, parts: Iterable[Part]) -> list[Json]:
        """The blocks of *parts*; blank texts are left out, since Anthropic refuses them."""
        blocks = (self.block(part) for part in parts)
        return [block for block in blocks if block is not None]

    def block(self, part: Part) -> Json | None:
        """One part, None where nothing is left of it."""
        if isinstance(part, (Text, Refusal)):
            block: Json | None = {"type": "text", "text": part.text} if part.text.strip() else None
        elif isinstance(part, Image):
            block = self.image(part)
        elif isinstance(part, File):
            block = self.file(part)
        else:
            self.losses.add(part.path, "audio" if isinstance(part, Audio) else f"{type(part).__name__} here")
            block = None
        marked = isinstance(part, Content) and part.breakpoint is not None
        return {**block, "cache_control": self.cache_control} if block and marked else block

    def image(self, image: Image) -> Json | None:
        if image.file_id:
            return {"type": "image", "source": self.stored(image.file_id)}
        if image.url:
            return {"type": "image", "source": {"type": "url", "url": image.url}}
        # Not a registered type, but what many libraries write.
        media_type = "image/jpeg" if image.media_type == "image/jpg" else image.media_type
        if media_type not in IMAGE_TYPES:
            self.losses.add(image.path, f"images of type `{media_type}`")
            return None
        return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": image.data}}

    def file(self, file: File) -> Json | None:
        title = {"title": file.filename} if file.filename else {}
        if file.file_id:
            return {"type": "document", "source": self.stored(file.file_id), **title}
        if file.url:
            return {"type": "document", "source": {"type": "url", "url": file.url}, **title}
        if (file.media_type or "").startswith("image/"):
            return self.image(Image(file.path, data=file.data, media_type=file.media_type))
        source = self.inline(file)
        return None if source is None else {"type": "document", "source": source, **title}

    def inline(self, file: File) -> Json | None:
        """The source of a document whose bytes are given: PDF, or anything that is text."""
        media_type = file.media_type or ""
        if media_type == "application/pdf":
            return {"type": "base64", "media_type": media_type, "data": file.data}
        if media_type.startswith("text/") or media_type in TEXT_TYPES:
            return {"type": "text", "media_type": "text/plain", "data": _decoded(file)}
        self.losses.add(file.path, f"files of type `{media_type}`")
        return None

    def stored(self, file_id: str) -> Json:
        self.betas.add(FILES_BETA)
        return {"type": "file", "file_id": file_id}


def _decoded(file: File) -> str:
    try:
        return base64.b64decode(file.data or "", validate=True).decode("utf-8")
    except ValueError:
        raise malformed(file.path, "is not base64 of UTF-8 text") from None
