"""Provider-only state is packed for one provider type and recognised by it alone."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from gomodel_asgi.dialects.base import PREFIX, pack_state, unpack_state

PAYLOAD = {"thinking": "hm", "list": [1, {"é": None}]}
values = st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5), st.lists, max_leaves=5)


def packed(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return PREFIX + base64.urlsafe_b64encode(raw).decode()


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=5), values, max_size=4))
def test_what_was_sealed_is_found_again(payload: dict[str, Any]) -> None:
    assert unpack_state(pack_state("deepseek", "m", payload), "deepseek", "m") == payload


def test_another_provider_or_model_finds_nothing() -> None:
    text = pack_state("deepseek", "m", PAYLOAD)

    assert unpack_state(text, "deepseek") == PAYLOAD
    assert unpack_state(text, "anthropic") is None
    assert unpack_state(text, "deepseek", "other") is None


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "gAAAAABqchYizazz",
        PREFIX,
        PREFIX + "%%%",
        PREFIX + "é",
        "see " + pack_state("p", "m", PAYLOAD),
        pack_state("p", "m", PAYLOAD) + " above",
        pack_state("p", "m", PAYLOAD).replace("ey", "e y", 1),
        packed(b"{"),
        packed([]),
        packed({"provider": "p", "model": "m"}),
        packed({"provider": "p", "model": "m", "payload": []}),
        packed(b'{"provider":"p","model":"m","payload":' + b'{"a":' * 100_000),
        pack_state("p", "m", PAYLOAD)[:-3],
    ],
)
def test_foreign_or_damaged_content_is_nothing_and_never_an_error(text: str | None) -> None:
    assert unpack_state(text, "p") is None


def test_the_text_is_fit_for_any_json_string_and_tells_its_format() -> None:
    text = pack_state("p", "m", PAYLOAD)

    assert text.startswith("gm1.")
    assert text.isascii() and "=" not in text
