"""What a policy sees is read-only, and what is sent does not come from it."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import given, strategies as st

from gomodel_asgi import Gateway, Provider, RoutingRequest, Target
from gomodel_asgi.routing.request import Registry
from gomodel_asgi.testing import Answer, FakeProvider
from gomodel_asgi.wire.json_body import Envelope
from gomodel_asgi.wire.read_only import ReadOnlyDict, ReadOnlyList, read_only
from tests.support.driving import ask

Json = dict[str, Any]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
BODY: Json = {
    "model": "m", "stream": False, "metadata": {"k": "v"}, "instructions": "Be brief.",
    "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "The word is heron."}]}],
    "tools": [{"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}, "strict": None}],
}  # fmt: skip

# Every operation of dict and list that changes one: what Python has beside these changes nothing.

DICT: dict[str, Callable[[Any], Any]] = {
    "__init__": lambda it: it.__init__({"x": 1}),
    "__setitem__": lambda it: it.__setitem__("a", 1),
    "__delitem__": lambda it: it.__delitem__("a"),
    "__ior__": lambda it: it.__ior__({"x": 1}),
    "clear": lambda it: it.clear(),
    "pop": lambda it: it.pop("a", None),
    "popitem": lambda it: it.popitem(),
    "setdefault": lambda it: it.setdefault("x", 1),
    "update": lambda it: it.update(x=1),
}
LIST: dict[str, Callable[[Any], Any]] = {
    "__init__": lambda it: it.__init__([1]),
    "__setitem__": lambda it: it.__setitem__(slice(0, 1), [7]),
    "__delitem__": lambda it: it.__delitem__(slice(None)),
    "__iadd__": lambda it: it.__iadd__([1]),
    "__imul__": lambda it: it.__imul__(2),
    "append": lambda it: it.append(1),
    "clear": lambda it: it.clear(),
    "extend": lambda it: it.extend([1]),
    "insert": lambda it: it.insert(0, 1),
    "pop": lambda it: it.pop(),
    "remove": lambda it: it.remove(1),
    "reverse": lambda it: it.reverse(),
    "sort": lambda it: it.sort(key=str),
}
READING = {
    "__class_getitem__", "__contains__", "__eq__", "__ge__", "__getitem__", "__gt__", "__iter__", "__le__", "__len__",
    "__lt__", "__ne__", "__or__", "__repr__", "__reversed__", "__ror__", "__sizeof__", "__add__", "__mul__", "__rmul__",
    "copy", "count", "fromkeys", "get", "index", "items", "keys", "values",
    "__class__", "__delattr__", "__dir__", "__doc__", "__format__", "__getattribute__", "__getstate__", "__hash__",
    "__init_subclass__", "__new__", "__reduce__", "__reduce_ex__", "__setattr__", "__str__", "__subclasshook__",
}  # fmt: skip


def test_every_method_that_python_has_is_known_to_read_or_to_change() -> None:
    assert {*dir(dict)} == {*DICT} | (READING & {*dir(dict)})
    assert {*dir(list)} == {*LIST} | (READING & {*dir(list)})


@pytest.mark.parametrize("method", DICT)
def test_a_dict_refuses_each_change_and_says_what_to_do(method: str) -> None:
    value = read_only({"a": 1, "b": [2]})
    with pytest.raises(TypeError, match=r"Target\(params=…\).*copy.deepcopy\(request.body\)"):
        DICT[method](value)
    assert value == {"a": 1, "b": [2]}


@pytest.mark.parametrize("method", LIST)
def test_a_list_refuses_each_change_and_says_what_to_do(method: str) -> None:
    value = read_only([1, {"b": 2}])
    with pytest.raises(TypeError, match=r"Target\(params=…\).*copy.deepcopy\(request.body\)"):
        LIST[method](value)
    assert value == [1, {"b": 2}]


def test_statements_that_change_are_refused_at_any_depth() -> None:
    body = read_only(BODY)
    for statement in (
        "body['x'] = 1", "del body['model']", "body |= {}", "body['input'] += [1]", "body['input'] *= 2",
        "body['input'][0]['content'][0]['text'] = ''", "del body['input'][:]", "body['input'][0]['content'][:] = []",
        "body['input'][0] |= {'role': 'system'}", "body['input'].sort()", "body.__init__({})",
    ):  # fmt: skip
        with pytest.raises(TypeError, match="read-only"):
            exec(statement, {"body": body})
    assert body == BODY


@given(json_values)
def test_what_is_read_only_reads_as_the_same_value(value: Any) -> None:
    seen = read_only(value)

    assert seen == value and value == seen and type(value)(seen or value) == value if value is not None else True
    assert json.dumps(seen) == json.dumps(value) and repr(seen) == repr(value)
    assert msgspec.json.encode(seen) == msgspec.json.encode(value)
    assert msgspec.msgpack.encode(seen) == msgspec.msgpack.encode(value)
    for copied in (copy.deepcopy(seen), *(pickle.loads(pickle.dumps(seen, at)) for at in range(6))):
        assert copied == value and is_plain(copied)
    assert copy.copy(seen) == value and type(copy.copy(seen)) is type(value)


def is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return type(value) is dict and all(map(is_plain, value.values()))
    return not isinstance(value, list) or (type(value) is list and all(map(is_plain, value)))


def test_patterns_and_pydantic_take_it_as_what_it_is() -> None:
    class Model(pydantic.BaseModel, strict=True, extra="allow"):
        model: str
        input: list[dict[str, Any]]

    body = read_only(BODY)
    match body:
        case {"input": [{"content": [{"text": text}]}]}:
            assert text == "The word is heron."
        case _:
            pytest.fail("no match")
    assert isinstance(body, dict) and isinstance(body["input"], list)
    assert Model.model_validate(body).model_dump() == BODY


def test_copies_by_operators_are_plain() -> None:
    body, items = read_only({"a": 1}), read_only([1])

    for copied in (body | {}, {} | body, body.copy(), dict(body)):
        assert type(copied) is dict
    for listed in (items + [], [] + items, items * 2, items[:], items.copy(), list(items)):
        assert type(listed) is list


# Whatever a policy does...


def reachable(value: Any, seen: dict[int, Any], depth: int = 0) -> Iterator[Any]:
    """All that is to be found from *value* on under public names; not what is the host's own, and not what pydantic
    keeps of a class (`model_config`)."""
    if id(value) in seen or depth > 12 or isinstance(value, str | bytes | int | float | type | None):
        return
    seen[id(value)] = value  # keeps it alive, so that no other gets its id
    yield value
    inner: list[Any] = []
    if isinstance(value, list | tuple | set | frozenset):
        inner += value
    elif hasattr(value, "items") and hasattr(value, "keys"):
        inner += value.values()
    if type(value).__module__.startswith("gomodel_asgi") and not callable(value):
        for name in dir(value):
            if not name.startswith(("_", "model_")) and name not in ("scope", "state", "app", "user"):
                with suppress(Exception):
                    inner.append(getattr(value, name))
    for one in inner:
        if not callable(one):
            yield from reachable(one, seen, depth + 1)


def spoil(value: Any) -> None:
    """Change *value* by whatever its own methods allow."""
    for change in (*DICT.values(), *LIST.values()):
        with suppress(Exception):
            change(value)
    with suppress(Exception):
        for key in [*value]:
            value[key] = "spoiled"
    if type(value).__module__.startswith("gomodel_asgi"):
        for name in dir(value):
            if not name.startswith("__"):
                with suppress(Exception):
                    setattr(value, name, "spoiled")


def spoil_all(request: RoutingRequest) -> None:
    for value in [*reachable(request, {})]:
        spoil(value)


@pytest.fixture
def upstreams() -> Iterator[dict[str, FakeProvider]]:
    with FakeProvider(name="native").run_in_thread() as native:
        with FakeProvider(name="chat", dialect="chat").run_in_thread() as chat:
            yield {"responses": native, "chat": chat}


PARAMS: Json = {"temperature": 0.5, "metadata": {"deep": ["v"]}}
HEADERS, LABELS = {"x-extra": "1"}, {"team": "a"}


async def sent(upstreams: dict[str, FakeProvider], dialect: str, policy: Any, times: int = 2) -> list[tuple[Any, ...]]:
    """What an upstream gets of the same request, sent several times."""
    upstream = upstreams[dialect]
    upstream.clear()
    upstream.script(*[Answer(text="Yes.")] * times)
    providers = [
        Provider("up", upstream.base_url, dialect=dialect, api_key="sk-1", headers={"x-own": "1"}, query={"q": "1"}),  # type: ignore[arg-type]
        Provider("spare", upstream.base_url, dialect=dialect),  # type: ignore[arg-type]
    ]
    async with Gateway(providers=providers, policy=policy, tenant=lambda scope: "acme") as gateway:
        for _ in range(times):
            assert (await ask(gateway, BODY)).status == 200
    return [
        (one.path, one.query, [pair for pair in one.headers if pair[0] != b"host"], one.body)
        for one in upstream.requests
    ]


@pytest.mark.parametrize("dialect", ["responses", "chat"])
@pytest.mark.parametrize("plain", [True, False], ids=["plain", "async"])
async def test_a_policy_that_changes_whatever_it_can_reach_changes_nothing_of_what_is_sent(
    upstreams: dict[str, FakeProvider], dialect: str, plain: bool
) -> None:
    kept: list[Any] = []

    def target() -> Target:
        return Target("up", params=copy.deepcopy(PARAMS), headers={**HEADERS}, labels={**LABELS})

    def spoiling(request: RoutingRequest) -> Target:
        spoil_all(request)
        params, headers = copy.deepcopy(PARAMS), {**HEADERS}
        given = Target("up", params=params, headers=headers, labels={**LABELS})
        params["metadata"]["deep"].append("spoiled")
        params["temperature"], headers["x-extra"] = 2, "spoiled"
        for one in [*reachable(given, {})]:
            spoil(one)
        kept.append({type(value) for value in reachable(request, {})})
        return given

    async def spoiling_on_the_loop(request: RoutingRequest) -> Target:
        return spoiling(request)

    due = await sent(upstreams, dialect, lambda request: target())
    assert await sent(upstreams, dialect, spoiling if plain else spoiling_on_the_loop) == due
    assert all(types >= {ReadOnlyDict, ReadOnlyList, Provider, Envelope, Registry} for types in kept)


@pytest.mark.parametrize("dialect", ["responses", "chat"])
async def test_what_goes_around_the_methods_changes_nothing_of_what_is_sent_either(
    upstreams: dict[str, FakeProvider], dialect: str
) -> None:
    def spoiling(request: RoutingRequest) -> Target:
        dict.update(request.body, input="spoiled")
        list.clear(request.envelope.body["input"])
        request.envelope.members["input"] = msgspec.Raw(b'"spoiled"')
        request.envelope.raw = b"{}"
        msgspec.structs.force_setattr(request, "tenant", "other")
        msgspec.structs.force_setattr(request, "model", "spoiled")
        return Target("up")

    due = await sent(upstreams, dialect, lambda request: Target("up"))
    assert await sent(upstreams, dialect, spoiling) == due


async def test_a_body_is_parsed_only_for_a_policy_that_touches_it(upstreams: dict[str, FakeProvider]) -> None:
    seen: list[RoutingRequest] = []

    def policy(request: RoutingRequest) -> Target:
        seen.append(request)
        return Target("up")

    await sent(upstreams, "responses", policy)
    assert seen[0].envelope.parsed is None
    assert seen[0].body["model"]
    assert seen[0].envelope.parsed is not None


def test_a_payload_cannot_be_assigned_to() -> None:
    from gomodel_asgi.schema import ResponsesRequest

    payload = ResponsesRequest.model_validate(read_only(BODY))
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        payload.model = "x"
    assert payload.model_dump(exclude_unset=True) == BODY


def test_nothing_changes_a_target_or_a_provider_once_it_is_made() -> None:
    params: Json = {"reasoning": {"effort": "low"}}
    target = Target("up", params=params)
    params["reasoning"]["effort"] = "high"

    assert target.params == {"reasoning": {"effort": "low"}}
    with pytest.raises(TypeError):
        target.params["x"] = 1  # type: ignore[index]
    assert msgspec.structs.replace(target, model="m").params == target.params
    provider = Provider("up", "http://127.0.0.1:9/v1", headers={"x": "1"}, query={"q": "1"})
    for held in (provider.headers, provider.query, provider.fixed_headers):
        assert isinstance(held, ReadOnlyDict | ReadOnlyList)
    assert isinstance(read_only({}), ReadOnlyDict) and isinstance(read_only([]), ReadOnlyList)
