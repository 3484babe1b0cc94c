"""Asks the host's guards: about a request before it is sent, and about a reply before anybody has it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import msgspec
from msgspec import Struct, structs

from ..deadline import DeadlineExceeded, within
from ..errors import ContentBlocked, GatewayError, GuardUnavailable, InvalidRequest, UpstreamRejected
from ..exchange.job import Continuation, Job
from ..exchange.reply import Reply, parsed
from ..observers import Guarded, Observers
from ..operations import BODIED, SHOWING
from ..providers.provider import Provider
from ..routing.request import RoutingRequest
from ..settings import KIB
from ..tasks import Tasks
from ..threads import awaitable, beside, paced
from ..upstream.call import too_deep
from ..wire.json_body import Envelope, encode
from ..wire.json_pieces import SMALL
from ..wire.json_scan import tree
from ..wire.response import DONE
from .guard import Block, Guard, Note, Replace, Stage, Texts, Verdict, labels_of
from .hold import Scan, unlogged
from .moderation import BLOCKED, MODERATION, Finding, Wish, member, wish_of
from .places import Path, Place, of_kept, of_reply, of_request, of_tools, replaced, spelled
from .stream import GuardedReader, GuardedStream, Whole, let_pass

Verb = Literal["passed", "blocked", "replaced", "noted", "failed"]
STAGES: tuple[Stage, ...] = ("input", "output")
MOST_KEPT = 256


class Tally(Struct):
    """What one guard has said at one stage of one exchange."""

    replaced: int = 0
    passed: int = 0
    labels: tuple[str, ...] = ()
    is_noted: bool = False


class Guarding(Struct, eq=False):
    """What the guards are to one request: those that are asked about it, and what they have said, for all that is asked
    and answered for it."""

    input: tuple[Guard, ...]
    output: tuple[Guard, ...]
    passed: dict[str, str] = {}
    """What stands in place of each text that may go to a model."""
    envelope: Envelope | None = None
    """The request's own, once all of it has been let pass."""
    wish: Wish | None = None
    """What the request's own `moderation` member asks for, where a guard answers it."""
    found: dict[str, Finding] = {}
    """What that has found, by stage."""
    refusal: Callable[[], GatewayError] | None = None
    """Makes the error by which nothing more of it may pass: one that was raised would hold all that has to do with the
    request, and be held by it."""


