"""Operations on responses whose upstream keeps none: what the Responses API does with a response, done on the store."""

from __future__ import annotations

from typing import Any

from ..errors import InvalidRequest
from ..exchange.job import Job
from ..exchange.reply import Reply, json_reply, streamed
from ..history.records import Records, unknown_response
from ..history.turns import Turn, items_of
from ..wire.json_scan import parsed
from ..wire.response import DONE, events_of, frame
from .background import Background
from .conversations import page, query_parameters, whole_number

Json = dict[str, Any]

HIGHEST = 2**53
"""The largest number that each reader of JSON has exactly (RFC 8259, 6)."""


class StoredResponses:
    """Answers retrieve, delete, cancel and input_items from *records*. The policy has let the caller in before."""

    def __init__(self, records: Records) -> None:
        self.records = records

    async def answer(self, job: Job, provider: str, model: str | None, background: Background) -> Reply:
        """Returns the reply to an operation on a response that *provider* once gave.

        :raises InvalidRequest: 404, it is there no longer; 400, it cannot be done with it.
        :raises StoreUnavailable: the store does not answer.
        """
        id, tenant = job.request.response_id, job.request.tenant
        assert id is not None
        turn = await background.settled(tenant, id)
        if turn is None:
            raise unknown_response()
        match job.request.operation:
            case "delete":
                if turn.hold:
                    await background.cancel(tenant, id)  # so that somebody settles what it holds of quotas
                await background.stop(tenant, id)
                await background.log.delete(tenant, id)
                await self.records.delete(tenant, id)
                await background.quotas.release(tenant, id)
                return json_reply({"id": id, "object": "response", "deleted": True}, provider, model)
            case "cancel":
                return _passed(json_reply(await background.cancel(tenant, id), provider, model), turn)
            case "input_items":
                return json_reply(page(await self._inputs(tenant, id, turn), job.query), provider, model)
        return _passed(await self._retrieved(job, id, turn, provider, model, background), turn)

    async def _inputs(self, tenant: str | None, id: str, turn: Turn) -> list[Json]:
        """What the response was given, its history first."""
        lines = await self.records.turns.history(tenant, turn.previous) if turn.previous is not None else []
        if lines is None:
            lines = []  # a part of the history was deleted; what the response itself was given is still known
        return [*(item for line in lines for item in line.items), *items_of(turn.input, id)]

    async def _retrieved(
        self, job: Job, id: str, turn: Turn, provider: str, model: str | None, background: Background
    ) -> Reply:
        parameters, tenant = query_parameters(job.query), job.request.tenant
        if parameters.get("stream") != "true":
            return json_reply(await background.so_far(tenant, id, turn), provider, model)
        after = whole_number(parameters, "starting_after", 0, HIGHEST)
        response: Json = parsed(turn.response)
        if response.get("background"):
            return background.followed(job, id, after, provider, model)
        return streamed(replayed(response, after), provider, model)


def _passed(reply: Reply, turn: Turn) -> Reply:
    """*reply*, which shows *turn* and nothing else."""
    reply.guards = turn.guards
    return reply


def replayed(response: Json, after: int | None) -> bytes:
    """Returns the events of a response that has ended, those behind the sequence number *after*.

    :raises InvalidRequest: it has not ended.
    """
    if response.get("status") in ("queued", "in_progress"):
        raise InvalidRequest("This response has not ended and cannot be streamed.", param="stream")
    first = -1 if after is None else after
    return b"".join(frame(event) for event in events_of(response) if event["sequence_number"] > first) + DONE
