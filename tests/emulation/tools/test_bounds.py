"""Results that are too large, cut for model and client alike."""

from __future__ import annotations

import pytest

from gomodel_asgi import Limits, tools
from gomodel_asgi.emulation.tools.call_limits import cut
from gomodel_asgi.emulation.tools.results import SHORTEST, TOO_LARGE, bounded
from gomodel_asgi.emulation.tools.seams import Outcome, failed
from gomodel_asgi.settings import KIB

LIMITS = Limits(tool_result=4 * KIB, event=4 * KIB)


def passages(*sizes: int) -> list[tools.Passage]:
    return [tools.Passage(f"f{number}", "a.txt", "é" * size) for number, size in enumerate(sizes)]


def test_passages_that_fit_together_stay_whole() -> None:
    whole = passages(1900, 100, 48)
    assert bounded(whole, LIMITS) == whole


def test_passages_that_do_not_fit_have_each_a_share() -> None:
    found = bounded(passages(5000, 5000, 10), LIMITS)
    assert [len(one.text.encode()) < 4 * KIB / 3 + 100 for one in found] == [True] * 3
    assert all("were left out" in one.text for one in found[:2]) and found[2].text == "é" * 10


def test_of_very_many_the_first_are_shown() -> None:
    found = bounded([tools.Page("https://example.com/", "t", "x" * 400)] * 100_000, LIMITS)
    assert len(found) == LIMITS.tool_result // SHORTEST


def test_an_image_that_no_event_holds_is_a_failure_and_beside_logs_a_note() -> None:
    large = tools.Image(bytes(4 * KIB))
    with pytest.raises(tools.ToolError, match="too large"):
        bounded(large, LIMITS)
    run = bounded(tools.Execution("4", images=[large, tools.Image(b"x")]), LIMITS)
    assert (run.logs, run.images) == (f"4\n[{TOO_LARGE}]", (tools.Image(b"x"),))


def test_the_error_that_a_client_sees_is_no_longer_than_what_the_model_reads() -> None:
    text = "no " * 10_000
    told = bounded(Outcome(text, error=failed(text)), LIMITS)
    assert told.error == failed(told.text) and len(told.text) < 4 * KIB + 100


@pytest.mark.parametrize("text", ["", "a", "é" * 2048, "a" * 4096])
def test_what_fits_is_not_cut(text: str) -> None:
    assert cut(text, 4 * KIB) == text


@pytest.mark.parametrize("letter", ["a", "é", "€", "😀", "\ud800"])
@pytest.mark.parametrize("most", [0, 1, 7, 4096])
def test_what_does_not_fit_keeps_its_head_and_its_tail(letter: str, most: int) -> None:
    text = letter * 5000
    short = cut(text, most)
    head, note, tail = short.split("\n")
    if letter == "\ud800":  # half a surrogate pair is no character
        head, tail = head.replace("?", letter), tail.replace("?", letter)
    assert text.startswith(head) and text.endswith(tail)
    assert len((head + tail).encode("utf-8", "replace")) <= most
    assert f"{5000 - len(head) - len(tail)} characters" in note
