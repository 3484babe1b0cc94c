"""What is brought about by other means: one call at a time, JSON without a schema, a forced tool."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gomodel_asgi.dialects.base import Call
from gomodel_asgi.dialects.emulations import Unfenced, call_wanted, json_only, single_call
from gomodel_asgi.dialects.gemini import GeminiDialect
from gomodel_asgi.dialects.members import Choice
from gomodel_asgi.wire.event_writer import Emitter

from .test_anthropic_reply import end, feed, start, text, tool_use

Json = dict[str, Any]

JSON_FORMAT = {"format": {"type": "json_object"}}


def call_of(unsupported: Any = "auto", **body: Any) -> Call:
    return Call("create", body, "m", False, "p", "anthropic", unsupported)


@pytest.mark.parametrize(("unsupported", "expected"), [("auto", True), ("reject", True), ("drop", False)])
def test_one_call_at_a_time_is_kept_where_the_client_asks_for_it(unsupported: str, expected: bool) -> None:
    assert single_call(call_of(unsupported, parallel_tool_calls=False)) is expected
    assert not single_call(call_of(unsupported, parallel_tool_calls=True))
    assert not single_call(call_of(unsupported))


@pytest.mark.parametrize("text", [None, "x", {}, {"format": None}, {"format": {"type": "text"}}])
def test_only_a_json_object_of_no_schema_has_no_fence(text: Any) -> None:
    assert json_only(call_of(text=JSON_FORMAT))
    assert not json_only(call_of("drop", text=JSON_FORMAT))
    assert not json_only(call_of(text=text))


def test_a_forced_tool_is_named_in_the_instruction() -> None:
    assert "the tool `f`" in call_wanted(Choice("required", ("f",), True))
    assert "one of your tools" in call_wanted(Choice("required", None, True))


FENCED = [
    ('{"a": 1}', '{"a": 1}'),
    ('```json\n{"a": "}\\"{", "b": {"c": "```"}}\n```', '{"a": "}\\"{", "b": {"c": "```"}}'),
    ('``` {"a": 1} ```\n', '{"a": 1}'),
    ('```{"a": 1}```', '{"a": 1}'),
    ('Here you are: {"a": 1}', 'Here you are: {"a": 1}'),
    ('{"a": 1}\n{"b": 2}', '{"a": 1}\n{"b": 2}'),
    ('```json\n{"a": 1}\n``` That is it.', '{"a": 1}\n``` That is it.'),
    ('{"a": "cut off', '{"a": "cut off'),
    ("```json\n[1]\n```", "```json\n[1]\n```"),
    ("``", "``"),
    ("", ""),
]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(("given", "expected"), FENCED)
def test_a_code_fence_around_an_object_is_taken_off_however_it_is_cut(given: str, expected: str, size: int) -> None:
    unfenced = Unfenced()
    pieces = [unfenced.feed(given[at : at + size]) for at in range(0, len(given), size)]

    assert "".join(pieces) + unfenced.close() == expected


def test_the_object_itself_is_never_held_back() -> None:
    unfenced = Unfenced()

    assert [unfenced.feed(piece) for piece in ("```", 'json\n{"a', '": "long', ' text"', "}", "\n```")] == [
        "", '{"a', '": "long', ' text"', "}", "",
    ]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), FENCED[:8])
def test_anthropics_answer_in_json_has_no_fence(given: str, expected: str) -> None:
    events = [start(), *text(0, *given), *end()]
    (message,) = feed(events, text=JSON_FORMAT).response["output"]

    assert message["content"][0]["text"] == expected
    if "```" in given:
        (plain,) = feed(events).response["output"]
        assert plain["content"][0]["text"] == given


def test_text_before_a_call_is_whole_where_json_was_asked_for() -> None:
    events = [start(), *text(0, "``"), *tool_use(1, "f"), *end("tool_use")]
    message, call = feed(events, text=JSON_FORMAT).response["output"]

    assert (message["content"][0]["text"], call["type"]) == ("``", "function_call")


def gemini_says(*pieces: Json, asked: Json | None = JSON_FORMAT) -> list[Json]:
    """The output for the parts *pieces*, each a chunk of its own."""
    body: Json = {"input": "hi", "tools": [], **({} if asked is None else {"text": asked})}
    call = Call("create", body, "gemini-2.5-flash", True, "p", "gemini")
    emitter = Emitter(response_id="resp_0", created_at=1, model=call.model, echo=body)
    reply = GeminiDialect().translator(call, emitter)
    for piece in pieces:
        chunk = {"candidates": [{"content": {"role": "model", "parts": [piece]}}]}
        reply.feed("", json.dumps(chunk).encode())
    reply.feed("", b'{"candidates": [{"finishReason": "STOP"}]}')
    reply.close()
    found: list[Json] = emitter.response["output"]
    return found


@pytest.mark.parametrize(("given", "expected"), FENCED[:8])
def test_geminis_answer_in_json_has_no_fence(given: str, expected: str) -> None:
    (message,) = gemini_says(*({"text": char} for char in given))
    (plain,) = gemini_says({"text": given}, asked=None)

    assert (message["content"][0]["text"], plain["content"][0]["text"]) == (expected, given)


def test_a_signature_of_gemini_stays_with_the_text_inside_the_fence() -> None:
    message, memory = gemini_says({"text": "```json\n"}, {"text": '{"a": 1}\n```', "thoughtSignature": "s"})
    call = Call("create", {"input": [message, memory]}, "gemini-2.5-flash", False, "p", "gemini")
    (content,) = json.loads(GeminiDialect().request(call).body)["contents"][1:]

    assert content["parts"] == [{"text": '{"a": 1}', "thoughtSignature": "s"}]


def test_text_of_gemini_before_a_call_is_whole_where_json_was_asked_for() -> None:
    message, call = gemini_says({"text": "``"}, {"functionCall": {"name": "f", "args": {}}})

    assert (message["content"][0]["text"], call["type"]) == ("``", "function_call")
