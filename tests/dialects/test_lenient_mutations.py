"""Whatever a sloppy upstream leaves out, repeats or renames, nothing of what it says is lost or told twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import assume, find, given, note, settings, strategies as st

from gomodel_asgi.wire.calls import CLIENT_CALLS

from ..wire.test_event_writer import HOSTED, emitter, events
from .test_lenient import (
    CALL_ENDS,
    DELTAS,
    PART_ENDS,
    PARTS,
    STREAMS,
    TEXT_ENDS,
    accepted_by_openai,
    final,
    needs_recordings,
    normalized,
    reader,
    recorded_events,
    wire,
)

# The SDK warns when it copies an item that it does not know; it accepts it all the same.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")

Json = dict[str, Any]
Mutation = Callable[[list[Json], st.DataObject], list[Json]]


def everything() -> list[Json]:
    """A proper stream with an item of every kind."""
    to = emitter()
    thought: Any = to.reasoning()
    thought.text("Hm.")
    thought.end_part()
    thought.text("Well.")
    thought.open_part({"type": "reasoning_text"}, "content").text("Deep.")
    thought.set_encrypted_content("sealed")
    thought.close()
    message = to.message(phase="commentary")
    message.text("Hello ", [{"token": "Hello ", "logprob": 0.0, "bytes": [1], "top_logprobs": []}])
    message.text("there")
    message.annotate({"type": "url_citation", "url": "u", "title": "", "start_index": 0, "end_index": 5})
    message.refusal("No.")
    message.text("Bye.")
    message.close()
    for type, (begun, steps, ended) in HOSTED.items():
        call: Any = to.open({"type": type, **begun})
        for step, members in steps:
            getattr(call, step)(*members.values()) if hasattr(call, step) else call.progress(step, **members)
        call.close("completed", ended)
    first, second = to.function_call("call_1", "f"), to.function_call("call_2", "f", namespace="n")
    first.arguments('{"a":')
    second.arguments('{"b":')
    first.arguments("1}")
    second.arguments("2}")
    second.close()
    first.close()
    patch: Any = to.custom_call("call_3", "patch")
    patch.text("*** Begin")
    patch.text(" Patch")
    patch.close()
    to.open({"type": "shell_call", "call_id": "call_4", "action": {"commands": ["ls"]}}).close()
    to.open({"type": "acme:thing"}).close("completed", {"payload": {"deep": [1, None]}})
    to.open({"type": "compaction"}).close("completed", {"encrypted_content": "sealed"})
    to.message().text("Done.")
    to.complete(9)
    return events(to.take())


ITEM_ADDED, ITEM_DONE = "response.output_item.added", "response.output_item.done"
BEGINNING = ("response.created", "response.in_progress")


def items_of(event: Json) -> list[Json]:
    """The items that an event shows."""
    inside = event.get("response", {}).get("output", [])
    return [*inside, *([event["item"]] if "item" in event else [])]


def renamed(found: list[Json], data: st.DataObject, member: str, name: Callable[[int], str]) -> list[Json]:
    """Every item has another *member*, wherever it is shown or spoken of."""
    number = 0
    for event in found:
        for item in items_of(event):
            if member in item:
                number += 1
                item[member] = name(number)
        if member == "id" and "item_id" in event:
            number += 1
            event["item_id"] = name(number)
    return found


def call_ids_rotate(found: list[Json], data: st.DataObject) -> list[Json]:
    return renamed(found, data, "call_id", lambda number: f"rotated_{number}")


def without_ids(found: list[Json], data: st.DataObject) -> list[Json]:
    for event in found:
        event.pop("item_id", None)
        for item in items_of(event):
            item.pop("id", None)
    return found


def redacted(name: str, found: list[Json], data: st.DataObject) -> list[Json]:
    return [{member: event[member] for member in event if member != name} for event in found]


def one_index(found: list[Json], data: st.DataObject) -> list[Json]:
    return [event | {"output_index": 0} if "output_index" in event else event for event in found]


def lacking(types: tuple[str, ...], found: list[Json], data: st.DataObject) -> list[Json]:
    return [event for event in found if event["type"] not in types]


def lacking_some(found: list[Json], data: st.DataObject) -> list[Json]:
    """Some events are lost, but neither deltas nor the end."""
    kept = data.draw(st.lists(st.booleans(), min_size=len(found), max_size=len(found)))
    end = found[-1]
    return [event for event, keep in zip(found, kept, strict=True) if keep or event["type"] in DELTAS or event is end]


def tails_lost(found: list[Json], data: st.DataObject) -> list[Json]:
    """The last deltas of each text are lost."""
    left: dict[tuple[Any, ...], int] = {}
    kept = []
    for event in found:
        if event["type"] in DELTAS:
            place = event["output_index"], event.get("content_index"), event.get("summary_index")
            left.setdefault(place, data.draw(st.integers(0, 2)))
            left[place] -= 1
            if left[place] < 0:
                continue
        kept.append(event)
    return kept


def numbers_wrong(found: list[Json], data: st.DataObject) -> list[Json]:
    return [event | {"sequence_number": data.draw(st.sampled_from((None, 0, 3, -1, "x", 2**70)))} for event in found]


def response_ids_change(found: list[Json], data: st.DataObject) -> list[Json]:
    for number, event in enumerate(found):
        if "response" in event:
            event["response"] = event["response"] | {"id": f"resp_{number}"}
    return found


def beginning_moved(found: list[Json], data: st.DataObject) -> list[Json]:
    """The first two events come later, in any order."""
    if [event["type"] for event in found[:2]] != [*BEGINNING]:
        return found
    created, begun, *rest = found
    first, second = data.draw(st.permutations((created, begun)))
    at = data.draw(st.integers(0, len(rest) - 1))
    then = data.draw(st.integers(at, len(rest) - 1))
    return [*rest[:at], first, *rest[at:then], second, *rest[then:]]


def announced_late(found: list[Json], data: st.DataObject) -> list[Json]:
    """Items and parts are announced behind the first event that speaks of them."""
    moved = list(found)
    for at in range(len(moved) - 2):
        event, following = moved[at], moved[at + 1]
        if event["type"].endswith(".added") and "annotation" not in event["type"] and following["type"] in DELTAS:
            moved[at], moved[at + 1] = following, event
    return moved


def told_twice(found: list[Json], data: st.DataObject) -> list[Json]:
    """Items and states are told twice in a row."""
    twice = (ITEM_ADDED, ITEM_DONE, *BEGINNING, *TEXT_ENDS, *CALL_ENDS)
    return [json.loads(json.dumps(event)) for event in found for _ in range(2 if event["type"] in twice else 1)]


def final_alone(found: list[Json], data: st.DataObject) -> list[Json]:
    return found[-1:]


NAMES: dict[str, Mutation] = {
    "ids rotate": lambda found, data: renamed(found, data, "id", lambda number: f"rotated_{number}"),
    "one id for all": lambda found, data: renamed(found, data, "id", lambda number: "x"),
    "no ids": without_ids,
    "no item ids in events": partial(redacted, "item_id"),
    "call ids rotate": call_ids_rotate,
    "one call id for all": lambda found, data: renamed(found, data, "call_id", lambda number: "x"),
}
INDEXES: dict[str, Mutation] = {"no index": partial(redacted, "output_index"), "one index": one_index}
OTHERS: dict[str, Mutation] = {
    "wrong numbers": numbers_wrong,
    "response ids change": response_ids_change,
    "beginning moved": beginning_moved,
    "no beginning": partial(lacking, BEGINNING),
    "items not announced": partial(lacking, (ITEM_ADDED,)),
    "items not ended": partial(lacking, (ITEM_DONE,)),
    "parts not announced": partial(lacking, PARTS),
    "parts not ended": partial(lacking, PART_ENDS),
    "texts not ended": partial(lacking, (*TEXT_ENDS, *CALL_ENDS)),
    "no deltas": partial(lacking, DELTAS),
    "some lost": lacking_some,
    "tails lost": tails_lost,
    "announced late": announced_late,
    "told twice": told_twice,
    "the end alone": final_alone,
}


MUTATIONS: dict[str, Mutation] = NAMES | INDEXES | OTHERS


def in_any_order(output: list[Json], *, joined: bool) -> list[str]:
    """The items without names. One that was not announced is told later than it began, and so are its parts. *joined*:
    where neither beginning nor end of parts has been told in time, two that follow each other may be one."""
    said = [{name: item[name] for name in item if name not in ("id", "call_id", "status")} for item in output]
    for item in said:
        for name in {"content", "summary"} & item.keys():
            item[name] = as_one(item[name]) if joined else sorted(item[name], key=json.dumps)
    return sorted(json.dumps(item, sort_keys=True) for item in said)


def as_one(parts: list[Json]) -> Json:
    """The characters of all texts of each type, and what belongs to them."""
    found: Json = {}
    for part in parts:
        for name in part.keys() - {"type"}:
            found.setdefault(f"{part['type']}.{name}", []).extend(part[name])
    return {name: sorted(value, key=json.dumps) for name, value in found.items()}


def assert_said(spoiled: list[Json], good: list[Json], *names: str) -> None:
    """The stream *spoiled*, by these mutations, is read as *good*."""
    out = normalized(wire(spoiled))
    late = not {"parts not announced", "announced late"}.isdisjoint(names)
    joined = "some lost" in names or (late and {"parts not ended", "texts not ended"} <= set(names))
    said, expected = (in_any_order(final(found)["output"], joined=joined) for found in (out, good))
    assert said == expected
    calls = [item["call_id"] for item in final(out)["output"] if item["type"] in CLIENT_CALLS]
    assert len(set(calls)) == len(calls)
    assert accepted_by_openai(out) is not None


class NoData:
    """Draws the least of everything."""

    def draw(self, strategy: Any) -> Any:
        return find(strategy, lambda _: True)


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_no_fault_of_one_kind_costs_or_doubles_anything(mutation: str) -> None:
    good = everything()
    spoiled = MUTATIONS[mutation](everything(), NoData())  # type: ignore[arg-type]

    assert_said(spoiled, good, mutation)


INDISTINCT = (
    {"call ids rotate", "told twice"},  # a call that is announced again under another call id is another call
    {
        "no index",
        "some lost",
    },  # an end without an index, under names that nobody has announced, is that of an open item
    {"one index", "some lost"},
)
"""Faults that together could mean either of two things."""


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data(), st.sampled_from([*NAMES, *INDEXES, None]), st.sets(st.sampled_from(sorted(OTHERS)), max_size=4))
def test_no_faults_together_cost_or_double_anything(data: st.DataObject, naming: str | None, others: set[str]) -> None:
    names = [*sorted(others), *([naming] if naming else [])]
    assume(not any(pair <= set(names) for pair in INDISTINCT))
    note(names)
    found = everything()
    for name in names:
        found = MUTATIONS[name](found, data)

    assert_said(found, everything(), *names)


@needs_recordings
@pytest.mark.parametrize("mutation", sorted(MUTATIONS.keys() - {"some lost", "tails lost"}))
def test_recorded_streams_survive_each_of_them(mutation: str) -> None:
    for recorded in STREAMS:
        good = recorded_events(recorded)
        spoiled = MUTATIONS[mutation](recorded_events(recorded), NoData())  # type: ignore[arg-type]
        read = reader()
        out = events(read.feed(wire(spoiled)) + read.close())
        assert accepted_by_openai(out) is not None
        assert [without_seal(item) for item in final(out)["output"]] == [
            without_seal(item) for item in final(good)["output"]
        ]


def without_seal(item: Json) -> Json:
    """One server encrypts the same reasoning anew in its last event."""
    return {name: item[name] for name in item if name not in ("id", "call_id", "status", "encrypted_content")}
