"""Reads the parts of messages and of tool outputs."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, TypeAlias
from urllib.parse import unquote_to_bytes

from .parts import Audio, Content, File, Image, Json, Refusal, Text
from .unsupported import expect, malformed, optional_string, string

MEDIA_TYPES = {
    "csv": "text/csv",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "html": "text/html",
    "json": "application/json",
    "md": "text/markdown",
    "pdf": "application/pdf",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "txt": "text/plain",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "xml": "text/xml",
}
"""Media types of file names, where the data does not say it itself."""


def read_content(value: Any, path: str, phase: str | None = None) -> tuple[Content | Refusal, ...]:
    """The `content` of a message or the `output` of a tool: a string, or a list of parts.

    :raises InvalidRequest: it is something else; *param* is the path of the first value that is wrong.
    """
    if isinstance(value, str):
        return (Text(path, value, phase=phase),)
    if not isinstance(value, list):
        raise malformed(path, "is required" if value is None else "must be a string or an array of content parts")
    return tuple(_part(part, f"{path}[{index}]", phase) for index, part in enumerate(value))


def _part(value: Any, path: str, phase: str | None) -> Content | Refusal:
    part = expect(value, dict, path)
    kind = string(part, "type", path)
    if kind in TEXT_TYPES:
        return Text(path, string(part, "text", path), breakpoint_of(part), phase)
    if kind not in READERS:
        raise malformed(f"{path}.type", f"names no content part ({kind[:64]!r})")
    return READERS[kind](part, path)


def breakpoint_of(part: Json) -> Json | None:
    """The part's cache breakpoint, None where it has none."""
    value = part.get("prompt_cache_breakpoint")
    return value if isinstance(value, dict) else None


def _refusal(part: Json, path: str) -> Refusal:
    return Refusal(path, string(part, "refusal", path))


def _image(part: Json, path: str) -> Image:
    url, file_id = optional_string(part, "image_url", path), optional_string(part, "file_id", path)
    detail, mark = optional_string(part, "detail", path), breakpoint_of(part)
    if file_id is not None:
        return Image(path, file_id=file_id, detail=detail, breakpoint=mark)
    if not url:
        raise malformed(f"{path}.image_url", "is required")
    if not url.startswith("data:"):
        return Image(path, url=url, detail=detail, breakpoint=mark)
    media_type, data = split_data_url(url, f"{path}.image_url")
    return Image(path, data=data, media_type=media_type, detail=detail, breakpoint=mark)


def _file(part: Json, path: str) -> File:
    name, mark = optional_string(part, "filename", path), breakpoint_of(part)
    data, url = optional_string(part, "file_data", path), optional_string(part, "file_url", path)
    if data:
        media_type, data = _file_data(data, name, f"{path}.file_data")
        return File(path, data=data, media_type=media_type, filename=name, breakpoint=mark)
    if url and url.startswith("data:"):
        media_type, data = split_data_url(url, f"{path}.file_url")
        return File(path, data=data, media_type=media_type, filename=name, breakpoint=mark)
    file_id = optional_string(part, "file_id", path)
    if not url and not file_id:
        raise malformed(path, "needs one of `file_data`, `file_url` and `file_id`")
    return File(path, url=url, file_id=file_id, filename=name, breakpoint=mark)


def _file_data(data: str, name: str | None, path: str) -> tuple[str, str]:
    """OpenAI asks for a data URL here; bare base64 is common all the same."""
    if data.startswith("data:"):
        return split_data_url(data, path)
    ending = (name or "").rpartition(".")[2].lower()
    return MEDIA_TYPES.get(ending, "application/pdf"), data


def _audio(part: Json, path: str) -> Audio:
    inner = expect(part.get("input_audio"), dict, f"{path}.input_audio")
    path_in = f"{path}.input_audio"
    return Audio(path, string(inner, "data", path_in), string(inner, "format", path_in), breakpoint_of(part))


def split_data_url(url: str, path: str) -> tuple[str, str]:
    """Media type (without parameters) and base64 data of a `data:` URL (RFC 2397)."""
    head, comma, data = url[len("data:") :].partition(",")
    if not comma:
        raise malformed(path, "is not a data URL: it has no comma")
    media_type, *parameters = head.split(";")
    if "base64" not in parameters:
        data = base64.b64encode(unquote_to_bytes(data)).decode("ascii")
    return media_type or "text/plain", data


TEXT_TYPES = ("input_text", "output_text", "text")
ReadPart: TypeAlias = Callable[[Json, str], Content | Refusal]
READERS: dict[str, ReadPart] = {
    "refusal": _refusal,
    "input_image": _image,
    "input_file": _file,
    "input_audio": _audio,
}
