"""Reads the parts of messages and of tool outputs."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote_to_bytes

from .values import expect, malformed, optional_string, string

# The conversation that every translating dialect renders: turns, and what they are made of.
#
# Every part knows its `path` in the client's request, such as `input[3].content[0]`, for error messages and for the
# list of what was left out. `breakpoint` is the part's `prompt_cache_breakpoint`, None where it has none.


NO_OUTPUT = "No output of this call was recorded."
"""What a model reads of a call whose output is not there."""
Json = dict[str, Any]
Role = Literal["system", "developer", "user", "assistant", "tool"]
ToolKind = Literal["function", "custom", "search"]
"""`search` is a `tool_search` that the client runs."""


@dataclass(frozen=True, slots=True)
class Text:
    """Text of anyone; *phase* (`commentary`, `final_answer`) is that of the assistant message it stands in."""

    path: str
    text: str
    breakpoint: Json | None = None
    phase: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the assistant said when it refused."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """One of *url* (https), *data* (base64, with its *media_type*) and *file_id* is given. *from_tool* says that a
    client's machine sent it back for a tool: nobody can leave it out."""

    path: str
    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    file_id: str | None = None
    detail: str | None = None
    breakpoint: Json | None = None
    from_tool: bool = False

    @property
    def as_url(self) -> str:
        """The URL, a `data:` one for inline bytes; empty where only a *file_id* is known."""
        return self.url or (f"data:{self.media_type};base64,{self.data}" if self.data else "")


@dataclass(frozen=True, slots=True)
class File:
    """One of *url* (https), *data* (base64, with its *media_type*) and *file_id* is given."""

    path: str
    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    file_id: str | None = None
    filename: str | None = None
    breakpoint: Json | None = None


@dataclass(frozen=True, slots=True)
class Audio:
    """Base64 *data* in a *format* such as `wav` or `mp3`."""

    path: str
    data: str
    format: str
    breakpoint: Json | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of the assistant's. *arguments* is JSON text (or what should have been) of a function call, the free text
    of a custom one.

    *name* and *namespace* are the client's: `Tools.flat_name` returns the name that the target knows. *call_id* may be
    that of other calls too; *path* is the call's own, and `arrangement.CallIds` gives it an id of its own.
    """

    path: str
    call_id: str
    name: str
    arguments: str
    kind: ToolKind = "function"
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What a tool answered to *call*; a plain string is one Text."""

    path: str
    call: ToolCall
    parts: tuple[Text | Image | File | Audio, ...]


@dataclass(frozen=True, slots=True)
class Reasoning:
    """The assistant's reasoning: readable *texts* (of `summary`, else of `content`), and *encrypted* as it came.

    `unpack_state` reads *encrypted*; most of it is foreign.
    """

    path: str
    texts: tuple[str, ...]
    encrypted: str | None = None


@dataclass(frozen=True, slots=True)
class Opaque:
    """An item of the assistant's with no common form, such as a hosted tool's call: *value* is the client's own object.

    A dialect that has the same renders it; else `emulations.item_as_text` makes text of it.
    """

    path: str
    type: str
    value: Json


Content: TypeAlias = Text | Image | File | Audio
CONTENT = (Text, Image, File, Audio)
"""For `isinstance`, which is quicker with a tuple."""
Part: TypeAlias = Content | Refusal | ToolCall | ToolOutput | Reasoning | Opaque


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says in one go, its parts in the client's order, never none.

    `assistant` turns hold Text, Refusal, Image, ToolCall, Reasoning and Opaque; `tool` turns hold ToolOutput only; the
    others hold Content. A `tool` turn stands right behind the `assistant` turn whose calls it answers, all of them, in
    their order. Consecutive assistant items are one turn; two messages of a user are two turns. *path* is that of the
    first item.
    """

    role: Role
    parts: tuple[Part, ...]
    path: str


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
    """Returns the part that *value* is.

    :raises InvalidRequest: its type is unknown.
    """
    part = expect(value, dict, path)
    kind = string(part, "type", path)
    if kind in TEXT_TYPES:
        return Text(path, string(part, "text", path), breakpoint_of(part), phase)
    if kind not in READERS:
        raise malformed(f"{path}.type", f"names no content part ({kind[:64]!r})")
    return READERS[kind](part, path)


def breakpoint_of(part: Json) -> Json | None:
    """Returns the part's cache breakpoint, or None."""
    value = part.get("prompt_cache_breakpoint")
    return value if isinstance(value, dict) else None


def _refusal(part: Json, path: str) -> Refusal:
    return Refusal(path, string(part, "refusal", path))


def read_image(part: Json, path: str) -> Image:
    """An image by `file_id` or `image_url`; the former wins.

    :raises InvalidRequest: there is none.
    """
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
    """Returns the file that *part* holds or names.

    :raises InvalidRequest: it does neither.
    """
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
    """Returns the media type (without parameters) and the base64 data of a `data:` URL (RFC 2397).

    :raises InvalidRequest: it has no comma; *param* is *path*.
    """
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
    "input_image": read_image,
    "input_file": _file,
    "input_audio": _audio,
}


def digest(id: str, length: int) -> str:
    """Returns *length* hexadecimal digits that stand for *id*."""
    return hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()[:length]
