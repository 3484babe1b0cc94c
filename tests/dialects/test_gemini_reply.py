"""What a Gemini reply becomes: the cases that recordings do not hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from gomodel_asgi.dialects.base import Call
from gomodel_asgi.dialects.gemini import GeminiDialect
from gomodel_asgi.wire.event_writer import Emitter

Json = dict[str, Any]

USAGE = {"promptTokenCount": 10, "candidatesTokenCount": 2, "thoughtsTokenCount": 3, "totalTokenCount": 15}
CALL = {"functionCall": {"name": "get_weather", "args": {"city": "Köln"}}}
IMAGE = {"inlineData": {"mimeType": "image/png", "data": "aWJt"}}


def chunk(*parts: Json, finish: str | None = None, **members: Any) -> Json:
    candidate: Json = {"content": {"role": "model", "parts": list(parts)}}
    for name in ("finishMessage", "groundingMetadata", "citationMetadata", "urlContextMetadata", "logprobsResult"):
        if name in members:
            candidate[name] = members.pop(name)
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "modelVersion": "gemini-3-pro-001", **members}


def reply(*chunks: Any, stream: bool = True, **body: Any) -> Emitter:
    """The emitter after these chunks and the end of the stream."""
    operation = body.pop("operation", "create")
    call = Call(operation, {"input": "Hello", **body}, "gemini-3-pro-preview", stream, "google", "gemini")
    emitter = Emitter(response_id="resp_1", created_at=1, model="m", echo={"model": "m"}, stream=stream)
    translator = GeminiDialect().translator(call, emitter)
    for item in chunks:
        translator.feed("", item if isinstance(item, bytes) else json.dumps(item).encode())
    translator.close()
    return emitter


def output(emitter: Emitter) -> list[Json]:
    items: list[Json] = emitter.response["output"]
    return items


def types_of(emitter: Emitter) -> list[str]:
    return [item["type"] for item in output(emitter)]


def texts(emitter: Emitter) -> str:
    messages = [item for item in output(emitter) if item["type"] == "message"]
    return "".join(part["text"] for item in messages for part in item["content"])


# How it ends...

ENDINGS = [
    ("STOP", [{"text": "a"}], "completed"),
    ("STOP", [], "completed"),
    ("MAX_TOKENS", [{"text": "a"}], "max_output_tokens"),
    ("MAX_TOKENS", [], "max_output_tokens"),
    *[
        (reason, parts, "content_filter")
        for reason in ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY")
        for parts in ([], [{"text": "a"}])
    ],
    ("IMAGE_PROHIBITED_CONTENT", [], "content_filter"),
    ("IMAGE_RECITATION", [], "content_filter"),
    ("MODEL_ARMOR", [], "content_filter"),
    ("UNEXPECTED_TOOL_CALL", [CALL], "completed"),
    ("OTHER", [CALL], "completed"),
    ("MAX_TOKENS", [CALL], "max_output_tokens"),
    ("SAFETY", [CALL], "content_filter"),
    ("MALFORMED_FUNCTION_CALL", [CALL], "failed"),
    ("UNEXPECTED_TOOL_CALL", [], "failed"),
    ("MALFORMED_FUNCTION_CALL", [], "failed"),
    ("MALFORMED_FUNCTION_CALL", [{"text": "I shall call a tool."}], "failed"),
    ("MALFORMED_RESPONSE", [], "failed"),
    ("TOO_MANY_TOOL_CALLS", [], "failed"),
    ("MISSING_THOUGHT_SIGNATURE", [], "failed"),
    ("OTHER", [], "failed"),
    ("LANGUAGE", [], "failed"),
    ("NO_IMAGE", [], "failed"),
    ("IMAGE_OTHER", [], "failed"),
    ("IMAGE_OTHER", [IMAGE], "completed"),
    ("SOMETHING_NEW", [{"text": "a"}], "completed"),
]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unary"])
@pytest.mark.parametrize(("reason", "parts", "expected"), ENDINGS)
def test_each_finish_reason_has_its_status(reason: str, parts: list[Json], expected: str, stream: bool) -> None:
    emitter = reply(chunk(*parts, finish=reason, finishMessage="What went wrong."), stream=stream)

    ending = (emitter.response["incomplete_details"] or {}).get("reason") or emitter.terminal
    assert ending == expected
    if expected == "failed":
        assert emitter.failure is not None and emitter.failure.status == 502
        assert emitter.response["error"]["message"] == "What went wrong."


def test_a_reason_that_nobody_knows_is_told_to_observers() -> None:
    assert any("SOMETHING_NEW" in warning for warning in reply(chunk({"text": "a"}, finish="SOMETHING_NEW")).warnings)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unary"])
def test_a_blocked_prompt_is_incomplete_for_its_content(stream: bool) -> None:
    blocked = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"trafficType": "ON_DEMAND"}}
    emitter = reply(blocked, stream=stream)

    assert emitter.response["incomplete_details"] == {"reason": "content_filter"}
    assert emitter.response["usage"]["total_tokens"] == 0


def test_what_follows_the_first_finish_reason_still_counts() -> None:
    """Older models repeat STOP in every chunk, and usage may come after it."""
    emitter = reply(
        chunk({"text": "Hel"}, finish="STOP"), chunk({"text": "lo"}, finish="STOP"), {"usageMetadata": USAGE}
    )

    assert (texts(emitter), emitter.terminal) == ("Hello", "completed")
    assert emitter.response["usage"]["output_tokens"] == 5


def test_a_reason_holds_though_later_chunks_do_not_repeat_it() -> None:
    assert reply(chunk({"text": "a"}, finish="MAX_TOKENS"), chunk()).terminal == "incomplete"


def test_an_error_after_the_finish_reason_fails_the_response_with_its_own_status() -> None:
    error = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    emitter = reply(chunk({"text": "Hello"}, finish="STOP"), error, chunk({"text": "never"}))

    assert emitter.failure is not None
    assert (emitter.terminal, emitter.failure.status, texts(emitter)) == ("failed", 503, "Hello")
    assert emitter.response["error"]["message"] == "The model is overloaded."


@pytest.mark.parametrize("chunks", [[], [chunk({"text": "Hel"})], [{"usageMetadata": USAGE}]])
def test_a_stream_that_ends_without_a_reason_is_left_open(chunks: list[Json]) -> None:
    assert reply(*chunks).terminal is None


def test_a_unary_reply_without_a_reason_is_left_open() -> None:
    assert reply(chunk({"text": "Hel"}), stream=False).terminal is None


def test_a_done_marker_of_a_proxy_is_no_event() -> None:
    assert reply(chunk({"text": "a"}, finish="STOP"), b"[DONE]").terminal == "completed"


def test_chunks_in_one_list_are_chunks() -> None:
    assert texts(reply([chunk({"text": "a"}), chunk({"text": "b"}, finish="STOP")])) == "ab"


def test_nothing_counts_after_an_error_in_the_same_list() -> None:
    emitter = reply([{"error": "no"}, chunk({"text": "never"}, finish="STOP")])

    assert (emitter.terminal, emitter.response["error"]["message"]) == ("failed", "no")
    assert b"never" not in emitter.take()


def test_usage_beside_an_error_counts() -> None:
    emitter = reply({"error": {"message": "no"}, "usageMetadata": USAGE})

    assert emitter.response["usage"]["input_tokens"] == 10


def test_only_the_first_candidate_is_read() -> None:
    two = chunk({"text": "a"}, finish="STOP")
    two["candidates"].append({"index": 1, "content": {"parts": [{"text": "b"}]}})

    assert texts(reply(two)) == "a"


# What is no reply...


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        b"null",
        b"3",
        b"{}",
        b'{"hello": 1}',
        b'{"candidates": 3}',
        b'{"candidates": [3]}',
        b'{"candidates": [{"content": []}]}',
        b'{"candidates": [{"content": {"parts": {}}}]}',
        b'{"candidates": [{"content": {"parts": [{"text": 3}]}}]}',
        b'{"candidates": [{"content": {"parts": [{"functionCall": {"name": 3}}]}}]}',
        b'{"candidates": [{"content": {"parts": [{"functionCall": {}}]}}]}',
        b'{"candidates": [{"finishReason": 3}]}',
        b'{"usageMetadata": {"promptTokenCount": -1}}',
        b'{"usageMetadata": {"promptTokenCount": "many"}}',
        b'{"candidates": [{"logprobsResult": {"chosenCandidates": [{"logProbability": "high"}]}}]}',
        b"[" * 100_000,
    ],
)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unary"])
def test_what_this_api_does_not_send_is_a_value_error(data: bytes, stream: bool) -> None:
    with pytest.raises(ValueError):
        reply(data, stream=stream)


def test_a_unary_body_without_candidates_is_left_open() -> None:
    assert reply({"modelVersion": "gemini-3-pro", "usageMetadata": USAGE}, stream=False).terminal is None


NAMES = [
    *["candidates", "content", "parts", "text", "thought", "thoughtSignature", "functionCall", "name", "args", "id"],
    *["inlineData", "mimeType", "data", "executableCode", "codeExecutionResult", "toolCall", "toolResponse", "error"],
    *["groundingMetadata", "groundingChunks", "groundingSupports", "segment", "groundingChunkIndices", "web", "uri"],
    *["citationMetadata", "usageMetadata", "promptTokenCount", "finishReason", "promptFeedback", "logprobsResult"],
    *["chosenCandidates", "token", "logProbability", "urlContextMetadata", "urlMetadata", "retrievedUrl", "details"],
]
LEAVES = st.none() | st.booleans() | st.integers(-2, 9) | st.sampled_from(["", "STOP", "image/png", "https://x", "é"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)
)
PARTS = st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3), max_size=4)


@given(parts=PARTS, members=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4), top=VALUES)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_no_reply_does_worse_than_a_value_error(parts: Any, members: Json, top: Any) -> None:
    for item in ({"candidates": [{"content": {"parts": parts}, "finishReason": "STOP", **members}]}, top):
        try:
            emitter = reply(item)
        except ValueError:
            continue
        assert emitter.terminal in (None, "completed", "incomplete", "failed")


# What it holds...


def test_thoughts_are_a_reasoning_summary_and_never_text() -> None:
    thoughts = [{"text": "Let me ", "thought": True}, {"text": "think.", "thought": True}]
    emitter = reply(*[chunk(thought) for thought in thoughts], chunk({"text": "Done."}, finish="STOP"))

    assert types_of(emitter) == ["reasoning", "message"]
    assert output(emitter)[0]["summary"] == [{"type": "summary_text", "text": "Let me think."}]
    assert texts(emitter) == "Done."


def test_reasoning_is_sealed_when_it_is_done() -> None:
    emitter = reply(chunk({"text": "Hm.", "thought": True}), chunk({**CALL, "thoughtSignature": "c2ln"}, finish="STOP"))

    frames = [json.loads(frame.partition(b"data: ")[2]) for frame in emitter.take().split(b"\n\n")[:-2]]
    done = [event["item"] for event in frames if event["type"] == "response.output_item.done"]
    assert [item["type"] for item in done] == ["reasoning", "function_call"]
    assert done[0]["encrypted_content"] == output(emitter)[0]["encrypted_content"]


def test_parallel_calls_are_items_of_their_own() -> None:
    other = {"functionCall": {"name": "get_time", "id": "abc"}}
    emitter = reply(chunk({**CALL, "thoughtSignature": "c2ln"}, CALL, other, finish="STOP"))

    calls = [item for item in output(emitter) if item["type"] == "function_call"]
    assert [(call["name"], call["arguments"]) for call in calls] == [
        ("get_weather", '{"city":"Köln"}'),
        ("get_weather", '{"city":"Köln"}'),
        ("get_time", "{}"),
    ]
    assert len({call["call_id"] for call in calls}) == 3
    assert calls[2]["call_id"] == "abc"


def test_an_id_that_is_used_twice_is_replaced() -> None:
    twice = {"functionCall": {"name": "f", "id": "abc"}}
    calls = output(reply(chunk(twice, twice, finish="STOP")))

    assert calls[0]["call_id"] == "abc" != calls[1]["call_id"]


def test_custom_and_namespaced_tools_get_their_own_names_back() -> None:
    tools = [
        {"type": "custom", "name": "shell"},
        {"type": "namespace", "name": "mail", "description": "", "tools": [{"type": "function", "name": "send"}]},
    ]
    shell = {"functionCall": {"name": "shell", "args": {"input": "ls -l"}}}
    send = {"functionCall": {"name": "mail__send", "args": {}}}
    custom, function = output(reply(chunk(shell, send, finish="STOP"), tools=tools))

    assert (custom["type"], custom["name"], custom["input"]) == ("custom_tool_call", "shell", "ls -l")
    assert (function["name"], function["namespace"]) == ("send", "mail")


def test_images_are_image_generation_calls_but_those_of_thoughts_are_not() -> None:
    emitter = reply(chunk({**IMAGE, "thought": True}, {"text": "Here."}, IMAGE, finish="STOP"))

    assert types_of(emitter) == ["message", "image_generation_call"]
    assert (output(emitter)[1]["result"], output(emitter)[1]["output_format"]) == ("aWJt", "png")


def test_code_and_its_result_are_one_code_interpreter_call() -> None:
    code = {"executableCode": {"language": "PYTHON", "code": "print(1)"}}
    result = {"codeExecutionResult": {"outcome": "OUTCOME_FAILED", "output": "1\n"}}
    emitter = reply(chunk(code), chunk(result), chunk({"text": "One."}, finish="STOP"))

    assert types_of(emitter) == ["reasoning", "code_interpreter_call", "message"]
    item = output(emitter)[1]
    assert (item["code"], item["outputs"], item["status"]) == (
        "print(1)",
        [{"type": "logs", "logs": "1\n"}],
        "failed",
    )


def test_a_result_without_its_code_is_told_to_observers() -> None:
    result = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}
    emitter = reply(chunk({"toolCall": {"toolType": "FILE_SEARCH"}}, result, finish="STOP"))

    assert types_of(emitter) == ["reasoning", "file_search_call"]
    assert emitter.warnings == ["a codeExecutionResult without its code"]


def test_sound_is_told_to_observers() -> None:
    emitter = reply(chunk({"inlineData": {"mimeType": "audio/wav", "data": "YQ=="}}, finish="STOP"))

    assert (output(emitter), emitter.warnings) == ([], ["a part with inlineData"])


def test_a_result_belongs_to_the_last_code() -> None:
    result = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2"}}
    emitter = reply(chunk({"executableCode": {"code": "a"}}, {"executableCode": {"code": "b"}}, result, finish="STOP"))

    assert [len(item["outputs"]) for item in output(emitter)[1:]] == [0, 1]


def test_code_without_a_result_is_told_all_the_same() -> None:
    emitter = reply(chunk({"executableCode": {"code": "x"}}, finish="STOP"))

    assert output(emitter)[1]["outputs"] == []


def test_server_tools_are_receipts_and_never_function_calls() -> None:
    def used(kind: str, **args: Any) -> Json:
        return {"toolCall": {"id": kind, "toolType": kind, "args": args}}

    emitter = reply(
        chunk(used("GOOGLE_SEARCH_WEB", queries=["who?", "when?"]), used("URL_CONTEXT", urls=["https://a"])),
        chunk(used("FILE_SEARCH", query="where?"), used("GOOGLE_MAPS"), {"toolResponse": {"id": "GOOGLE_MAPS"}}),
        chunk({"text": "So."}, finish="STOP", groundingMetadata={"webSearchQueries": ["who?"]}),
    )

    assert types_of(emitter) == ["reasoning", "web_search_call", "web_search_call", "file_search_call", "message"]
    search, page, files = output(emitter)[1:4]
    assert (search["action"]["query"], search["action"]["queries"]) == ("who?", ["who?", "when?"])
    assert page["action"] == {"type": "open_page", "url": "https://a"}
    assert files["queries"] == ["where?"]
    assert any("GOOGLE_MAPS" in warning for warning in emitter.warnings)


def test_a_part_that_no_item_holds_is_told_to_observers() -> None:
    emitter = reply(chunk({"videoMetadata": {}}, {"text": "a"}, finish="STOP"))

    assert (types_of(emitter), emitter.warnings) == (["message"], ["a part with videoMetadata"])


def test_empty_texts_open_no_message() -> None:
    assert types_of(reply(chunk({"text": ""}, CALL, {"text": ""}, finish="STOP"))) == ["function_call"]


def test_empty_texts_and_thoughts_end_no_message() -> None:
    nothing: list[Json] = [{"text": "", "thought": True}, {"text": ""}]
    emitter = reply(chunk({"text": "a"}), chunk(*nothing), chunk({"text": "b"}, finish="STOP"))

    assert [part["text"] for item in output(emitter) for part in item["content"]] == ["ab"]


def test_logprobs_belong_to_the_text_of_their_chunk() -> None:
    first = {"token": "é", "logProbability": -0.5}
    result = {"chosenCandidates": [first], "topCandidates": [{"candidates": [first, {"token": "a"}]}]}
    emitter = reply(chunk({"text": "Hm.", "thought": True}, {"text": "é"}, finish="STOP", logprobsResult=result))

    (entry,) = output(emitter)[1]["content"][0]["logprobs"]
    assert (entry["token"], entry["logprob"], entry["bytes"]) == ("é", -0.5, [0xC3, 0xA9])
    assert [other["token"] for other in entry["top_logprobs"]] == ["é", "a"]


# Citations...

WEB = [{"web": {"uri": "https://a", "title": "A"}}, {"web": {"uri": "https://b", "domain": "b.org"}}]


def grounded(text: str, *supports: Json, chunks: list[Json] = WEB, **members: Any) -> Emitter:
    metadata = {"groundingChunks": chunks, "groundingSupports": list(supports), **members}
    return reply(chunk({"text": text[:4]}), chunk({"text": text[4:]}, finish="STOP", groundingMetadata=metadata))


def citations(emitter: Emitter) -> list[Json]:
    found: list[Json] = next(item for item in output(emitter) if item["type"] == "message")["content"][0]["annotations"]
    return found


def test_grounding_counts_bytes_and_citations_characters() -> None:
    text = "Köln. Größe 1."
    start, end = len("Köln. ".encode()), len(text.encode())
    support = {"segment": {"startIndex": start, "endIndex": end, "text": "Größe 1."}, "groundingChunkIndices": [0, 1]}

    first, second = citations(grounded(text, support))

    assert (first["start_index"], first["end_index"]) == (6, 14)
    assert (first["url"], first["title"], second["url"], second["title"]) == ("https://a", "A", "https://b", "b.org")


def test_a_segment_is_found_by_its_words_where_its_numbers_are_off() -> None:
    support = {"segment": {"startIndex": 1, "endIndex": 3, "text": "answer"}, "groundingChunkIndices": [0]}

    (citation,) = citations(grounded("The answer is 1.", support))

    assert (citation["start_index"], citation["end_index"]) == (4, 10)


def test_a_segment_that_is_not_in_the_text_is_left_out() -> None:
    support = {"segment": {"startIndex": 1, "endIndex": 3, "text": "question"}, "groundingChunkIndices": [0]}

    assert citations(grounded("The answer is 1.", support)) == []


def test_a_source_is_cited_once_for_the_same_words() -> None:
    support = {"segment": {"endIndex": 3}, "groundingChunkIndices": [0, 0]}

    assert len(citations(grounded("The answer is 1.", support, support, chunks=[*WEB, {"new": {}}]))) == 1


@pytest.mark.parametrize("index", [7, -1, None, "0"])
def test_a_citation_of_an_unknown_source_is_left_out(index: Any) -> None:
    support = {"segment": {"endIndex": 3}, "groundingChunkIndices": [index]}

    assert citations(grounded("The answer.", support)) == []


def test_a_source_without_an_address_is_told_to_observers() -> None:
    support = {"segment": {"endIndex": 3}, "groundingChunkIndices": [0]}
    emitter = grounded("The answer.", support, chunks=[{"retrievedContext": {"text": "quoted"}}])

    assert citations(emitter) == []
    assert emitter.warnings == ["1 grounding sources without an address"]


def test_the_search_behind_grounding_is_a_web_search_call() -> None:
    emitter = grounded("The answer.", webSearchQueries=["answer?"])

    assert types_of(emitter) == ["message", "web_search_call"]
    action = output(emitter)[1]["action"]
    assert action["queries"] == ["answer?"]
    assert [source["url"] for source in action["sources"]] == ["https://a", "https://b"]


def test_pages_that_were_read_are_told_once() -> None:
    pages = {"urlMetadata": [{"retrievedUrl": "https://a"}]}
    emitter = reply(
        chunk({"text": "a"}, urlContextMetadata=pages), chunk({"text": "b"}, finish="STOP", urlContextMetadata=pages)
    )

    assert types_of(emitter) == ["message", "web_search_call"]


def test_recitations_are_citations_too() -> None:
    cited = {
        "citationSources": [{"startIndex": 4, "endIndex": 10, "uri": "https://a"}, {"endIndex": 3}, {"startIndex": 99}]
    }
    emitter = reply(chunk({"text": "The answer."}, citationMetadata=cited), chunk(finish="STOP"))

    (citation,) = citations(emitter)
    assert (citation["start_index"], citation["end_index"], citation["url"]) == (4, 10, "https://a")


# Usage...


def test_cached_and_tool_tokens_are_input_and_thoughts_are_output() -> None:
    metadata = {**USAGE, "cachedContentTokenCount": 8, "toolUsePromptTokenCount": "5"}
    usage = reply(chunk({"text": "a"}, finish="STOP", usageMetadata=metadata)).response["usage"]

    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (15, 5, 20)
    assert usage["input_tokens_details"] == {"cached_tokens": 8, "cache_write_tokens": 0}
    assert usage["output_tokens_details"] == {"reasoning_tokens": 3}


def test_the_last_usage_counts_also_where_it_lacks_members() -> None:
    emitter = reply(
        chunk({"text": "a"}, usageMetadata=USAGE),
        chunk({"text": "b"}, usageMetadata={"promptTokenCount": 9}),
        chunk(finish="STOP"),
    )

    usage = emitter.response["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (9, 0)
    assert emitter.raw_usage == {"promptTokenCount": 9}


def test_without_usage_there_is_none() -> None:
    assert reply(chunk({"text": "a"}, finish="STOP")).response["usage"] is None


def test_a_token_count_is_an_object_of_its_own() -> None:
    emitter = reply({"totalTokens": 31}, stream=False, operation="input_tokens")

    assert (emitter.terminal, emitter.raw_usage) == ("completed", {"totalTokens": 31})
    assert emitter.response == {"object": "response.input_tokens", "input_tokens": 31}


def test_an_error_instead_of_a_token_count_fails() -> None:
    error = {"error": {"code": 404, "message": "No such model."}}
    emitter = reply(error, stream=False, operation="input_tokens")

    assert emitter.failure is not None and emitter.failure.status == 404


@pytest.mark.parametrize(("tier", "expected"), [("standard", "default"), ("flex", "flex"), ("new", "default")])
def test_the_response_tells_the_service_tier_that_was_used(tier: str, expected: str) -> None:
    emitter = reply(chunk({"text": "a"}, finish="STOP", usageMetadata={**USAGE, "serviceTier": tier}))

    assert emitter.response["service_tier"] == expected


@pytest.mark.parametrize("data", [b"{}", b"[]", b"x"])
def test_a_token_count_without_a_count_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        reply(data, stream=False, operation="input_tokens")


# Errors as a whole reply...


def test_an_error_body_keeps_message_code_and_status_and_says_when_to_come_back() -> None:
    body: Any = {"error": {"code": 429, "message": "Quota.", "status": "RESOURCE_EXHAUSTED"}}
    body["error"]["details"] = [{"@type": "google.rpc.Help"}, {"@type": "google.rpc.RetryInfo", "retryDelay": "34.5s"}]
    for shape in (body, [body]):
        error = GeminiDialect().error(400, json.dumps(shape).encode())

        assert error is not None
        assert (error.status, error.message, error.code) == (429, "Quota.", "RESOURCE_EXHAUSTED")
        assert error.retry_after == 34.5


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"code": 400, "message": "SECRET", "details": [{"reason": "API_KEY_INVALID"}]}),
        (401, {"message": "SECRET"}),
        (400, {"message": "SECRET", "status": "PERMISSION_DENIED"}),
    ],
)
def test_a_refused_key_is_our_fault_and_its_text_is_for_observers_only(status: int, error: Json) -> None:
    failure = GeminiDialect().error(status, json.dumps({"error": error}).encode())

    assert failure is not None
    assert (failure.status, failure.code, failure.detail) == (502, "upstream_auth_error", "SECRET")
    assert "SECRET" not in repr(failure) + str(failure) + failure.body().decode()


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[]", b'{"error": 3}', b'"x"', b"[" * 100_000])
def test_what_is_no_error_of_this_api_is_left_to_others(body: bytes) -> None:
    assert GeminiDialect().error(500, body) is None


def test_an_error_that_names_only_its_kind_gets_that_status() -> None:
    error = GeminiDialect().error(200, b'{"error": {"status": "NOT_FOUND"}}')

    assert error is not None
    assert (error.status, error.code) == (404, "NOT_FOUND")


def test_an_error_that_names_no_status_in_a_good_reply_is_a_bad_gateway() -> None:
    error = GeminiDialect().error(200, b'{"error": {"message": "no"}}')

    assert error is not None
    assert (error.status, error.message) == (502, "no")
