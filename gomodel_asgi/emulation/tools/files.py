"""Files that an input names by id or address, for upstreams that cannot look there: read by the host's own function.

What it gives is sent as what the target takes: images as images, text as text, all else as a file with its type, which
the target's dialect takes or refuses by name.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...dialects.content import MEDIA_TYPES
from ...errors import InvalidRequest
from ...tools import File, FileReference
from .source import Json

NAMING = (b'"file_id"', b'"file_url"', b"\\u00")
"""What an input holds that may name a file."""
HOLDERS = ("content", "output")
"""The members of items that hold parts."""
MAGIC = (
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
)
TEXTUAL = frozenset({"application/json", "application/xml", "application/x-yaml", "application/javascript"})
MOST = 100
"""Files of one request."""


@dataclass(frozen=True, slots=True)
class Read:
    """A file that the host has read."""

    data: bytes
    media_type: str
    filename: str | None


Found = Mapping[FileReference, Read]


def references_in(items: Iterable[Any]) -> list[FileReference]:
    """What the parts of *items* name, each once."""
    found = (reference_of(part) for item in items for part in _parts(item))
    return list(dict.fromkeys(one for one in found if one is not None))


def reference_of(part: Any) -> FileReference | None:
    """The file that *part* names and does not bring along."""
    if not isinstance(part, dict) or part.get("type") not in ("input_file", "input_image"):
        return None
    if part.get("file_data") or part.get("image_url"):
        return None
    id, url, name = (_text(part, member) for member in ("file_id", "file_url", "filename"))
    if url is not None and url.startswith("data:"):
        return None
    return FileReference(id, url, name) if id or url else None


async def read_files(
    references: Iterable[FileReference], read: Callable[[FileReference], Awaitable[Any]], limit: int
) -> dict[FileReference, Read]:
    """What *read* gives for each of *references*, at most *limit* bytes in all.

    :raises InvalidRequest: there is no such file, or they are too many or too large.
    """
    found: dict[FileReference, Read] = {}
    wanted = [*references]
    if len(wanted) > MOST:
        raise InvalidRequest(f"The input names more than {MOST} files.", param="input", code="too_many_items")
    for one in wanted:
        given = await read(one)
        if given is None:
            which = f"'{one.file_id[:64]}'" if one.file_id else "at that address"
            raise InvalidRequest(f"There is no file {which} here.", param="input", code="file_not_found")
        file = given if isinstance(given, File) else File(given)
        if not isinstance(file.data, bytes):
            raise TypeError(f"files: bytes or a tools.File were expected, not {type(file.data).__name__}")
        limit -= len(file.data)
        if limit < 0:
            raise InvalidRequest("The files of the input are too large.", param="input", code="file_too_large")
        name = file.filename or one.filename
        found[one] = Read(file.data, sniffed(file.data, name, file.media_type), name)
    return found


def with_files(items: Iterable[Any], found: Found) -> list[Any]:
    """*items* with the files that were *found* in place of their names."""
    made = []
    for item in items:
        for holder in HOLDERS:
            parts = item.get(holder) if isinstance(item, dict) else None
            if isinstance(parts, list) and any(reference_of(part) in found for part in parts):
                item = {**item, holder: [_sent(part, found) for part in parts]}
        made.append(item)
    return made


def sniffed(data: bytes, filename: str | None, media_type: str | None) -> str:
    """The media type of *data*: what its first bytes say, else what is said of it, else what its name says."""
    for magic, kind in MAGIC:
        if data.startswith(magic):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    ending = (filename or "").rpartition(".")[2].lower()
    if media_type or ending in MEDIA_TYPES:
        return (media_type or MEDIA_TYPES[ending]).partition(";")[0].strip().lower()
    return "text/plain" if _is_text(data) else "application/octet-stream"


def _sent(part: Any, found: Found) -> Any:
    reference = reference_of(part)
    file = None if reference is None else found.get(reference)
    if file is None:
        return part
    url = f"data:{file.media_type};base64,{base64.b64encode(file.data).decode('ascii')}"
    if file.media_type.startswith("image/"):
        detail = {"detail": part["detail"]} if part.get("detail") else {}
        return {"type": "input_image", "image_url": url, **detail}
    if (file.media_type.startswith("text/") or file.media_type in TEXTUAL) and _is_text(file.data):
        head = f"[The file {file.filename}:]\n" if file.filename else "[A file:]\n"
        return {"type": "input_text", "text": head + file.data.decode("utf-8-sig")}
    made: Json = {"type": "input_file", "file_data": url}
    return made | ({"filename": file.filename} if file.filename else {})


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in data


def _parts(item: Any) -> list[Any]:
    if not isinstance(item, dict):
        return []
    found = [item.get(holder) for holder in HOLDERS]
    return [part for parts in found if isinstance(parts, list) for part in parts]


def _text(part: Json, name: str) -> str | None:
    value = part.get(name)
    return value if isinstance(value, str) and value else None
