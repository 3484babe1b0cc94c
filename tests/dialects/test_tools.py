"""Tools are flattened into functions with names that every target takes, and found again by those names."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from openai._models import validate_type
from openai.types.responses import ResponseToolSearchCall

from gomodel_asgi.dialects.members import Choice, read_choice
from gomodel_asgi.dialects.tools import Origin, Tools, flatten_name, read_tools
from gomodel_asgi.dialects.unsupported import Unsupported
from gomodel_asgi.errors import InvalidRequest
from gomodel_asgi.wire.event_writer import Emitter

Json = dict[str, Any]
F = {"type": "function", "name": "f", "description": "F", "parameters": {"type": "object"}, "strict": True}
G = {"type": "function", "name": "g"}
PATCH = {"type": "custom", "name": "patch"}
CRM = {"type": "namespace", "name": "crm", "description": "Customers.", "tools": [{"type": "function", "name": "find"}]}
SEARCH = {"type": "web_search"}
FINDER = {"type": "tool_search", "execution": "client", "description": "Finds.", "parameters": {"type": "object"}}


def tools(*given: Json, hosted: tuple[str, ...] = (), policy: Any = "reject", more: Any = ()) -> Tools:
    return read_tools({"tools": list(given)}, Unsupported(policy), hosted=hosted, more=more)


def test_a_function_is_kept_with_schema_and_strict() -> None:
    (tool,) = tools(F).functions

    assert (tool.name, tool.description, tool.parameters, tool.strict) == ("f", "F", {"type": "object"}, True)
    assert tool.origin == Origin("function", "f")


def test_a_function_without_parameters_takes_an_empty_object() -> None:
    assert tools(G).functions[0].parameters == {"type": "object", "properties": {}}


def test_a_custom_tool_is_a_function_of_one_string_that_tells_its_grammar() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: WORD"}
    (tool,) = tools(PATCH | {"description": "Patches.", "format": grammar}).functions

    assert tool.parameters["required"] == ["input"]
    assert tool.description == "Patches.\n\nThe input must match this lark grammar:\nstart: WORD"
    assert tools(PATCH).restore("patch") == Origin("custom", "patch")


def test_a_namespaced_tool_is_found_again_by_its_flat_name() -> None:
    found = tools(CRM)

    assert found.functions[0].name == found.flat_name("find", "crm") == "crm__find"
    assert found.functions[0].description == "Customers."
    assert found.restore("crm__find") == Origin("function", "find", "crm")


def test_a_name_that_the_model_made_up_is_a_function_as_it_stands() -> None:
    assert tools().restore("made_up") == Origin("function", "made_up")


def test_a_deferred_tool_is_called_with_its_name_as_namespace_and_declared_bare() -> None:
    assert tools(F).flat_name("f", "f") == "f"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.none() | st.text(max_size=40), st.text(min_size=1, max_size=80)), max_size=6, unique=True))
def test_flat_names_are_legal_unique_and_lead_back(names: list[tuple[str | None, str]]) -> None:
    given = [
        {"type": "function", "name": name}
        if space is None
        else {"type": "namespace", "name": space, "tools": [{"type": "function", "name": name}]}
        for space, name in names
    ]
    found = tools(*given)
    flat = [tool.name for tool in found.functions]

    assert len(set(flat)) == len(names)
    for tool, (space, name) in zip(found.functions, names, strict=True):
        assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,63}", tool.name)
        assert found.restore(tool.name) == Origin("function", name, space)
        assert found.flat_name(name, space) == tool.name


@pytest.mark.parametrize("name", ["get.weather", "9lives", "x" * 65, "été", ""])
def test_an_illegal_name_is_changed_the_same_way_each_time(name: str) -> None:
    assert flatten_name(name) == flatten_name(name) != name


def test_names_that_would_collide_are_kept_apart() -> None:
    found = tools({"type": "function", "name": "crm__find"}, CRM, {"type": "custom", "name": "crm__find"})

    assert len({tool.name for tool in found.functions}) == 3


def test_a_tool_that_is_given_twice_counts_once() -> None:
    assert len(tools(F, more=[("input[0].tools[0]", F)]).functions) == 1


def test_hosted_tools_are_kept_by_family_and_others_refused_or_dropped() -> None:
    dated = {"type": "web_search_preview_2025_03_11"}
    (hosted,) = tools(dated, hosted=("web_search",)).hosted
    assert (hosted.family, hosted.type) == ("web_search", "web_search_preview_2025_03_11")

    with pytest.raises(InvalidRequest) as caught:
        tools(F, SEARCH)
    assert caught.value.param == "tools[1].type"
    assert "web_search" in caught.value.message
    assert tools(F, SEARCH, policy="drop").hosted == ()


@pytest.mark.parametrize("target", [(), ("web_search",)])
@pytest.mark.parametrize("access", [False, 0, "no"])
def test_a_search_that_may_not_be_live_is_left_out_at_every_target(target: tuple[str, ...], access: Any) -> None:
    cached = {"type": "web_search", "external_web_access": access}
    unsupported = Unsupported("auto")
    found = read_tools({"tools": [F, cached]}, unsupported, hosted=target)

    assert (len(found.functions), len(found.hosted), set(found.left_out)) == (1, 0, {"web_search"})
    assert list(unsupported.named) == ["tools[1].external_web_access"]
    with pytest.raises(InvalidRequest) as caught:
        tools(cached, hosted=target)
    assert caught.value.param == "tools[0].external_web_access"


@pytest.mark.parametrize("access", [True, None])
def test_a_search_that_may_be_live_is_kept_where_the_target_has_one(access: Any) -> None:
    assert tools({"type": "web_search", "external_web_access": access}, hosted=("web_search",)).hosted


def test_deferred_tools_are_offered_at_once_without_the_search_for_them() -> None:
    find = {"type": "function", "name": "find", "defer_loading": True}
    deferred = F | {"defer_loading": True}, CRM | {"tools": [find]}
    found = tools(*deferred, {"type": "tool_search"}, policy="auto")

    assert [tool.name for tool in found.functions] == ["f", "crm__find"]


def test_a_search_for_tools_that_the_client_runs_is_a_function() -> None:
    found = tools(F, FINDER, policy="auto")
    emitter = Emitter(response_id="resp_1", created_at=7, model="m", echo={})
    call = found.open_call(emitter, "tool_search", "call_1")
    call.arguments('{"queries":')
    call.arguments('["x"]}')
    emitter.complete()

    assert (found.functions[1].description, found.functions[1].parameters) == ("Finds.", {"type": "object"})
    (item,) = emitter.response["output"]
    assert (item["type"], item["execution"], item["call_id"]) == ("tool_search_call", "client", "call_1")
    assert item["arguments"] == {"queries": ["x"]}
    validate_type(type_=ResponseToolSearchCall, value=item)


@pytest.mark.parametrize("text", ['{"queries": ["x', "[]"])
def test_arguments_of_a_search_that_are_no_object_are_kept_as_text(text: str) -> None:
    emitter = Emitter(response_id="resp_1", created_at=7, model="m", echo={})
    tools(FINDER, policy="auto").open_call(emitter, "tool_search").arguments(text)
    emitter.incomplete("max_output_tokens")

    assert emitter.response["output"][0]["arguments"] == {"raw_arguments": text}


@pytest.mark.parametrize("policy", ["reject", "drop"])
def test_a_search_for_tools_is_an_emulation(policy: str) -> None:
    if policy == "reject":
        with pytest.raises(InvalidRequest) as caught:
            tools(F, FINDER)
        assert caught.value.param == "tools[1].type"
    else:
        assert len(tools(F, FINDER, policy="drop").functions) == 1


def test_programs_that_call_tools_are_left_out_since_the_tools_can_be_called_without() -> None:
    assert tools(F, {"type": "programmatic_tool_calling"}, policy="auto").left_out == {"programmatic_tool_calling"}


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ("x", "tools"),
        (["x"], "tools[0]"),
        ([{}], "tools[0].type"),
        ([{"type": "function"}], "tools[0].name"),
        ([F | {"parameters": []}], None),
        ([F | {"parameters": "x"}], "tools[0].parameters"),
        ([F | {"strict": "x"}], "tools[0].strict"),
        ([F | {"description": 7}], "tools[0].description"),
        ([PATCH | {"format": "x"}], "tools[0].format"),
        ([PATCH | {"format": {"type": "grammar"}}], "tools[0].format.syntax"),
        ([CRM | {"name": None}], "tools[0].name"),
        ([CRM | {"tools": None}], "tools[0].tools"),
        ([CRM | {"tools": [SEARCH]}], "tools[0].tools[0].type"),
        ([CRM | {"tools": [{"type": "function"}]}], "tools[0].tools[0].name"),
    ],
)
def test_malformed_tools_are_named_by_their_path(given: Any, param: str | None) -> None:
    if param is None:
        assert read_tools({"tools": given}, Unsupported("reject")).functions
        return
    with pytest.raises(InvalidRequest) as caught:
        read_tools({"tools": given}, Unsupported("reject"))
    assert caught.value.param == param


# Calls...


def test_a_call_opens_the_item_of_its_kind_with_the_clients_names() -> None:
    emitter, found = Emitter(response_id="resp_1", created_at=7, model="m", echo={}), tools(F, CRM, PATCH)
    for name in ("f", "crm__find", "patch"):
        found.open_call(emitter, name, f"call_{name}").close()
    emitter.complete()

    output = emitter.response["output"]
    assert [item["type"] for item in output] == ["function_call", "function_call", "custom_tool_call"]
    assert [(item["name"], item.get("namespace")) for item in output] == [("f", None), ("find", "crm"), ("patch", None)]
    assert output[0]["call_id"] == "call_f"


@pytest.mark.parametrize("missing", [None, ""])
def test_a_missing_call_id_is_made_and_is_its_own(missing: str | None) -> None:
    emitter = Emitter(response_id="resp_1", created_at=7, model="m", echo={})
    ids = [tools(F).open_call(emitter, "f", missing).value["call_id"] for _ in range(3)]

    assert len(set(ids)) == 3 and all(ids)


# The choice...


def choose(value: Any, *given: Json, hosted: tuple[str, ...] = (), policy: Any = "reject") -> Choice:
    found = read_tools({"tools": list(given)}, Unsupported(policy), hosted=hosted)
    return read_choice({"tool_choice": value}, found)


def test_no_choice_is_auto_and_not_given() -> None:
    assert choose(None, F) == Choice("auto", None, False)


@pytest.mark.parametrize("mode", ["auto", "none", "required"])
def test_modes(mode: Any) -> None:
    assert choose(mode, F) == Choice(mode, None, True)


@pytest.mark.parametrize(
    ("value", "forced"),
    [
        ({"type": "function", "name": "f"}, "f"),
        ({"type": "custom", "name": "patch"}, "patch"),
        ({"type": "function", "name": "find", "namespace": "crm"}, "crm__find"),
        ({"type": "function", "name": "find"}, "crm__find"),
        ({"type": "web_search_preview"}, "web_search"),
    ],
)
def test_one_named_tool_is_required(value: Json, forced: str) -> None:
    found = choose(value, F, PATCH, CRM, SEARCH, hosted=("web_search",))

    assert (found.mode, found.forced) == ("required", forced)


def test_an_allowed_list_is_a_hard_constraint() -> None:
    value = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}, SEARCH]}
    found = choose(value, F, G, SEARCH, hosted=("web_search",))
    declared = tools(F, G, SEARCH, hosted=("web_search",))

    assert (found.mode, found.allowed) == ("auto", ("f", "web_search"))
    assert [found.permits(tool) for tool in declared.functions] == [True, False]
    assert found.permits(declared.hosted[0])


def test_a_forced_tool_leaves_the_others_in_the_request_and_a_list_of_allowed_ones_does_not() -> None:
    forced, listed = {"type": "function", "name": "f"}, [{"type": "function", "name": "f"}]
    declared = tools(F, G, SEARCH, hosted=("web_search",))

    def shown(value: Json) -> list[bool]:
        found = choose(value, F, G, SEARCH, hosted=("web_search",))
        return [*map(found.shows, declared.functions), *map(found.shows, declared.hosted)]

    assert shown(forced) == [True, True, True]
    assert shown({"type": "allowed_tools", "mode": "required", "tools": listed}) == [True, True, True]
    assert shown({"type": "allowed_tools", "mode": "auto", "tools": listed}) == [True, False, False]


def test_a_choice_of_a_search_that_was_left_out_is_loosened() -> None:
    cached = {"type": "web_search", "external_web_access": False}

    assert choose(SEARCH, F, cached, policy="auto") == Choice("auto", None, True)
    assert choose("required", cached, policy="auto").mode == "auto"
    assert choose({"type": "tool_search"}, F, {"type": "tool_search"}, policy="auto") == Choice("auto", None, True)
    assert choose({"type": "tool_search"}, F, FINDER, policy="auto").forced == "tool_search"


def test_a_choice_of_a_dropped_tool_is_loosened_and_an_emptied_list_forbids_tools() -> None:
    emptied = {"type": "allowed_tools", "mode": "required", "tools": [SEARCH]}

    assert choose(SEARCH, F, SEARCH, policy="drop") == Choice("auto", None, True)
    assert choose(emptied, F, SEARCH, policy="drop").mode == "none"
    assert choose("required", SEARCH, policy="drop").mode == "auto"


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ("always", "tool_choice"),
        (7, "tool_choice"),
        ({}, "tool_choice.type"),
        ({"type": "function"}, "tool_choice.name"),
        ({"type": "function", "name": "nope"}, "tool_choice.name"),
        ({"type": "custom", "name": "f"}, "tool_choice.name"),
        ({"type": "function", "name": "f", "namespace": "crm"}, "tool_choice.name"),
        ({"type": "web_search"}, "tool_choice.type"),
        ({"type": "allowed_tools", "tools": []}, "tool_choice.mode"),
        ({"type": "allowed_tools", "mode": "auto"}, "tool_choice.tools"),
        ({"type": "allowed_tools", "mode": "auto", "tools": [7]}, "tool_choice.tools[0]"),
        ({"type": "allowed_tools", "mode": "auto", "tools": [SEARCH]}, "tool_choice.tools[0].type"),
    ],
)
def test_malformed_choices_are_named_by_their_path(value: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        choose(value, F)

    assert caught.value.param == param
