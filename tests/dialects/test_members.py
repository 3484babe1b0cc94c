"""Top-level members that a dialect does not carry: passed over where they change nothing, refused by name elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from gomodel_asgi.dialects.members import carried_members, included, reasoning_of
from gomodel_asgi.dialects.unsupported import Unsupported
from gomodel_asgi.dialects.values import boolean, integer, mapping, number
from gomodel_asgi.errors import InvalidRequest


def carried(body: dict[str, Any], policy: Any = "reject", names: tuple[str, ...] = ("input",)) -> tuple[Any, list[str]]:
    unsupported = Unsupported(policy)
    return carried_members(body, names, unsupported), list(unsupported.left_out)


def test_carried_members_are_given_and_nulls_are_absent() -> None:
    assert carried({"input": "x", "tools": None}) == ({"input": "x"}, [])
    assert carried({"input": None}) == ({}, [])


@pytest.mark.parametrize(
    "name",
    ["store", "previous_response_id", "conversation", "background", "context_management", "model", "stream", "include"],
)
def test_state_and_delivery_are_the_gateways_own_and_never_left_out(name: str) -> None:
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
def test_values_that_ask_for_nothing_are_harmless_and_others_are_refused(name: str, value: Any, other: Any) -> None:
    assert carried({name: value}) == ({}, [])
    with pytest.raises(InvalidRequest) as caught:
        carried({name: other})
    assert (caught.value.param, caught.value.status) == (name, 400)


@pytest.mark.parametrize("name", ["stop", "seed", "prompt", "moderation", "image", "made_up"])
def test_every_other_member_is_refused_by_name_or_dropped(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        carried({name: ["x"]})
    assert caught.value.param == name
    assert name in caught.value.message
    assert carried({name: ["x"]}, "drop") == ({}, [name])


def test_padding_against_eavesdroppers_is_left_out_without_a_word_to_the_client() -> None:
    assert carried({"stream_options": {"include_obfuscation": True}}) == ({}, ["stream_options.include_obfuscation"])
    assert carried({"stream_options": {"include_obfuscation": False}}) == ({}, [])


def include(values: Any, policy: Any, *given: str) -> tuple[set[str], list[str]]:
    unsupported = Unsupported(policy)
    return set(included({"include": values}, given, unsupported)), list(unsupported.named)


def test_an_include_is_what_the_response_holds_anyway_or_what_the_target_gives_or_left_out() -> None:
    values = ["reasoning.encrypted_content", "message.output_text.logprobs", "web_search_call.results"]

    assert include(values, "auto", "message.output_text.logprobs") == (set(values[:2]), ["include[2]"])
    assert include(values[:1], "reject") == (set(values[:1]), [])
    assert include(None, "reject") == (set(), [])
    with pytest.raises(InvalidRequest) as caught:
        include(values, "reject")
    assert caught.value.param == "include[1]"


@pytest.mark.parametrize(("value", "param"), [("all", "include"), ([7], "include[0]")])
def test_an_include_that_is_no_list_of_strings_is_malformed(value: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        include(value, "drop")
    assert caught.value.param == param


def test_a_mode_of_reasoning_is_a_preference() -> None:
    unsupported = Unsupported("auto")

    assert reasoning_of({"reasoning": {"mode": "pro", "effort": "low"}}, unsupported)["effort"] == "low"
    assert list(unsupported.named) == ["reasoning.mode"]


def test_numbers_integers_booleans_and_objects_are_read_as_such() -> None:
    members = {"f": 0.5, "i": 10**400, "whole": 3.0, "b": False, "m": {"x": 1, "y": None}}

    assert (number(members, "f"), number(members, "whole"), number(members, "none")) == (0.5, 3, None)
    assert (integer(members, "i"), integer(members, "whole"), integer(members, "none")) == (10**400, 3, None)
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
