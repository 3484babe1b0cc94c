"""The response as a whole, repaired: its object, its error, its usage.

What is there and of the right type stays, unknown members too; what is missing is filled in as the emitter would have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from ...wire.event_writer import Emitter
from ...wire.response import DEFAULTS, TERMINAL, Reason, response_object
from ...wire.usage import LARGEST, of_chat, usage
from ..values import object_in, string_in

Json = dict[str, Any]

FIXED = frozenset({"id", "object", "created_at", "created", "status", "output"})
"""Members that the stream as a whole decides, not one event of it."""
CHAT_USAGE = ("prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details")
TYPES: dict[str, tuple[type, ...]] = {
    "instructions": (str, list),
    "max_output_tokens": (int,),
    "max_tool_calls": (int,),
    "previous_response_id": (str,),
    "prompt_cache_key": (str,),
    "safety_identifier": (str,),
    "tool_choice": (str, dict),
    "model": (str,),
    "error": (dict,),
    "incomplete_details": (dict,),
    "usage": (dict,),
    "completed_at": (int, float),
}
"""Types of members whose default does not tell."""
REASONS = frozenset(get_args(Reason))
FILTERED = dict.fromkeys(("content-filter", "safety", "refusal", "sensitive"), "content_filter")
"""What servers call a filter. All others that they name are limits."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What all response objects of one reply have in common; *fixed_id* says that the upstream's own id does not
    count."""

    id: str
    created_at: int
    model: str
    echo: Mapping[str, Any]
    stamp: str | None
    fixed_id: bool = False


def repaired_response(given: Json, identity: Identity, status: str) -> Json:
    """A response object with every member that Open Responses requires, those of *given* where they are usable. Its
    output is left to the event writer."""
    kept = {name: value for name, value in given.items() if name not in FIXED and _fits(name, value)}
    echo = {**identity.echo, **kept}
    response = response_object(
        identity.id, identity.created_at, kept.get("model") or identity.model, echo, identity.stamp
    )
    response |= {name: value for name, value in given.items() if name not in response and name not in FIXED}
    response |= {"status": status, "usage": repaired_usage(given.get("usage"))}
    at = timestamp(kept.get("completed_at")) or identity.created_at
    response["completed_at"] = at if status == "completed" else None
    response["incomplete_details"] = _details(kept) if status == "incomplete" else None
    response["error"] = repaired_error(kept.get("error")) if status in ("failed", "cancelled") else None
    for name in ("reasoning", "text"):
        response[name] = DEFAULTS[name] | response[name]
    return response


def _fits(name: str, value: Any) -> bool:
    if value is None:
        return False
    if name in TYPES:
        types = TYPES[name]
    elif name in DEFAULTS:
        default = DEFAULTS[name]
        types = (int, float) if type(default) in (int, float) else (type(default),)
    else:
        return True
    return isinstance(value, types) and (not isinstance(value, bool) or bool in types)


def _details(kept: Json) -> Json | None:
    """Why a response is incomplete, in a word that clients know; None where nothing says so, since a guess would be
    worse."""
    details = kept.get("incomplete_details") or {}
    reason = string_in(details, "reason")
    if not reason:
        return None
    return {**details, "reason": reason if reason in REASONS else FILTERED.get(reason, "max_output_tokens")}


def repaired_error(error: Json | None) -> Json | None:
    """Returns the `error` of a failed response, None where there is none, as in a cancelled one."""
    if error is None:
        return None
    code, message = error.get("code"), error.get("message")
    return {
        **error,
        "code": str(code) if isinstance(code, str | int) and code else "server_error",
        "message": message if isinstance(message, str) and message else "The upstream reported an error.",
    }


def timestamp(value: Any) -> int | None:
    """Returns Unix seconds as an integer, from a number or its digits; None for anything else."""
    if isinstance(value, str) and value.replace(".", "", 1).isdecimal():
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return None
    return min(int(value), LARGEST)


# Usage...


def repaired_usage(raw: Any) -> Json | None:
    """Returns the usage object of *raw*, in chat's names or our own, with its other members; None where it counts
    nothing.
    """
    if not isinstance(raw, dict):
        return None
    if "input_tokens" not in raw and "output_tokens" not in raw:
        counted = of_chat(raw)
        return None if counted is None else _others(raw) | counted
    read, given = object_in(raw, "input_tokens_details"), object_in(raw, "output_tokens_details")
    counted = usage(
        input=count(raw, "input_tokens"),
        output=count(raw, "output_tokens"),
        cached=count(read, "cached_tokens"),
        written=count(read, "cache_write_tokens"),
        reasoning=count(given, "reasoning_tokens"),
    )
    counted["input_tokens_details"] = read | counted["input_tokens_details"]
    counted["output_tokens_details"] = given | counted["output_tokens_details"]
    counted["total_tokens"] = count(raw, "total_tokens") or counted["total_tokens"]
    return _others(raw) | counted


def _others(raw: Json) -> Json:
    return {name: value for name, value in raw.items() if name not in CHAT_USAGE}


def count(raw: Json, name: str) -> int:
    """Returns a number of tokens, 0 where there is none."""
    return timestamp(raw.get(name)) or 0


# What the upstream says of a response as a whole: kept as it comes, and written by the event writer.


STATUS_ENDS = {"incomplete": "incomplete", "failed": "failed", "cancelled": "failed"}


class UpstreamResponse:
    """The response of one reply. *identity* counts as far as the upstream does not say who it is."""

    def __init__(self, emitter: Emitter, identity: Identity) -> None:
        self.emitter = emitter
        self.identity = identity
        self.given: Json = {}
        """What the upstream has said of it so far."""

    def learn(self, event: Json) -> None:
        """Takes over what *event* says of the response; some servers send a bare response object for an event."""
        response = event if event.get("object") == "response" else event.get("response")
        given = response if isinstance(response, dict) else {}
        if "usage" in event and not given.get("usage"):
            given = {**given, "usage": event["usage"]}
        self.given |= {name: value for name, value in given.items() if value is not None or name not in self.given}
        self.emitter.raw_usage = self.given.get("usage")

    def begin(self, event: Json, members: Json) -> bool:
        """Announces the response. Returns False if it had been.

        *event* may name its id: the first id stays. *members* are added to the event that announces it.
        """
        if self.emitter.begun:
            return False
        id = string_in(self.given, "id") or string_in(event, "response_id")
        id = id if id and not self.identity.fixed_id else self.identity.id
        created = timestamp(self.given.get("created_at")) or timestamp(self.given.get("created"))
        self.identity = replace(self.identity, id=id, created_at=created or self.identity.created_at)
        self.describe("queued" if self.given.get("status") == "queued" else "in_progress")
        self.emitter.announce("created", **members)
        return True

    def announce(self, state: str, members: Json) -> None:
        """Announces a state before the end, once."""
        if state not in self.emitter.announced:
            self.describe(state)
            self.emitter.announce(state, **members)

    def describe(self, status: str, usage: bool = False) -> None:
        """Hands what the upstream has said of the response to the writer; its usage only at the end."""
        response = repaired_response(self.given, self.identity, status)
        self.emitter.describe(response if usage else response | {"usage": None})

    def ending(self, type: str) -> str:
        """Returns the status that an event of *type* ends the response with. A `completed` yields to the response's own
        status.
        """
        if self.emitter.failure is not None:
            return "failed"
        named = TERMINAL.get(type)
        if named in (None, "completed"):
            return STATUS_ENDS.get(string_in(self.given, "status"), named or "completed")
        return str(named)

    def end(self, status: str, members: Json) -> None:
        """Ends the response as completed or incomplete."""
        self.describe(status, usage=True)
        response = self.emitter.response
        if status == "completed":
            self.emitter.complete(response["completed_at"], **members)
        else:
            details = response["incomplete_details"]
            self.emitter.incomplete(details and details["reason"], **members)
