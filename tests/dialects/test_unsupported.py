"""The four classes of what a target cannot carry, and the three settings; docs/providers.md shows the same table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gomodel_asgi.dialects.unsupported import HOSTED_TOOL, JSON_OBJECT, LABELS, TABLE, VERBOSITY, Feature, Unsupported
from gomodel_asgi.errors import InvalidRequest

PAGE = Path(__file__).parents[2] / "docs" / "providers.md"
ROW = re.compile(r"^\| (.+?) \| (without effect|preference|emulation|promise) \| (.+?) \|$", re.MULTILINE)


def test_the_table_in_the_docs_is_the_table_in_the_code() -> None:
    assert ROW.findall(PAGE.read_text()) == [(row.name, row.kind, row.reason) for row in TABLE]


def test_the_rows_stand_class_by_class_and_each_member_in_one_of_them() -> None:
    kinds = [row.kind for row in TABLE]
    members = [name for row in TABLE for name in row.members]

    assert list(dict.fromkeys(kinds)) == ["without effect", "preference", "emulation", "promise"]
    assert kinds == sorted(kinds, key=list(dict.fromkeys(kinds)).index)
    assert len(set(members)) == len(members)
    assert all(f"`{name}" in row.name for row in TABLE for name in row.members)


@pytest.mark.parametrize(
    ("feature", "policy", "refused", "named"),
    [
        (LABELS, "auto", False, False),
        (LABELS, "reject", False, False),
        (LABELS, "drop", False, False),
        (VERBOSITY, "auto", False, True),
        (VERBOSITY, "reject", True, False),
        (VERBOSITY, "drop", False, True),
        (HOSTED_TOOL, "auto", True, False),
        (HOSTED_TOOL, "reject", True, False),
        (HOSTED_TOOL, "drop", False, True),
    ],
)
def test_each_class_is_left_out_or_refused_or_named_by_the_setting(
    feature: Feature, policy: Any, refused: bool, named: bool
) -> None:
    unsupported = Unsupported(policy)
    if refused:
        with pytest.raises(InvalidRequest) as caught:
            unsupported.leave_out(feature, "tools[1].type", "tools of type `x`")
        assert (caught.value.param, caught.value.code) == ("tools[1].type", "unsupported_parameter")
        assert "tools of type `x`" in caught.value.message and feature.way_out in caught.value.message
        return
    unsupported.leave_out(feature, "tools[1].type", "tools of type `x`")
    assert list(unsupported.left_out) == ["tools[1].type"]
    assert list(unsupported.named) == (["tools[1].type"] if named else [])


def test_an_emulation_is_done_or_refused_or_left_out() -> None:
    auto, drop = Unsupported("auto"), Unsupported("drop")

    assert (auto.emulates(JSON_OBJECT, "text.format"), list(auto.left_out)) == (True, [])
    assert (drop.emulates(JSON_OBJECT, "text.format"), list(drop.named)) == (False, ["text.format"])
    with pytest.raises(InvalidRequest):
        Unsupported("reject").emulates(JSON_OBJECT, "text.format")


def test_reading_again_what_has_been_translated_refuses_nothing() -> None:
    Unsupported("auto", refuses=False).leave_out(HOSTED_TOOL, "tools[0].type")


def test_what_is_left_out_twice_is_listed_once() -> None:
    unsupported = Unsupported("auto")
    unsupported.leave_out(VERBOSITY, "a")
    unsupported.leave_out(LABELS, "a")

    assert (list(unsupported.left_out), list(unsupported.named)) == (["a"], ["a"])
