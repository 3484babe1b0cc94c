"""The conversation that every translating dialect renders: turns, and what they are made of.

Every part knows its `path` in the client's request, such as `input[3].content[0]`, for error messages and for the
list of what was dropped. `breakpoint` is the part's `prompt_cache_breakpoint`, None where it has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Json = dict[str, Any]
Role = Literal["system", "developer", "user", "assistant", "tool"]
ToolKind = Literal["function", "custom"]


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
    """A call of the assistant's. *arguments* is JSON text of a function call, the free text of a custom one.

    *name* and *namespace* are the client's: `Tools.flat_name` gives the name that the target knows.
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
    """An item with no common form (a hosted tool's call, a compaction): *value* is the client's own object.

    A dialect that has the same renders it; else it says `Losses.add`, or `Losses.note` where `is_receipt`.
    """

    path: str
    type: str
    value: Json

    @property
    def is_receipt(self) -> bool:
        """Whether it only tells what the provider did, and leaves a model that lacks it none the wiser."""
        return self.type in RECEIPTS


RECEIPTS = frozenset({"web_search_call", "file_search_call", "mcp_list_tools", "image_generation_call"})

Content: TypeAlias = Text | Image | File | Audio
Part: TypeAlias = Content | Refusal | ToolCall | ToolOutput | Reasoning | Opaque


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says in one go, its parts in the client's order, never none.

    `assistant` turns hold Text, Refusal, Image, ToolCall, Reasoning and Opaque; `tool` turns hold ToolOutput only; the
    others hold Content. Consecutive assistant items are one turn, as are consecutive tool outputs; two messages of
    a user are two turns. *path* is that of the first item.
    """

    role: Role
    parts: tuple[Part, ...]
    path: str
