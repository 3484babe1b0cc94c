"""`context_management` for upstreams that have none: a context past its threshold is compacted before they are asked.

The compaction item stands for all that was said before it: what system and developer said, word for word, a summary of
the rest, and the current turn, word for word again. The response begins with it, and so does what later turns replay.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from functools import partial
from typing import Any

import msgspec

from ..exchange.job import Job
from ..history.admission import Admission
from ..history.continuation import Continuation
from ..observers.answer import read_usage
from ..routing.target import Target
from ..threads import beside, paced
from ..upstream.call import refusing_depth
from ..upstream.upstream_request import resolve
from ..wire.json_scan import run
from ..wire.token_estimate import estimated
from .compaction import Compactor

Json = dict[str, Any]

THRESHOLD = 200_000
"""Tokens, where the request names none."""
INSTRUCTING = ("system", "developer")

encode = msgspec.json.encode


async def managed(job: Job, target: Target, admission: Admission, compactor: Compactor) -> Job:
    """*job* as *target* is to be asked: with its context compacted, if that is asked for and due.

    :raises GatewayError: the conversation could not be summed up, or the sum neither sealed nor kept.
    """
    if not job.request.envelope.has("context_management"):
        return job
    name = "context_management"
    threshold, others = compaction_wanted(job.request.envelope.values([name])[name])
    candidate = await resolve(target, job)
    if threshold is None or candidate.provider.keeps_state:
        return job
    compacts_from = getattr(candidate.dialect, "compacts_from", None)
    if compacts_from is not None and threshold >= compacts_from(candidate.model or ""):
        return job
    job = _asking(job, others)
    continuation = copy(admission.continuation_of(job))
    with refusing_depth():
        body = continuation.body(candidate.provider, candidate.key)
    if job.setup.guards is not None:
        body = await job.setup.guards.let_pass(job, body)  # some of it is kept anew, word for word
    items = body.get("input")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return job  # whoever reads it will say so
    measured = encode({name: body.get(name) for name in ("instructions", "tools", "input")})
    if await paced(estimated(measured)) <= threshold:
        return job
    at = await beside(len(measured), partial(turn_of, items, threshold))
    before = [item for item in items[:at] if item.get("role") not in INSTRUCTING]
    if not before:
        return job
    await compactor.check(job, target, name)
    text, usage = await compactor.summary(job, target, before)
    instructions = [item for item in items[:at] if item.get("role") in INSTRUCTING]
    continuation.whole = [*instructions, compactor.summary_message(text), *items[at:]]
    item = await compactor.item(job.request.tenant, continuation.whole)
    if job.trace is not None:
        job.trace.spent = read_usage(usage)
    return msgspec.structs.replace(job, continuation=continuation, leading=(item,), spent=usage)


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


def _asking(job: Job, others: list[Any]) -> Job:
    """*job* without what it asks to be compacted."""
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
