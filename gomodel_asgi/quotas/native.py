"""Work that an upstream does in the background: what it has used is known when somebody looks at its end.

The estimate is booked when the request has been taken, and what was booked is remembered under the response's id. The
first terminal answer that goes by (retrieve, its events, cancel) books the difference: once, also where two workers see
one at the same moment. A correction for a window that has ended changes nothing, since nothing counts it any more.
"""

from __future__ import annotations

from functools import partial

import msgspec
from msgspec.structs import replace

from ..errors import StoreUnavailable
from ..exchange.reply import Reply
from ..history.records import SETTLEMENTS, Records
from ..history.replies import response_in
from ..observers import Charge, Ended, Trace
from ..stores.shared import available
from .settlement import Reservation, Settlement, unpacked

ENDS = frozenset({"completed", "incomplete", "failed", "cancelled"})
MARK = b"1"


class Named(msgspec.Struct):
    """The member of a response that names it."""

    id: str | None = None


def response_id_of(reply: Reply) -> str | None:
    """The id of the response that *reply* is, as far as it has been read."""
    if reply.stream is not None:
        return reply.stream.reader.response_id
    if reply.response_id is not None or reply.body is None:
        return reply.response_id
    response = response_in(reply.body)
    try:
        return None if response is None else msgspec.json.decode(response, type=Named).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


class Pending:
    """The responses that upstreams work on, in *records*."""

    def __init__(self, records: Records, settlement: Settlement) -> None:
        self.records = records
        self.settlement = settlement

    async def remember(self, tenant: str | None, id: str, reservation: Reservation) -> None:
        """Remembers that *reservation* was booked for the response *id* as it had been estimated.

        :raises StoreUnavailable: the store does not answer: the estimate stays.
        """
        await available(partial(self._put, tenant, id, reservation))

    async def _put(self, tenant: str | None, id: str, reservation: Reservation) -> None:
        key = await self.records.tenancy.key(tenant, id)
        await self.records.store.put(SETTLEMENTS, key, reservation.packed())

    def seen(self, tenant: str | None, trace: Trace, ended: Ended) -> None:
        """An exchange has ended in which a response went by."""
        answer, context = trace.answer(), ended.context
        if answer.response_id is None or answer.status not in ENDS or context.provider is None:
            return
        if answer.usage is None and answer.status != "failed":
            return  # cancelled, and who knows when: the estimate stays
        charges: list[Charge] = []
        if answer.usage is not None:
            provider, type, tier = context.provider, context.provider_type, answer.service_tier
            charges.append(Charge(0, provider, type, None, answer.model, tier, answer.usage))
        self.settlement.tasks.spawn(partial(self._corrected, tenant, answer.response_id, charges, trace))

    async def _corrected(self, tenant: str | None, id: str, charges: list[Charge], trace: Trace) -> None:
        try:
            await available(partial(self._correct, tenant, id, charges))
        except StoreUnavailable as error:
            trace.warn(f"quotas: the estimate for a background response stays: {error.detail or error.message}")

    async def _correct(self, tenant: str | None, id: str, charges: list[Charge]) -> None:
        store, tenancy = self.records.store, self.records.tenancy
        key = await tenancy.key(tenant, id)
        record = await store.get(SETTLEMENTS, key)
        reservation = None if record is None else unpacked(record.value)
        if reservation is None:
            return
        claimed = await tenancy.key(tenant, f"{id}/settled")
        if store.atomic and await store.add(SETTLEMENTS, claimed, MARK) is None:
            return
        if not await store.delete(SETTLEMENTS, key) and not store.atomic:
            return
        used = self.settlement.used(reservation, [replace(one, target_model=reservation.model) for one in charges])
        more = [one - booked for one, booked in zip(used, reservation.amounts, strict=True)]
        now = self.settlement.now()
        await self.settlement.counters.settle(f"{reservation.id}.end", reservation.lines, more, now)
