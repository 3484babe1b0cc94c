"""Nothing comes, or it comes too slowly."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..plan import Body, Hold, Pause, Plan, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """The upstream falls silent until the test calls `release()`, or the client leaves: before the head
    (*after_events* None), after it (0), or after so many events."""

    after_events: int | None = None

    def apply(self, plan: Plan) -> Plan:
        if self.after_events is None:
            return replace(plan, steps=(Hold(), *plan.steps))
        return plan.insert(self.after_events, Hold())


@dataclass(frozen=True, slots=True)
class Slow:
    """The body comes in pieces of *size* bytes, *pause* seconds apart."""

    size: int = 1
    pause: float = 0.0

    def apply(self, plan: Plan) -> Plan:
        return replace(plan, steps=tuple(piece for step in plan.steps for piece in self._pieces(step)))

    def _pieces(self, step: Step) -> tuple[Step, ...]:
        if not isinstance(step, Body):
            return (step,)
        pieces = [step.data[at : at + self.size] for at in range(0, len(step.data), self.size)]
        return tuple(part for piece in pieces for part in (Pause(self.pause), Body(piece)))