class Enforcement:
    """The *guards* of one gateway, in the order in which they are asked. *tasks* read streams whose verdict is not
    there yet."""

    def __init__(self, guards: Iterable[Guard], observers: Observers, tasks: Tasks) -> None:
        self.guards = tuple(guards)
        self.observers = observers
        self.tasks = tasks
        self.divides = any(guard.output is not None and guard.when is not None for guard in self.guards)
        """Whether they look at some replies and not at others: a turn that is looked at may go on from one that an
        upstream has kept."""
        self.kept: dict[int, tuple[Provider, Provider]] = {}

    def attend(self, job: Job) -> Guarding:
        """Find out, once, which guards are asked about *job*.

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
        """Whether *guard* is to be asked; one that cannot say when is."""
        try:
            return guard.when is None or bool(guard.when(request))
        except Exception as error:
            job.warn([f"the guard {guard.name}: {type(error).__name__} of its `when`; it was asked"])
            return True

    def insist(self, job: Job, names: Iterable[str]) -> None:
        """Have those of *names* look at what *job* is answered, whatever they say of it now: they have been told of
        it before."""
        found = self.attend(job)
        told = {guard.name for guard in found.output} | {*names}
        found.output = tuple(guard for guard in self.guards if guard.output is not None and guard.name in told)

    def looks(self, job: Job, stage: Stage) -> bool:
        """Whether any guard is asked about what *job* says (`input`), or is answered (`output`)."""
        return bool(getattr(self.attend(job), stage))

    def answering(self, job: Job) -> tuple[str, ...]:
        """The names of those that look at what *job* is answered."""
        return tuple(guard.name for guard in self.attend(job).output)

    def asked(self, job: Job) -> tuple[str, ...]:
        """The names of those that are asked about *job*, or about what it is answered, in their order."""
        found = self.attend(job)
        return tuple(guard.name for guard in self.guards if guard in (*found.input, *found.output))

    def forgetful(self, job: Job, provider: Provider) -> Provider:
        """*provider* as *job* asks it: where a reply is looked at, as one that keeps nothing, since what it kept, on a
        socket of its own too, would be what no guard has seen."""
        if not (provider.keeps_state or provider.websocket):
            return provider
        asked = self.attend(job)
        if not asked.output and asked.wish is None:
            return provider
        found = self.kept.get(id(provider))
        if found is None:
            found = (provider, replace(provider, stateful=False, websocket=False))
            if len(self.kept) < MOST_KEPT:  # a policy may make one for each request
                self.kept[id(provider)] = found
        return found[1]

    # What goes to a model...

    async def requested(self, job: Job) -> Envelope | None:
        """The request as it is to be sent; None where nothing in it was replaced.

        :raises ContentBlocked: a guard refuses it.
        :raises GuardUnavailable: one failed or took too long.
        :raises InvalidRequest: it cannot be parsed.
        """
        if job.request.operation not in BODIED or not self.looks(job, "input"):
            return None
        made = await self._envelope(job, job.request.envelope)
        self.attend(job).envelope = job.request.envelope if made is None else made
        return made

    async def sending(self, job: Job, provider: Provider, key: str | None) -> Job:
        """*job* as *provider* may get it: with what it continues, in place of which stands what the guards have let
        pass. What they have let pass already is not shown to them again.

        :raises ContentBlocked: a guard refuses it.
        :raises GuardUnavailable: one failed or took too long.
        :raises InvalidRequest: what it continues cannot be read.
        """
        found = self.attend(job)
        if job.request.operation not in BODIED or not (found.input or found.wish):
            return job
        base = job.continuation
        if base is None:
            own = job.request.envelope
            envelope = await self._sent(job, own, is_passed=own is found.envelope)
            return job if envelope is own else _with_envelope(job, envelope)
        try:
            if provider.native:
                given = base.envelope(provider, key)
                envelope = await self._sent(job, given)
                return job if envelope is given else structs.replace(job, continuation=Passed(base, envelope))
            whole = base.body(provider, key)
            body = await self.let_pass(job, whole)
        except RecursionError:
            raise too_deep() from None
        if found.wish is not None:
            body = {name: value for name, value in body.items() if name != MODERATION}
        return job if body is whole else structs.replace(job, continuation=Passed(base, body=body))

    async def _sent(self, job: Job, envelope: Envelope, *, is_passed: bool = False) -> Envelope:
        """*envelope* as an upstream may get it: itself where nothing has to be changed. What a guard here answers, no
        upstream is asked."""
        found = self.attend(job)
        if found.wish is not None:
            members = {name: raw for name, raw in envelope.members.items() if name != MODERATION}
            envelope = envelope.with_members(members)
        if not found.input or is_passed:
            return envelope
        return await self._envelope(job, envelope) or envelope

    async def let_pass(self, job: Job, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """*body*, a request's, with what it is that a model may read of it.

        :raises ContentBlocked: a guard refuses it.
        :raises GuardUnavailable: one failed or took too long.
        """
        if not self.looks(job, "input"):
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
        """Ask about the texts of *body* that have not been looked at; those that others take the place of, by path."""
        places: list[Place] = await beside(size, lambda: [*of_request(body)])
        return await self.looked(job, "input", places)

    async def looked(self, job: Job, stage: Stage, places: Sequence[Place]) -> Mapping[Any, str]:
        """Ask about the texts at *places*, but for those that may go to a model already. Returns those that others take
        the place of, by path.

        :raises ContentBlocked: a guard refuses them.
        :raises GuardUnavailable: one failed or took too long.
        """
        asking = Asking(self, job, stage)
        if not asking.guards:
            return {}
        passed = self.attend(job).passed if stage == "input" else {}
        new = [(path, text) for path, text in places if text and text not in passed]
        texts = await asking.whole(new)
        if new:
            asking.tell()
        for path, text in new:
            made = passed[text] = texts.get(path, text)
            passed.setdefault(made, made)
        return {path: passed[text] for path, text in places if text and passed[text] != text}

    async def passed(self, job: Job, stage: Stage, value: Any, path: Path) -> Any:
        """*value*, of JSON, which stands at *path*, with what others take the place of; itself where nothing is.

        :raises ContentBlocked: a guard refuses it.
        :raises GuardUnavailable: one failed or took too long.
        """
        texts = await self.looked(job, stage, [*of_tools(value, path)])
        return replaced(value, {place[len(path) :]: text for place, text in texts.items()})

    # What comes from it...

    async def answered(self, job: Job, answer: Awaitable[Reply]) -> Reply:
        """The reply that *answer* gives, with nothing in it that the guards have not let pass.

        :raises GatewayError: there is none, or a guard has blocked it, failed, or taken too long.
        """
        if job.trace is not None:
            job.trace.is_guarded = bool(self.answering(job))
        try:
            reply = await answer
        except UpstreamRejected as error:
            asking = Asking(self, job, "output")
            raise await let_pass(error, asking) if asking.guards else error from error.__cause__
        try:
            asking = Asking(self, job, "output")
            has_passed = all(guard.name in reply.guards for guard in asking.guards) and not asking.members()
            if reply.status >= 300 or has_passed:
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
            await stream.held_for(job.setup.timeouts.gate, self.tasks)
        return reply

    async def _whole(self, job: Job, asking: Asking, reply: Reply) -> Reply:
        body = reply.body or b""
        if not body:
            return reply
        if not body.lstrip().startswith(b"{"):
            return await self._events(job, asking, reply, body)
        value = await parsed(body)
        if not isinstance(value, dict):
            return reply
        places: list[Place] = await beside(len(body), lambda: [*asking.places(value)])
        try:
            texts = await asking.whole(places)
        except (ContentBlocked, GuardUnavailable):
            _told(job, encode({**value, "output": []}))
            raise
        asking.tell()
        members = asking.members()
        if places or members:
            value |= members
            reply.body = await beside(len(body), lambda: bytes(encode(unlogged(replaced(value, texts)))))
            _told(job, reply.body)
        return reply

    async def _events(self, job: Job, asking: Asking, reply: Reply, body: bytes) -> Reply:
        """A stream that has come whole."""
        if body == DONE:
            return reply  # the client has had the rest
        model = reply.model or ""
        stream = GuardedStream(Whole(body, model), asking, model=model, limit=len(body))
        reply.body = await stream.whole()
        if job.trace is not None and stream.reader.terminal is not None:
            _told(job, stream.final())
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


class Asking:
    """Asks those guards of *enforcement* that look at *stage* of the request of *job*."""

    def __init__(self, enforcement: Enforcement, job: Job, stage: Stage) -> None:
        self.enforcement = enforcement
        self.job = job
        self.stage = stage
        self.guarding = enforcement.attend(job)
        self.guards: tuple[Guard, ...] = getattr(self.guarding, stage)
        self.functions = {guard.name: awaitable(getattr(guard, stage)) for guard in self.guards}
        self.request = copied(job) if self.guards else job.request
        shows = job.request.operation in SHOWING
        self.places: Callable[[dict[str, Any]], Iterable[Place]] = of_kept if shows else of_reply
        holds = [guard.hold for guard in self.guards]
        self.hold = None if "all" in holds else max((hold for hold in holds if hold != "all"), default=0)
        self.tallies: dict[str, Tally] = {guard.name: Tally() for guard in self.guards}

    @property
    def refusal(self) -> GatewayError | None:
        """Why nothing more may pass, whatever guard has said so of whatever was asked for the request."""
        return None if self.guarding.refusal is None else self.guarding.refusal()

    def members(self) -> dict[str, Any]:
        """The members of the answer's that a guard gives."""
        wish = self.guarding.wish
        if wish is None or self.stage != "output" or not self.job.request.envelope.has(MODERATION):
            return {}
        return {MODERATION: member(wish, self.guarding.found)}

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
                raise self._refused(partial(ContentBlocked, verdict.message))
            if isinstance(verdict, Replace):
                tally.replaced += sum(new != old for new, old in zip(verdict.texts, texts, strict=True))
                texts = tuple(verdict.texts)
            elif isinstance(verdict, Note):
                tally.is_noted, tally.labels = True, labels_of(dict.fromkeys((*tally.labels, *verdict.labels)))
                if guard.name == MODERATION:
                    self._found(tally.labels, len(texts))
            tally.passed += len(texts)
        return texts

    def _found(self, labels: tuple[str, ...], count: int) -> None:
        """The guard that answers the request's own `moderation` member has noted *labels*.

        :raises ContentBlocked: the request asks for what is flagged to be blocked.
        """
        found, wish = self.guarding.found.get(self.stage), self.guarding.wish
        if found is None or wish is None:
            return
        found.labels = labels_of(dict.fromkeys((*found.labels, *labels)))
        if found.labels and self.stage in wish.blocks:
            self._notify(MODERATION, "blocked", count, found.labels)
            raise self._refused(partial(ContentBlocked, BLOCKED))

    async def _verdict(self, guard: Guard, texts: Texts) -> Verdict:
        """Returns what *guard* says of *texts*.

        :raises GuardUnavailable: it failed or took too long, and nothing may pass without it.
        """
        try:
            verdict = _checked(await within(guard.timeout, self.functions[guard.name](texts)), texts)
        except (Exception, DeadlineExceeded) as error:
            name = "TimeoutError" if isinstance(error, DeadlineExceeded) else type(error).__name__
            self._notify(guard.name, "failed", len(texts.texts), error=name)
            self.job.warn([f"the guard {guard.name}: {name}"])
            if guard.on_error == "pass":
                if guard.name == MODERATION and self.stage in self.guarding.found:
                    self.guarding.found[self.stage].error = GuardUnavailable.code
                return None
        else:
            return verdict
        # Raised out here: what the guard raised may quote what it was given.
        raise self._refused(partial(GuardUnavailable, detail=f"the guard {guard.name}"))

    def _refused(self, make: Callable[[], GatewayError]) -> GatewayError:
        self.guarding.refusal = make
        return make()

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

    def _notify(
        self, name: str, verdict: Verb, count: int, labels: tuple[str, ...] = (), error: str | None = None
    ) -> None:
        if (trace := self.job.trace) is not None:
            self.enforcement.observers.notify(
                Guarded(
                    trace.context, guard=name, stage=self.stage, verdict=verdict, count=count, noted=labels, error=error
                )
            )


