"""Calls that wait for the client's approval: the ids of requests, and which requests an input answers.

A request's id is signed over tenant, server, tool and arguments, so that one that the client sends back itself can be
trusted to be ours and unchanged. What the host demands is resumed from our own stored request alone.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from ...dialects.hosted_items import RESPONSE, kind_of
from ...dialects.values import string_in
from ...errors import InvalidRequest
from ...history.tenancy import packed
from .remembered import Remembered
from .replay import pair_of
from .round import HostedCall, Round
from .run import Run
from .seams import Json, Shown

MAC_DIGITS = 32
"""Hexadecimal digits of an id that prove it is ours: 128 bits."""


@dataclass(frozen=True, slots=True)
class Approval:
    """The client's answer to the request *id*, and what was requested."""

    id: str
    approve: bool
    requested: Remembered


def id_of(secret: bytes, tenant: str | None, stem: str, label: str, tool: str, arguments: str) -> str:
    """The id of a request; *stem* is what else it begins with, in hexadecimal digits."""
    return f"mcpr_{stem}{_mac(secret, tenant, f'mcpr_{stem}', label, tool, arguments)}"


def is_genuine(secret: bytes, tenant: str | None, item: Json) -> bool:
    """Returns whether *item* is a request that we have made for this tenant, unchanged."""
    id = item.get("id")
    texts = [item.get(name) for name in ("server_label", "name", "arguments")]
    if not isinstance(id, str) or not all(isinstance(text, str) for text in texts):
        return False
    given, signed = id[-MAC_DIGITS:], id[:-MAC_DIGITS]
    expected = _mac(secret, tenant, signed, *map(str, texts))
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _mac(secret: bytes, tenant: str | None, *parts: str) -> str:
    return hmac.digest(secret, packed(b"approval", tenant, *parts), "sha256").hex()[:MAC_DIGITS]


def answered(
    secret: bytes, tenant: str | None, items: Sequence[Any], known: Mapping[str, Remembered]
) -> list[Approval]:
    """Returns the answers among *items*, the client's own input, that no item of the assistant's follows: earlier ones
    have been dealt with. *known* is what is remembered of requests, by id.

    :raises InvalidRequest: one answers what was never requested here, or was changed.
    """
    requests = {item["id"]: item for item in items if _is_request(item)}
    found: dict[str, Approval] = {}
    for item in items[_last_said(items) + 1 :]:
        if kind_of(item) != RESPONSE:
            continue
        id = string_in(item, "approval_request_id")
        requested = known.get(id)
        given = requests.get(id)
        if requested is None and given is not None and is_genuine(secret, tenant, given):
            requested = Remembered("", given["arguments"], label=given["server_label"], tool=given["name"])
        is_changed = given is not None and requested is not None and not _is_same(given, requested)
        if requested is None or not requested.label or is_changed or id in found:
            raise unknown()
        found[id] = Approval(id, item.get("approve") is True, requested)
    return [*found.values()]


def unknown() -> InvalidRequest:
    """The answer to an approval of what was not requested here, or was answered already."""
    message = "An approval names no request that waits for one here."
    return InvalidRequest(message, code="invalid_approval", param="input")


def _is_request(item: Any) -> bool:
    return isinstance(item, dict) and item.get("type") == "mcp_approval_request" and isinstance(item.get("id"), str)


def _is_same(given: Json, requested: Remembered) -> bool:
    claimed = (given.get("server_label"), given.get("name"), given.get("arguments"))
    return claimed == (requested.label, requested.tool, requested.arguments)


def _last_said(items: Sequence[Any]) -> int:
    """Returns the index of the last item that came of an answer to an approval, or -1."""
    return max((at for at, item in enumerate(items) if isinstance(item, dict) and _is_said(item)), default=-1)


def _is_said(item: Json) -> bool:
    kind = str(item.get("type"))
    is_message = kind in ("message", "None") and item.get("role") == "assistant"
    return is_message or kind == "reasoning" or kind.endswith("_call")


# What the client has approved is called first, without asking the model; what needs its approval is requested.


async def take_approved(run: Run) -> list[tuple[Approval, Shown]]:
    """Returns what the client has approved and may be called now, each with its function; each counts once.

    :raises InvalidRequest: an approval answers nothing that waits for one here.
    """
    tenant = run.job.request.tenant
    given = answered(run.secret, tenant, run.own, run.known)
    found = [(one, _function(run, one)) for one in given]
    for one, shown in found:
        if not await run.job.setup.state.take_approval(tenant, one.id):
            raise unknown()
        run.known[one.id] = one.requested if shown is None else structs.replace(one.requested, name=shown.name)
    return [(one, shown) for one, shown in found if one.approve and shown is not None]


def begin_approved(run: Run, approved: Sequence[tuple[Approval, Shown]]) -> Round:
    """Returns the round before the first, whose calls are those *approved*."""
    round = Round(-1)
    for one, shown in approved:
        call = HostedCall(f"call_{one.id}", shown.name, shown, approved=one.id)
        round.calls.append(call)
        run.call_limits.take()
        run.rewriter.begun(call, shown)
        call.write(one.requested.arguments)
    return round


def call_of(call: HostedCall) -> Json:
    """Returns *call* as an item of the model's."""
    return pair_of(call.call_id, Remembered(call.name, call.arguments))[0]


def _function(run: Run, one: Approval) -> Shown | None:
    """The function that was requested, as it may be called now; None where it is not there and not approved either.

    :raises InvalidRequest: it may not be called any more, or its approval has to be one that is stored here.
    """
    shown = [shown for plan in run.plans for shown in plan.shown.values()]
    tool = (one.requested.label, one.requested.tool)
    found = next((each for each in shown if (each.label, each.called) == tool), None)
    if (found is None and one.approve) or (found is not None and found.forced and not one.requested.name):
        raise unknown()
    return found


def request_approval(run: Run, call: HostedCall, number: int) -> None:
    """Asks the client whether *call*, of the round *number*, may be made."""
    shown = call.shown
    assert shown is not None
    stem = f"{run.id.removeprefix('resp_')}{len(run.emitter.items):02x}"
    id = id_of(run.secret, run.job.request.tenant, stem, shown.label, shown.called, call.arguments)
    item = {"id": id, "type": "mcp_approval_request", "server_label": shown.label, "name": shown.called}
    run.emitter.item({**item, "arguments": call.arguments})
    run.remembered[id] = Remembered(
        call.name,
        call.arguments,
        round=number,
        call_id=call.call_id,
        label=shown.label,
        tool=shown.called,
        forced=shown.forced,
    )
