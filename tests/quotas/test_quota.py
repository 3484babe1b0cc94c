"""What a host may say with a `Quota`, and what is refused when it is made."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from gomodel_asgi.quotas import Quota

BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "counts nothing": ({}, ValueError, "counts nothing"),
    "unknown period": ({"requests": 1, "per": "year"}, ValueError, "per"),
    "negative requests": ({"requests": -1}, ValueError, "requests"),
    "negative tokens": ({"tokens": -1}, ValueError, "tokens"),
    "negative money": ({"money": "-0.01"}, ValueError, "money"),
    "requests in halves": ({"requests": 1.5}, TypeError, "requests"),
    "tokens by a switch": ({"tokens": True}, TypeError, "tokens"),
    "money as a float": ({"money": 0.1}, TypeError, "money"),
    "money by a switch": ({"money": True}, TypeError, "money"),
    "money as a word": ({"money": "plenty"}, ValueError, "money"),
    "money without end": ({"money": Decimal("Infinity")}, ValueError, "money"),
    "no number of money": ({"money": "NaN"}, ValueError, "money"),
    "more than can be counted": ({"tokens": 2**53}, ValueError, "tokens"),
    "money of a million digits": ({"money": "1e999999"}, ValueError, "money"),
    "more money than can be counted": ({"money": 2**53}, ValueError, "money"),
    "a name that no header holds": ({"requests": 1, "name": 'a"b'}, ValueError, "name"),
    "no name": ({"requests": 1, "name": ""}, ValueError, "name"),
    "a key that is another text in each process": ({"requests": 1, "key": object()}, TypeError, "key"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_quota_that_cannot_be_counted_is_refused_with_the_name_of_its_argument(case: str) -> None:
    given, kind, word = BAD[case]
    with pytest.raises(kind, match=re.escape(word)):
        Quota(given.pop("name", "month"), **{"per": "month", **given})


def test_money_may_be_written_in_three_ways_and_is_counted_exactly() -> None:
    for money in ("0.000001", Decimal("0.000001"), "1e-6"):
        assert list(Quota("month", per="month", money=money).limits()) == [("money", 1)]
    assert list(Quota("month", per="month", money=50).limits()) == [("money", 50_000_000)]


def test_a_quota_of_nothing_is_a_quota() -> None:
    assert list(Quota("none", per="day", requests=0, money=0).limits()) == [("requests", 0), ("money", 0)]


def test_a_key_is_text_whatever_the_host_names_its_users_by() -> None:
    given = [7, UUID(int=7), "7"]
    assert [Quota("q", per="day", requests=1, key=key).key for key in given] == ["7", str(UUID(int=7)), "7"]
