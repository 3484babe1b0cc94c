"""What the console remembers of records, and how much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gomodel_asgi.console.recorder import KEPT, MOST_PARTS, MOST_UNDER_WAY, MOST_VIEWS, UNSEEN, Recorder
from gomodel_asgi.console.rendering import area, bars, line
from gomodel_asgi.console.series import MINUTE, MOST_TOOLS, POINTS, RECENT, STEP, STEPS, Series
from gomodel_asgi.console.view import View
from gomodel_asgi.observers import (
    AttemptEnded,
    AttemptStarted,
    Completed,
    Context,
    Disconnected,
    FirstEvent,
    PolicyDecided,
    RequestStarted,
    ToolCalled,
    Usage,
    Warned,
)

WHOLE = View(View.ALL)


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recorder(clock: Clock) -> Recorder:
    return Recorder(clock=clock)


def context(number: int, tenant: str | None = "acme", **facts: Any) -> Context:
    return Context(number, f"req_{number}", operation="create", tenant=tenant, model="m", **facts)


def ended(number: int, tenant: str | None = "acme", **facts: Any) -> Completed:
    usage = Usage(input_tokens=10, output_tokens=5)
    return Completed(context(number, tenant), **{"outcome": "completed", "status": 200, "usage": usage, **facts})


def test_an_exchange_is_under_way_until_it_has_ended(recorder: Recorder) -> None:
    recorder(RequestStarted(context(1)))
    assert [one.context.exchange for one in recorder.running(WHOLE)] == [1] and not recorder.latest(WHOLE)
    recorder(Disconnected(context(1), status=200, reason="gone"))
    assert [one.context.exchange for one in recorder.latest(WHOLE)] == [1] and not recorder.running(WHOLE)


def test_one_of_which_only_the_end_is_told_is_remembered(recorder: Recorder) -> None:
    recorder(ended(1, seconds=5.0))
    [one] = recorder.latest(WHOLE)
    assert one.request is None and not recorder.under_way


def test_what_comes_behind_its_end_is_noted_and_opens_no_exchange_again(recorder: Recorder) -> None:
    recorder(RequestStarted(context(1)))
    recorder(ended(1))
    for late in (
        Warned(context(1), message="the store was away"),
        AttemptStarted(context(1), number=2),
        AttemptEnded(context(1), number=2, status=200, error=None, detail=None, seconds=1.0),
        FirstEvent(context(1), seconds=1.0),
        PolicyDecided(context(1), seconds=1.0),
        tool(1, "crm"),
        Warned(context(99), message="of nobody that is known"),
    ):
        recorder(late)
    assert not recorder.running(WHOLE)
    [one] = recorder.latest(WHOLE)
    assert [note.text for note in one.notes] == ["the store was away"]


def test_what_is_remembered_is_bounded(recorder: Recorder) -> None:
    for number in range(1, KEPT + 11):
        recorder(ended(number))
    assert [one.context.exchange for one in recorder.latest(WHOLE)] == list(range(KEPT + 10, 10, -1))
    for number in range(MOST_UNDER_WAY + 5):
        recorder(RequestStarted(context(1000 + number)))
    assert len(recorder.under_way) == MOST_UNDER_WAY
    assert next(iter(recorder.under_way)) == 1005
    recorder(RequestStarted(context(7777777)))
    for number in range(MOST_PARTS + 5):
        recorder(AttemptStarted(context(7777777), number=number + 1))
        recorder(Warned(context(7777777), message="w"))
        recorder(tool(7777777, f"t{number}"))
    one = recorder.running(WHOLE)[-1]
    assert (len(one.attempts), len(one.notes), len(one.tools)) == (MOST_PARTS, MOST_PARTS, MOST_PARTS)
    recorder(AttemptEnded(context(7777777), number=MOST_PARTS + 1, status=200, error=None, detail=None, seconds=1.0))
    recorder(AttemptEnded(context(7777777), number=2, status=503, error="x", detail=None, seconds=1.0))
    assert [attempt.ended is not None for attempt in one.attempts].count(True) == 1 and one.attempts[1].ended


def tool(number: int, name: str, tenant: str | None = "acme", **facts: Any) -> ToolCalled:
    known: dict[str, Any] = {"seconds": 0.5, "outcome": "completed", "bytes_in": 1, "bytes_out": 2}
    return ToolCalled(context(number, tenant), tool="mcp", label="crm", name=name, **{**known, **facts})


def test_an_upstreams_own_usage_object_is_not_kept(recorder: Recorder) -> None:
    recorder(ended(1, raw_usage={"large": "x" * 10_000}))
    [one] = recorder.latest(WHOLE)
    assert one.ended is not None and one.ended.raw_usage is None


def test_what_is_counted_for_a_view_begins_with_what_is_remembered_and_goes_on(
    recorder: Recorder, clock: Clock
) -> None:
    for number, tenant in enumerate(["acme", "globex", "acme"], start=1):
        recorder(RequestStarted(context(number, tenant)))
        recorder(tool(number, "crm", tenant))
        recorder(ended(number, tenant))
    view = View({"acme"})
    assert recorder.series(view).over(clock(), MINUTE).requests == 2
    recorder(ended(4, "acme", error="x", outcome="failed"))
    recorder(ended(5, "globex"))
    recorder(tool(6, "crm", "globex"))
    figures = recorder.series(view).over(clock(), MINUTE)
    assert (figures.requests, figures.failed, figures.tokens) == (3, 1, 45)
    assert [one.calls for one in recorder.series(view).tools.values()] == [2]
    assert recorder.series(WHOLE).over(clock(), MINUTE).requests == 5
    assert recorder.series(View({"acme"}, detail=True)) is recorder.series(view)


def test_figures_are_kept_for_few_views_and_as_long_as_somebody_looks(recorder: Recorder, clock: Clock) -> None:
    first = recorder.series(View({"acme"}))
    for number in range(MOST_VIEWS + 5):
        recorder.series(View({f"t{number}"}))
    assert len(recorder.parts) == MOST_VIEWS and recorder.series(View({"acme"})) is not first
    clock.now += UNSEEN + 1
    recorder.series(View({"acme"}))
    assert set(recorder.parts) == {frozenset({"acme"})}


# Figures...


def test_figures_are_those_of_the_time_that_is_asked_for(clock: Clock) -> None:
    series = Series()
    for ago, tokens in ((400.0, 1), (200.0, 10), (0.0, 100)):
        series.add(clock() - ago, failed=ago == 200, tokens=tokens, seconds=1.0)
    assert series.over(clock(), MINUTE).tokens == 100
    recent = series.over(clock(), RECENT)
    assert (recent.tokens, recent.requests, recent.failed) == (110, 2, 1)
    assert series.over(clock() + 1e6, STEPS).requests == 0


def test_the_points_of_a_line_are_half_minutes_that_are_over(clock: Clock) -> None:
    series = Series()
    for step in range(-200, 1):
        series.add(clock() + step * STEP, failed=False, tokens=1, seconds=None)
    points = series.points(clock())
    assert len(points) == POINTS and [point.requests for point in points] == [3] * POINTS
    assert len(series.steps) == STEPS + 1


@pytest.mark.parametrize("seconds", [0.0, 0.0004, 0.001, 0.02, 0.5, 1.0, 7.0, 600.0])
def test_a_quantile_is_no_more_than_five_in_a_hundred_from_the_truth(seconds: float) -> None:
    series = Series()
    for _ in range(10):
        series.add(0.0, failed=False, tokens=0, seconds=seconds)
    for share in (0.5, 0.95, 1.0):
        found = series.over(0.0, 1).quantile(share)
        assert found is not None and found == pytest.approx(max(seconds, 0.001), rel=0.05)


def test_quantiles_divide_what_was_counted() -> None:
    series = Series()
    assert series.over(0.0, 1).quantile(0.5) is None
    for number in range(1, 101):
        series.add(0.0, failed=False, tokens=0, seconds=float(number))
    figures = series.over(0.0, 1)
    assert figures.quantile(0.5) == pytest.approx(50, rel=0.05)
    assert figures.quantile(0.95) == pytest.approx(95, rel=0.05)


def test_tools_beyond_a_bound_are_counted_together(recorder: Recorder) -> None:
    for number in range(MOST_TOOLS + 20):
        recorder(tool(number + 1, f"t{number}", outcome="failed", seconds=float(number)))
    tools = recorder.whole.tools
    assert len(tools) == MOST_TOOLS + 1
    others = tools[("mcp", None, "(others)")]
    assert (others.calls, others.failed, others.slowest) == (20, 20, float(MOST_TOOLS + 19))


# Lines...


@pytest.mark.parametrize("draw", [line, area])
def test_a_line_breaks_where_nothing_is_known_and_stays_in_its_box(draw: Callable[[Any], str]) -> None:
    for values in ([], [None], [0.0], [1.0, None, 3.0], [None, 2.0, 2.0, None], [0, 0, 0], [5e9, 1.0]):
        path = draw(values)
        assert path.count("M") == sum(
            value is not None and (number == 0 or values[number - 1] is None) for number, value in enumerate(values)
        )
        numbers = [float(one) for one in path.replace("h0", "").translate(str.maketrans("MLZ", "   ")).split()]
        assert all(0 <= x <= 120 for x in numbers[::2]) and all(0 <= y <= 32 for y in numbers[1::2])


def test_bars_fill_their_box() -> None:
    assert bars([]) == [] and bars([0.0]) == [(0.0, 100.0, 0.0)]
    assert bars([1.0, 2.0]) == [(0.0, 50.0, 50.0), (50.0, 0.0, 100.0)]
