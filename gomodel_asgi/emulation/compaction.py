"""Compaction for upstreams that have none: the model sums the conversation up; the client keeps the summary, sealed.

The `compaction` item that the client gets stands for items, the summary among them; in any later turn, to any
provider, it is opened and they stand in its place. Where there is a secret to seal them with, and the extra
`encryption`, they are in its `encrypted_content`, and nothing of them is stored. Else the store keeps them, under a
random id that stands there.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw, structs

from ..errors import InvalidRequest, UpstreamProtocolError, UpstreamRejected
from ..exchange.job import Job
from ..exchange.reply import Reply, json_reply
from ..history.admission import continuation_of
from ..history.compaction_item import KEPT, SEALED, cipher, opened, sealed
from ..history.continuation import Continuation
from ..history.quota import Quotas
from ..history.recorder import is_stored
from ..history.records import COMPACTIONS, Records, unsupported
from ..history.tenancy import packed
from ..observers import RoundTrace
from ..observers.answer import read_usage
from ..providers.provider import Provider
from ..routing.target import Target
from ..seams.store import Store
from ..settings import LITTLE
from ..stores.shared import PUBLIC_SECRET, SHORTEST_SECRET, available
from ..threads import beside, paced
from ..upstream.bodies import refusing_depth
from ..upstream.chain import guarded_exchange, lacks_operation
from ..upstream.upstream_request import resolve
from ..wire.headers import FALLBACK
from ..wire.json_body import Envelope
from ..wire.json_scan import run
from ..wire.usage import estimated

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

Json = dict[str, Any]

INSTRUCTIONS = (
    "You compact conversations. Another assistant will continue from your text alone. Keep every fact, decision, name, "
    "number, open question and result of a tool that may still matter, and what the user asked for; leave out the rest."
)
ASK = "Write down the conversation so far in compact form. Answer with that text only."
CARRIED = frozenset({"model", "previous_response_id", "conversation"})
ID = re.compile("[0-9a-f]{48}")
PREFACE = "The conversation so far, in compact form:\n\n"

THRESHOLD = 200_000
"""Tokens, where the request names none."""
INSTRUCTING = ("system", "developer")


class Compactor:
    """Makes compaction items, and opens them."""

    def __init__(self, records: Records, quotas: Quotas) -> None:
        self.records = records
        self.quotas = quotas
        self.replayed: Callable[[Job], Awaitable[Job]] | None = None
        """Gives a request with what the model had of the host's tools in place of their items."""
        self._secret = secret_of(records.store) if records.keeps else os.urandom(32)
        self._cipher: type[AESGCM] | None = None
        self._has_looked = False

    async def opened(self, tenant: str | None, content: str) -> bytes | None:
        """The text that *content*, of a compaction item of ours, stands for; None where it is damaged, another
        tenant's, of the first format, or kept no longer.

        :raises StoreUnavailable: the store does not answer.
        """
        if content.startswith(KEPT):
            return await self._kept(tenant, content.removeprefix(KEPT))
        key = await self._key(tenant) if content.startswith(SEALED) else None
        return None if key is None else await beside(len(content), partial(opened, key, owner(tenant), content))

    async def check(self, job: Job, target: Target, what: str) -> None:
        """Refuses *what* was asked for, before anything is spent on it, where no item could be made.

        :raises InvalidRequest: 501; nothing can be sealed here, and nothing is to be kept.
        """
        if await self._key(None) is None and not (self.records.keeps and is_stored(job, target)):
            raise unsupported(what)

    async def item(self, tenant: str | None, items: list[Json]) -> Json:
        """A compaction item that stands for *items*.

        :raises InvalidRequest: the tenant's quota does not bear it.
        :raises StoreUnavailable: the store does not answer.
        """
        text, key = msgspec.json.encode(items), await self._key(tenant)
        if key is None:
            content = KEPT + await available(partial(self._keep, tenant, text))
        else:
            content = await beside(len(text), partial(sealed, key, owner(tenant), text))
        return {"id": f"cmp_{secrets.token_hex(24)}", "type": "compaction", "encrypted_content": content}

    async def answer(self, job: Job, target: Target, provider: Provider) -> Reply:
        """The reply to `compact`: the upstream's own where it can, else ours.

        :raises InvalidRequest: there is no model, or nothing to compact; 501, it can be neither sealed nor kept.
        """
        if job.request.envelope.model is None:
            raise InvalidRequest("Name a 'model'.", param="model", code="missing_required_parameter")
        if provider.native:
            try:
                return await guarded_exchange(await self._replayed(job), target)
            except UpstreamRejected as error:
                if not lacks_operation(error):
                    raise
        await self.check(job, target, job.request.operation)
        reply, summary, usage = await self._summed_up(job, target, None)
        item = await self.item(job.request.tenant, [message_of(summary)])
        value = {"id": f"resp_{secrets.token_hex(24)}", "object": "response.compaction", "created_at": int(time.time())}
        answer = json_reply({**value, "output": [item], "usage": usage}, reply.provider, reply.model)
        answer.raw_headers += [header for header in reply.raw_headers if header[0] == FALLBACK]
        return answer

    async def managed(self, job: Job, target: Target) -> Job:
        """Returns *job* as *target* is to be asked: with its context compacted before, if it asks for that and the
        context is past its threshold.

        The compaction item stands for the whole conversation before it: the items of system and developer, word for
        word, a summary of the rest, and the current turn, word for word again. The response begins with it, and so do
        the items that later turns replay.

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
        job = _without_compaction(job, others)
        continuation = copy(continuation_of(job, self.records))
        with refusing_depth():
            body = continuation.body(candidate.provider, candidate.key)
        if job.setup.guards is not None:
            body = await job.setup.guards.filter_body(job, body)  # some of it is kept anew, word for word
        items = body.get("input")
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            return job  # whoever reads it will say so
        measured = msgspec.json.encode({name: body.get(name) for name in ("instructions", "tools", "input")})
        if await paced(estimated(measured)) <= threshold:
            return job
        at = await beside(len(measured), partial(turn_of, items, threshold))
        before = [item for item in items[:at] if item.get("role") not in INSTRUCTING]
        if not before:
            return job
        await self.check(job, target, name)
        text, usage = await self.summary(job, target, before)
        instructions = [item for item in items[:at] if item.get("role") in INSTRUCTING]
        continuation.whole = [*instructions, message_of(text), *items[at:]]
        item = await self.item(job.request.tenant, continuation.whole)
        if job.trace is not None:
            job.trace.spent = read_usage(usage)
        return structs.replace(job, continuation=continuation, leading=(item,), spent=usage)

    async def summary(self, job: Job, target: Target, items: list[Json]) -> tuple[str, Json | None]:
        """A summary of *items* by *target*, and the usage of making it.

        :raises GatewayError: there is none.
        """
        trace = None if job.trace is None else RoundTrace(job.trace, first=False)
        job = structs.replace(job, continuation=None, trace=trace)
        try:
            _, text, usage = await self._summed_up(job, target, items)
        finally:
            if trace is not None:
                trace.round_over()
        return text, usage

    async def _summed_up(self, job: Job, target: Target, items: list[Json] | None) -> tuple[Reply, str, Json | None]:
        """Returns the reply of the target, the summary in it, and what it cost.

        :raises UpstreamProtocolError: there is no summary in it.
        """
        reply = await guarded_exchange(await self._replayed(summing_up(job, items)), target)
        response = await reply.json()
        text = text_of(response)
        if not text:
            raise UpstreamProtocolError("The upstream gave no summary of the conversation.")
        return reply, text, response.get("usage")

    async def _replayed(self, job: Job) -> Job:
        """*job* with what the host's tools gave the model in place of their items."""
        return job if self.replayed is None else await self.replayed(job)

    # Sealed by a key...

    async def _key(self, tenant: str | None) -> AESGCM | None:
        """The cipher under *tenant*'s key; None where nothing can be sealed here."""
        if not self._has_looked:
            # Importing it takes as long as going through many bytes.
            self._cipher, self._has_looked = await beside(LITTLE + 1, cipher), True
        if self._cipher is None or self._secret is None:
            return None
        return self._cipher(hmac.digest(self._secret, packed(b"compaction key", tenant), "sha256"))

    # ... or kept under an id...

    async def _keep(self, tenant: str | None, text: bytes) -> str:
        """Keeps *text*, and returns its id.

        :raises InvalidRequest: the tenant may not store so much.
        """
        id = secrets.token_hex(24)
        if not await self.quotas.admit_size(tenant, record_of(id), len(text)):
            message = "The compacted conversation is larger than what may be stored."
            raise InvalidRequest(message, code="quota_exceeded")
        await self.records.store.put(COMPACTIONS, await self.records.tenancy.key(tenant, record_of(id)), text)
        return id

    async def _kept(self, tenant: str | None, id: str) -> bytes | None:
        if not self.records.keeps or not ID.fullmatch(id):
            return None
        key = await self.records.tenancy.key(tenant, record_of(id))
        record = await self.records.store.get(COMPACTIONS, key)
        return None if record is None else record.value


