"""Values of hosts and servers, as a model and a client may have them."""

from __future__ import annotations

import re
import unicodedata
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Any

from ...settings import KIB
from ...tools import File, Image
from ...wire.json_scan import tree
from .source import Json

MOST_DESCRIBED = 4 * KIB
"""Characters of what a server says about itself or a tool: four times what OpenAI once allowed a function."""
HIDDEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
"""Categories of characters that nobody sees: controls, joiners, marks of direction, tags, private use, unassigned."""
BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Letters and marks that nobody sees either; some carry whole hidden messages."""


def plain(text: str, most: int = MOST_DESCRIBED) -> str:
    """*text* of a server's that a model is to read: without what nobody sees, every space a plain one, and cut to
    *most* characters."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(char if char in "\n\t" else _seen(char) for char in BLANK.sub("", text))
    return text if len(text) <= most else text[: most - 1] + "…"


def _seen(char: str) -> str:
    category = unicodedata.category(char)
    return " " if category == "Zs" else "" if category in HIDDEN else char


def normal_schema(schema: Any) -> Json:
    """*schema* as the schema of an object, which every upstream takes."""
    if not isinstance(schema, dict):
        return {"type": "object", "properties": {}}
    kept = {name: value for name, value in schema.items() if name != "$schema"}
    properties = kept.get("properties")
    return kept | {"type": "object", "properties": properties if isinstance(properties, dict) else {}}


def mended(arguments: Json, schema: Json) -> Json:
    """*arguments* with those members that *schema* says are objects or lists, and that a model has written as text of
    such (Gemini does), as what they are."""
    properties = schema.get("properties")
    return {
        name: _mended(value, properties.get(name)) if isinstance(value, str) and isinstance(properties, dict) else value
        for name, value in arguments.items()
    }


def _mended(text: str, schema: Any) -> Any:
    kind = {"object": dict, "array": list}.get(str(schema.get("type"))) if isinstance(schema, dict) else None
    if kind is None:
        return text
    try:
        value = tree(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, kind) else text


def sound(value: Any) -> Any:
    """*value* as JSON can hold it: half a surrogate pair, which a host's function may have in a text, is none."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {sound(name): sound(member) for name, member in value.items()}
    return [sound(member) for member in value] if isinstance(value, list) else value


def data_url(image: Image) -> str:
    """*image* as a `data:` URL."""
    kind = "svg+xml" if image.format == "svg" else image.format
    return f"data:image/{kind};base64,{base64_of(image.data)}"


def base64_of(data: bytes) -> str:
    """*data* in base64, as text."""
    return b64encode(data).decode("ascii")


def file_id(file: File) -> str:
    """The id of *file*; one that has none gets one of its name."""
    return file.file_id or f"cfile_{file.filename}"


def image_error(text: str) -> Json:
    """The `error` of an image that was not drawn (openai 3.54.0, `ImageGenerationCall.error`)."""
    return {
        "type": "image_generation_error", "code": "image_generation_failed", "message": text, "param": None,
        "moderation_details": None,
    }  # fmt: skip


def all_of(result: Any, kind: Callable[..., Any], name: str) -> tuple[Any, ...]:
    """*result* as those that the host's function was to give.

    :raises TypeError: it is something else.
    """
    if not isinstance(result, Sequence) or isinstance(result, str | bytes):
        raise TypeError(f"a list of {name} or text was expected, not {type(result).__name__}")
    for one in result:
        if not isinstance(one, kind):  # type: ignore[arg-type]
            raise TypeError(f"a list of {name} was expected, with a {type(one).__name__} in it")
    return tuple(result)
