"""Asks the host's guards: about a request before it is sent, and about a reply before anybody has it."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
from msgspec import structs

from ..errors import ContentBlocked, GuardUnavailable, InvalidRequest, UpstreamRejected
from ..exchange.job import Continuation, Job
from ..exchange.reply import Reply, parsed
from ..observers import Observers
from ..operations import BODIED
from ..providers.provider import Provider
from ..routing.request import RoutingRequest
from ..settings import KIB
from ..tasks import Tasks
from ..threads import beside, paced
from ..upstream.bodies import too_deep
from ..wire.json_body import Envelope, encode
from ..wire.json_pieces import SMALL
from ..wire.response import DONE
from .guard import Guard, Stage
from .hold import unlogged
from .inspection import Guarding, Inspection, copied
from .moderation import MODERATION, Finding, wish_of
from .places import Path, Place, of_request, of_tools, replaced
from .reader import GuardedReader, Whole
from .stream import GuardedStream

STAGES: tuple[Stage, ...] = ("input", "output")
MOST_KEPT = 256


class Enforcement:
    """The *guards* of one gateway, in the order in which they run. *tasks* read streams whose verdict is not
    there yet."""

    def __init__(self, guards: Iterable[Guard], observers: Observers, tasks: Tasks) -> None:
        self.guards = tuple(guards)
        self.observers = observers
        self.tasks = tasks
        self.divides = any(guard.output is not None and guard.when is not None for guard in self.guards)
        """Whether they look at some replies and not at others: a turn that is looked at may go on from one that an
        upstream has kept."""
        self.kept: dict[int, tuple[Provider, Provider]] = {}

    def select(self, job: Job) -> Guarding:
        """Finds out, once, which guards apply to *job*.

        :raises InvalidRequest: its `moderation`, which one of them answers, is malformed.
        """
        if job.guarding is None:
            request = copied(job)
            concerned = [guard for guard in self.guards if self._concerns(guard, request, job)]
            made = Guarding(
                tuple(guard for guard in concerned if guard.input is not None),
                tuple(guard for guard in concerned if guard.output is not None),
            )
            if job.request.operation == "create" and any(guard.name == MODERATION for guard in concerned):
                made.wish = wish_of(job.request.envelope.values((MODERATION,)).get(MODERATION))
                names = {stage: {guard.name for guard in getattr(made, stage)} for stage in STAGES}
                made.found = {stage: Finding() for stage in STAGES if MODERATION in names[stage]}
            job.guarding = made
        found: Guarding = job.guarding
        return found

    def _concerns(self, guard: Guard, request: RoutingRequest, job: Job) -> bool:
        """Returns whether *guard* applies to *request*; one whose `when` fails does."""
        try:
            return guard.when is None or bool(guard.when(request))
        except Exception as error:
            job.warn([f"the guard {guard.name}: {type(error).__name__} of its `when`; it was applied"])
            return True

    def require(self, job: Job, names: Iterable[str]) -> None:
        """Applies those of *names* to the reply to *job*, whatever their `when` returns now: they have seen a part of
        it before."""
        found = self.select(job)
        looking = {guard.name for guard in found.output} | {*names}
        found.output = tuple(guard for guard in self.guards if guard.output is not None and guard.name in looking)

    def applies(self, job: Job, stage: Stage) -> bool:
        """Returns whether any guard sees the texts of *job* (`input`), or of its reply (`output`)."""
        return bool(getattr(self.select(job), stage))

    def names_for_reply(self, job: Job) -> tuple[str, ...]:
        """Returns the names of those that see the reply to *job*."""
        return tuple(guard.name for guard in self.select(job).output)

    def names_for(self, job: Job) -> tuple[str, ...]:
        """Returns the names of those that see *job* or its reply, in their order."""
        found = self.select(job)
        return tuple(guard.name for guard in self.guards if guard in (*found.input, *found.output))

    def stateless(self, job: Job, provider: Provider) -> Provider:
        """Returns *provider* as *job* uses it: where a reply is looked at, as one that keeps nothing, since what it
        kept, on a socket of its own too, would be what no guard has seen."""
        if not (provider.keeps_state or provider.websocket):
            return provider
        asked = self.select(job)
        if not asked.output and asked.wish is None:
            return provider
        found = self.kept.get(id(provider))
        if found is None:
            found = (provider, replace(provider, stateful=False, websocket=False))
            if len(self.kept) < MOST_KEPT:  # a policy may make one for each request
                self.kept[id(provider)] = found
        return found[1]

    # What goes to a model...

    async def filter_request(self, job: Job) -> Envelope | None:
        """Returns the request as it is to be sent; None where nothing in it was replaced.

        :raises GatewayError: a guard refuses it, or fails.
        :raises InvalidRequest: it cannot be parsed.
        """
        if job.request.operation not in BODIED or not self.applies(job, "input"):
            return None
        made = await self._envelope(job, job.request.envelope)
        self.select(job).envelope = job.request.envelope if made is None else made
        return made

    async def filter_outgoing(self, job: Job, provider: Provider, key: str | None) -> Job:
        """Returns *job* as *provider* may get it: what it continues has the texts that the guards have let pass. Those
        that they have passed before are not shown to them again.

        :raises GatewayError: a guard refuses it, or fails.
        :raises InvalidRequest: what it continues cannot be read.
        """
        found = self.select(job)
        if job.request.operation not in BODIED or not (found.input or found.wish):
            return job
        base = job.continuation
        if base is None:
            own = job.request.envelope
            envelope = await self._sent(job, own, is_passed=own is found.envelope)
            if envelope is own:
                return job
            return structs.replace(job, request=structs.replace(job.request, envelope=envelope))
        try:
            if provider.native:
                given = base.envelope(provider, key)
                envelope = await self._sent(job, given)
                return job if envelope is given else structs.replace(job, continuation=Passed(base, envelope))
            whole = base.body(provider, key)
            body = await self.filter_body(job, whole)
        except RecursionError:
            raise too_deep() from None
        if found.wish is not None:
            body = {name: value for name, value in body.items() if name != MODERATION}
        return job if body is whole else structs.replace(job, continuation=Passed(base, body=body))

    async def _sent(self, job: Job, envelope: Envelope, *, is_passed: bool = False) -> Envelope:
        """Returns *envelope* as an upstream may get it: itself where nothing has to be changed. What a guard here
        answers, no upstream is asked."""
        found = self.select(job)
        if found.wish is not None:
            envelope = envelope.with_members({n: raw for n, raw in envelope.members.items() if n != MODERATION})
        if not found.input or is_passed:
            return envelope
        return await self._envelope(job, envelope) or envelope

    async def filter_body(self, job: Job, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns a request's *body* with the texts that a model may read.

        :raises GatewayError: a guard refuses it, or fails.
        """
        if not self.applies(job, "input"):
            return body
        texts = await self._passed(job, body, KIB * len(body.get("input") or ()))
        return replaced(dict(body), texts) if texts else body

    async def _envelope(self, job: Job, envelope: Envelope) -> Envelope | None:
        if envelope.parsed is None and len(envelope.raw) > SMALL:
            await paced(envelope.parsing())
        body = envelope.body
        texts = await self._passed(job, body, len(envelope.raw))
        made = await beside(len(envelope.raw), partial(_members, envelope, body, texts))
        return envelope.with_members({**envelope.members, **made}) if made else None

    async def _passed(self, job: Job, body: Mapping[str, Any], size: int) -> Mapping[Any, str]:
        """Asks about the texts of *body* that have not been looked at; those that others take the place of, by path."""
        places: list[Place] = await beside(size, lambda: [*of_request(body)])
        return await self.filter_texts(job, "input", places)

    async def filter_texts(self, job: Job, stage: Stage, places: Sequence[Place]) -> Mapping[Any, str]:
        """Asks about the texts at *places*, but for those that may go to a model already. Returns what replaces those
        that have to be replaced, by path.

        :raises GatewayError: a guard refuses them, or fails.
        """
        inspection = Inspection(self.select(job), self.observers, job, stage)
        if not inspection.guards:
            return {}
        passed = self.select(job).passed if stage == "input" else {}
        new = [(path, text) for path, text in places if text and text not in passed]
        texts = await inspection.whole(new)
        if new:
            inspection.report()
        for path, text in new:
            made = passed[text] = texts.get(path, text)
            passed.setdefault(made, made)
        return {path: passed[text] for path, text in places if text and passed[text] != text}

    async def filter_value(self, job: Job, stage: Stage, value: Any, path: Path) -> Any:
        """Returns the JSON *value* at *path* with its texts replaced; itself where none was.

        :raises GatewayError: a guard refuses it, or fails.
        """
        texts = await self.filter_texts(job, stage, [*of_tools(value, path)])
        return replaced(value, {place[len(path) :]: text for place, text in texts.items()})

    # What comes from it...

    async def filter_reply(self, job: Job, answer: Awaitable[Reply]) -> Reply:
        """Returns the reply that *answer* gives, with nothing in it that the guards have not let pass.

        :raises GatewayError: there is none, or a guard has blocked it, failed, or taken too long.
        """
        if job.trace is not None:
            job.trace.is_guarded = bool(self.names_for_reply(job))
        try:
            reply = await answer
        except UpstreamRejected as error:
            inspection = Inspection(self.select(job), self.observers, job, "output")
            raise await inspection.error(error) if inspection.guards else error from error.__cause__
        try:
            inspection = Inspection(self.select(job), self.observers, job, "output")
            has_passed = all(guard.name in reply.guards for guard in inspection.guards) and not inspection.members()
            if reply.status >= 300 or has_passed:
                return reply
            if reply.stream is not None:
                return await self._stream(job, inspection, reply)
            return await self._whole(job, inspection, reply)
        except BaseException:
            await reply.aclose()
            raise

    async def _stream(self, job: Job, inspection: Inspection, reply: Reply) -> Reply:
        assert reply.stream is not None
        model = reply.model or ""
        stream = GuardedStream(reply.stream, inspection, model=model, limit=job.setup.limits.event)
        if job.trace is not None:
            job.trace.reads(stream.reader, job.trace.warnings)
        reply.stream = stream
        if inspection.hold is None:
            await stream.held_for(job.setup.timeouts.gate, self.tasks)
        return reply

    async def _whole(self, job: Job, inspection: Inspection, reply: Reply) -> Reply:
        body = reply.body or b""
        if not body:
            return reply
        if not body.lstrip().startswith(b"{"):
            return await self._events(job, inspection, reply, body)
        value = await parsed(body)
        if not isinstance(value, dict):
            return reply
        places: list[Place] = await beside(len(body), lambda: [*inspection.places(value)])
        try:
            texts = await inspection.whole(places)
        except (ContentBlocked, GuardUnavailable):
            _disclose(job, encode({**value, "output": []}))
            raise
        inspection.report()
        members = inspection.members()
        if places or members:
            value |= members
            reply.body = await beside(len(body), lambda: bytes(encode(unlogged(replaced(value, texts)))))
            _disclose(job, reply.body)
        return reply

    async def _events(self, job: Job, inspection: Inspection, reply: Reply, body: bytes) -> Reply:
        """A stream that has come whole."""
        if body == DONE:
            return reply  # the client has had the rest
        model = reply.model or ""
        stream = GuardedStream(Whole(body, model), inspection, model=model, limit=len(body))
        reply.body = await stream.whole()
        if job.trace is not None and stream.reader.terminal is not None:
            _disclose(job, stream.final())
        return reply


