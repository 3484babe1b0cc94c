"""The body of a request, opened no further than routing needs."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from msgspec import Raw

from gomodel_asgi import Limits
from gomodel_asgi.errors import InvalidRequest
from gomodel_asgi.wire.json_body import Envelope, opening, span
from gomodel_asgi.wire.json_scan import run


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
def test_a_body_is_parsed_up_to_a_depth(depth: int, limit: int, fits: bool) -> None:
    data = b'{"x":' * depth + b"1" + b"}" * depth
    for size in (0, 2_000_000):  # of the larger one the depth is known before anybody asks
        envelope = Envelope.parse(data[:-1] + b',"y":"%b"}' % (b"y" * size), Limits(depth=limit))
        if fits:
            assert "x" in envelope.body
            continue
        with pytest.raises(InvalidRequest, match="nested"):
            envelope.body  # noqa: B018
        with pytest.raises(InvalidRequest, match="nested"):
            envelope.values(["x"])


def test_brackets_inside_strings_are_no_depth() -> None:
    assert Envelope.parse(b'{"x":"[[[[[{{{{\\"[[["}', Limits(depth=1)).body == {"x": '[[[[[{{{{"[[['}


def test_a_body_with_other_members_is_as_deep_as_they_are() -> None:
    envelope = Envelope.parse(b'{"x":[[1]],"y":"%b"}' % (b"y" * 2_000_000), Limits(depth=3))
    assert envelope.with_members({**envelope.members, "z": Raw(b"1")}).deep is False
    deeper = envelope.with_members({**envelope.members, "z": Raw(b"[[[1]]]")})
    with pytest.raises(InvalidRequest, match="nested"):
        deeper.body  # noqa: B018


# What a body may hold...


@pytest.mark.parametrize("name", ["input", "items"])
@pytest.mark.parametrize("item", [b"1", b"[]", b'"a,b"', b'{"a":[1,2,3],"b":"[,"}'])
def test_the_items_of_a_list_are_counted_and_nothing_else_is(name: str, item: bytes) -> None:
    def parse(count: int, size: int = 0) -> Envelope:
        rest = b"[%b]" % b",".join([b"1"] * 50)
        items = b",".join([item] * count)
        body = b'{"x":%b,"%b":[%b],"y":{"input":%b},"z":"%b"}' % (rest, name.encode(), items, rest, b"z" * size)
        return Envelope.parse(body, Limits(items=20))

    for size in (0, 2_000_000, 10_000_000):
        parse(20, size)
        with pytest.raises(InvalidRequest) as refused:
            parse(21, size)
        assert (refused.value.status, refused.value.code, refused.value.param) == (400, "too_many_items", name)


def test_an_input_that_is_no_list_has_no_items() -> None:
    text = b",".join([b"x"] * 100)
    for value in (b'"%b"' % text, b'{"a":[%b]}' % b",".join([b"1"] * 100)):
        Envelope.parse(b'{"input":%b}' % value, Limits(items=20))


@pytest.mark.parametrize("size", [0, 2_000_000, 10_000_000])
def test_values_and_members_are_counted_before_they_are_read(size: int) -> None:
    def parse(values: int, members: int = 3) -> Envelope:
        more = b"".join(b',"%d":0' % number for number in range(members - 2))
        ones = b",".join([b"1"] * (values - members))
        return Envelope.parse(b'{"x":[%b],"y":"%b"%b}' % (ones, b"y" * size, more), Limits(values=1000, items=100))

    parse(1000)
    with pytest.raises(InvalidRequest, match="more than 1000 values") as refused:
        parse(1001)
    assert refused.value.code == "invalid_json"
    parse(500, members=100)
    with pytest.raises(InvalidRequest, match="more than 100 members"):
        parse(500, members=101)


def test_the_limits_are_ten_thousand_items_and_a_million_values() -> None:
    Envelope.parse(b'{"input":[%b]}' % b",".join([b"1"] * 10_000))
    with pytest.raises(InvalidRequest, match="more than 10000 items"):
        Envelope.parse(b'{"input":[%b]}' % b",".join([b"1"] * 10_001))
    Envelope.parse(b'{"x":[%b]}' % b",".join([b"1"] * 999_999))
    with pytest.raises(InvalidRequest, match="more than 1000000 values"):
        Envelope.parse(b'{"x":[%b]}' % b",".join([b"1"] * 1_000_000))


def test_a_member_that_is_read_as_text_has_a_length() -> None:
    for name in ("model", "provider"):
        with pytest.raises(InvalidRequest) as refused:
            Envelope.parse(b'{"%b":"%b"}' % (name.encode(), b"x" * 2_000_000))
        assert (refused.value.status, refused.value.param) == (400, name)
    with pytest.raises(InvalidRequest):
        Envelope.parse(b'{"previous_response_id":"%b"}' % (b"x" * 2_000_000)).text("previous_response_id")


@pytest.mark.parametrize("size", [100_000, 2_000_000, 10_000_000])
def test_a_body_is_opened_within_a_tenth_of_its_size(size: int) -> None:
    for text in (b"plain text, ", rb"\n\" ", "\u00e9\U0001f600".encode()):
        body = b'{"model":"m","input":[{"role":"user","content":"%b"}]}' % (text * (size // len(text)))
        tracemalloc.start()
        try:
            run(opening(body))
            assert tracemalloc.get_traced_memory()[1] < max(len(body) / 10, 32_000)
        finally:
            tracemalloc.stop()


def test_looking_for_a_member_takes_no_memory_for_long_names() -> None:
    body = b'{"%b":1,"provider":"x"}' % (rb"\"a" * 300_000)
    tracemalloc.start()
    try:
        span(body, "provider")
        assert tracemalloc.get_traced_memory()[1] < 2 * len(body)  # the name, decoded
    finally:
        tracemalloc.stop()


def test_a_parsed_body_is_the_same_in_steps_as_in_one() -> None:
    items = [{"role": "user", "content": [{"type": "input_text", "text": "x" * 500}]} for _ in range(4000)]
    body = json.dumps({"model": "m", "input": items, "metadata": {"a": "b"}}).encode()
    envelope = Envelope.parse(body)
    assert sum(1 for _ in envelope.parsing()) >= len(items)
    assert envelope.body == Envelope.parse(body).body == json.loads(body)


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


@pytest.mark.parametrize("value, is_set", [("true", True), ("false", False), ("null", False), ('"true"', False)])
def test_a_flag_is_set_by_true_and_nothing_else(value: str, is_set: bool) -> None:
    assert Envelope.parse(b'{"background": %s}' % value.encode()).flag("background") is is_set
    assert Envelope.parse(b"{}").flag("background") is False
