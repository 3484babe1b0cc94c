"""Where a response in the background stands, and how its record is changed when it goes on or ends."""

from __future__ import annotations

from typing import Any

import msgspec

from ..errors import GatewayError
from ..history.turns import Turn
from ..tree import parsed
from ..wire.event_writer import response_error

Json = dict[str, Any]

UNDER_WAY = ("queued", "in_progress")


class Standing(msgspec.Struct):
    """The members of a response that tell where it stands."""

    status: str | None = None
    background: bool | None = None


standing = msgspec.json.Decoder(Standing).decode


def is_under_way(turn: Turn) -> bool:
    """Whether a response is in the background and has not ended."""
    return standing(turn.response).status in UNDER_WAY


def with_status(turn: Turn, status: str, **members: Any) -> Turn:
    """*turn* with another status of its response."""
    response: Json = parsed(turn.response)
    return msgspec.structs.replace(turn, response=msgspec.json.encode({**response, "status": status, **members}))


def ended(turn: Turn, status: str, error: GatewayError | None) -> Turn:
    """*turn* with its response ended without an answer."""
    reason = None if error is None else response_error(error)
    return msgspec.structs.replace(with_status(turn, status, error=reason), request=b"")


def ended_by(turn: Turn | None, error: GatewayError) -> Turn | None:
    return None if turn is None else ended(turn, "failed", error)


def marked(response: bytes) -> bytes:
    """*response* with `background` set, as its request had it."""
    return msgspec.json.encode({**msgspec.json.decode(response, type=dict[str, msgspec.Raw]), "background": True})
