"""The chain of Targets as each round asks it: the request, the Targets that are left, and which of them answers."""

from __future__ import annotations

from msgspec import structs

from ...deadline import clock
from ...dialects.base import ShownFunctions
from ...exchange.job import Job
from ...exchange.reply import Reply
from ...observers import RoundTrace
from ...routing.target import ResolvedTarget, Target
from .plan import Candidate, Plan
from .replay import Replay, continuing, see
from .run import Run, whole_number
from .seams import Json


class RoundChain:
    """See above. *first* is the reply of the first round, and *answerer* who gives those of the rounds to come, both
    None before the first."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.first: Reply | None = None
        self.answerer: ResolvedTarget | None = None
        self._job = run.job
        """The request as the rounds ask it."""
        self._targets: list[Target] = []
        """The chain as the round under way has it."""
        self._skipped = 0
        """How many Targets of the whole chain stand before those."""

    def replay(self) -> Replay:
        """Returns what the rounds add to, now that what is known of approvals stands in `Run.known`: the request with
        the items of our tools as the model had them."""
        run, envelope = self.run, self.run.job.request.envelope
        # Each Target of the chain gets tools of its own, and no container that the client's tools name binds it.
        members = {name: raw for name, raw in envelope.members.items() if name != "tools"}
        request = structs.replace(run.job.request, envelope=envelope.with_members(members))
        job = structs.replace(run.job, request=request)
        self._job = continuing(job, run.known, run.own, run.before, see(run.chain))
        assert isinstance(self._job.continuation, Replay)
        return self._job.continuation

    def job(self, number: int, trace: RoundTrace | None) -> Job:
        """The request of a round: under an id of its own, so that a native reply is read as any other is."""
        id = f"{self.run.id}r{number:02x}"
        started = clock() if number else self.run.job.started
        round_job = structs.replace(self._job, response_id=id, trace=trace, started=started, shown=self._shown_to)
        round_job.leading, round_job.spent = (), None
        if number:  # tools may have run for longer than a key is good for
            round_job.resolved = None
        return round_job

    def _shown_to(self, target: Target) -> ShownFunctions:
        """What *target*, one of the round under way, is shown in place of hosted tools."""
        return self.run.plans[self._place_of(target)].functions_shown

    def _place_of(self, target: Target | None) -> int:
        """Where *target*, one of the round under way, stands in the whole chain."""
        return self._skipped + next(at for at, one in enumerate(self._targets) if one is target)

    def target(self, number: int, *, last: bool, left: int | None) -> Target:
        """The chain as a round has it: behind the first the one that has answered, and those behind it only where
        nothing in the rounds before is bound to its model."""
        chain = self.run.chain
        self._targets = [
            structs.replace(one.target, params=_params(one, plan, number, last, left), tools=(), fallbacks=())
            for one, plan in zip(chain, self.run.plans, strict=True)
        ]
        if self.answerer is not None:
            at = next(at for at, one in enumerate(chain) if one.target is self.answerer.target)
            replay = self._job.continuation
            bound = isinstance(replay, Replay) and any(item.get("encrypted_content") for item in replay.round_items)
            self._targets = self._targets[at : at + 1] if bound else self._targets[at:]
            self._skipped = at
        self._targets[0] = structs.replace(self._targets[0], fallbacks=tuple(self._targets[1:]))
        return self._targets[0]

    def answered(self, reply: Reply) -> Plan:
        """The plan by which *reply* was asked for; who gave it serves the rounds to come."""
        candidate, run = reply.candidate, self.run
        assert candidate is not None
        at = self._place_of(candidate.target)
        if self.first is None:
            self.first = reply
            if run.job.setup.stamp:
                run.emitter.response["provider"] = reply.provider
        self.answerer = structs.replace(candidate, target=run.chain[at].target)
        return run.plans[at]

    def tokens_left(self) -> int | None:
        """Output tokens that the response may yet have; None: as many as the upstream gives."""
        most = whole_number(self.run.body.get("max_output_tokens"))
        used = (self.run.rewriter.usage or {}).get("output_tokens")
        return None if most is None else most - (used if isinstance(used, int) else 0)


def _params(one: Candidate, plan: Plan, number: int, last: bool, left: int | None) -> Json:
    params = {**(one.target.params or {}), **plan.params(number, last=last)}
    return params | {"max_output_tokens": left} if number and left is not None else params
