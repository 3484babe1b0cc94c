"""Citations, found in text that comes in pieces cut anywhere."""

from __future__ import annotations

from typing import Any

import pytest

from gomodel_asgi import tools
from gomodel_asgi.emulation.tools.citations import Citer, Found, same_address

ROME = tools.Page("https://example.com/rome", "Rome", "")
WIKI = tools.Page("https://en.example.org/wiki/Rome_(city)", "Wiki", "")


def found(**more: Any) -> Found:
    made = Found()
    passages = [tools.Passage("file_1", "a.txt", "A"), tools.Passage("file_2", "b.txt", "B")]
    made.add([ROME, WIKI], passages, [("cntr_1", "cfile_1", "plot.csv")])
    return made


def cited(text: str, size: int) -> tuple[str, list[dict[str, Any]]]:
    """What becomes of *text* in pieces of *size* characters: the text, and the annotations."""
    citer = Citer(found())
    told: list[Any] = []
    for at in range(0, len(text), size):
        told += citer.feed(text[at : at + size])
    told += citer.rest()
    return "".join(one for one in told if isinstance(one, str)), [one for one in told if isinstance(one, dict)]


SIZES = [1, 2, 3, 7, 1000]


@pytest.mark.parametrize("size", SIZES)
def test_a_link_to_a_source_is_cited_over_all_of_it_however_it_is_cut(size: int) -> None:
    text, (one, two) = cited(
        "So ([Rome](https://example.com/rome/?utm_source=x#y)), and [W](https://en.example.org/wiki/Rome_(city)).", size
    )
    assert text[one["start_index"] : one["end_index"]] == "([Rome](https://example.com/rome/?utm_source=x#y))"
    assert (one["url"], one["title"], one["type"]) == ("https://example.com/rome", "Rome", "url_citation")
    assert text[two["start_index"] : two["end_index"]] == "[W](https://en.example.org/wiki/Rome_(city))"


@pytest.mark.parametrize("size", SIZES)
def test_a_link_to_anything_else_is_not_cited(size: int) -> None:
    text = "[x](https://elsewhere.example/rome) and [y](http://example.com/rome2) and [z](javascript:alert(1))"
    assert cited(text, size) == (text, [])


@pytest.mark.parametrize("size", SIZES)
def test_the_mark_of_a_passage_is_taken_out_and_cited_where_it_stood(size: int) -> None:
    text, (one, two) = cited("A【1†a.txt】【2†b.txt】.", size)
    assert text == "A." and (one["index"], one["file_id"]) == (1, "file_1") and two["index"] == 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", ["【9†c.txt】", "【", "【1†" + "x" * 300, "【no mark】 at all", "a【1"])
def test_what_is_no_mark_of_a_passage_stays_in_the_text(text: str, size: int) -> None:
    assert cited(text, size) == (text, [])


@pytest.mark.parametrize("size", SIZES)
def test_a_file_of_the_sandbox_is_cited_over_its_address_alone(size: int) -> None:
    text, (one,) = cited("Get [it](sandbox:/mnt/data/plot.csv) or [no](sandbox:/mnt/data/other).", size)
    assert text[one["start_index"] : one["end_index"]] == "sandbox:/mnt/data/plot.csv"
    assert one == {
        "type": "container_file_citation", "container_id": "cntr_1", "file_id": "cfile_1", "filename": "plot.csv",
        "start_index": 9, "end_index": 35,
    }  # fmt: skip


def test_a_text_without_end_is_not_kept() -> None:
    citer = Citer(found())
    for _ in range(2000):
        assert "".join(one for one in citer.feed("[" * 10) if isinstance(one, str)) == "[" * 10
    assert len(citer.tail) < 3000 and not citer.held


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://a.example/x/", "https://A.example/x"),
        ("https://a.example/x?utm_source=b&c=1", "https://a.example/x?c=1#d"),
        ("https://a.example", "https://a.example/"),
    ],
)
def test_addresses_of_one_page_are_the_same(one: str, other: str) -> None:
    assert same_address(one) == same_address(other)


def test_addresses_of_two_pages_are_not() -> None:
    assert same_address("https://a.example/x?c=1") != same_address("https://a.example/x?c=2")
    assert same_address("http://[") == "http://["
