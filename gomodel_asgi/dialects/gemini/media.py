"""Content parts of the client as parts of Gemini's: text, inline data, and files named by their address."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from ..item_text import stand_in
from ..parts import Audio, File, Image, Part, Refusal, Text
from ..unsupported import MEDIA, Unsupported

Json = dict[str, Any]

MEDIA_TYPES = {
    "aac": "audio/aac",
    "csv": "text/csv",
    "flac": "audio/flac",
    "gif": "image/gif",
    "heic": "image/heic",
    "html": "text/html",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "json": "application/json",
    "md": "text/markdown",
    "mov": "video/quicktime",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "mpeg": "video/mpeg",
    "ogg": "audio/ogg",
    "pdf": "application/pdf",
    "png": "image/png",
    "txt": "text/plain",
    "wav": "audio/wav",
    "webm": "video/webm",
    "webp": "image/webp",
    "xml": "text/xml",
}

ADDRESSES = ("https://", "http://", "gs://")
"""How the ids of files begin that Gemini can read: the Files API gives out addresses, Vertex reads buckets."""


def render_content(part: Part, unsupported: Unsupported, *, told: bool = False) -> Json | None:
    """*part* as Gemini has it, None where it is left out. Of a tool or the assistant (*told*), what cannot be shown is
    told as text.

    :raises InvalidRequest: it is refused.
    """
    if isinstance(part, (Text, Refusal)):
        return {"text": part.text}
    if isinstance(part, Audio):
        return inline(f"audio/{part.format}", part.data)
    assert isinstance(part, (Image, File)), "calls, outputs and reasoning are no content"
    if (rendered := _file(part)) is not None:
        return rendered
    member = "file_id" if part.file_id else "image_url" if isinstance(part, Image) else "file_url"
    path, what = f"{part.path}.{member}", "files that are stored elsewhere"
    if not told:
        unsupported.leave_out(MEDIA, path, what)
        return None
    text = stand_in(part, path, what, unsupported)
    return None if text is None else {"text": text.text}


def _file(part: Image | File) -> Json | None:
    fallback = "image/jpeg" if isinstance(part, Image) else "application/pdf"
    name = "" if isinstance(part, Image) else part.filename or ""
    if part.data is not None:
        return inline(part.media_type or fallback, part.data)
    address = part.url or part.file_id or ""
    if not address.startswith(ADDRESSES):
        return None
    media_type = media_type_of(name) or media_type_of(urlsplit(address).path) or fallback
    return {"fileData": {"mimeType": media_type, "fileUri": address}}


def inline(media_type: str, data: str) -> Json:
    return {"inlineData": {"mimeType": media_type, "data": data}}


def media_type_of(name: str) -> str | None:
    """What the ending of a file name says."""
    return MEDIA_TYPES.get(name.rpartition(".")[2].lower())


def resolution(parts: list[Part]) -> str | None:
    """The `mediaResolution` that all images agree on, None where they do not; Gemini's is one for the request."""
    details = {part.detail for part in parts if isinstance(part, Image)}
    return (
        {"low": "MEDIA_RESOLUTION_LOW", "high": "MEDIA_RESOLUTION_HIGH"}.get(details.pop() or "")
        if len(details) == 1
        else None
    )
