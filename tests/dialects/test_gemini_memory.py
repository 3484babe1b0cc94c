"""What Gemini gave comes back to it as it was, carried by a client that only sees Responses items."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gomodel_asgi.dialects.base import Call, pack_state
from gomodel_asgi.dialects.gemini import GeminiDialect
from gomodel_asgi.wire.event_writer import Emitter

Json = dict[str, Any]

MODEL = "gemini-3-pro-preview"
THOUGHT = {"text": "Hm.", "thought": True}
TEXT = {"text": "Grüße."}
EMPTY = {"text": ""}
CALL = {"functionCall": {"name": "f", "args": {"a": 1}}}
NAMED = {"functionCall": {"name": "g", "args": {}, "id": "j425u3dm"}}
IMAGE = {"inlineData": {"mimeType": "image/jpeg", "data": "aWJt"}}
CODE = {"executableCode": {"language": "PYTHON", "code": "1+1", "id": "x"}}
RESULT = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2\n", "id": "x"}}
SEARCH = {"toolCall": {"toolType": "GOOGLE_SEARCH_WEB", "id": "y", "args": {"queries": ["a"]}}}
FOUND = {"toolResponse": {"toolType": "GOOGLE_SEARCH_WEB", "id": "y", "response": {"a": [1, None]}}}


def signed(part: Json, signature: str = "c2ln") -> Json:
    return {**part, "thoughtSignature": signature}


def items(*parts: Json, finish: str = "STOP", model: str = MODEL) -> list[Json]:
    """The output items of a reply with these parts, each in a chunk of its own."""
    emitter = Emitter(response_id="resp_1", created_at=1, model="m", echo={})
    call = Call("create", {"input": "Hello"}, model, True, "google", "gemini")
    translator = GeminiDialect().translator(call, emitter)
    for part in parts:
        translator.feed("", json.dumps({"candidates": [{"content": {"parts": [part]}}]}).encode())
    translator.feed("", json.dumps({"candidates": [{"finishReason": finish}]}).encode())
    translator.close()
    output: list[Json] = emitter.response["output"]
    return output


def told(output: list[Json], *, model: str = MODEL, type: str = "gemini") -> list[Json]:
    """The parts of the model's turn that Gemini is sent for these items."""
    given = [{"role": "user", "content": "Hello"}, *output, {"role": "user", "content": "Go on."}]
    outgoing = GeminiDialect().request(Call("create", {"input": given}, model, False, "google", type))
    contents = json.loads(outgoing.body)["contents"]
    return [part for content in contents if content["role"] == "model" for part in content["parts"]]


@pytest.mark.parametrize(
    "parts",
    [
        [TEXT],
        [signed(TEXT)],
        [TEXT, signed(EMPTY)],
        [TEXT, signed({"text": " And more."}, "YQ"), {"text": " And more."}, signed(EMPTY, "Yg")],
        [signed(EMPTY)],
        [THOUGHT, TEXT],
        [signed(THOUGHT), signed(TEXT, "Yg")],
        [THOUGHT, signed(CALL), CALL],
        [TEXT, signed(CALL), NAMED, signed(EMPTY, "Yg")],
        [signed(NAMED), TEXT],
        [signed(TEXT), signed(CALL, "Yg"), signed(TEXT, "Yw")],
        [TEXT, signed(IMAGE), IMAGE, signed(IMAGE, "Yg")],
        [signed(CODE), RESULT, TEXT, signed(EMPTY, "Yg")],
        [THOUGHT, CODE, RESULT, THOUGHT, CODE, RESULT, TEXT],
        [signed(SEARCH), signed(FOUND, "Yg"), signed(TEXT, "Yw")],
        [signed(SEARCH), FOUND, signed(CALL, "Yg")],
        [signed({"fileData": {"fileUri": "https://a"}}), TEXT],
        [signed({**IMAGE, "thought": True}), signed(TEXT)],
    ],
    ids=range(18),
)
def test_the_next_turn_gives_the_model_its_own_parts_with_their_signatures(parts: list[Json]) -> None:
    assert told(items(*parts)) == parts


def test_summaries_may_be_left_out_by_the_client() -> None:
    output = items(THOUGHT, signed(CALL))
    output[0]["summary"] = []

    assert told(output) == [THOUGHT, signed(CALL)]


def test_a_message_that_the_client_left_out_takes_only_its_signature_along() -> None:
    output = [item for item in items(TEXT, signed(EMPTY)) if item["type"] != "message"]

    assert told(output) == [signed(EMPTY)]


def test_a_message_that_the_client_cut_short_does_no_harm() -> None:
    output = items(TEXT, signed({"text": "More."}))
    output[0]["content"][0]["text"] = "Grü"

    assert told(output) == [{"text": "Grü"}, signed(EMPTY)]


def test_a_message_that_the_client_went_on_with_keeps_its_signed_stretch() -> None:
    output = items(TEXT, signed({"text": "More."}))
    output[0]["content"][0]["text"] += " And more."

    assert told(output) == [TEXT, signed({"text": "More."}), {"text": " And more."}]


def test_what_another_model_or_provider_sealed_is_left_out() -> None:
    output = items(signed(CODE), RESULT, signed(TEXT, "Yg"))

    for foreign in (told(output, model="gemini-2.5-pro"), told(output, type="anthropic")):
        assert "thoughtSignature" not in json.dumps(foreign)
        assert [next(iter(part)) for part in foreign] == ["executableCode", "codeExecutionResult", "text"]


def test_the_same_model_is_known_by_any_of_its_paths() -> None:
    path = f"publishers/google/models/{MODEL}"

    assert told(items(signed(TEXT)), model=path) == [signed(TEXT)]
    assert told(items(signed(TEXT), model=path)) == [signed(TEXT)]


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"entries": 3},
        {"entries": [3, None, [], {}]},
        {"entries": [{"part": 3}, {"part": {}}, {"part": {"functionCall": {}}}, {"part": {"functionResponse": {}}}]},
        {"entries": [{"call": 3, "signature": "a"}, {"call": "a"}, {"call": "a", "signature": 3}]},
        {"entries": [{"text": 3, "signature": "a"}, {"text": [1], "signature": "a"}]},
        {"entries": [{"text": [-1, 2], "signature": "a"}, {"text": [True, False], "signature": "a"}]},
        {"entries": [{"image": 1, "signature": "a"}]},
    ],
)
def test_a_forged_seal_is_checked_like_any_other_input(payload: Json) -> None:
    forged = {"type": "reasoning", "summary": [], "encrypted_content": pack_state("gemini", MODEL, payload)}

    assert told([{"role": "assistant", "content": "Hi."}, forged]) == [{"text": "Hi."}]


def test_forged_stretches_that_overlap_repeat_nothing() -> None:
    entries = [
        {"text": [0, 3], "signature": "a"},
        {"text": [1, 1], "signature": "b"},
        {"text": [9, 9], "signature": "c"},
    ]
    forged = {
        "type": "reasoning",
        "summary": [],
        "encrypted_content": pack_state("gemini", MODEL, {"entries": entries}),
    }

    parts = told([{"role": "assistant", "content": "Hello"}, forged])
    assert "".join(part["text"] for part in parts) == "Hello"


def test_reasoning_that_was_cut_off_is_still_sealed() -> None:
    (item,) = items(THOUGHT, finish="MAX_TOKENS")

    assert item["status"] == "incomplete"
    assert told([item]) == [THOUGHT]


def test_a_message_that_was_cut_off_is_the_incomplete_item() -> None:
    (item,) = items(TEXT, finish="MAX_TOKENS")

    assert item["status"] == "incomplete"
