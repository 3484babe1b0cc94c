"""Files that a request names by id or by URL, for upstreams that cannot read them: which there are, and their bytes
put in their place. The host provides them in between; no URL is ever opened here or there.

What kind a file is, its bytes say: its name and the client may say what they like.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .content import MEDIA_TYPES
from .values import list_in

Json = dict[str, Any]
Key = tuple[str | None, str | None]
"""A file id and a URL."""

PARTS = {"input_image": "image_url", "input_file": "file_url"}
"""Content parts that may name a file, and the member with its URL."""
SCREENSHOT = "computer_screenshot"
LISTS = ("content", "output")

MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"%PDF-", "application/pdf"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
)
"""How files begin, and what they are then."""
OFFICE = ((b"word/", "docx"), (b"xl/", "xlsx"), (b"ppt/", "pptx"))
"""Folders in the archives that Office writes."""
PLAIN = "text/plain"
BINARY = "application/octet-stream"
HEAD = 4096
"""Bytes of an archive in which its first names stand."""


@dataclass(frozen=True, slots=True)
class Named:
    """A file that the part at *path* names: *member* is the member that does. *url* may be that of an image."""

    path: str
    member: str
    is_image: bool
    file_id: str | None
    url: str | None
    filename: str | None
    place: tuple[int, str, int | None] = field(repr=False)
    """The item, its member, and the part in that."""

    @property
    def key(self) -> Key:
        """What is the same for the same file."""
        return self.file_id, self.url

    @property
    def param(self) -> str:
        """The path of the member that names it."""
        return f"{self.path}.{self.member}"


@dataclass(frozen=True, slots=True)
class Contents:
    """The bytes of a file in base64 (*data*), of their *media_type*; *text* where they are text."""

    data: str = field(repr=False)
    media_type: str
    filename: str | None = None
    text: str | None = field(default=None, repr=False)

    @property
    def as_url(self) -> str:
        """Returns the file as a `data:` URL."""
        return f"data:{self.media_type};base64,{self.data}"


# Which there are...


def named_in(body: Mapping[str, Any]) -> Iterator[Named]:
    """The files that messages and outputs of tools in the `input` of *body* name, in their order."""
    for at, item in enumerate(list_in(body, "input")):
        for member in LISTS if isinstance(item, dict) else ():
            value, path = item.get(member), f"input[{at}].{member}"
            if isinstance(value, list):
                for index, part in enumerate(value):
                    yield from _named(part, f"{path}[{index}]", (at, member, index))
            elif isinstance(value, dict):
                yield from _named(value, path, (at, member, None))


def _named(part: Any, path: str, place: tuple[int, str, int | None]) -> Iterator[Named]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind != SCREENSHOT and (not isinstance(kind, str) or kind not in PARTS):
        return
    is_image = kind != "input_file"
    member = "image_url" if is_image else "file_url"
    file_id, url, name = (_text(part.get(each)) for each in ("file_id", member, "filename"))
    if (url or "").startswith("data:") or _text(part.get("file_data")) or not (file_id or url):
        return
    yield Named(path, "file_id" if file_id else member, is_image, file_id, url, name, place)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def ending_of(name: str) -> str:
    """What stands behind the last point of a file name or a URL's path, in lower case; empty where there is none."""
    name = name.partition("?")[0].partition("#")[0].rpartition("/")[2]
    return name.rpartition(".")[2].lower() if "." in name else ""


# What they are...


def sniffed(data: bytes) -> str:
    """The media type that *data* begins like; `text/plain` for text in UTF-8 or UTF-16 with its mark."""
    for head, media_type in MAGIC:
        if data.startswith(head):
            return media_type
    if data[:4] == b"RIFF" and data[8:12] in (b"WEBP", b"WAVE"):
        return "image/webp" if data[8:12] == b"WEBP" else "audio/wav"
    if data[4:8] == b"ftyp":
        return {b"heic": "image/heic", b"heix": "image/heic", b"mif1": "image/heif", b"avif": "image/avif"}.get(
            data[8:12], "video/mp4"
        )
    if data.startswith(b"PK\x03\x04"):
        found = next((kind for folder, kind in OFFICE if folder in data[:HEAD]), None)
        return MEDIA_TYPES[found] if found else "application/zip"
    return BINARY if text_of(data) is None else PLAIN


def text_of(data: bytes) -> str | None:
    """*data* as text, None where it is none."""
    coding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    if coding == "utf-8-sig" and b"\0" in data:
        return None
    try:
        return data.decode(coding)
    except UnicodeDecodeError:
        return None


# Their bytes put in...


def put_in(body: Mapping[str, Any], contents: Mapping[str, Contents], *, text_files: bool) -> Json:
    """*body* with *contents*, by the path of what named them, in place of their names. Of *text_files* False, text is a
    part of the message."""
    items = list(body["input"])
    for named in [each for each in named_in(body) if each.path in contents]:
        items[named.place[0]] = _replaced(items[named.place[0]], named, contents[named.path], text_files)
    return {**body, "input": items}


def _replaced(item: Json, named: Named, contents: Contents, text_files: bool) -> Json:
    _, member, index = named.place
    value = item[member]
    if index is None:
        kept = {name: each for name, each in value.items() if name != "file_id"}
        return {**item, member: {**kept, "image_url": contents.as_url}}
    parts = list(value)
    parts[index] = _part(parts[index], named, contents, text_files)
    return {**item, member: parts}


def _part(part: Json, named: Named, contents: Contents, text_files: bool) -> Json:
    kept: Json = {name: part[name] for name in ("detail", "prompt_cache_breakpoint") if name in part}
    name = contents.filename or named.filename or _name_of(named, contents.media_type)
    if contents.media_type.startswith("image/"):
        return {**kept, "type": "input_image", "image_url": contents.as_url}
    kept.pop("detail", None)
    if contents.text is not None and not text_files:
        return {**kept, "type": "input_text", "text": f"[The file {name}:]\n{contents.text}"}
    return {**kept, "type": "input_file", "file_data": contents.as_url, "filename": name}


def _name_of(named: Named, media_type: str) -> str:
    last = (named.url or "").partition("?")[0].partition("#")[0].rpartition("/")[2]
    ending = next((ending for ending, each in MEDIA_TYPES.items() if each == media_type), "bin")
    return last or f"file.{ending}"
