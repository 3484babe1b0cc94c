"""Parts of a conversation as content blocks of the Messages API."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from ..item_text import stand_in
from ..parts import CONTENT, Audio, Content, File, Image, Part, Refusal, Text
from ..unsupported import MEDIA, Unsupported, malformed

Json = dict[str, Any]

IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
TEXT_TYPES = frozenset({"application/json", "application/xml", "application/x-ndjson", "application/yaml"})
FILES_BETA = "files-api-2025-04-14"


class Blocks:
    """Renders parts. *betas* collects the beta features that the blocks need, *ttl* is that of cache breakpoints."""

    def __init__(self, unsupported: Unsupported, betas: set[str], ttl: str | None = None) -> None:
        self.unsupported = unsupported
        self.betas = betas
        self.cache_control: Json = {"type": "ephemeral", **({"ttl": ttl} if ttl else {})}

    def render(self, parts: Iterable[Part], *, told: bool = False) -> list[Json]:
        """The blocks of *parts*; blank texts are left out, since Anthropic refuses them. Of a tool or the assistant
        (*told*), what cannot be shown is told as text.

        :raises InvalidRequest: a part is refused.
        """
        blocks = (self.block(part, told) for part in parts)
        return [block for block in blocks if block is not None]

    def block(self, part: Part, told: bool = False) -> Json | None:
        """One part, None where nothing is left of it."""
        if isinstance(part, CONTENT) and (lack := _lack(part)) is not None:
            if told:
                text = stand_in(part, part.path, lack, self.unsupported)
                return None if text is None else self.block(text)
            self.unsupported.leave_out(MEDIA, part.path, lack)
            return None
        if isinstance(part, (Text, Refusal)):
            block: Json | None = {"type": "text", "text": part.text} if part.text.strip() else None
        elif isinstance(part, Image):
            block = self.image(part)
        else:
            assert isinstance(part, File), "calls, outputs and reasoning are no content"
            block = self.file(part)
        marked = isinstance(part, CONTENT) and part.breakpoint is not None
        return {**block, "cache_control": self.cache_control} if block and marked else block

    def image(self, image: Image) -> Json:
        if image.file_id:
            return {"type": "image", "source": self.stored(image.file_id)}
        if image.url:
            return {"type": "image", "source": {"type": "url", "url": image.url}}
        source = {"type": "base64", "media_type": _image_type(image.media_type), "data": image.data}
        return {"type": "image", "source": source}

    def file(self, file: File) -> Json:
        title = {"title": file.filename} if file.filename else {}
        if file.file_id:
            return {"type": "document", "source": self.stored(file.file_id), **title}
        if file.url:
            return {"type": "document", "source": {"type": "url", "url": file.url}, **title}
        if (file.media_type or "").startswith("image/"):
            return self.image(Image(file.path, data=file.data, media_type=file.media_type))
        if file.media_type == "application/pdf":
            source: Json = {"type": "base64", "media_type": file.media_type, "data": file.data}
        else:
            source = {"type": "text", "media_type": "text/plain", "data": _decoded(file)}
        return {"type": "document", "source": source, **title}

    def stored(self, file_id: str) -> Json:
        self.betas.add(FILES_BETA)
        return {"type": "file", "file_id": file_id}


def _image_type(media_type: str | None) -> str | None:
    """`image/jpg` is not a registered type, but what many libraries write."""
    return "image/jpeg" if media_type == "image/jpg" else media_type


def _lack(part: Content) -> str | None:
    """What Anthropic cannot take of *part*, None where it takes it."""
    if isinstance(part, Audio):
        return "audio"
    if isinstance(part, Text) or part.data is None:
        return None
    media_type = part.media_type or ""
    if isinstance(part, Image) or media_type.startswith("image/"):
        return None if _image_type(media_type) in IMAGE_TYPES else f"images of type `{media_type[:64]}`"
    texts = media_type.startswith("text/") or media_type in TEXT_TYPES
    return None if texts or media_type == "application/pdf" else f"files of type `{media_type[:64]}`"


def _decoded(file: File) -> str:
    try:
        return base64.b64decode(file.data or "", validate=True).decode("utf-8")
    except ValueError:
        raise malformed(file.path, "is not base64 of UTF-8 text") from None
