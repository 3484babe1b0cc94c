"""Reasoning that a model writes between tags into its answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gomodel_asgi import Provider, providers
from gomodel_asgi.dialects.base import Call, built_in
from gomodel_asgi.dialects.chat.output import MOST_SPACE, TaggedText
from gomodel_asgi.dialects.reader import TranslatedReader
from gomodel_asgi.settings import Limits
from gomodel_asgi.wire.event_writer import Emitter

Json = dict[str, Any]
TAGS = ("<think>", "</think>")


def told(*pieces: str) -> tuple[str, str]:
    """The reasoning and the text of an answer in *pieces*."""
    thoughts: list[str] = []
    texts: list[str] = []
    tagged = TaggedText(TAGS, thoughts.append, texts.append)
    for piece in pieces:
        tagged.feed(piece)
    tagged.end()
    return "".join(thoughts), "".join(texts)


@pytest.mark.parametrize(
    ("answer", "reasoning", "text"),
    [
        ("<think>Hm.</think>Hello", "Hm.", "Hello"),
        ("\n <think>\nHm.\n</think>\n\nHello\n", "\nHm.\n", "Hello\n"),
        ("<think></think>Hello", "", "Hello"),
        ("<think>Hm.</think>", "Hm.", ""),
        ("<think>Hm. </thin", "Hm. </thin", ""),
        ("<think>a < b</think>Hello", "a < b", "Hello"),
        ("Hello", "", "Hello"),
        ("  Hello", "", "  Hello"),
        ("Use <think> and </think>.", "", "Use <think> and </think>."),
        ("<thinking>Hm.</thinking>", "", "<thinking>Hm.</thinking>"),
        ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
        ("<thi", "", "<thi"),
        ("", "", ""),
        (" \n", "", ""),
    ],
)
def test_only_a_passage_that_opens_the_answer_is_reasoning_wherever_the_answer_is_cut(
    answer: str, reasoning: str, text: str
) -> None:
    assert told(answer) == (reasoning, text)
    assert told(*answer) == (reasoning, text)
    for at in range(len(answer)):
        assert told(answer[:at], answer[at:]) == (reasoning, text)


def test_whitespace_is_held_back_only_so_far() -> None:
    thoughts: list[str] = []
    texts: list[str] = []
    tagged = TaggedText(TAGS, thoughts.append, texts.append)
    for _ in range(MOST_SPACE + 1):
        tagged.feed(" ")
    assert texts == [" " * (MOST_SPACE + 1)]


def test_reasoning_leaves_as_it_comes() -> None:
    thoughts: list[str] = []
    tagged = TaggedText(TAGS, thoughts.append, thoughts.append)
    tagged.feed("<think>The user")
    assert thoughts == ["The user"]


# Through the dialect...


def reader(body: Json, tags: tuple[str, str] | None = TAGS) -> TranslatedReader:
    call = Call("create", body, "m", bool(body.get("stream")), "minimax", "minimax", reasoning_tags=tags)
    emitter = Emitter(response_id="resp_1", created_at=1, model="m", echo=body, stream=call.stream)
    return TranslatedReader(built_in("chat").translator(call, emitter), emitter, Limits())


def response_of(answer: str, *, stream: bool, tags: tuple[str, str] | None = TAGS, **more: Any) -> Json:
    read = reader({"model": "m", "input": "hi", "stream": stream}, tags)
    if stream:
        for piece in answer:
            read.feed(b"data: %s\n\n" % json.dumps({"choices": [{"delta": {"content": piece}}]}).encode())
        read.feed(b"data: %s\n\n" % json.dumps({"choices": [{"delta": more, "finish_reason": "stop"}]}).encode())
        read.feed(b"data: [DONE]\n\n")
    else:
        message = {"role": "assistant", "content": answer, **more}
        read.whole(json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode())
    return read.emitter.response


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unary"])
def test_a_tagged_passage_becomes_a_reasoning_item_before_the_message(stream: bool) -> None:
    thought, message = response_of("<think>\nHm.\n</think>\n\nHello", stream=stream)["output"]
    assert [part["text"] for part in thought["summary"]] == ["\nHm.\n"]
    assert [part["text"] for part in message["content"]] == ["Hello"]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unary"])
def test_without_the_option_all_text_stays_text(stream: bool) -> None:
    [message] = response_of("<think>Hm.</think>Hello", stream=stream, tags=None)["output"]
    assert [part["text"] for part in message["content"]] == ["<think>Hm.</think>Hello"]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unary"])
def test_a_call_after_an_unclosed_passage_stands_behind_its_reasoning(stream: bool) -> None:
    call = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{}"}}
    output = response_of("<think>Hm", stream=stream, tool_calls=[call])["output"]
    assert [item["type"] for item in output] == ["reasoning", "function_call"]
    assert output[0]["summary"][0]["text"] == "Hm"


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unary"])
def test_the_next_turn_gives_the_model_back_what_it_wrote(stream: bool) -> None:
    output = response_of("<think>\nHm.\n</think>\n\nHello", stream=stream)["output"]
    body = {"model": "m", "input": [{"role": "user", "content": "hi"}, *output, {"role": "user", "content": "more"}]}
    sent = built_in("chat").request(Call("create", body, "m", True, "minimax", "minimax", reasoning_tags=TAGS))
    said = [message for message in json.loads(sent.body)["messages"] if message["role"] == "assistant"]
    assert said == [{"role": "assistant", "content": "<think>\nHm.\n</think>\n\nHello"}]


def test_the_preset_of_minimax_has_the_tags_and_no_other_has() -> None:
    assert providers.minimax(api_key="k").reasoning_tags == TAGS
    assert providers.deepseek(api_key="k").reasoning_tags is None
    assert Provider("p", "http://localhost/v1").reasoning_tags is None


@pytest.mark.parametrize("tags", ["<think>", ("<think>",), ("", "</think>"), ("<think>", 3), (" <think>", "</think>")])
def test_what_are_no_tags_is_refused_at_construction(tags: Any) -> None:
    with pytest.raises(ValueError, match="reasoning_tags"):
        Provider("p", "http://localhost/v1", reasoning_tags=tags)
