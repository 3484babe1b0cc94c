"""The body of a request, opened no further than routing needs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from gomodel_asgi.envelope import Envelope, check_depth, span
from gomodel_asgi.errors import InvalidRequest


def sent(body: bytes, **options: Any) -> bytes:
    given = {"model": None, "params": None, "keep_preferences": False, **options}
    return Envelope.parse(body).render(**given)


def test_values_keep_their_bytes() -> None:
    body = rb'{"a":1.50,"b":[1e2 , 1E+2],"c":"\u00e9\/\n","d":{"z":1, "a":2},"e":null,"f":9007199254740993}'

    assert sent(body) == body


def test_the_hint_is_taken_out_and_a_null_one_too() -> None:
    assert sent(b'{"provider":"x","a":1}') == b'{"a":1}'
    assert sent(b'{"provider":null,"a":1}') == b'{"a":1}'
    assert Envelope.parse(b'{"provider":" x "}').hint == "x"
    assert Envelope.parse(b'{"provider":""}').hint is None


def test_an_object_valued_provider_is_no_hint_and_is_kept_only_where_it_is_understood() -> None:
    body = b'{"provider":{"only":["x"]},"a":1}'

    assert Envelope.parse(body).hint is None
    assert sent(body) == b'{"a":1}'
    assert sent(body, keep_preferences=True) == body


def test_a_targets_model_and_params_are_put_over_the_clients() -> None:
    body = b'{"model":"a","x":1,"y":2}'

    assert sent(body, model="a") == body
    assert sent(body, model="b", params={"x": None, "z": {"k": 1}}) == b'{"model":"b","y":2,"z":{"k":1}}'
    assert sent(b'{"x":1}', model="b") == b'{"x":1,"model":"b"}'


def test_the_parsed_body_cannot_be_changed_and_has_no_hint() -> None:
    body = Envelope.parse(b'{"provider":"x","model":"a/b"}').body

    assert dict(body) == {"model": "a/b"}
    with pytest.raises(TypeError):
        body["model"] = "c"  # type: ignore[index]


@pytest.mark.parametrize(("depth", "limit", "fits"), [(1, 1, True), (2, 1, False), (128, 128, True), (129, 128, False)])
def test_depth_is_counted_in_levels(depth: int, limit: int, fits: bool) -> None:
    data = b'{"x":' * depth + b"1" + b"}" * depth
    if fits:
        return check_depth(data, limit)
    with pytest.raises(InvalidRequest, match="nested"):
        check_depth(data, limit)


def test_brackets_inside_strings_are_no_depth() -> None:
    check_depth(b'{"x":"[[[[[{{{{\\"[[["}', 1)


@pytest.mark.parametrize(
    ("data", "name", "value"),
    [
        (b'{"a":1,"b":{"a":2}}', "b", b'{"a":2}'),
        (b' { "a" : "x" , "b" : [1, 2] } ', "b", b"[1, 2]"),
        (rb'{"\u0061":5}', "a", b"5"),
        (b'{"a":1}', "b", None),
        (b'{"a":1,"a":2}', "a", None),
        (b"[]", "a", None),
        (b"{", "a", None),
    ],
)
def test_the_place_of_a_member_is_found_or_none_is_given(data: bytes, name: str, value: bytes | None) -> None:
    place = span(data, name)

    assert (None if place is None else data[place[0] : place[1]]) == value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=6).filter(lambda k: k not in ("model", "provider", "stream")), json_values))
def test_any_object_is_sent_as_it_came(members: dict[str, Any]) -> None:
    assert json.loads(sent(json.dumps(members).encode())) == members


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_an_object_or_an_invalid_request(data: bytes) -> None:
    try:
        envelope = Envelope.parse(data)
    except InvalidRequest as error:
        assert error.status == 400
    else:
        assert isinstance(json.loads(data.removeprefix(b"\xef\xbb\xbf")), dict)
        assert envelope.raw in data
