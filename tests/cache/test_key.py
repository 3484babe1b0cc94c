"""All of a request counts: whatever it says otherwise, it is another request, and what it does not hold itself is
never answered from the cache."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st
from openai.types.responses import response_create_params

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.cache import ResponseCache
from gomodel_asgi.cache.key import ELSEWHERE, FORM_ONLY, REFERRING, message_of
from gomodel_asgi.schema import ResponsesRequest
from gomodel_asgi.testing import FakeProvider

from ..support.driving import ask
from ..support.filling import every, members_of
from ..support.lab import ONCE

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)

TOOL = {"type": "function", "name": "look", "description": "d", "parameters": {"type": "object"}, "strict": True}
FULL: dict[str, Any] = {
    "model": "m",
    "store": False,
    "instructions": "Be brief.",
    "include": ["reasoning.encrypted_content"],
    "tools": [TOOL, {"type": "custom", "name": "write", "format": {"type": "text"}}],
    "tool_choice": {"type": "function", "name": "look"},
    "parallel_tool_calls": True,
    "max_tool_calls": 3,
    "max_output_tokens": 100,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_logprobs": 2,
    "truncation": "auto",
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "metadata": {"a": "b", "url": "https://example.com"},
    "service_tier": "auto",
    "user": "u",
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "input": [
        {"role": "developer", "content": "Talk."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
        {
            "role": "user",
            "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"}],
        },
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"},
        {"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "Hi."}]},
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "seen"},
        {"type": "custom_tool_call", "call_id": "d", "name": "write", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "d", "output": "y"},
    ],
}


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all that is neither an object nor a list."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return [found for name, one in pairs for found in leaves(one, (*path, name))]
    return [path]


def changed(value: Any, path: tuple[Any, ...]) -> Any:
    """*value* with what is at *path* another one."""
    if not path:
        if isinstance(value, bool):
            return not value
        return value + 1 if isinstance(value, int | float) else f"{value}!"
    head, *rest = path
    pairs: Any = value.items() if isinstance(value, dict) else enumerate(value)
    found = {name: changed(one, tuple(rest)) if name == head else one for name, one in pairs}
    return found if isinstance(value, dict) else [*found.values()]


def key(body: Any) -> bytes | None:
    return message_of(json.dumps(body).encode())


def test_a_full_request_is_cached() -> None:
    assert key(FULL) is not None


@pytest.mark.parametrize("path", leaves(FULL), ids=lambda path: ".".join(map(str, path)))
def test_whatever_is_said_otherwise_makes_another_request(path: tuple[Any, ...]) -> None:
    assert key(changed(FULL, path)) != key(FULL)


MEMBERS = sorted({*ResponsesRequest.model_fields} - {"provider", *FORM_ONLY})


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("value", [None, 1, "x", "y", [], ["z"], {"q": 1}, False, True], ids=repr)
def test_every_member_of_the_schema_makes_another_request_or_bypasses_the_cache(name: str, value: Any) -> None:
    body = {"model": "m", "input": "Hello"}
    found = key({**body, name: value})
    if body.get(name, ...) == value and name in body:
        assert found == key(body)
    else:
        assert found is None or found != key(body)


KNOWN = members_of(response_create_params.ResponseCreateParamsNonStreaming)


@pytest.mark.parametrize("name", sorted({*KNOWN} - {*FORM_ONLY}))
def test_whatever_openais_own_types_let_a_member_say_makes_another_request_or_bypasses_the_cache(name: str) -> None:
    hello, cached = {"model": "m", "input": "Hello"}, 0
    for value in every(KNOWN[name], lambda *path: "https://x.io" if path[-1].endswith("url") else "x", name):
        for one in value if isinstance(value, list) else [value]:
            body = hello | {name: [one] if isinstance(value, list) else one}
            found = key(body)
            cached += found is not None
            for path in leaves(body) if found is not None else ():
                other = key(changed(body, path))
                assert other is None or other != found, path
    assert cached or name in (*REFERRING, "previous_response_id")


NAMED = st.sampled_from(["type", "id", "role", "content", "tools", "input", "file_id", "container", "url", "metadata"])
ODD = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["message", "function", "data:x", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMED, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*MEMBERS]), ODD, max_size=5))
def test_no_request_whatever_its_members_are_is_too_odd_to_be_looked_up(body: dict[str, Any]) -> None:
    found = key(body)
    assert found is None or found == key(body)


def test_the_form_of_the_answer_is_no_part_of_the_request() -> None:
    assert key(FULL | {"stream": True, "stream_options": {"include_obfuscation": False}}) == key(FULL)


@given(st.dictionaries(st.text(max_size=6), JSON, max_size=5), st.randoms())
def test_members_in_another_order_are_the_same_request(body: dict[str, Any], random: Any) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, list):
            return [*map(shuffled, value)]
        if not isinstance(value, dict):
            return value
        pairs = [*value.items()]
        random.shuffle(pairs)
        return {name: shuffled(one) for name, one in pairs}

    plain, other = (msgspec.json.encode(one) for one in (body, shuffled(body)))
    assert message_of(plain) == message_of(other)


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4), st.dictionaries(st.text(max_size=3), JSON, max_size=4))
def test_two_requests_that_differ_have_two_keys(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = msgspec.json.encode(one), msgspec.json.encode(other)
    kept = [{name: value for name, value in body.items() if name not in FORM_ONLY} for body in (one, other)]
    if None not in (message_of(first), message_of(second)):
        same = len({msgspec.json.encode(body, order="deterministic") for body in kept}) == 1
        assert (message_of(first) == message_of(second)) is same


def test_two_members_of_one_name_are_never_taken_for_the_last_of_them() -> None:
    twice = b'{"input":[{"role":"user","content":"first","content":"last"}]}'
    once = b'{"input":[{"role":"user","content":"last"}]}'
    assert message_of(twice) not in (None, message_of(once))
    assert message_of(twice) != message_of(twice.replace(b'"first"', b'"other"'))


ELSEWHERES = [
    {"background": True},
    {"conversation": "conv_1"},
    {"previous_response_id": "resp_1"},
    {"prompt": {"id": "pmpt_1"}},
    {"context_management": [{"type": "compaction", "compact_threshold": 10}]},
    {"input": [{"type": "item_reference", "id": "msg_1"}]},
    {"input": [{"id": "msg_1"}]},
    {"input": [{"type": "compaction", "encrypted_content": "x"}]},
    {"input": [{"type": "web_search_call", "id": "ws_1", "status": "completed"}]},
    {"input": [{"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}]},
    {"input": [{"type": "new_kind"}]},
    {"input": [{"type": ["message"]}]},
    {"input": ["Hello"]},
    {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]},
    {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://example.com/a.pdf"}]}]},
    {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://example.com/a.png"}]}]},
    *({"tools": [{"type": kind}]} for kind in ("web_search", "mcp", "file_search", "code_interpreter", "shell", "new")),
    {"tools": ["function"]},
    {"tools": [{"type": ["function"]}]},
    {"tools": {"type": "function"}},
    {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f"}]}]},
]


@pytest.mark.parametrize("more", ELSEWHERES, ids=json.dumps)
def test_what_names_what_it_does_not_hold_is_not_cached(more: dict[str, Any]) -> None:
    assert key({"model": "m", "input": "Hello"} | more) is None


def test_a_function_may_have_parameters_of_any_name() -> None:
    properties = {name: {"type": "string"} for name in (*ELSEWHERE, *REFERRING, "url")}
    tools = [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": properties}}]
    assert key({"model": "m", "input": "Hello", "tools": tools}) is not None


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("dialect", ["responses", "chat"])
async def test_every_member_changed_one_at_a_time_is_a_miss(dialect: Any) -> None:
    async def always(request: Any) -> bool:
        return True

    with FakeProvider(dialect=dialect).run_in_thread() as upstream:
        house = Provider("house", upstream.base_url, dialect=dialect)
        async with Gateway(providers=[house], cache=ResponseCache(when=always), retries=ONCE) as gateway:
            assert (await ask(gateway, FULL)).headers["x-gomodel-cache"] == "miss"
            assert (await ask(gateway, FULL)).headers["x-gomodel-cache"] == "hit"
            for path in leaves(FULL):
                if path[0] != "store":  # at the upstream that keeps it, it bypasses the cache
                    caller = await ask(gateway, changed(FULL, path))
                    assert caller.headers.get("x-gomodel-cache") != "hit", path
