"""The connection breaks off, or carries what is not HTTP."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..plan import Body, Close, Hold, Pause, Plan, Raw, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The upstream breaks off. Exactly one of:

    *after_bytes* so many bytes of the body; *after_events* on the boundary behind so many events; *inside_event* in
    the middle of the event of this index, from 0; *inside_character* within the first character of several bytes;
    *inside_chunk* after a chunk of the event of this index was announced of which only half comes; *before_head* before
    any byte of the reply. *reset* ends by RST instead of FIN.
    """

    after_bytes: int | None = None
    after_events: int | None = None
    inside_event: int | None = None
    inside_character: bool = False
    inside_chunk: int | None = None
    before_head: bool = False
    reset: bool = False

    def apply(self, plan: Plan) -> Plan:
        if self.before_head:
            return replace(plan, steps=(Close(self.reset),))
        if self.after_events is not None:
            return plan.cut(self.after_events, Close(self.reset))
        if self.inside_event is not None:
            return plan.cut(self.inside_event, Body(self._half(plan, self.inside_event)), Close(self.reset))
        if self.inside_chunk is not None:
            return plan.cut(self.inside_chunk, Close(self.reset, self._half(plan, self.inside_chunk)))
        if self.after_bytes is not None:
            return self._at(plan, self.after_bytes)
        if self.inside_character:
            return self._at(plan, self._character(plan))
        raise ValueError("Cut needs to be told where")

    def _half(self, plan: Plan, event: int) -> bytes:
        if event >= len(plan.bodies):
            raise ValueError(f"the reply has {len(plan.bodies)} events, none of index {event}")
        return plan.bodies[event][: len(plan.bodies[event]) // 2]

    def _at(self, plan: Plan, length: int) -> Plan:
        kept = 0
        for index, body in enumerate(plan.bodies):
            if kept + len(body) > length:
                rest = body[: length - kept]
                return plan.cut(index, *((Body(rest),) if rest else ()), Close(self.reset))
            kept += len(body)
        return plan.cut(len(plan.bodies), Close(self.reset))

    def _character(self, plan: Plan) -> int:
        whole = b"".join(plan.bodies)
        first = next((index for index, byte in enumerate(whole) if byte >= 0xC0), None)
        if first is None:
            raise ValueError("the reply has no character of several bytes to cut: ask for one with Answer(text='é')")
        return first + 1


@dataclass(frozen=True, slots=True)
class Garbage:
    """Bytes that are not HTTP, instead of a reply."""

    data: bytes = b"\x16\x03\x01\x00\xff\xfe not HTTP\r\n\r\n"

    def apply(self, plan: Plan) -> Plan:
        return replace(plan, steps=(Raw(self.data),))


@dataclass(frozen=True, slots=True)
class Trailing:
    """Bytes on the connection after a complete reply, such as a whole second reply that nobody asked for."""

    data: bytes = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"

    def apply(self, plan: Plan) -> Plan:
        return replace(plan, steps=(*plan.steps, Raw(self.data)))


# Nothing comes, or it comes too slowly.


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
