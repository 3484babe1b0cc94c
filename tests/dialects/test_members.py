"""Top-level members that a dialect does not carry: passed over where they change nothing, refused by name elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from gomodel_asgi.dialects.losses import Losses
from gomodel_asgi.dialects.members import boolean, carried_members, integer, mapping, number
from gomodel_asgi.errors import InvalidRequest


def carried(body: dict[str, Any], policy: Any = "reject", names: tuple[str, ...] = ("input",)) -> tuple[Any, list[str]]:
    losses = Losses(policy)
    return carried_members(body, names, losses), losses.dropped


def test_carried_members_are_given_and_nulls_are_absent() -> None:
    assert carried({"input": "x", "tools": None}) == ({"input": "x"}, [])
    assert carried({"input": None}) == ({}, [])


@pytest.mark.parametrize(
    "name", ["store", "previous_response_id", "conversation", "background", "model", "stream", "include"]
)
def test_state_and_delivery_are_the_gateways_own_and_no_loss(name: str) -> None:
    assert carried({name: "x"}) == ({}, [])


@pytest.mark.parametrize(
    "name", ["metadata", "user", "safety_identifier", "client_metadata", "prompt_cache_key", "truncation"]
)
def test_members_without_effect_are_left_out_and_told_to_observers(name: str) -> None:
    assert carried({name: "x"}) == ({}, [name])


@pytest.mark.parametrize(
    ("name", "value", "other"),
    [
        ("parallel_tool_calls", True, False),
        ("top_logprobs", 0, 2),
        ("frequency_penalty", 0.0, 0.5),
        ("presence_penalty", 0, 1),
        ("service_tier", "auto", "flex"),
    ],
)
def test_values_that_ask_for_nothing_are_harmless_and_others_a_loss(name: str, value: Any, other: Any) -> None:
    assert carried({name: value}) == ({}, [])
    with pytest.raises(InvalidRequest) as caught:
        carried({name: other})
    assert (caught.value.param, caught.value.status) == (name, 400)


@pytest.mark.parametrize("name", ["stop", "seed", "prompt", "moderation", "context_management", "made_up"])
def test_every_other_member_is_refused_by_name_or_dropped(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        carried({name: ["x"]})
    assert caught.value.param == name
    assert name in caught.value.message
    assert carried({name: ["x"]}, "drop") == ({}, [name])


def test_what_is_dropped_twice_is_listed_once() -> None:
    losses = Losses("drop")
    losses.add("a", "a thing")
    losses.note("a")

    assert losses.dropped == ["a"]


def test_numbers_integers_booleans_and_objects_are_read_as_such() -> None:
    members = {"f": 0.5, "i": 3, "whole": 3.0, "b": False, "m": {"x": 1, "y": None}}

    assert (number(members, "f"), number(members, "i"), number(members, "none")) == (0.5, 3, None)
    assert (integer(members, "i"), integer(members, "whole"), integer(members, "none")) == (3, 3, None)
    assert (boolean(members, "b"), boolean(members, "none")) == (False, None)
    assert (mapping(members, "m"), mapping(members, "none")) == ({"x": 1}, {})


@pytest.mark.parametrize(
    ("read", "value"),
    [(number, "1"), (number, True), (integer, 0.5), (integer, float("inf")), (boolean, 1), (mapping, [])],
)
def test_values_of_another_type_are_refused_by_name(read: Any, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read({"x": value}, "x")
    assert caught.value.param == "x"


def test_an_inner_object_is_named_by_its_whole_path() -> None:
    with pytest.raises(InvalidRequest) as caught:
        mapping({"format": 7}, "format", "text")
    assert caught.value.param == "text.format"
