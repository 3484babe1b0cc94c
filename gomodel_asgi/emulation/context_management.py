"""What `context_management` asks for, and where a context is parted: values in, values out. See `Compactor.managed`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from typing import Any

import msgspec

from ..exchange.job import Job
from ..history.continuation import Continuation
from ..wire.json_scan import run
from ..wire.token_estimate import estimated

Json = dict[str, Any]

THRESHOLD = 200_000
"""Tokens, where the request names none."""
INSTRUCTING = ("system", "developer")

encode = msgspec.json.encode


def compaction_wanted(value: Any) -> tuple[float | None, list[Any]]:
    """The threshold in tokens that the member asks for, None where it asks for no compaction; and its other entries."""
    entries = value if isinstance(value, list) else [value]
    ours = [entry for entry in entries if isinstance(entry, dict) and entry.get("type") == "compaction"]
    if not ours or not isinstance(value, list):
        return None, entries
    given = [entry.get("compact_threshold") for entry in ours]
    numbers = [number for number in given if isinstance(number, int | float) and not isinstance(number, bool)]
    if any(number is not None and number not in numbers for number in given):
        return None, entries  # malformed: the upstream's dialect says so
    return min(numbers, default=THRESHOLD), [entry for entry in entries if entry not in ours]


def without_compaction(job: Job, others: list[Any]) -> Job:
    """Returns *job* with only the *others* of its `context_management`."""
    members = {name: raw for name, raw in job.request.envelope.members.items() if name != "context_management"}
    if others:
        members["context_management"] = msgspec.Raw(encode(others))
    request = msgspec.structs.replace(job.request, envelope=job.request.envelope.with_members(members))
    continuation = copy(job.continuation)
    if isinstance(continuation, Continuation):
        continuation.original = request.envelope
    return msgspec.structs.replace(job, request=request, continuation=continuation)


def turn_of(items: Sequence[Json], threshold: float) -> int:
    """The index at which the current turn begins: with the user's last message, or, where what stands before that is
    no half of *threshold*, with the last calls. 0 where nothing can be parted off."""
    user = next((at for at in range(len(items) - 1, 0, -1) if items[at].get("role") == "user"), 0)
    if user and _is_whole(items, user) and run(estimated(encode(items[:user]))) >= threshold / 2:
        return user
    return next((at for at in range(len(items) - 1, 0, -1) if _begins(items, at)), 0)


def _begins(items: Sequence[Json], at: int) -> bool:
    """Returns whether something new begins at the index *at*: no output, nothing that belongs to what stands before
    it."""
    kind, before = str(items[at].get("type")), items[at - 1]
    is_call = kind.endswith("_call")
    if kind.endswith("_output") or before.get("type") == "reasoning" or (is_call and _is_call(before)):
        return False
    return _is_whole(items, at)


def _is_call(item: Json) -> bool:
    return str(item.get("type")).endswith("_call")


def _is_whole(items: Sequence[Json], at: int) -> bool:
    """Returns whether every output from the index *at* on has its call there too."""
    return _ids(items[at:], "_output") <= _ids(items[at:], "_call")


def _ids(items: Iterable[Json], ending: str) -> set[Any]:
    return {str(item.get("call_id")) for item in items if str(item.get("type")).endswith(ending)}