def secret_of(store: Store) -> bytes | None:
    """What items are sealed with that any worker on *store* can open; None where it has no secret, or one that
    everybody knows: with that, anybody could make an item of references to what is another tenant's."""
    secret = store.secret
    return None if len(secret) < SHORTEST_SECRET or secret == PUBLIC_SECRET else secret


def owner(tenant: str | None) -> bytes:
    """What is authenticated with the text of *tenant*'s items."""
    return packed(b"compaction", tenant)


def record_of(id: str) -> str:
    """The name under which a text is kept, and counted in its tenant's quota."""
    return f"cmp_{id}"


def summing_up(job: Job, own: Any = None) -> Job:
    """Returns *job* as a create whose answer is the summary: the same conversation with other instructions and a last
    message. *own* replaces the input, and then stands for the whole conversation.

    :raises InvalidRequest: there is nothing to compact, or it is neither text nor a list.
    """
    request = job.request
    kept_members = CARRIED if own is None else frozenset({"model"})
    members = {name: value for name, value in request.envelope.members.items() if name in kept_members}
    if own is None:
        own = request.envelope.body.get("input")
    if own is None and job.continuation is None:
        raise InvalidRequest("Give the 'input' to compact.", param="input", code="missing_required_parameter")
    items = [{"role": "user", "content": own}] if isinstance(own, str) else own or []
    if not isinstance(items, list):
        raise InvalidRequest("'input' must be a string or an array of items.", param="input", code="invalid_value")
    members["input"] = Raw(msgspec.json.encode([*items, {"role": "user", "content": ASK}]))
    members["instructions"] = Raw(msgspec.json.encode(INSTRUCTIONS))
    envelope = structs.replace(request.envelope.with_members(members), stream=False)
    create = structs.replace(request, operation="create")
    return _with_envelope(structs.replace(job, request=create, stream=False, response_id=None), envelope)


