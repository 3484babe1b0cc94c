"""Limits, repetitions and sizes: values in, values out."""

from __future__ import annotations

import pytest

from gomodel_asgi import Limits
from gomodel_asgi.emulation.tools.call_limits import DOWN, EMPTY, REPEATED, CallLimits, cut
from gomodel_asgi.emulation.tools.declarations import Filter, read_declarations
from gomodel_asgi.emulation.tools.families import FAMILY, normal_schema
from gomodel_asgi.emulation.tools.plan import relaxed
from gomodel_asgi.emulation.tools.seams import Listed, Shown, plain
from gomodel_asgi.errors import InvalidRequest
from gomodel_asgi.wire.response import credentials_of, scrubbed

WEB = Shown("web_search", FAMILY["web_search"], "tools[0]", {})
CRM = Shown("lookup", FAMILY["mcp"], "tools[1]", {}, "crm", Listed("lookup", {}))


def test_as_many_calls_are_taken_as_the_client_allows() -> None:
    call_limits = CallLimits(Limits(), most=2)
    assert [call_limits.take() for _ in range(4)] == [True, True, False, False] and call_limits.spent
    assert not CallLimits(Limits()).spent


def test_the_fourth_identical_call_is_refused_and_another_is_not() -> None:
    call_limits = CallLimits(Limits())
    assert [call_limits.refusal(WEB, "{}") for _ in range(4)] == [None, None, None, REPEATED]
    assert call_limits.refusal(WEB, '{"query": "x"}') is None


def test_a_server_is_down_after_three_failures_in_a_row() -> None:
    call_limits = CallLimits(Limits())
    for failed in (True, True, False, True, True):
        call_limits.ended(CRM, failed=failed)
    assert call_limits.refusal(CRM, "1") is None
    call_limits.ended(CRM, failed=True)
    assert call_limits.refusal(CRM, "2") == DOWN and call_limits.refusal(WEB, "2") is None


@pytest.mark.parametrize("text", ["a" * 5000, "ä" * 5000, "𝄞" * 2000, "\ud800" * 3000])
def test_a_long_text_keeps_its_head_and_its_tail(text: str) -> None:
    found = cut(text, 1000)
    assert len(found.encode("utf-8", "surrogatepass")) < 1100 and "were left out" in found
    assert found[0] == found[-1] and found[0] in (text[0], "?")  # half a surrogate pair is no character
    assert cut(text[:100], 1000) == text[:100]


def test_what_is_read_of_all_is_bounded_too() -> None:
    call_limits = CallLimits(Limits(tool_result=100, tool_bytes=150))
    assert call_limits.fit("a" * 100) == "a" * 100
    assert len(call_limits.fit("b" * 100)) < 120
    assert call_limits.fit("c") == EMPTY


@pytest.mark.parametrize(
    ("choice", "later"),
    [
        (None, None),
        ("auto", "auto"),
        ("none", "none"),
        ("required", "auto"),
        ({"type": "function", "name": "x"}, "auto"),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": []},
            {"type": "allowed_tools", "mode": "auto", "tools": []},
        ),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [1]},
            {"type": "allowed_tools", "mode": "auto", "tools": [1]},
        ),
    ],
)
def test_what_forced_a_call_is_free_behind_it(choice: object, later: object) -> None:
    assert relaxed(choice) == later


def test_both_parts_of_a_filter_must_hold() -> None:
    reads = Listed("a", {}, read_only=True)
    assert Filter(frozenset({"a"}), True).admits(reads)
    assert not Filter(frozenset({"b"}), True).admits(reads)
    assert not Filter(frozenset({"a"}), False).admits(reads)
    assert Filter().admits(reads) and not Filter(frozenset()).admits(reads)


@pytest.mark.parametrize(
    ("tool", "path"),
    [
        ({"type": "mcp"}, "tools[0]"),
        ({"type": "mcp", "server_label": 1}, "tools[0].server_label"),
        ({"type": "mcp", "server_label": "a", "server_url": 1}, "tools[0].server_url"),
        ({"type": "mcp", "server_label": "a", "headers": []}, "tools[0].headers"),
        ({}, "tools[0].type"),
    ],
)
def test_a_declaration_that_is_malformed_is_refused_by_its_path(tool: dict[str, object], path: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_declarations([tool])
    assert (refused.value.param or "").startswith(path)


def test_dated_and_preview_types_are_of_their_family() -> None:
    types = ["web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11"]
    assert {one.family for one in read_declarations([{"type": type} for type in types])} == {"web_search"}


def test_a_schema_is_made_that_of_an_object() -> None:
    empty = {"type": "object", "properties": {}}
    assert normal_schema(None) == normal_schema({"$schema": "x"}) == normal_schema({"type": "array"}) == empty


def test_what_a_server_says_is_cut_and_has_no_invisible_characters() -> None:
    assert plain("a\u200b\x00b\n") == "ab\n" and len(plain("x" * 10_000)) == 4096


def test_a_declaration_is_shown_without_its_credentials() -> None:
    policy = {"type": "allowlist", "domain_secrets": [{"domain": "d", "name": "n", "value": "secret"}]}
    code = {"type": "code_interpreter", "container": {"type": "auto", "network_policy": policy}}
    assert scrubbed(code)["container"]["network_policy"] == {"type": "allowlist"}
    assert credentials_of(code) == ("secret",)
    mcp = {"type": "mcp", "server_label": "a", "server_url": "https://[::1]:8/p?q", "authorization": "x"}
    assert scrubbed(mcp) == {"type": "mcp", "server_label": "a", "server_url": "https://[::1]:8"}
    assert scrubbed(mcp, {"a"})["server_url"] == "https://[::1]:8/p"
    assert scrubbed({**mcp, "server_url": "nonsense"})["server_url"] is None
    assert mcp["authorization"] == "x"  # the client's own is not touched
