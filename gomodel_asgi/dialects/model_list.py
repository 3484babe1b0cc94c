"""How each API lists its models: the query of a page, and what the page holds.

Sources: the references of OpenAI ("List models"), Anthropic ("List Models") and Gemini ("models.list"). Whoever speaks
another API is queried as OpenAI is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from msgspec import Struct

PATH = "/models"
LONGEST_NAME = 512  # characters of a model's name
LONGEST_CURSOR = 2048  # characters of the cursor of the next page
LATEST = 1 << 53  # seconds: what every client can hold
GENERATES = "generateContent"

Json = Mapping[str, Any]


class ListedModel(Struct, frozen=True):
    """A model that an upstream lists, made at the Unix time *created*; 0: it does not say."""

    name: str
    created: int = 0


class Page(Struct, frozen=True):
    """A page of a list; *query* is that of the next one, None: it was the last."""

    models: tuple[ListedModel, ...]
    query: str | None = None


class Form(Struct, frozen=True):
    """One API's way: the *query* of the first page, and what reads a page."""

    query: str
    read: Callable[[Any], Page]


def form_of(dialect: str) -> Form:
    """Returns how the API of this *dialect* lists its models."""
    return FORMS.get(dialect, OPENAI)


def _openai(value: Any) -> Page:
    """`{"data": [{"id": …, "created": …}]}`; some servers have only the list, or call things as others do."""
    listed = value.get("data", value.get("models")) if isinstance(value, dict) else value
    return Page(tuple(_models(listed, lambda entry: entry.get("id", entry.get("name")))))


def _anthropic(value: Any) -> Page:
    """`{"data": [{"id": …, "created_at": …}], "has_more": …, "last_id": …}`"""
    models = tuple(_models(_object(value).get("data"), lambda entry: entry.get("id")))
    more = value.get("has_more") is True
    return Page(models, _next(ANTHROPIC.query, "after_id", value.get("last_id")) if more else None)


def _gemini(value: Any) -> Page:
    """`{"models": [{"name": "models/…", "supportedGenerationMethods": […]}], "nextPageToken": …}`: of the models those
    that can be asked what we ask. JSON of protocol buffers leaves empty lists out."""
    models = _object(value).get("models", [])
    following = value.get("nextPageToken")
    return Page(tuple(_models(models, _generating)), _next(GEMINI.query, "pageToken", following) if following else None)


def _generating(entry: Json) -> Any:
    methods = entry.get("supportedGenerationMethods")
    return entry.get("name") if isinstance(methods, list) and GENERATES in methods else None


def _object(value: Any) -> Json:
    """Returns *value*, an object.

    :raises ValueError: it is none.
    """
    if not isinstance(value, dict):
        raise ValueError("The list of models is no object.")
    return value


def _models(listed: Any, name_of: Callable[[Json], Any]) -> Iterator[ListedModel]:
    """Yields what can be a model's name; the rest is passed over.

    :raises ValueError: there is no list.
    """
    if not isinstance(listed, list):
        raise ValueError("There is no list of models.")
    for entry in listed:
        name = name_of(entry) if isinstance(entry, dict) else None
        if isinstance(name, str) and 0 < len(name := name.removeprefix("models/")) <= LONGEST_NAME:
            if name.isprintable():
                yield ListedModel(name, _created(entry))


def _created(entry: Json) -> int:
    """Returns when the model was made, from `created` (Unix time) or `created_at` (RFC 3339)."""
    value = entry.get("created", entry.get("created_at"))
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value).timestamp()
        return int(value) if isinstance(value, int | float) and 0 <= value < LATEST else 0
    except (ValueError, OverflowError, OSError):
        return 0


def _next(query: str, name: str, cursor: Any) -> str:
    """Returns the query of the next page.

    :raises ValueError: the cursor is no text, empty or too long.
    """
    if not isinstance(cursor, str) or not 0 < len(cursor) <= LONGEST_CURSOR:
        raise ValueError("The list of models does not say where it goes on.")
    return f"{query}&{name}={quote(cursor, safe='', errors='replace')}"


OPENAI = Form("", _openai)
ANTHROPIC = Form("limit=1000", _anthropic)  # the default is 20 at a time
GEMINI = Form("pageSize=1000", _gemini)  # the default is 50 at a time
FORMS: Mapping[str, Form] = {"anthropic": ANTHROPIC, "gemini": GEMINI}