def _with_envelope(job: Job, envelope: Envelope) -> Job:
    return structs.replace(job, request=structs.replace(job.request, envelope=envelope))


def copied(job: Job) -> RoutingRequest:
    """The request of *job* for a function of the host's: whatever it does to it, what is sent stays as it is."""
    envelope = job.request.envelope
    return structs.replace(
        job.request, envelope=structs.replace(envelope, members=envelope.members.copy(), parsed=None)
    )


def _checked(verdict: Any, given: Texts) -> Verdict:
    """Returns what a guard has said of *given*, its labels cut as they are told.

    :raises TypeError: it is none of what a guard may return.
    :raises ValueError: it replaces another number of texts, or says what no JSON can.
    """
    if verdict is None:
        return None
    if isinstance(verdict, Block):
        if not isinstance(verdict.message, str):
            raise TypeError("The message of a Block is a str.")
        return Block(_written(verdict.message))
    if isinstance(verdict, Note):
        if not isinstance(verdict.labels, list | tuple | set | frozenset):
            raise TypeError("The labels of a Note are a tuple.")
        return Note(tuple(map(_written, labels_of(verdict.labels))))
    if not isinstance(verdict, Replace):
        raise TypeError("A guard returns None, Block, Replace or Note.")
    return _replacing(verdict.texts, given)


