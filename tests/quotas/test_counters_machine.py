"""Whatever happens in whatever order, each engine has what a list of all that happened adds up to."""

from __future__ import annotations

import asyncio
import itertools
from fractions import Fraction
from math import ceil
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gomodel_asgi.quotas.windows import Per
from gomodel_asgi.seams.counters import REPEATS, Figures, Line, Reserved

from .engines import ENGINES, Open, opener
from .lines import KEEPS, NOON, SLOT, line

LIMIT = 50

# Two keys in each window, and how far a clock goes between two steps: inside a slot, into the next minute, past all
# holds, into the next day and month.
PLACES: list[tuple[str, Per, bool]] = [
    ("tokens", "minute", True),
    ("requests", "minute", False),
    ("tokens", "hour", True),
    ("money", "day", True),
    ("money", "month", True),
    ("requests", "month", False),
]
STEPS = [0.0, 1.0, 17.5, 60.0, 100.0, float(SLOT), 3600.0, 7.0 * SLOT, 24 * 3600.0, 3 * 24 * 3600.0]

places = st.lists(st.sampled_from(PLACES), min_size=1, max_size=4, unique=True)
amounts = st.integers(0, 30)


class Hold(NamedTuple):
    """A reservation as it was made."""

    name: str
    lines: list[Line]
    began: float


class Booked(NamedTuple):
    """So much was spent, or is held (in a slot), under a key in a window."""

    key: str
    window: str
    amount: int
    slot: int | None


class Model:
    """All that happened, as a list: sums are made anew for each question."""

    def __init__(self) -> None:
        self.spent: list[Booked] = []
        self.held: dict[str, list[Booked]] = {}

    def sums(self, key: str, window: str | None, oldest: int) -> tuple[int, int]:
        spent = sum(one.amount for one in self.spent if (one.key, one.window) == (key, window))
        counting = [one for hold in self.held.values() for one in hold if one.slot is not None and one.slot >= oldest]
        return spent, sum(one.amount for one in counting if (one.key, one.window) == (key, window))

    def figures(self, one: Line) -> Figures:
        window = one.window
        spent, held = self.sums(one.key, window.name, one.oldest)
        then_spent, then_held = self.sums(one.key, window.before, one.oldest)
        weight = Fraction(window.parts, 1_000_000)
        spent_share, all_share = ceil(then_spent * weight), ceil((then_spent + then_held) * weight)
        return Figures(spent + spent_share, held + all_share - spent_share, then_spent + then_held)

    def reserve(self, hold: str, lines: list[Line]) -> Reserved:
        for index, one in enumerate(lines):
            found = self.figures(one)
            if found.spent + found.held + one.amount > one.limit:
                return Reserved(index, tuple(map(self.figures, lines)))
        booked = [Booked(one.key, one.window.name, one.amount, one.slot if one.holds else None) for one in lines]
        self.spent += [one for one in booked if one.slot is None]
        self.held[hold] = [one for one in booked if one.slot is not None]
        return Reserved(None, tuple(map(self.figures, lines)))

    def settle(self, hold: str, lines: list[Line], actual: list[int]) -> None:
        reserved = self.held.pop(hold, None) is not None
        for one, amount in zip(lines, actual, strict=True):
            base = one.amount if reserved and not one.holds else 0
            self.spent.append(Booked(one.key, one.window.name, amount - base, None))