def _with_envelope(job: Job, envelope: Envelope) -> Job:
    """Returns *job* with another *envelope*, which its continuation reads too."""
    continuation = copy(job.continuation)
    if isinstance(continuation, Continuation):
        continuation.original = envelope
    return structs.replace(job, request=structs.replace(job.request, envelope=envelope), continuation=continuation)


def message_of(summary: str) -> Json:
    """Returns the message that gives a model the *summary* of the conversation so far."""
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": PREFACE + summary}]}


def text_of(response: Json) -> str:
    """The text of the messages in a response."""
    messages = [item for item in response.get("output") or () if item.get("type") == "message"]
    parts = [part for item in messages for part in item.get("content") or () if part.get("type") == "output_text"]
    return "".join(part.get("text", "") for part in parts).strip()


# What `context_management` asks for, and where a context is parted: values in, values out.


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


def _without_compaction(job: Job, others: list[Any]) -> Job:
    """Returns *job* with only the *others* of its `context_management`."""
    members = {name: raw for name, raw in job.request.envelope.members.items() if name != "context_management"}
    if others:
        members["context_management"] = Raw(msgspec.json.encode(others))
    return _with_envelope(job, job.request.envelope.with_members(members))


def turn_of(items: Sequence[Json], threshold: float) -> int:
    """The index at which the current turn begins: with the user's last message, or, where what stands before that is
    no half of *threshold*, with the last calls. 0 where nothing can be parted off."""
    user = next((at for at in range(len(items) - 1, 0, -1) if items[at].get("role") == "user"), 0)
    if user and _is_whole(items, user) and run(estimated(msgspec.json.encode(items[:user]))) >= threshold / 2:
        return user
    return next((at for at in range(len(items) - 1, 0, -1) if _begins(items, at)), 0)


def _begins(items: Sequence[Json], at: int) -> bool:
    """Returns whether something new begins at the index *at*: no output, nothing that belongs to what stands before
    it."""
    before, kind = (str(item.get("type")) for item in items[at - 1 : at + 1])
    if kind.endswith("_output") or before == "reasoning" or (kind.endswith("_call") and before.endswith("_call")):
        return False
    return _is_whole(items, at)


def _is_whole(items: Sequence[Json], at: int) -> bool:
    """Returns whether every output from the index *at* on has its call there too."""
    return _ids(items[at:], "_output") <= _ids(items[at:], "_call")


def _ids(items: Iterable[Json], ending: str) -> set[Any]:
    return {str(item.get("call_id")) for item in items if str(item.get("type")).endswith(ending)}
