"""What guards look for is seen whole wherever events cut it, and what takes its place stands everywhere alike."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gomodel_asgi.guards.hold import Window
from gomodel_asgi.wire.response import stream_of
from gomodel_asgi.wire.sse import parse, split

from ..support.guarding import PATTERN, SAID, SECRET


def run(steps: Any, mask: str = "[key]", asked: list[str] | None = None) -> list[dict[str, Any]]:
    try:
        scan = next(steps)
        while True:
            if asked is not None:
                asked.append(scan.text)
            scan = steps.send(PATTERN.sub(mask, scan.text))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def response(text: str = SAID) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    items = [
        {"id": "rs", "type": "reasoning", "summary": [{"type": "summary_text", "text": text}]},
        {"id": "m", "type": "message", "status": "completed", "role": "assistant", "content": [part]},
        {"id": "f", "type": "function_call", "call_id": "c", "name": "n", "arguments": text, "status": "completed"},
        {"id": "x", "type": "custom_tool_call", "call_id": "d", "name": "n", "input": text, "status": "completed"},
    ]
    return {"id": "r", "object": "response", "status": "completed", "model": "m", "output": items}


def events(text: str = SAID, cut: int | None = None) -> list[dict[str, Any]]:
    """The events of a response, each delta in two at *cut*, or in single characters."""
    found = []
    for each in split(stream_of(response(text))):
        parsed = parse(each)
        if parsed is None or parsed.data == b"[DONE]":
            continue
        event = json.loads(parsed.data)
        if event["type"].endswith(".delta"):
            pieces = [*event["delta"]] if cut is None else [event["delta"][:cut], event["delta"][cut:]]
            found += [{**event, "delta": piece} for piece in pieces]
        else:
            found.append(event)
    return found


def guarded(hold: int | None, given: list[dict[str, Any]], mask: str = "[key]") -> list[dict[str, Any]]:
    window = Window(hold)
    return [one for event in given for one in run(window.event(event), mask)]


def texts(given: list[dict[str, Any]]) -> dict[Any, str]:
    found: dict[Any, str] = {}
    for event in given:
        if event["type"].endswith(".delta"):
            key = event["type"], event["output_index"]
            found[key] = found.get(key, "") + event["delta"]
    return found


@pytest.mark.parametrize("hold", [13, 20, 200, None])
@pytest.mark.parametrize("cut", [None, *range(1, len(SAID))])
def test_a_match_that_is_cut_at_any_place_is_caught(hold: int | None, cut: int | None) -> None:
    found = guarded(hold, events(cut=cut))
    wanted = PATTERN.sub("[key]", SAID)
    assert "sk-" not in json.dumps(found) and "4567" not in json.dumps(found)
    assert set(texts(found).values()) == {wanted} and len(texts(found)) == 4
    assert [*found[-1]["response"]["output"]] == [
        json.loads(json.dumps(item).replace(SECRET, "[key]")) for item in response()["output"]
    ]


@pytest.mark.parametrize("mask", [r"sk-12\*\*\*", r"\*\*\*890", "", "X" * 40])
@pytest.mark.parametrize("cut", [None, *range(1, len(SAID), 3)])
def test_a_mask_may_keep_a_part_of_what_it_hides(mask: str, cut: int | None) -> None:
    mask = mask.replace("\\", "")
    assert set(texts(guarded(20, events(cut=cut), mask)).values()) == {PATTERN.sub(mask, SAID)}


def test_text_leaves_as_soon_as_so_much_stands_behind_it() -> None:
    window = Window(20)
    given = [event for event in events("a" * 100) if event["type"] == "response.output_text.delta"]
    left = [len("".join(one["delta"] for one in run(window.event(event)))) for event in given]
    assert left == [0] * 20 + [1] * 80


def test_what_is_looked_at_grows_with_the_text_and_not_with_its_square() -> None:
    window, asked = Window(20), list[str]()
    for event in events("sk-123 " * 300):
        run(window.event(event), asked=asked)
    assert sum(map(len, asked)) < 40 * len("sk-123 " * 300) * 4


def test_a_text_that_comes_again_whole_is_not_looked_at_again() -> None:
    window, asked = Window(200), list[str]()
    for event in events():
        run(window.event(event), asked=asked)
    assert asked.count(SAID) == 4, "once for each channel, and never for done, part, item and response"


def test_numbers_are_without_a_gap() -> None:
    found = guarded(20, events())
    assert [event["sequence_number"] for event in found] == [*range(len(found))]


def test_the_tokens_of_a_text_that_was_looked_at_are_told_to_nobody() -> None:
    given = events(cut=5)
    for event in given:
        if "logprobs" in event:
            event["logprobs"] = [{"token": SECRET}]
    assert SECRET not in json.dumps(guarded(20, given))


def test_where_a_response_is_blocked_its_open_items_end_with_what_has_left() -> None:
    window, found = Window(5), list[dict[str, Any]]()
    for event in events("nothing to see", cut=13):
        if event["type"] == "response.output_text.done":
            break
        found += run(window.event(event))
    found += window.blocked()
    kinds = [event["type"] for event in found[-4:]]
    assert kinds == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.incomplete",
    ]  # fmt: skip
    last = found[-1]["response"]
    assert (last["status"], last["incomplete_details"]) == ("incomplete", {"reason": "content_filter"})
    assert last["output"][-1]["content"][0]["text"] == "nothing t" and last["output"][-1]["status"] == "incomplete"


def test_an_event_that_nobody_knows_is_looked_at_in_all_its_strings() -> None:
    window = Window(20)
    event = {"type": "other.kind", "sequence_number": 3, "deep": {"role": [SECRET]}}
    assert SECRET not in json.dumps(run(window.event(event)))


WHERE = {"output_index": 0, "content_index": 0, "item_id": "m"}


@pytest.mark.parametrize("note", [SAID, {"so": [SAID]}])
@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.output_item.added", "output_index": 0, "item": {"id": "m", "type": "message"}},
        {"type": "response.output_item.done", "output_index": 0, "item": {"id": "m", "type": "message"}},
        {"type": "response.output_text.delta", **WHERE, "delta": "so "},
        {"type": "response.output_text.delta", **WHERE, "delta": "so " * 40},
        {"type": "response.output_text.done", **WHERE, "text": "so"},
        {"type": "response.audio.delta", "delta": "AAAA"},
        {"type": "response.completed", "response": response("")},
    ],
)
def test_a_member_of_an_event_that_nobody_knows_is_looked_at(event: dict[str, Any], note: Any) -> None:
    begun = {"type": "response.created", "response": {"id": "r", "output": []}}
    ends = [] if event["type"] == "response.completed" else [{"type": "response.completed", "response": response("")}]
    found = json.dumps(guarded(40, [begun, {**event, "note": note}, *ends]))
    assert "[key]" in found and SECRET not in found


def test_a_text_that_is_held_whole_is_put_together_once() -> None:
    window = Window(None)
    for _ in range(1000):
        assert run(window.event({"type": "response.output_text.delta", **WHERE, "delta": "so "})) == []
    [channel] = window.channels.values()
    assert (channel.held, len(channel.fresh), channel.length) == ("", 1000, 3000)
    assert channel.whole() == "so " * 1000 and not channel.fresh