def _replacing(texts: Any, given: Texts) -> Replace:
    """Returns what is to take the place of *given*.

    :raises TypeError: it is no tuple.
    :raises ValueError: it is of another number, or holds what no JSON can, or no object where arguments were one.
    """
    if not isinstance(texts, list | tuple):
        raise TypeError("The texts of a Replace are a tuple.")
    if len(texts) != len(given.texts) or not all(isinstance(text, str) for text in texts):
        raise ValueError("The texts of a Replace are as many as were given.")
    for path, old, new in zip(given.paths, given.texts, texts, strict=True):
        if new != old and "arguments" in path and _is_object(old) and not _is_object(new):
            raise ValueError("What takes the place of arguments is a JSON object, as they are.")
    return Replace(tuple(map(_written, texts)))


def _written(text: str) -> str:
    """Returns *text* as it can be sent: a str, and not what others derive from it.

    :raises UnicodeEncodeError: it has half a surrogate pair in it.
    """
    if not text.isascii():
        text.encode()
    return str.__str__(text)


def _is_object(text: str) -> bool:
    if not text.lstrip().startswith("{"):
        return False
    try:
        return isinstance(tree(text), dict)
    except (ValueError, RecursionError):
        return False


def _members(envelope: Envelope, body: Mapping[str, Any], texts: Mapping[Any, str]) -> dict[str, msgspec.Raw]:
    """The members of *envelope* that are not to be sent as they came: those with *texts* in them, and those that say
    more than was looked at. Of two members of one name that is the last, and some upstreams read the first."""
    changed = {path[0] for path in texts}
    made = unlogged(replaced({name: body[name] for name in changed}, texts)) if changed else {}
    found = {name: msgspec.Raw(encode(value)) for name, value in made.items()}
    for name, raw in envelope.members.items():
        if name not in changed and name in body and isinstance(body[name], dict | list):
            seen = encode(body[name])
            if seen != raw and seen != msgspec.json.format(bytes(raw), indent=-1):
                found[name] = msgspec.Raw(seen)
    return found


def _told(job: Job, body: bytes) -> None:
    """Observers, and the ledger among them, know of the answer what may be known."""
    trace = job.trace
    if trace is None:
        return
    if trace.source is not None:
        trace.reads(GuardedReader(trace.source, body), trace.warnings)
    else:
        trace.received(body)
