"""What the model was told, kept with the response and told again in later turns.

An item of a hosted tool does not say what the model read: a search names its query and no page. So each is kept with
the call and the answer as the model had them, and where an item comes back (by `previous_response_id`, in a
conversation, by reference, or echoed) the model gets exactly that: a function call and its output. Of an item that
nothing is known of, what it holds itself is told, by whoever writes the request (see `dialects.hosted_items`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ...dialects.hosted_items import HOSTED, HOSTED_CALLS, REQUEST, RESPONSE, kind_of, string, verdict_on
from ...exchange.job import Job
from ...history.references import response_of
from .source import Json

CALLS = frozenset({"function_call", "custom_tool_call"})


class Remembered(msgspec.Struct, frozen=True, omit_defaults=True):
    """One call as the model had it: the function's *name*, its *arguments* and *output*, and the *call_id*, by which
    some upstreams know what they signed; *round* tells which calls were made at once. Of a request for an approval:
    *label* and *tool* are the server's, and *forced* says that the host demands it."""

    name: str
    arguments: str
    output: str = ""
    round: int = 0
    call_id: str = ""
    label: str = ""
    tool: str = ""
    forced: bool = False


_decode = msgspec.json.Decoder(dict[str, Remembered]).decode
encode = msgspec.json.Encoder().encode


async def remembered_of(job: Job, items: Iterable[Any]) -> dict[str, Remembered]:
    """What is remembered of those among *items* that are ours, by id.

    :raises StoreUnavailable: the store does not answer.
    """
    found: dict[str, Remembered] = {}
    for response_id in dict.fromkeys(map(response_of, ids_in(items))):
        if response_id is not None and (kept := await job.setup.state.remembered(job.request.tenant, response_id)):
            found |= _decode(kept)
    return found


def ids_in(items: Iterable[Any]) -> Iterator[str]:
    """The ids of the items of hosted tools, and of what approvals and references name."""
    for item in items:
        if not isinstance(item, dict):
            continue
        kind = kind_of(item)
        id = string(item, "approval_request_id" if kind == RESPONSE else "id")
        if id and (kind in HOSTED or kind == "item_reference" or item.get("type") is None):
            yield id


def told_again(
    items: Iterable[Any],
    known: Mapping[str, Remembered],
    answers: Mapping[str, Any],
    twice: frozenset[str] = frozenset(),
) -> list[Any]:
    """*items* with those of our tools of which something is *known*, by id, as calls and outputs; others as they are.
    Outputs stand behind all calls that were made at once. *answers* are those to requests for approval (see
    `answers_in`); the ids in *twice* were told of before, and are left out here."""
    made: list[Any] = []
    waiting: list[Json] = []
    last: int | None = None
    for item in items:
        kind = kind_of(item)
        if kind in HOSTED and string(item, "id") in twice:
            continue
        pair = _pair(item, known, answers) if kind in HOSTED_CALLS else None
        if pair is not None:
            if waiting and pair[2] != last:
                made, waiting = made + waiting, []
            last = pair[2]
            made.append(pair[0])
            waiting.append(pair[1])
        elif kind in (REQUEST, RESPONSE) and _is_handled(item, known, answers):
            continue
        elif kind == "mcp_list_tools" and string(item, "id") in known:
            continue
        else:
            if kind not in CALLS:
                made, waiting = made + waiting, []
            made.append(item)
    return made + waiting


def answers_in(items: Iterable[Any]) -> dict[str, Any]:
    """What became of requests for approval, by id: the call that was made, or the client's answer."""
    found: dict[str, Any] = {}
    for item in items:
        if isinstance(item, dict) and isinstance(id := item.get("approval_request_id"), str):
            if item.get("type") == "mcp_call" or id not in found:
                found[id] = item
    return found


def _is_handled(item: Json, known: Mapping[str, Remembered], answers: Mapping[str, Any]) -> bool:
    """Whether an approval, or a request for one, is told of by another item."""
    id = string(item, "approval_request_id" if kind_of(item) == RESPONSE else "id")
    return id in known or answers.get(id, {}).get("type") == "mcp_call"


def _pair(item: Json, known: Mapping[str, Remembered], answers: Mapping[str, Any]) -> tuple[Json, Json, int] | None:
    id = string(item, "id")
    found = known.get(id)
    if found is None:
        return None
    return pair_of(f"call_{id}", found) if kind_of(item) != REQUEST else _unapproved(id, found, answers.get(id))


def pair_of(call_id: str, call: Remembered) -> tuple[Json, Json, int]:
    """*call* and its output, and when it was made; under *call_id*, unless it had one."""
    call_id = call.call_id or call_id
    made = {"type": "function_call", "call_id": call_id, "name": call.name, "arguments": call.arguments or "{}"}
    return made, {"type": "function_call_output", "call_id": call_id, "output": call.output}, call.round


def _unapproved(id: str, found: Remembered, answer: Json | None) -> tuple[Json, Json, int] | None:
    """The call that waited for the client's *answer*, if it was not made."""
    if answer is not None and (kind_of(answer) == "mcp_call" or answer.get("approve") is True):
        return None
    return pair_of(f"call_{id}", msgspec.structs.replace(found, output=verdict_on(answer)))
