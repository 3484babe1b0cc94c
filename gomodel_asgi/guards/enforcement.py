"""Asks the host's guards: about a request before it is sent, and about a reply before anybody has it."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import msgspec
from msgspec import Struct, structs

from ..deadline import DeadlineExceeded, clock, within
from ..errors import ContentBlocked, GuardUnavailable
from ..exchange.job import Job
from ..exchange.reply import Reply, parsed
from ..observers import Guarded, Observers
from ..operations import BODIED
from ..providers.provider import Provider
from ..threads import awaitable, beside, paced
from ..wire.json_body import Envelope, encode
from ..wire.json_pieces import SMALL
from .guard import Block, Guard, Note, Replace, Stage, Texts, Verdict, labels_of
from .hold import Scan, unlogged
from .places import REQUEST, Place, of_reply, of_request, replaced, spelled
from .stream import GuardedReader, GuardedStream

Verb = Literal["passed", "blocked", "replaced", "noted", "failed"]
MOST_KEPT = 256


class Tally(Struct):
    """What one guard has said at one stage of one exchange."""

    replaced: int = 0
    passed: int = 0
    labels: tuple[str, ...] = ()
    is_noted: bool = False


class Enforcement:
    """The *guards* of one gateway, in the order in which they are asked."""

    def __init__(self, guards: Iterable[Guard], observers: Observers) -> None:
        self.guards = tuple(guards)
        self.observers = observers
        self.has_output = any(guard.output is not None for guard in self.guards)
        """Whether replies are looked at: then no upstream keeps any."""
        self.kept: dict[int, tuple[Provider, Provider]] = {}

    def forgetful(self, provider: Provider) -> Provider:
        """*provider* as one that keeps nothing: what it kept would be what no guard has seen."""
        if not self.has_output or not provider.keeps_state:
            return provider
        found = self.kept.get(id(provider))
        if found is None:
            found = (provider, replace(provider, stateful=False))
            if len(self.kept) < MOST_KEPT:  # a policy may make one for each request
                self.kept[id(provider)] = found
        return found[1]

    async def requested(self, job: Job) -> Envelope | None:
        """The request as it is to be sent; None where nothing in it was replaced.

        :raises ContentBlocked: a guard refuses it.
        :raises GuardUnavailable: one failed or took too long.
        :raises InvalidRequest: it cannot be parsed.
        """
        if job.request.operation not in BODIED:
            return None
        asking = Asking(self, job, "input")
        if not asking.guards:
            return None
        envelope = job.request.envelope
        if envelope.parsed is None and len(envelope.raw) > SMALL:
            await paced(envelope.parsing())
        body = envelope.body
        places: list[Place] = await beside(len(envelope.raw), lambda: [*of_request(body)])
        texts = await asking.whole(places)
        asking.tell()
        if not texts:
            return None
        changed = {path[0] for path in texts}
        wanted = {name: body[name] for name in REQUEST if name in changed}
        made = await beside(len(envelope.raw), partial(_members, wanted, texts))
        return envelope.with_members({**envelope.members, **made})

    async def answered(self, job: Job, answer: Awaitable[Reply]) -> Reply:
        """The reply that *answer* gives, with nothing in it that the guards have not let pass.

        :raises GatewayError: there is none, or a guard has blocked it, failed, or taken too long.
        """
        reply = await answer
        try:
            asking = Asking(self, job, "output")
            if not asking.guards or reply.status >= 300:
                return reply
            if reply.stream is not None:
                return await self._stream(job, asking, reply)
            return await self._whole(job, asking, reply)
        except BaseException:
            await reply.aclose()
            raise

    async def _stream(self, job: Job, asking: Asking, reply: Reply) -> Reply:
        assert reply.stream is not None
        model = reply.model or ""
        stream = GuardedStream(reply.stream, asking, model=model, limit=job.setup.limits.event)
        if job.trace is not None:
            job.trace.reads(stream.reader, job.trace.warnings)
        reply.stream = stream
        if asking.hold is None:
            await stream.held_until(clock() + job.setup.timeouts.gate)
        return reply

    async def _whole(self, job: Job, asking: Asking, reply: Reply) -> Reply:
        body = reply.body or b""
        if not body:
            return reply
        value = await parsed(body)
        if not isinstance(value, dict):
            return reply
        places: list[Place] = await beside(len(body), lambda: [*of_reply(value)])
        try:
            texts = await asking.whole(places)
        except (ContentBlocked, GuardUnavailable):
            _told(job, encode({**value, "output": []}))
            raise
        asking.tell()
        if places:
            reply.body = await beside(len(body), lambda: bytes(encode(unlogged(replaced(value, texts)))))
            _told(job, reply.body)
        return reply


class Asking:
    """Asks those guards of *enforcement* that look at *stage* of the request of *job*."""

    def __init__(self, enforcement: Enforcement, job: Job, stage: Stage) -> None:
        self.enforcement = enforcement
        self.job = job
        self.stage = stage
        # A copy: whatever a guard does to it, what is sent stays as it is.
        envelope = job.request.envelope
        copied = structs.replace(envelope, members=envelope.members.copy(), parsed=None)
        self.request = structs.replace(job.request, envelope=copied)
        self.guards = [guard for guard in enforcement.guards if self._concerns(guard)]
        holds = [guard.hold for guard in self.guards]
        self.hold = None if "all" in holds else max((hold for hold in holds if hold != "all"), default=0)
        self.tallies: dict[str, Tally] = {guard.name: Tally() for guard in self.guards}

    def _concerns(self, guard: Guard) -> bool:
        """Whether *guard* is to be asked; one that cannot say when is."""
        if getattr(guard, self.stage) is None:
            return False
        try:
            return guard.when is None or bool(guard.when(self.request))
        except Exception as error:
            self.job.warn([f"the guard {guard.name}: {type(error).__name__} of its `when`; it was asked"])
            return True

    async def whole(self, places: list[Place]) -> Mapping[Any, str]:
        """Ask about all texts at once. Returns those that others take the place of, by path.

        :raises ContentBlocked: a guard refuses them.
        :raises GuardUnavailable: one failed or took too long.
        """
        places = [(path, text) for path, text in places if text]
        if not places:
            return {}
        paths = tuple(spelled(path) for path, _ in places)
        texts = await self.looked(tuple(text for _, text in places), paths, final=True)
        return {path: new for (path, old), new in zip(places, texts, strict=True) if new != old}

    async def one(self, scan: Scan) -> str:
        """Ask about one text of a stream. Returns what takes its place.

        :raises ContentBlocked: a guard refuses it.
        :raises GuardUnavailable: one failed or took too long.
        """
        return (await self.looked((scan.text,), (scan.path,), final=scan.final))[0]

    async def looked(self, texts: tuple[str, ...], paths: tuple[str, ...], *, final: bool) -> tuple[str, ...]:
        """Returns what takes the place of *texts*, at *paths*.

        :raises ContentBlocked: a guard blocks them.
        :raises GuardUnavailable: a guard failed, and nothing may pass without it.
        """
        for guard in self.guards:
            verdict = await self._verdict(guard, Texts(self.stage, self.request, texts, paths, final))
            tally = self.tallies[guard.name]
            if isinstance(verdict, Block):
                self._notify(guard.name, "blocked", len(texts))
                raise ContentBlocked(verdict.message)
            if isinstance(verdict, Replace):
                tally.replaced += sum(new != old for new, old in zip(verdict.texts, texts, strict=True))
                texts = tuple(verdict.texts)
            elif isinstance(verdict, Note):
                tally.is_noted, tally.labels = True, labels_of(dict.fromkeys((*tally.labels, *verdict.labels)))
            tally.passed += len(texts)
        return texts

    async def _verdict(self, guard: Guard, texts: Texts) -> Verdict:
        """Returns what *guard* says of *texts*.

        :raises GuardUnavailable: it failed or took too long, and nothing may pass without it.
        """
        try:
            verdict = await within(guard.timeout, awaitable(getattr(guard, self.stage))(texts))
            _check(verdict, len(texts.texts))
        except (Exception, DeadlineExceeded) as error:
            self._notify(guard.name, "failed", len(texts.texts))
            self.job.warn([f"the guard {guard.name}: {type(error).__name__}"])
            if guard.on_error == "pass":
                return None
        else:
            return verdict  # type: ignore[no-any-return]
        # Raised out here: what the guard raised may quote what it was given.
        raise GuardUnavailable(detail=f"the guard {guard.name}")

    def tell(self) -> None:
        """Tell observers, once, what was found in all that has passed."""
        tallies, self.tallies = self.tallies, {}
        for name, tally in tallies.items():
            if tally.replaced:
                self._notify(name, "replaced", tally.replaced, tally.labels)
            elif tally.is_noted:
                self._notify(name, "noted", tally.passed, tally.labels)
            else:
                self._notify(name, "passed", tally.passed)

    def _notify(self, name: str, verdict: Verb, count: int, labels: tuple[str, ...] = ()) -> None:
        if (trace := self.job.trace) is not None:
            record = Guarded(trace.context, guard=name, stage=self.stage, verdict=verdict, count=count, noted=labels)
            self.enforcement.observers.notify(record)


def _check(verdict: Any, count: int) -> None:
    """Checks what a guard has returned for *count* texts.

    :raises TypeError: it is none of what a guard may return.
    :raises ValueError: it replaces another number of texts.
    """
    if verdict is not None and not isinstance(verdict, Block | Replace | Note):
        raise TypeError("A guard returns None, Block, Replace or Note.")
    if isinstance(verdict, Block) and not isinstance(verdict.message, str):
        raise TypeError("The message of a Block is a str.")
    if isinstance(verdict, Replace) and not (
        len(verdict.texts) == count and all(isinstance(text, str) for text in verdict.texts)
    ):
        raise ValueError("The texts of a Replace are as many as were given.")


def _members(values: Mapping[str, Any], texts: Mapping[Any, str]) -> dict[str, msgspec.Raw]:
    made = replaced(dict(values), texts)
    return {name: msgspec.Raw(encode(made[name])) for name in values}


def _told(job: Job, body: bytes) -> None:
    """Observers, and the ledger among them, know of the answer what may be known."""
    trace = job.trace
    if trace is None:
        return
    if trace.source is not None:
        trace.reads(GuardedReader(trace.source, body), trace.warnings)
    else:
        trace.received(body)