class Machine(RuleBasedStateMachine):
    """One engine, asked by two workers, beside the model."""

    holds: Bundle[Hold] = Bundle("holds")

    def __init__(self, open_counters: Open) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.workers = itertools.cycle([open_counters() for _ in range(2)])
        self.model = Model()
        self.now = NOON
        self.names = itertools.count()
        self.settled: dict[str, tuple[Hold, list[int], float]] = {}
        self.over: dict[tuple[str, str], int] = {}
        """What was used beyond what was reserved, or after the hold had freed itself: the bound."""
        self.seen: dict[tuple[str, str], Line] = {}

    def lines(self, chosen: list[tuple[str, Per, bool]], amounts: list[int]) -> list[Line]:
        made = [
            line(self.now, key=key, per=per, limit=LIMIT, amount=amount, holds=holds)
            for (key, per, holds), amount in zip(chosen, itertools.cycle(amounts), strict=False)
        ]
        self.seen |= {(one.key, one.window.name): one for one in made}
        return made

    @rule(target=holds, chosen=places, amounts=st.lists(amounts, min_size=1, max_size=4))
    def reserve(self, chosen: list[tuple[str, Per, bool]], amounts: list[int]) -> MultipleResults[Hold] | Hold:
        hold = Hold(f"h{next(self.names)}", self.lines(chosen, amounts), self.now)
        answer = self.runner.run(next(self.workers).reserve(hold.name, hold.lines, self.now))
        assert answer == self.model.reserve(hold.name, hold.lines)
        return multiple() if answer.refused is not None else hold

    @rule(hold=holds)
    def repeat_a_reservation(self, hold: Hold) -> None:
        """Its answer was lost. It changes nothing, settled or not."""
        if self.knows(hold):
            answer = self.runner.run(next(self.workers).reserve(hold.name, hold.lines, self.now))
            assert answer == Reserved(None, tuple(map(self.model.figures, hold.lines)))

    @rule(hold=holds, data=st.data())
    def settle(self, hold: Hold, data: st.DataObject) -> None:
        if hold.name in self.settled or not self.knows(hold):
            return
        actual = [data.draw(st.integers(0, 2 * one.amount + 2)) for one in hold.lines]
        freed = hold.lines[0].slot < line(self.now).oldest
        for one, amount in zip(hold.lines, actual, strict=True):
            reserved = 0 if freed and one.holds else one.amount
            place = one.key, one.window.name
            self.over[place] = self.over.get(place, 0) + max(0, amount - reserved)
        self.runner.run(next(self.workers).settle(hold.name, hold.lines, actual, self.now))
        self.model.settle(hold.name, hold.lines, actual)
        self.settled[hold.name] = hold, actual, self.now

    @precondition(lambda self: self.settled)
    @rule(data=st.data())
    def repeat_a_settlement(self, data: st.DataObject) -> None:
        hold, actual, when = data.draw(st.sampled_from(list(self.settled.values())))
        if self.now - when < REPEATS:
            again = data.draw(st.sampled_from([actual, [0] * len(actual), [one + 1 for one in actual]]))
            self.runner.run(next(self.workers).settle(hold.name, hold.lines, again, self.now))

    @rule(chosen=places, actual=st.lists(amounts, min_size=4, max_size=4))
    def settle_what_was_never_reserved(self, chosen: list[tuple[str, Per, bool]], actual: list[int]) -> None:
        hold = Hold(f"h{next(self.names)}", self.lines(chosen, [1]), self.now)
        used = actual[: len(hold.lines)]
        for one, amount in zip(hold.lines, used, strict=True):
            self.over[one.key, one.window.name] = self.over.get((one.key, one.window.name), 0) + amount
        self.runner.run(next(self.workers).settle(hold.name, hold.lines, used, self.now))
        self.model.settle(hold.name, hold.lines, used)
        self.settled[hold.name] = hold, used, self.now

    @rule(step=st.sampled_from(STEPS))
    def wait(self, step: float) -> None:
        """Holds whose process died free themselves meanwhile, and windows turn."""
        self.now += step

    def knows(self, hold: Hold) -> bool:
        """Whether the engine is bound to know it still."""
        when = self.settled.get(hold.name)
        return self.now - when[2] < REPEATS if when is not None else self.now - hold.began < KEEPS

    @invariant()
    def it_has_what_the_model_has(self) -> None:
        lines = [line(self.now, key=key, per=per, limit=LIMIT, holds=holds) for key, per, holds in PLACES]
        found = self.runner.run(next(self.workers).figures(lines, self.now))
        assert list(found) == [self.model.figures(one) for one in lines]

    @invariant()
    def nothing_is_negative_and_no_limit_is_passed_but_by_what_was_used_beyond_what_was_reserved(self) -> None:
        slot, oldest = line(self.now).slot, line(self.now).oldest
        lines = [msgspec.structs.replace(one, slot=slot, oldest=oldest) for one in self.seen.values()]
        alone = [msgspec.structs.replace(one, window=msgspec.structs.replace(one.window, before=None)) for one in lines]
        for one, found in zip(alone, self.runner.run(next(self.workers).figures(alone, self.now)), strict=True):
            assert found.spent >= 0 and found.held >= 0
            assert found.spent + found.held <= LIMIT + self.over.get((one.key, one.window.name), 0)

    def teardown(self) -> None:
        for _ in range(2):
            self.runner.run(next(self.workers).aclose())
        self.runner.close()


@pytest.mark.parametrize("kind", ENGINES)
def test_an_engine_has_what_all_that_happened_adds_up_to(kind: str, request: pytest.FixtureRequest) -> None:
    class OnData(Machine):
        def __init__(self) -> None:
            super().__init__(opener(kind, request))

    run_state_machine_as_test(
        OnData,
        settings=settings(
            max_examples=60 if kind == "memory" else 25,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
