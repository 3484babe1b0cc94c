"""What a chat server wants back on the next turn, as it travels in `encrypted_content`.

A payload has the members of an assistant message that the server gave and no item holds: `reasoning_content` or
`reasoning` (text), `reasoning_details` (OpenRouter, Snowflake), `thinking` (the text of Mistral's thinking parts),
`tagged` (what stood between the provider's `reasoning_tags`),
`extra_content` (by call id; "" is the message's own: signatures at Gemini's OpenAI endpoint). Streams give all of
these in pieces, and several items of one turn may each hold some: adding pieces up is the same work both ways.
"""

from __future__ import annotations

from typing import Any

from ..content import Json
from ..values import object_in, objects

TEXTS = ("reasoning_content", "reasoning", "thinking", "tagged")
PIECEWISE = ("text", "summary", "data")
MESSAGE = ""


class Memory:
    """Adds up the pieces of one turn; `take` gives the payload and starts anew."""

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {}
        self.details: list[Json] = []
        self.extra: Json = {}

    def text(self, member: str, piece: str) -> None:
        """Adds to the reasoning, under the name that the server gave it."""
        self.texts.setdefault(member, []).append(piece)

    def detail(self, piece: Json) -> None:
        """Adds one of `reasoning_details`; the pieces of a streamed one are joined again."""
        last = self.details[-1] if self.details else None
        if last is not None and _continues(last, piece):
            _append(last, piece)
        else:
            self.details.append(_begun(piece))

    def signature(self, call_id: str, value: Json) -> None:
        """Adds the `extra_content` of a call, of the message itself with the id ""."""
        self.extra[call_id] = value

    def add(self, payload: Json) -> None:
        """Adds a payload that came back through a client; members of the wrong shape are left out."""
        for member in TEXTS:
            if isinstance(payload.get(member), str):
                self.text(member, payload[member])
        for piece in objects(payload.get("reasoning_details")):
            self.detail(piece)
        self.extra |= {
            key: value for key, value in object_in(payload, "extra_content").items() if isinstance(value, dict)
        }

    def take(self) -> Json:
        """Returns the payload of what has come since the last call, empty if nothing has."""
        if not (self.texts or self.details or self.extra):
            return {}
        payload: Json = {member: "".join(pieces) for member, pieces in self.texts.items()}
        if self.details:
            # The details hold the text too, and OpenRouter wants them alone.
            payload = {"reasoning_details": [_joined(detail) for detail in self.details]}
        if self.extra:
            payload["extra_content"] = self.extra
        self.texts, self.details, self.extra = {}, [], {}
        return payload


def _continues(last: Json, piece: Json) -> bool:
    """Returns whether *piece* is a further piece of *last*: same type, same place, no other id."""
    if piece.get("type") != last.get("type") or piece.get("index") != last.get("index"):
        return False
    if piece.get("index") is None and (last.get("signature") or last.get("type") == "reasoning.encrypted"):
        return False
    return piece.get("id") is None or last.get("id") is None or piece["id"] == last["id"]


class Pieces(list[str]):
    """A text that is still coming: put together once, since a longer one with each piece costs the square of it."""


def _begun(piece: Json) -> Json:
    return {
        key: Pieces([value]) if key in PIECEWISE and isinstance(value, str) else value for key, value in piece.items()
    }


def _append(last: Json, piece: Json) -> None:
    for key, value in _begun(piece).items():
        before: Any = last.get(key)
        if isinstance(before, Pieces) and isinstance(value, Pieces):
            before += value
        elif value not in (None, "", [""]):
            last[key] = value


def _joined(detail: Json) -> Json:
    return {key: "".join(value) if isinstance(value, Pieces) else value for key, value in detail.items()}
