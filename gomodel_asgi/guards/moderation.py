"""A request's own `moderation` member, and what a guard of that name has found: the answer's member of the same name.

The shapes are those of the Responses API (openai 3.54.0, `response_create_params.Moderation`, `Response.Moderation`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from ..errors import InvalidRequest

MODERATION = "moderation"
"""The member, and the name of the guard that answers it."""
MODES = ("score", "block")
BLOCKED = "The content was blocked by moderation."


class Wish(Struct, frozen=True):
    """What a request asks for: a *model*, and the stages in which what is flagged *blocks*."""

    model: str
    blocks: frozenset[str] = frozenset()


class Finding(Struct):
    """What was found at one stage: *labels* are the categories, *error* is the code of a guard that failed."""

    labels: tuple[str, ...] = ()
    error: str | None = None


def wish_of(value: Any) -> Wish | None:
    """Returns what the member *value* asks for, None where it asks for nothing.

    :raises InvalidRequest: it is malformed.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping) or not isinstance(value.get("model"), str):
        raise _malformed("'moderation' must be an object with a 'model'.", "moderation")
    policy = value.get("policy") or {}
    if not isinstance(policy, Mapping):
        raise _malformed("'moderation.policy' must be an object.", "moderation.policy")
    return Wish(value["model"], frozenset(stage for stage in ("input", "output") if _mode(policy, stage) == "block"))


def _mode(policy: Mapping[str, Any], stage: str) -> str:
    """Returns what *policy* wants of *stage*: "score" by default.

    :raises InvalidRequest: there is no such mode.
    """
    given = policy.get(stage)
    mode = "score" if given is None else given.get("mode") if isinstance(given, Mapping) else None
    if mode not in MODES:
        path = f"moderation.policy.{stage}.mode"
        raise _malformed(f"'{path}' must be 'score' or 'block'.", path)
    return str(mode)


def _malformed(message: str, path: str) -> InvalidRequest:
    return InvalidRequest(message, param=path, code="invalid_value")


def member(wish: Wish, found: Mapping[str, Finding]) -> dict[str, Any]:
    """Returns the answer's member."""
    return {stage: _result(wish.model, found.get(stage)) for stage in ("input", "output")}


def _result(model: str, found: Finding | None) -> dict[str, Any]:
    if found is None:
        return {"type": "error", "code": "not_moderated", "message": "Nothing was moderated here."}
    if found.error is not None:
        return {"type": "error", "code": found.error, "message": "The moderation has failed."}
    return {
        "type": "moderation_result", "model": model, "flagged": bool(found.labels),
        "categories": dict.fromkeys(found.labels, True), "category_scores": dict.fromkeys(found.labels, 1.0),
        "category_applied_input_types": {label: ["text"] for label in found.labels},
    }  # fmt: skip
