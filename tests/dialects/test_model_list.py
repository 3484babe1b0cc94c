"""How each API lists its models, page by page."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies

from gomodel_asgi.dialects.model_list import LONGEST_NAME, ListedModel, Page, form_of

WRONG_TIMES: list[Any] = [-1, "soon", None, 1e300, []]
BOTH = ["generateContent", "countTokens"]


@pytest.mark.parametrize("dialect", ["responses", "chat", "somebodys-own"])
@pytest.mark.parametrize(
    "value, models",
    [
        ({"object": "list", "data": [{"id": "b", "created": 7}, {"id": "a"}]}, [("b", 7), ("a", 0)]),
        ([{"id": "a", "created": 1.5}], [("a", 1)]),
        ({"models": [{"name": "models/a"}]}, [("a", 0)]),
        ({"data": []}, []),
        ({"data": [None, 3, "x", {}, {"id": 3}, {"id": ""}, {"id": "a\nb"}, {"id": "x" * (LONGEST_NAME + 1)}]}, []),
        ({"data": [{"id": "a", "created": wrong} for wrong in WRONG_TIMES]}, [("a", 0)] * 5),
    ],
)
def test_a_list_of_openais_form_is_one_page_of_what_can_be_a_name(dialect: str, value: Any, models: Any) -> None:
    assert form_of(dialect).query == ""
    assert form_of(dialect).read(value) == Page(tuple(ListedModel(*model) for model in models))


def test_anthropics_list_goes_on_behind_the_last_id_and_dates_are_unix_time() -> None:
    form = form_of("anthropic")
    entry = {"type": "model", "id": "claude-x", "created_at": "2026-02-28T00:00:00Z"}
    more = form.read({"data": [entry], "has_more": True, "last_id": "claude-x&limit=1"})

    assert form.query == "limit=1000"
    assert more == Page((ListedModel("claude-x", 1772236800),), "limit=1000&after_id=claude-x%26limit%3D1")
    assert form.read({"data": [], "has_more": False, "last_id": "claude-x"}) == Page(())


def test_geminis_list_holds_what_generates_content_and_goes_on_by_a_token() -> None:
    form = form_of("gemini")
    entries = [
        {"name": "models/gemini-x", "supportedGenerationMethods": BOTH},
        {"name": "models/embedding-x", "supportedGenerationMethods": ["embedContent"]},
        {"name": "models/of-no-method"},
        {"name": "tunedModels/mine", "supportedGenerationMethods": BOTH},
    ]
    page = form.read({"models": entries, "nextPageToken": "a/b="})

    assert form.query == "pageSize=1000"
    assert page == Page((ListedModel("gemini-x"), ListedModel("tunedModels/mine")), "pageSize=1000&pageToken=a%2Fb%3D")
    assert form.read({}) == Page(())


@pytest.mark.parametrize(
    "dialect, value",
    [
        ("responses", {"data": {}}),
        ("responses", {"error": {}}),
        ("responses", 3),
        ("anthropic", []),
        ("anthropic", {"data": None}),
        ("anthropic", {"data": [], "has_more": True, "last_id": None}),
        ("anthropic", {"data": [], "has_more": True, "last_id": "x" * 2049}),
        ("gemini", []),
        ("gemini", {"models": {}}),
        ("gemini", {"models": [], "nextPageToken": 3}),
    ],
)
def test_what_is_no_list_or_does_not_say_where_it_goes_on_is_refused(dialect: str, value: Any) -> None:
    with pytest.raises(ValueError):
        form_of(dialect).read(value)


JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats() | strategies.text(),
    lambda inner: strategies.lists(inner) | strategies.dictionaries(strategies.sampled_from(
        ["data", "models", "id", "name", "created", "created_at", "has_more", "last_id", "nextPageToken"]
    ), inner),
    max_leaves=20,
)  # fmt: skip


@given(strategies.sampled_from(["responses", "anthropic", "gemini"]), JSON)
def test_whatever_an_upstream_says_is_a_page_or_a_value_error(dialect: str, value: Any) -> None:
    try:
        page = form_of(dialect).read(value)
    except ValueError:
        return
    assert all(model.name and model.name.isprintable() and model.created >= 0 for model in page.models)
    assert page.query is None or page.query.isascii()
