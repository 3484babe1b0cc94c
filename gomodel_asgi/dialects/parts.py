"""The conversation that every translating dialect renders: turns, and what they are made of.

Every part knows its `path` in the client's request, such as `input[3].content[0]`, for error messages and for the
list of what was left out. `breakpoint` is the part's `prompt_cache_breakpoint`, None where it has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

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
    """One of *url* (https), *data* (base64, with its *media_type*) and *file_id* is given."""

    path: str
    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    file_id: str | None = None
    detail: str | None = None
    breakpoint: Json | None = None

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

    *name* and *namespace* are the client's: `Tools.flat_name` gives the name that the target knows. *call_id* may be
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

    Give *encrypted* to `sealed.unseal`: most of it is foreign.
    """

    path: str
    texts: tuple[str, ...]
    encrypted: str | None = None


@dataclass(frozen=True, slots=True)
class Opaque:
    """An item of the assistant's with no common form, such as a hosted tool's call: *value* is the client's own object.

    A dialect that has the same renders it; else `item_text.in_words` gives its text.
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
