"""Compaction for upstreams that have none: the model sums the conversation up, and the client keeps the sum, sealed.

The `compaction` item that the client gets holds in `encrypted_content` the items that it stands for, the summary among
them; in any later turn, to any provider, it is opened and they stand in its place. Nothing of it is stored.
"""

from __future__ import annotations

import hmac
import os
import secrets
import time
from copy import copy
from typing import Any

import msgspec

from ..errors import InvalidRequest, UpstreamProtocolError, UpstreamRejected
from ..exchange.job import Job
from ..exchange.reply import Reply, told
from ..history.compaction_item import is_ours, opened, sealed
from ..history.continuation import Continuation
from ..history.records import Records
from ..history.tenancy import packed
from ..providers.provider import Provider
from ..routing.request import Target
from ..upstream.chain import Exchange
from ..wire.json_scan import parser
from .token_count import lacks_operation

Json = dict[str, Any]

INSTRUCTIONS = (
    "You compact conversations. Another assistant will continue from your text alone. Keep every fact, decision, name, "
    "number, open question and result of a tool that may still matter, and what the user asked for; leave out the rest."
)
ASK = "Write down the conversation so far in compact form. Answer with that text only."
KEPT = frozenset({"model", "previous_response_id", "conversation"})
_items = parser(list[Json])
PREFACE = "The conversation so far, in compact form:\n\n"


class Compactor:
    """Makes compaction items, and opens them."""

    def __init__(self, records: Records) -> None:
        self._secret = records.store.secret or os.urandom(32)

    def expand(self, tenant: str | None, item: Json) -> list[Json]:
        """*item*, or the items that it stands for.

        :raises InvalidRequest: it is one of ours that does not open: damaged, or another tenant's.
        """
        if not is_ours(item):
            return [item]
        text = opened(self._keys(tenant), item["encrypted_content"])
        try:
            items: list[Json] = _items(text or "")
            return items
        except (msgspec.MsgspecError, RecursionError):
            raise InvalidRequest(
                "A compaction item is damaged or was not made here.", code="invalid_encrypted_content", param="input"
            ) from None

    def item(self, tenant: str | None, items: list[Json]) -> Json:
        """A compaction item that stands for *items*."""
        content = sealed(self._keys(tenant), msgspec.json.encode(items).decode())
        return {"id": f"cmp_{secrets.token_hex(24)}", "type": "compaction", "encrypted_content": content}

    def told(self, summary: str) -> Json:
        """The message by which a model is told of the conversation so far."""
        content = [{"type": "input_text", "text": PREFACE + summary}]
        return {"type": "message", "role": "user", "content": content}

    async def answer(self, job: Job, target: Target, provider: Provider) -> Reply:
        """The reply to `compact`: the upstream's own where it can, else ours.

        :raises InvalidRequest: there is no model, or nothing to compact.
        """
        if job.request.envelope.model is None:
            raise InvalidRequest("Name a 'model'.", param="model", code="missing_required_parameter")
        if provider.native:
            try:
                return await Exchange(job, target).run()
            except UpstreamRejected as error:
                if not lacks_operation(error):
                    raise
        reply, summary, usage = await self._summed_up(job, target, None)
        item = self.item(job.request.tenant, [self.told(summary)])
        value = {"id": f"resp_{secrets.token_hex(24)}", "object": "response.compaction", "created_at": int(time.time())}
        return told({**value, "output": [item], "usage": usage}, reply.provider, reply.model)

    async def summary(self, job: Job, target: Target, items: list[Json]) -> tuple[str, Json | None]:
        """A summary of *items* by *target*, and the usage of making it.

        :raises GatewayError: there is none.
        """
        job = msgspec.structs.replace(job, continuation=None, trace=None)
        _, text, usage = await self._summed_up(job, target, items)
        return text, usage

    async def _summed_up(self, job: Job, target: Target, items: list[Json] | None) -> tuple[Reply, str, Json | None]:
        reply = await Exchange(summing_up(job, items), target).run()
        response = await reply.json()
        text = text_of(response)
        if not text:
            raise UpstreamProtocolError("The upstream gave no summary of the conversation.")
        return reply, text, response.get("usage")

    def _keys(self, tenant: str | None) -> bytes:
        return hmac.digest(self._secret, packed(b"compaction", tenant), "sha512")


def summing_up(job: Job, own: Any = None) -> Job:
    """*job* as a create whose answer is the summary: the same conversation, with other instructions and a last word.
    *own* replaces its input, and then stands for all that was said."""
    request = job.request
    kept_members = KEPT if own is None else frozenset({"model"})
    members = {name: value for name, value in request.envelope.members.items() if name in kept_members}
    if own is None:
        own = request.envelope.body.get("input")
    if own is None and job.continuation is None:
        raise InvalidRequest("Give the 'input' to compact.", param="input", code="missing_required_parameter")
    items = [{"role": "user", "content": own}] if isinstance(own, str) else own or []
    if not isinstance(items, list):
        raise InvalidRequest("'input' must be a string or an array of items.", param="input", code="invalid_value")
    said = msgspec.json.encode([*items, {"role": "user", "content": ASK}])
    instructions = msgspec.Raw(msgspec.json.encode(INSTRUCTIONS))
    members |= {"input": msgspec.Raw(said), "instructions": instructions}
    envelope = request.envelope.with_members(members)
    envelope.stream = False
    request = msgspec.structs.replace(request, envelope=envelope, operation="create")
    continuation = copy(job.continuation)
    if isinstance(continuation, Continuation):
        continuation.original = request.envelope
    return msgspec.structs.replace(job, request=request, continuation=continuation, stream=False, response_id=None)


def text_of(response: Json) -> str:
    """The text of the messages in a response."""
    parts = [
        part.get("text", "")
        for item in response.get("output") or ()
        if item.get("type") == "message"
        for part in item.get("content") or ()
        if part.get("type") == "output_text"
    ]
    return "".join(parts).strip()
