"""What the client has approved is called first, without asking the model; what needs its word is requested."""

from __future__ import annotations

from msgspec import structs

from .approvals import Approval, answered, id_of, unknown
from .calls import run_calls
from .memory import Remembered, pair_of
from .plan import Shown
from .rounds import HostedCall, Round
from .servers import tell_lists
from .source import Json
from .work import Work


async def resume(work: Work, secret: bytes) -> list[Json]:
    """Call what the client has approved: the calls and their outputs, for the model.

    :raises InvalidRequest: an approval answers nothing that waits for one here.
    """
    tenant = work.job.request.tenant
    given = answered(secret, tenant, work.own, work.known)
    found = [(one, _function(work, one)) for one in given]
    for one, shown in found:
        if not await work.job.setup.state.take_approval(tenant, one.id):
            raise unknown()
        work.known[one.id] = one.asked if shown is None else structs.replace(one.asked, name=shown.name)
    approved = [(one, shown) for one, shown in found if one.approve and shown is not None]
    if not approved:
        return []
    await tell_lists(work, work.plans[0].upstream)
    round = Round(-1)
    for one, shown in approved:
        call = HostedCall(f"call_{one.id}", shown.name, shown, approved=one.id)
        round.calls.append(call)
        work.ledger.take()
        work.rewriter.begun(call, shown)
        work.rewriter.write(call, one.asked.arguments)
    outputs = await run_calls(work, round)
    return [*(pair_of(call.call_id, Remembered(call.name, call.arguments))[0] for call in round.calls), *outputs]


def _function(work: Work, one: Approval) -> Shown | None:
    """The function that was requested, as it may be called now; None where it is not there and not approved either.

    :raises InvalidRequest: it may not be called any more, or its approval has to be one that is stored here.
    """
    shown = [shown for plan in work.plans for shown in plan.shown.values()]
    found = next((each for each in shown if (each.label, each.called) == (one.asked.label, one.asked.tool)), None)
    if (found is None and one.approve) or (found is not None and found.forced and not one.asked.name):
        raise unknown()
    return found


def request_approval(work: Work, call: HostedCall, secret: bytes, number: int) -> None:
    """Ask the client whether *call*, of the round *number*, may be made."""
    shown = call.shown
    assert shown is not None
    stem = f"{work.id.removeprefix('resp_')}{len(work.emitter.items):02x}"
    id = id_of(secret, work.job.request.tenant, stem, shown.label, shown.called, call.arguments)
    item = {"id": id, "type": "mcp_approval_request", "server_label": shown.label, "name": shown.called}
    work.emitter.item({**item, "arguments": call.arguments})
    work.told[id] = Remembered(
        call.name,
        call.arguments,
        round=number,
        call_id=call.call_id,
        label=shown.label,
        tool=shown.called,
        forced=shown.forced,
    )
