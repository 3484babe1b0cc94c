"""Stored structs are read by other versions of the code, and after accidents."""

from __future__ import annotations

import logging

import msgspec
import pytest
from hypothesis import given, strategies as st

from gomodel_asgi.history.tenancy import Codec
from gomodel_asgi.stores import Record


class Thing(msgspec.Struct, frozen=True):
    name: str
    body: bytes = b""


class LaterThing(msgspec.Struct, frozen=True):
    """A Thing of a later release, which gave it one more member."""

    name: str
    body: bytes = b""
    colour: str = "none"


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.name == "gomodel_asgi.stores"]


def record(value: bytes) -> Record:
    return Record(value, 1)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.binary())
def test_what_was_encoded_is_decoded(name: str, body: bytes) -> None:
    codec = Codec(Thing)

    assert Thing(name, body) == codec.decode(record(codec.encode(Thing(name, body))))


def test_no_record_is_no_struct() -> None:
    assert Codec(Thing).decode(None) is None


def test_a_member_added_with_a_default_is_read_in_both_directions() -> None:
    old, new = Codec(Thing), Codec(LaterThing)

    assert LaterThing("a") == new.decode(record(old.encode(Thing("a"))))
    assert Thing("a") == old.decode(record(new.encode(LaterThing("a", colour="red"))))


def test_an_older_schema_is_read() -> None:
    value = Codec(Thing, schema=1).encode(Thing("a"))

    assert LaterThing("a") == Codec(LaterThing, schema=2).decode(record(value))


def test_a_newer_schema_reads_as_absent_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    value = Codec(Thing, schema=2).encode(Thing("a"))
    codec = Codec(Thing, schema=1)
    with caplog.at_level(logging.WARNING, "gomodel_asgi.stores"):
        assert codec.decode(record(value)) is None
        assert codec.decode(record(value)) is None

    (line,) = said(caplog)
    assert line.startswith("A stored Thing has the newer schema 2 and reads as absent. ")


@pytest.mark.parametrize(
    "value",
    [b"", b"\x00", b"\x01", b"\x01\xc1", b"\x01\x90", b"\x01\x81\xa4name\x01", b"\x01\x81\xa4name\xa1\xff", b"{}"],
)
def test_a_damaged_record_reads_as_absent_with_a_warning(value: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "gomodel_asgi.stores"):
        assert Codec(Thing, schema=200).decode(record(value)) is None

    (line,) = said(caplog)
    assert line.startswith("A stored Thing is damaged and reads as absent. ")


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a", b"\x82\xa4name\xa1a\xa1x\x91"])
def test_a_record_of_absurd_depth_reads_as_absent(opening: bytes) -> None:
    assert Codec(Thing).decode(record(b"\x01" + opening + b"\x91" * 1_000_000)) is None


@given(st.binary(max_size=200))
def test_no_bytes_make_the_decoder_raise(value: bytes) -> None:
    found = Codec(Thing).decode(record(b"\x01" + value))

    assert found is None or isinstance(found, Thing)


@given(st.integers(0, 1000), st.integers(1, 255))
def test_no_single_damaged_byte_makes_the_decoder_raise(position: int, change: int) -> None:
    codec = Codec(Thing)
    value = bytearray(codec.encode(Thing("name", b"body")))
    value[position % len(value)] ^= change
    found = codec.decode(record(bytes(value)))

    assert found is None or isinstance(found, Thing)
