"""Compaction items: sealed for one tenant, and nothing to anybody else."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, strategies as st

from gomodel_asgi.emulation.compaction import Compactor
from gomodel_asgi.errors import InvalidRequest
from gomodel_asgi.history.compaction_item import MARK, opened, sealed
from gomodel_asgi.history.records import Records
from gomodel_asgi.stores import MemoryStore, NoStore

KEYS = bytes(range(64))


@given(st.text())
def test_what_is_sealed_opens_again(text: str) -> None:
    assert opened(KEYS, sealed(KEYS, text)) == text


@given(st.binary(max_size=200))
def test_what_was_not_sealed_does_not_open(rubbish: bytes) -> None:
    assert opened(KEYS, MARK + base64.urlsafe_b64encode(rubbish).decode()) is None
    assert opened(KEYS, MARK + rubbish.decode("latin-1")) is None


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_any_change_is_noticed(place: int, change: int) -> None:
    packed = bytearray(base64.urlsafe_b64decode(sealed(KEYS, "The word is heron.")[len(MARK) :]))
    packed[place % len(packed)] ^= change

    assert opened(KEYS, MARK + base64.urlsafe_b64encode(packed).decode()) is None


def test_two_items_of_the_same_text_differ_and_show_nothing_of_it() -> None:
    first, second = sealed(KEYS, "heron" * 20), sealed(KEYS, "heron" * 20)

    assert first != second
    assert b"heron" not in base64.urlsafe_b64decode(first[len(MARK) :])


def test_the_item_of_another_tenant_is_a_damaged_one() -> None:
    compactor = Compactor(Records(MemoryStore()))
    item = {"type": "compaction", "encrypted_content": sealed(compactor._keys("acme"), '[{"said": "heron"}]')}

    assert "heron" in str(compactor.expand("acme", item))
    for stranger in ("other", None, "None", ""):
        with pytest.raises(InvalidRequest) as refused:
            compactor.expand(stranger, item)
        assert refused.value.code == "invalid_encrypted_content"


def test_without_a_store_the_key_is_this_process_own() -> None:
    first, second = Compactor(Records(NoStore())), Compactor(Records(NoStore()))

    assert first._keys(None) != second._keys(None)


def test_compactions_of_others_are_left_alone() -> None:
    item = {"type": "compaction", "encrypted_content": "gAAAA"}

    assert Compactor(Records(MemoryStore())).expand("acme", item) == [item]
