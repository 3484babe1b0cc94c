"""One inspection: the guards that look at what a request says, or at what it is answered, and what they find."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from functools import partial
from typing import Any, Literal

from msgspec import Struct, structs

from ..deadline import DeadlineExceeded, within
from ..errors import ContentBlocked, GatewayError, GuardUnavailable, UpstreamProtocolError, UpstreamRejected
from ..exchange.job import Job
from ..exchange.reply import parsed
from ..observers import Guarded, Observers
from ..observers.step import CODE
from ..operations import SHOWING
from ..routing.request import RoutingRequest
from ..threads import awaitable
from ..wire.json_body import Envelope, encode
from .guard import Block, Guard, Note, Replace, Stage, Texts, Verdict, checked, labels_of
from .hold import Scan
from .moderation import BLOCKED, MODERATION, Finding, Wish, member
from .places import Place, of_kept, of_reply, replaced, spelled, strings

Verb = Literal["passed", "blocked", "replaced", "noted", "failed"]


class Tally(Struct):
    """The verdicts of one guard at one stage of one exchange, counted."""

    replaced: int = 0
    passed: int = 0
    labels: tuple[str, ...] = ()
    is_noted: bool = False


class Guarding(Struct, eq=False):
    """The guards of one request, and their verdicts so far: on it, its tool calls, and its replies."""

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


class Inspection:
    """Asks those guards of *guarding* that look at *stage* of the request of *job*, and reports to *observers*."""

    def __init__(self, guarding: Guarding, observers: Observers, job: Job, stage: Stage) -> None:
        self.guarding = guarding
        self.observers = observers
        self.job = job
        self.stage = stage
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
        """Why nothing more of the exchange may pass, once any guard has refused any of it."""
        return None if self.guarding.refusal is None else self.guarding.refusal()

    def members(self) -> dict[str, Any]:
        """Returns the members that a guard adds to the reply."""
        wish = self.guarding.wish
        if wish is None or self.stage != "output" or not self.job.request.envelope.has(MODERATION):
            return {}
        return {MODERATION: member(wish, self.guarding.found)}

    async def whole(self, places: list[Place]) -> Mapping[Any, str]:
        """Asks about all texts at once. Returns those that others take the place of, by path.

        :raises GatewayError: a guard refuses them, or fails.
        """
        places = [(path, text) for path, text in places if text]
        if not places:
            return {}
        paths = tuple(spelled(path) for path, _ in places)
        texts = await self.looked(tuple(text for _, text in places), paths, final=True)
        return {path: new for (path, old), new in zip(places, texts, strict=True) if new != old}

    async def one(self, scan: Scan) -> str:
        """Asks about one text of a stream. Returns what takes its place.

        :raises GatewayError: a guard refuses it, or fails.
        """
        return (await self.looked((scan.text,), (scan.path,), final=scan.final))[0]

    async def run(self, steps: Generator[Scan, str, Any]) -> Any:
        """Returns what *steps* return, each of whose texts the guards look at.

        :raises GatewayError: a guard refuses one, or fails.
        """
        try:
            scan = next(steps)
            while True:
                scan = steps.send(await self.one(scan))
        except StopIteration as end:
            return end.value
        finally:
            steps.close()

    async def error(self, error: UpstreamRejected) -> GatewayError:
        """Returns *error* as the client may read it, since an upstream's own words may quote what its model has said;
        a refusal in its place, where a guard refuses it."""
        try:
            for name in ("message", "type", "code", "param"):
                text = getattr(error, name)
                if text and (name == "message" or not CODE.fullmatch(text)):
                    setattr(error, name, await self.one(Scan(text, f"error.{name}", final=True)))
            error.args = (error.message,)
            if error.raw is not None:
                value = await parsed(error.raw)
                texts = {}
                for path, text in strings(value, ()):
                    texts[path] = await self.one(Scan(text, spelled(path), final=True))
                error.raw = encode(replaced(value, texts))
        except (ContentBlocked, GuardUnavailable) as refusal:
            return refusal
        except UpstreamProtocolError:
            error.raw = None
        return error

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
            verdict = checked(await within(guard.timeout, self.functions[guard.name](texts)), texts)
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

    def report(self) -> None:
        """Reports to observers, once, what was found in all that has passed."""
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
            self.observers.notify(
                Guarded(
                    trace.context, guard=name, stage=self.stage, verdict=verdict, count=count, noted=labels, error=error
                )
            )


def copied(job: Job) -> RoutingRequest:
    """Returns the request of *job* for a function of the host's: whatever it does to it, what is sent stays as it
    is."""
    envelope = job.request.envelope
    return structs.replace(
        job.request, envelope=structs.replace(envelope, members=envelope.members.copy(), parsed=None)
    )
