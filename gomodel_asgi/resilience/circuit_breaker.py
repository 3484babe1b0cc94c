"""A circuit breaker for all who share a credential: it counts what fails, and refuses what would only fail again.

A circuit opens where half of at least `MINIMUM` requests of a window have failed. Each tenant has one of its own. The
shared one opens for everybody and asks for more: a tenant's failures count in it at most once in `SPACING` seconds, and
two tenants, and half of those that asked, must see a failing rate. What one tenant can break, it breaks for itself.
Requests without a tenant have a circuit of their own, too, which is everybody's where there are no tenants.

A tenant that is answered goes on through an open shared circuit, and its next answer closes that. So tenants made up
to fail shut out nobody whom the upstream serves: at most newcomers, and those until the next probe.

An open circuit lets a request through after `PAUSE` seconds, the probe, and another one each `PAUSE` from then on until
one is decided, so that a probe without an end holds nobody up. Who has probed the shared circuit last comes last.

What is remembered of tenants is bounded by `MOST_TENANTS`, apart for those that are answered and those that fail:
failing requests never push out who is answered. What is forgotten counts as closed. Plain numbers on one clock: no
task, no timer, no I/O.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from msgspec import Struct

from ..seams.health import State
from .circuit import MINIMUM, PAUSE, RATE, SPACING, WINDOW, Circuit, Record, Window

MOST_TENANTS = 500  # that one breaker knows as answered, and as many that fail


class Tally(Window):
    """One provider: its requests, and its breakers, the one used last at the end."""

    __slots__ = ("breakers", "in_flight")

    def __init__(self, now: float) -> None:
        super().__init__(now)
        self.in_flight = 0
        self.breakers: OrderedDict[object, Breaker] = OrderedDict()


class Permit(Struct, eq=False):
    """One request that was let through. Call `leave` once, when it has ended.

    *circuits* are the open ones that it was let through, *at* is when: its answer closes them.
    """

    breaker: Breaker
    tenant: str | None
    circuits: tuple[Circuit, ...] = ()
    at: float = 0.0

    def began(self) -> None:
        """Notes that its first event has come, which is all that a probe has to see."""
        if self.circuits:
            self.breaker.decide(self, False)
            self.circuits = ()

    def leave(self, failed: bool | None) -> None:
        """Ends the request: it has *failed*, or not, or (None) says nothing about the upstream."""
        breaker = self.breaker
        breaker.in_flight -= 1
        breaker.tally.in_flight -= 1
        if self.circuits:
            breaker.decide(self, failed)
        if failed:
            breaker.failure(self.tenant)
        elif failed is not None:
            breaker.success(self.tenant)


class Breaker(Window):
    """The breaker of one provider, model and credential; its own counts are those of all tenants.

    *remember* is called with how many tenants it knows more, or fewer, than before; *on_change* with its state for
    everybody as it was and as it is, where a request has changed that.
    """

    __slots__ = (
        "answered",
        "clock",
        "failing",
        "in_flight",
        "known",
        "nobody",
        "prober",
        "remember",
        "seen",
        "shared",
        "tally",
        "on_change",
    )

    def __init__(
        self,
        clock: Callable[[], float],
        tally: Tally,
        remember: Callable[[int], object],
        on_change: Callable[[State, State], object] | None = None,
    ) -> None:
        super().__init__(clock())
        self.on_change = on_change
        self.seen: State = "closed"
        """The state that was reported last."""
        self.clock = clock
        self.tally = tally
        self.remember = remember
        self.known = 0
        self.in_flight = 0
        self.shared = Circuit()
        self.prober: tuple[str, float] | None = None
        """The tenant that probed the shared circuit last, and when."""
        self.nobody = Record(self.since)
        """Requests without a tenant."""
        self.answered: OrderedDict[str, Record] = OrderedDict()
        self.failing: OrderedDict[str, Record] = OrderedDict()

    # One request...

    def admit(self, tenant: str | None) -> Permit | None:
        """Returns a permit for a request of *tenant*; None where it would only fail."""
        permit = Permit(self, tenant)
        if self.failing or self.shared.opened is not None or self.nobody.circuit.opened is not None:
            permit.at = self.clock()
            if self._wait(tenant, permit.at) > 0:
                return None
            permit.circuits = self._tried(tenant, permit.at)
            self._tell(permit.at)
        self.in_flight += 1
        self.tally.in_flight += 1
        return permit

    def retry_after(self, tenant: str | None) -> float:
        """Returns the seconds until a request of *tenant* is let through."""
        return self._wait(tenant, self.clock())

    def success(self, tenant: str | None) -> None:
        """Counts a request of *tenant* that was answered."""
        now = self.clock()
        tally = self.tally
        record = self.nobody if tenant is None else self.answered.get(tenant)
        known = record is not None
        if record is None:
            record = self._taken(tenant, now)
        elif tenant is not None:
            self.answered.move_to_end(tenant)
        if now - record.since >= WINDOW:
            record.turn(now)
        if now - self.since >= WINDOW:
            self.turn(now)
        if now - tally.since >= WINDOW:
            tally.turn(now)
        record.requests += 1
        self.requests += 1
        tally.requests += 1
        if not known:
            self._put(tenant, record, now)

    def failure(self, tenant: str | None) -> None:
        """Counts a request of *tenant* that has failed."""
        now = self.clock()
        record = self._taken(tenant, now)
        counts = tenant is not None and now - record.spaced >= SPACING
        if counts:
            record.spaced = now
        for window in (record, self, self.tally):
            window.failed(now, counts)
        opens = record.circuit.opened is None and record.is_failing(now, MINIMUM)
        if opens:
            record.circuit.open(now)
        self._put(tenant, record, now)
        if counts and self.shared.opened is None and self._fails_everybody(now):
            self.shared.open(now)
            opens = True
        if opens:
            self._tell(now)

    def decide(self, permit: Permit, failed: bool | None) -> None:
        """What went through open circuits shows how the upstream is: an answer closes them; where the probe that was
        let through last fails, they are open anew."""
        for circuit in permit.circuits:
            if failed is False:
                self._close(circuit, permit.tenant)
            elif circuit.probed == permit.at:
                circuit.probed = None
                if failed:
                    circuit.opened = self.clock()
        self._tell(self.clock())

    def _tell(self, now: float) -> None:
        if self.on_change is None:
            return
        was, self.seen = self.seen, self.state(now)
        if was != self.seen:
            self.on_change(was, self.seen)

    # How it is seen...

    def state(self, now: float) -> State:
        """Returns the state that all tenants share."""
        return self._everybodys(now).state(now)

    def state_for(self, tenant: str | None, now: float) -> State:
        """Returns the state for *tenant*."""
        states = {circuit.state(now) for circuit in self._open_for(tenant, now)}
        return "open" if "open" in states else "half-open" if states else "closed"

    def wait(self, now: float) -> float:
        """Returns the seconds until anybody's request is let through."""
        return self._everybodys(now).wait(now)

    def shut_out(self, now: float) -> int:
        """Returns how many tenants are refused, or probe, while others are not."""
        if self._everybodys(now).opened is not None:
            return 0
        failing = [record for record in self.failing.values() if record.counts(now)[0]]
        return sum(record.circuit.opened is not None for record in (self.nobody, *failing))

    def is_idle(self, now: float) -> bool:
        """Returns whether it knows nothing that a new one would not. What it need not know any more it forgets."""
        self._forget_quiet(now)
        return self.seems_idle(now)

    def seems_idle(self, now: float) -> bool:
        """The same, to look at only."""
        if self.in_flight or self.shared.opened is not None or self.counts(now)[0]:
            return False
        return not self.shut_out(now) and self._everybodys(now).opened is None

    # Circuits...

    def _open_for(self, tenant: str | None, now: float) -> list[Circuit]:
        """Returns the open circuits that a request of *tenant* has to pass."""
        found = []
        record = self.nobody if tenant is None else self.failing.get(tenant)
        if record is not None and record.circuit.opened is not None:
            found.append(record.circuit)
        if self.shared.opened is not None:
            known = self.nobody if tenant is None else self.answered.get(tenant)
            if known is None or not known.is_answered(now):
                found.append(self.shared)
        return found

    def _wait(self, tenant: str | None, now: float) -> float:
        wait = 0.0
        for circuit in self._open_for(tenant, now):
            wait = max(wait, circuit.wait(now))
            if circuit is self.shared and self.prober is not None and self.prober[0] == tenant:
                wait = max(wait, self.prober[1] + 2 * PAUSE - now)
        return wait

    def _tried(self, tenant: str | None, now: float) -> tuple[Circuit, ...]:
        """Returns the circuits that a request of *tenant*, which is let through, will decide."""
        probed = self._open_for(tenant, now)
        for circuit in probed:
            circuit.probed = now
        if self.shared in probed and tenant is not None:
            self.prober = tenant, now
        if self.shared.opened is not None and self.shared not in probed:
            return (*probed, self.shared)
        return tuple(probed)

    def _close(self, circuit: Circuit, tenant: str | None) -> None:
        circuit.close()
        if circuit is self.shared:
            self.prober = None
            self.clear()
        elif tenant is None:
            self.nobody.clear()
        else:
            self.failing.pop(tenant, None)
        if not self.failing and not self.answered:
            self.clear()
        self._report()

    def _everybodys(self, now: float) -> Circuit:
        """Returns the circuit that shuts everybody out: the shared one; where nobody has a tenant, theirs."""
        if self.shared.opened is not None or self.nobody.circuit.opened is None:
            return self.shared
        for place in (self.answered, self.failing):
            latest = next(reversed(place.values()), None)
            if latest is not None and latest.counts(now)[0]:
                return self.shared
        return self.nobody.circuit

    def _fails_everybody(self, now: float) -> bool:
        """Returns whether the shared circuit has to open."""
        requests, failures, counted = self.counts(now)
        weighed = requests - failures + counted
        if weighed < MINIMUM or counted < RATE * weighed:
            return False
        self._forget_quiet(now)
        return len(self.failing) >= 2 and len(self.failing) >= len(self.answered)

    # Tenants...

    def _taken(self, tenant: str | None, now: float) -> Record:
        """The tenant's record, to be put back."""
        if tenant is None:
            return self.nobody
        return self.failing.pop(tenant, None) or self.answered.pop(tenant, None) or Record(now)

    def _put(self, tenant: str | None, record: Record, now: float) -> None:
        """Puts a record back where it belongs now, as the one used last."""
        if tenant is None:
            return
        place = self.failing if record.circuit.opened is not None or record.is_failing(now) else self.answered
        place[tenant] = record
        if len(place) > MOST_TENANTS:
            place.popitem(last=False)
        self._report()

    def _forget_quiet(self, now: float) -> None:
        """Forgets who has not asked in the window."""
        for place in (self.answered, self.failing):
            while place and not next(iter(place.values())).counts(now)[0]:
                place.popitem(last=False)
        self._report()

    def _report(self) -> None:
        known = len(self.answered) + len(self.failing)
        if known != self.known:
            more, self.known = known - self.known, known
            self.remember(more)