class Passed:
    """What *base* continues as the guards have let it pass, for one upstream; see `exchange.job.Continuation`."""

    def __init__(
        self, base: Continuation, envelope: Envelope | None = None, body: Mapping[str, Any] | None = None
    ) -> None:
        self.base = base
        self.passed = envelope
        self.whole = body

    @property
    def bound(self) -> bool:
        """See `Continuation.bound`."""
        return self.base.bound

    def envelope(self, provider: Provider, key: str | None) -> Envelope:
        """See `Continuation.envelope`."""
        return self.base.envelope(provider, key) if self.passed is None else self.passed

    def body(self, provider: Provider, key: str | None) -> Mapping[str, Any]:
        """See `Continuation.body`."""
        return self.base.body(provider, key) if self.whole is None else self.whole

    def earlier_json(self) -> bytes:
        """See `Continuation.earlier_json`."""
        return self.base.earlier_json()

    def in_own_terms(self, error: InvalidRequest) -> InvalidRequest:
        """See `Continuation.in_own_terms`."""
        return self.base.in_own_terms(error)


def _members(envelope: Envelope, body: Mapping[str, Any], texts: Mapping[Any, str]) -> dict[str, msgspec.Raw]:
    """Returns the members of *envelope* that are not to be sent as they came: those with *texts* in them, and those
    that say more than was looked at. Of two members of one name that is the last, and some upstreams read the first."""
    changed = {path[0] for path in texts}
    made = unlogged(replaced({name: body[name] for name in changed}, texts)) if changed else {}
    found = {name: msgspec.Raw(encode(value)) for name, value in made.items()}
    for name, raw in envelope.members.items():
        if name not in changed and name in body and isinstance(body[name], dict | list):
            seen = encode(body[name])
            if seen != raw and seen != msgspec.json.format(bytes(raw), indent=-1):
                found[name] = msgspec.Raw(seen)
    return found


def _disclose(job: Job, body: bytes) -> None:
    """Gives observers, and the ledger among them, *body* in place of what the upstream has answered."""
    trace = job.trace
    if trace is None:
        return
    if trace.source is not None:
        trace.reads(GuardedReader(trace.source, body), trace.warnings)
    else:
        trace.received(body)
