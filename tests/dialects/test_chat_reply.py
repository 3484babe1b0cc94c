"""What chat servers send, and what the client gets: each trap that has broken a gateway is a case here."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from gomodel_asgi.dialects.base import unpack_state
from gomodel_asgi.errors import UpstreamAuthError, UpstreamRejected

from ..support.chat_play import Json, Play, call_of, calls_of, chunk, message, play, reasoning_of, text_of, whole

NAMES = [
    "arguments", "annotations", "choices", "citations", "content", "delta", "error", "extra_content", "finish_reason",
    "function", "function_call", "id", "image_url", "images", "index", "logprobs", "message", "model", "name", "object",
    "reasoning", "reasoning_details", "refusal", "service_tier", "summary", "text", "thinking", "tool_calls",
    "top_logprobs", "type", "url", "url_citation", "usage", "prompt_tokens", "total_tokens", "x_groq", "signature",
]  # fmt: skip
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4)
)
ANYTHING = st.recursive(
    LEAVES | st.sampled_from(["text", "thinking", "url_citation"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=12,
)
DELTA = st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=6)

DONE = "[DONE]"
USAGE = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}


def tool(index: int | None, id: Any = None, name: Any = None, arguments: Any = None, **more: Any) -> Json:
    call: Json = {"function": {"name": name, "arguments": arguments}, **more}
    call |= {} if index is None else {"index": index}
    return {"tool_calls": [call | ({} if id is None else {"id": id})]}


# Text...


def test_a_text_stream_has_the_full_grammar() -> None:
    found = play([chunk({"role": "assistant", "content": ""}), chunk({"content": "Hi"}), chunk({}, "stop"), DONE])

    assert found.types == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert found.done


def test_content_and_finish_reason_may_share_a_chunk() -> None:
    assert text_of(play([chunk({"content": "Hi"}, "stop"), DONE]).output) == "Hi"


def test_text_in_parts_is_joined_with_nothing_between() -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]

    assert text_of(whole(message(content=parts)).output) == "Hello"
    assert text_of(play([chunk({"content": parts}), DONE]).output) == "Hello"


def test_think_tags_in_content_stay_text() -> None:
    assert text_of(whole(message(content="<think>a</think>b")).output) == "<think>a</think>b"


def test_zero_filled_members_say_nothing() -> None:
    empty: Json = {
        "content": "Hi",
        "refusal": "",
        "tool_calls": None,
        "function_call": None,
        "audio": None,
        "reasoning": "",
    }

    assert [item["type"] for item in whole(message(**empty)).output] == ["message"]
    assert [item["type"] for item in play([chunk(empty | {"annotations": []}), DONE]).output] == ["message"]


def test_a_refusal_is_a_refusal_part() -> None:
    found = play([chunk({"refusal": "I "}), chunk({"refusal": "won't"}), chunk({}, "stop"), DONE])

    assert found.output[0]["content"] == [{"type": "refusal", "refusal": "I won't"}]


def test_only_the_first_choice_counts() -> None:
    other = chunk({"content": "no"})
    other["choices"][0]["index"] = 1

    assert text_of(play([chunk({"content": "yes"}), other, DONE]).output) == "yes"


def test_logprobs_come_with_their_text_and_have_the_members_that_clients_require() -> None:
    first = chunk({"content": "é"})
    first["choices"][0]["logprobs"] = {"content": [{"token": "é", "logprob": -0.5, "top_logprobs": [{"token": "e"}]}]}
    found = play([first, DONE])
    top = [{"token": "e", "logprob": 0.0, "bytes": [101]}]

    expected = [{"token": "é", "logprob": -0.5, "bytes": [195, 169], "top_logprobs": top}]
    assert found.output[0]["content"][0]["logprobs"] == expected
    assert next(event for event in found.events if event["type"].endswith("text.delta"))["logprobs"] == expected


def test_url_citations_become_annotations_and_other_annotations_a_warning() -> None:
    cited = {"url": "https://a", "title": "A", "start_index": 0, "end_index": 2, "content": "long"}
    annotations = [{"type": "url_citation", "url_citation": cited}, {"type": "file", "file": {}}]
    found = whole(message(content="Hi", annotations=annotations))

    expected = {"type": "url_citation", "url": "https://a", "title": "A", "start_index": 0, "end_index": 2}
    assert found.output[0]["content"][0]["annotations"] == [expected]
    assert len(found.emitter.warnings) == 1


def test_a_list_of_cited_urls_becomes_annotations_at_the_end_of_the_text() -> None:
    found = whole(message(content="Hi") | {"citations": ["https://a"]})

    annotation = found.output[0]["content"][0]["annotations"][0]
    assert (annotation["url"], annotation["start_index"]) == ("https://a", 2)


def test_inline_images_become_image_generation_calls_and_others_a_warning() -> None:
    images = [{"image_url": {"url": "data:image/png;base64,AAAA"}}, {"image_url": {"url": "https://a/b.png"}}]
    found = play([chunk({"content": "See"}), chunk({"images": images}), DONE])

    assert [(item["type"], item.get("result")) for item in found.output] == [
        ("message", None),
        ("image_generation_call", "AAAA"),
    ]
    assert len(found.emitter.warnings) == 1


def test_what_has_no_item_is_told_to_observers() -> None:
    rare = {"executed_tools": [{"type": "search"}, 7], "audio": {"id": "a"}, "content": [{"type": "reference"}, 7]}
    found = play([chunk(rare), DONE])

    assert (found.output, len(found.emitter.warnings)) == ([], 4)


# Reasoning...


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_comes_first_and_is_closed_when_the_answer_begins(name: str) -> None:
    found = play([chunk({name: "Hm"}), chunk({name: "m"}), chunk({"content": "Hi"}), chunk({}, "stop"), DONE])

    assert [item["type"] for item in found.output] == ["reasoning", "message"]
    assert reasoning_of(found.output) == "Hmm"
    done = found.types.index("response.output_item.done")
    assert done < found.types.index("response.output_text.delta")
    assert unpack_state(found.output[0]["encrypted_content"], "vllm", "m") == {name: "Hmm"}


def test_a_thought_under_two_names_is_told_once() -> None:
    details = [{"type": "reasoning.text", "text": "Hm", "index": 0}]
    found = whole(message(content="Hi", reasoning="Hm", reasoning_content="Hm", reasoning_details=details))
    twice = whole(message(content="Hi", reasoning="Hm", reasoning_content="Hm"))

    assert reasoning_of(found.output) == reasoning_of(twice.output) == "Hm"
    assert "content" not in found.output[0]
    assert unpack_state(twice.output[0]["encrypted_content"], "vllm") == {"reasoning_content": "Hm"}


def test_streamed_reasoning_details_are_sealed_as_the_server_would_have_sent_them_at_once() -> None:
    pieces: list[Json] = [
        {"type": "reasoning.text", "text": "H", "signature": "", "format": "f", "index": 0},
        {"type": "reasoning.text", "text": "m", "format": "f", "index": 0},
        {"type": "reasoning.text", "signature": "sig", "format": "f", "index": 0},
        {"type": "reasoning.encrypted", "data": "xx", "id": "rs_1", "index": 1},
    ]
    found = play([*(chunk({"reasoning_details": [piece]}) for piece in pieces), chunk({"content": "Hi"}), DONE])

    assert reasoning_of(found.output) == "Hm"
    expected = [{"type": "reasoning.text", "text": "Hm", "signature": "sig", "format": "f", "index": 0}, pieces[3]]
    assert unpack_state(found.output[0]["encrypted_content"], "vllm") == {"reasoning_details": expected}


def test_state_that_comes_after_the_answer_began_travels_in_an_item_of_its_own() -> None:
    late = {"type": "reasoning.encrypted", "data": "xx", "index": 0}
    found = play([chunk({"content": "Hi"}), chunk({"reasoning_details": [late]}), chunk({}, "stop"), DONE])

    assert [item["type"] for item in found.output] == ["message", "reasoning"]
    assert unpack_state(found.output[1]["encrypted_content"], "vllm") == {"reasoning_details": [late]}


def test_thought_and_text_that_alternate_make_few_items_and_lose_nothing() -> None:
    pairs = [delta for n in range(9) for delta in (chunk({"reasoning": f"r{n}"}), chunk({"content": f"t{n}"}))]
    found = play([*pairs, chunk({}, "stop"), DONE])

    assert len(found.output) == 3
    assert text_of(found.output) == "".join(f"t{n}" for n in range(9))
    assert reasoning_of(found.output) == "".join(f"r{n}" for n in range(9))


def test_mistral_thinking_parts_are_reasoning() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}
    bare = {"type": "thinking", "thinking": "Hm"}
    text = [{"type": "text", "text": "Hi"}, {"type": "text", "text": ""}]
    found, plain = (whole(message(content=[part, *text]), type="mistral") for part in (thinking, bare))

    assert found.output == plain.output
    assert (reasoning_of(found.output), text_of(found.output)) == ("Hm", "Hi")
    assert unpack_state(found.output[0]["encrypted_content"], "mistral") == {"thinking": "Hm"}


def test_a_signature_of_the_whole_message_is_sealed_without_a_call() -> None:
    extra = {"google": {"thought_signature": "sig"}}
    found = play([chunk({"content": "Hi"}), chunk({"extra_content": extra}), DONE])

    assert unpack_state(found.output[1]["encrypted_content"], "vllm") == {"extra_content": {"": extra}}


def test_details_without_an_index_are_joined_until_one_is_signed() -> None:
    pieces: list[Json] = [{"type": "reasoning.text", "text": text} for text in "abc"]
    pieces[1]["signature"] = "s"
    found = play([chunk({"reasoning_details": pieces}), chunk({"content": "Hi"}), DONE])

    expected = [{"type": "reasoning.text", "text": "ab", "signature": "s"}, {"type": "reasoning.text", "text": "c"}]
    assert unpack_state(found.output[0]["encrypted_content"], "vllm") == {"reasoning_details": expected}


def test_a_thought_signature_of_a_call_is_sealed_under_its_call_id() -> None:
    extra = {"google": {"thought_signature": "sig"}}
    found = play([chunk(tool(0, "c1", "f", "{}", extra_content=extra)), chunk({}, "tool_calls"), DONE])

    assert unpack_state(found.output[1]["encrypted_content"], "vllm") == {"extra_content": {"c1": extra}}


# Tool calls...


def test_interleaved_calls_are_kept_apart_by_index() -> None:
    found = play(
        [
            chunk(tool(0, "c0", "f", "")),
            chunk(tool(1, "c1", "g", '{"b"')),
            chunk(tool(0, None, None, '{"a"')),
            chunk(tool(1, None, None, ":2}")),
            chunk(tool(0, None, None, ":1}")),
            chunk({}, "tool_calls"),
            DONE,
        ]
    )

    assert calls_of(found.output) == [["c0", "f", '{"a":1}'], ["c1", "g", '{"b":2}']]
    added = [event["output_index"] for event in found.events if event["type"] == "response.output_item.added"]
    assert added == [0, 1]


def test_a_new_id_under_an_old_index_is_a_new_call() -> None:
    found = play([chunk(tool(0, "c0", "f", "{}")), chunk(tool(0, "c1", "f", '{"x":1}')), DONE])

    assert calls_of(found.output) == [["c0", "f", "{}"], ["c1", "f", '{"x":1}']]


def test_an_id_made_up_for_each_chunk_is_no_new_call() -> None:
    found = play([chunk(tool(0, "c0", "f", '{"x"')), chunk(tool(0, "c9", None, ":1}")), DONE])

    assert calls_of(found.output) == [["c0", "f", '{"x":1}']]


def test_an_empty_or_missing_id_is_made_and_stays_the_same() -> None:
    found = play([chunk(tool(0, "", "f", "{")), chunk(tool(0, "", "", "}")), chunk(tool(1, None, "g", "")), DONE])

    (first, f, empty), (second, g, made) = calls_of(found.output)
    assert first and second and first != second
    assert (f, empty, g, made) == ("f", "{}", "g", "{}")


def test_calls_without_ids_and_indexes_are_told_apart_by_their_names() -> None:
    calls = [*tool(None, None, "f", "{}")["tool_calls"], *tool(None, None, "g", "{}")["tool_calls"]]

    assert [name for _, name, _ in calls_of(whole(message(tool_calls=calls)).output)] == ["f", "g"]


def test_a_second_whole_call_under_the_same_index_without_ids_is_a_new_call() -> None:
    found = play([chunk(tool(0, "", "f", '{"x":1}')), chunk(tool(0, "", "f", '{"x":2}')), DONE])

    assert [arguments for _, _, arguments in calls_of(found.output)] == ['{"x":1}', '{"x":2}']


def test_a_name_repeated_before_the_arguments_are_whole_is_one_call_without_ids_too() -> None:
    found = play([chunk(tool(0, "", "f", '{"x"')), chunk(tool(0, "", "f", ":1}")), DONE])

    assert [arguments for _, _, arguments in calls_of(found.output)] == ['{"x":1}']


def test_a_name_repeated_in_each_chunk_is_one_call() -> None:
    found = play(
        [chunk(tool(0, "c", "f", '{"x"')), chunk(tool(0, "c", "f", ":1}")), chunk(tool(0, "c", "f", "")), DONE]
    )

    assert calls_of(found.output) == [["c", "f", '{"x":1}']]


def test_arguments_that_come_before_the_name_wait_for_it() -> None:
    found = play([chunk(tool(0, "c", None, '{"x"')), chunk(tool(0, None, "f", ":1}")), DONE])

    assert calls_of(found.output) == [["c", "f", '{"x":1}']]


@pytest.mark.parametrize(("arguments", "expected"), [(None, "{}"), ("", "{}"), ({"x": 1}, '{"x":1}')])
def test_missing_arguments_are_an_empty_object_and_an_object_is_its_text(arguments: Any, expected: str) -> None:
    found = whole(message("tool_calls", tool_calls=tool(0, "c", "f", arguments)["tool_calls"]))

    assert calls_of(found.output) == [["c", "f", expected]]


def test_a_call_without_any_name_is_left_out_with_a_warning() -> None:
    found = play([chunk(tool(0, "c", None, "{}")), DONE])

    assert (found.output, len(found.emitter.warnings)) == ([], 1)


def test_the_old_function_call_member_is_a_call() -> None:
    old = [chunk({"function_call": {"name": "f", "arguments": "{"}}), chunk({"function_call": {"arguments": "}"}})]

    assert [call[1:] for call in calls_of(play([*old, chunk({}, "function_call"), DONE]).output)] == [["f", "{}"]]


def test_a_message_is_done_before_a_call_begins() -> None:
    found = play([chunk({"content": "Wait"}), chunk(tool(0, "c", "f", "{}")), chunk({}, "tool_calls"), DONE])

    items = [event for event in found.events if event["type"].startswith("response.output_item")]
    told = [(event["item"]["type"], event["type"].rpartition(".")[2]) for event in items]
    assert told == [("message", "added"), ("message", "done"), ("function_call", "added"), ("function_call", "done")]


NAMESPACE = {"type": "namespace", "name": "crm", "tools": [{"type": "function", "name": "find"}]}
CUSTOM = {"type": "custom", "name": "patch"}


def test_a_namespaced_call_comes_back_with_its_bare_name() -> None:
    found = whole(message(tool_calls=tool(0, "c", "crm__find", "{}")["tool_calls"]), {"tools": [NAMESPACE]})

    assert (found.output[0]["name"], found.output[0]["namespace"]) == ("find", "crm")


def test_a_custom_call_comes_back_as_free_text() -> None:
    deltas = [
        chunk(tool(0, "c", "patch", '{"inp')),
        chunk(tool(0, None, None, 'ut": "a\\n')),
        chunk(tool(0, None, None, 'b"}')),
    ]
    found = play([*deltas, DONE], {"tools": [CUSTOM]})

    assert [(item["type"], item["input"]) for item in found.output] == [("custom_tool_call", "a\nb")]
    pieces = [event["delta"] for event in found.events if event["type"] == "response.custom_tool_call_input.delta"]
    assert pieces == ["a\n", "b"]


# How it ends...


@pytest.mark.parametrize("finish", ["stop", "tool_calls", "function_call", "", None])
def test_these_ends_are_completed(finish: str | None) -> None:
    assert whole(message(finish, content="Hi")).response["status"] == "completed"
    assert play([chunk({"content": "Hi"}), chunk({}, finish), DONE]).response["status"] == "completed"


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("length", "max_output_tokens"),
        ("model_length", "max_output_tokens"),
        ("content_filter", "content_filter"),
        ("sensitive", "content_filter"),
    ],
)
def test_these_ends_are_incomplete(finish: str, reason: str) -> None:
    for found in whole(message(finish, content="Hi")), play([chunk({"content": "Hi"}), chunk({}, finish), DONE]):
        assert found.response["status"] == "incomplete"
        assert found.response["incomplete_details"] == {"reason": reason}
        assert found.output[-1]["status"] == "incomplete"


@pytest.mark.parametrize("finish", ["error", "network_error", "insufficient_system_resource"])
def test_these_ends_are_failures(finish: str) -> None:
    for found in whole(message(finish, content="Hi")), play([chunk({"content": "Hi"}), chunk({}, finish), DONE]):
        assert found.response["status"] == "failed"
        assert found.emitter.failure is not None


def test_an_unknown_end_is_completed_with_a_warning() -> None:
    found = whole(message("moonphase", content="Hi"))

    assert (found.response["status"], len(found.emitter.warnings)) == ("completed", 1)


def test_the_end_of_the_stream_after_a_finish_reason_is_proper() -> None:
    assert play([chunk({"content": "Hi"}), chunk({}, "stop")]).response["status"] == "completed"


def test_the_end_of_the_stream_without_done_and_finish_reason_is_left_open() -> None:
    assert play([chunk({"content": "Hi"})]).emitter.terminal is None


def test_a_stream_in_answer_to_a_unary_request_and_the_other_way_round_are_read_all_the_same() -> None:
    events = [chunk({"content": "Hi"}), chunk({}, "stop"), {"usage": USAGE}, DONE]

    assert text_of(play(events, stream=False).output) == text_of(play([message(content="Hi")]).output) == "Hi"


def test_done_alone_is_no_answer() -> None:
    assert play([DONE]).emitter.terminal is None
    assert play([{"choices": [], "usage": USAGE}, DONE]).emitter.terminal is None


def test_nothing_follows_the_end() -> None:
    found = play([chunk({"content": "Hi"}, "stop"), DONE, chunk({"content": "more"}), DONE])

    assert text_of(found.output) == "Hi"
    assert found.types.count("response.completed") == 1


@pytest.mark.parametrize("calls", [{}, 7, [7], "x"])
def test_tool_calls_that_are_none_are_a_value_error(calls: Any) -> None:
    with pytest.raises(ValueError):
        whole(message(content="Hi", tool_calls=calls or {"a": 1}))


@pytest.mark.parametrize("body", ["{}", '{"id":1}', "[]", "1", "<html>", "", '{"choices":7}', "[" * 100_000])
def test_a_body_that_is_no_answer_is_a_value_error(body: str) -> None:
    with pytest.raises(ValueError):
        whole(body)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(DELTA.map(chunk), DELTA, ANYTHING), max_size=4))
def test_whatever_a_server_sends_is_read_or_a_value_error(sent: list[Any]) -> None:
    try:
        play([*sent, DONE])
    except ValueError:
        pass


# Errors inside an answer...


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        ({"error": {"message": "Boom", "code": 503}}, 503, "Boom"),
        ({"error": {"message": "Boom", "type": "rate_limit_error"}}, 429, "Boom"),
        ({"error": "Boom"}, 502, "Boom"),
        ({"error": {"message": "Boom", "status_code": 400, "code": "tool_use_failed"}}, 400, "Boom"),
        ({"object": "error", "message": "Boom", "code": 400}, 400, "Boom"),
        ({"detail": "Boom"}, 502, "Boom"),
    ],
)
def test_an_error_chunk_fails_the_response_with_the_servers_words(error: Json, status: int, text: str) -> None:
    found = play([chunk({"content": "Hi"}), error, DONE])

    failure = found.emitter.failure
    assert failure is not None
    assert (failure.status, failure.message) == (status, text)
    assert found.types[-2:] == ["error", "response.failed"]
    assert found.response["error"]["message"] == text


def test_an_event_named_error_fails_the_response() -> None:
    found = play([], close=False)
    found.feed({"message": "Boom"}, "error")

    assert found.response["error"]["message"] == "Boom"


def test_an_error_undoes_the_finish_reason_before_it_and_its_usage_counts() -> None:
    last = chunk({"content": ""}, "stop", error={"message": "Boom"}, usage=USAGE)
    found = play([chunk({"content": "Hi"}, "stop"), last, DONE])

    assert found.response["status"] == "failed"
    assert found.response["usage"]["total_tokens"] == 14
    assert text_of(found.output) == "Hi"


def test_an_error_of_a_choice_fails_the_response() -> None:
    broken = chunk({"content": ""}, "error")
    broken["choices"][0]["error"] = {"message": "Boom", "code": 502}

    assert play([broken, DONE]).response["error"]["message"] == "Boom"


def test_refused_credentials_inside_an_answer_do_not_reach_the_client() -> None:
    failure = play([{"error": {"message": "Bad key sk-123", "code": 401}}]).emitter.failure

    assert isinstance(failure, UpstreamAuthError)
    assert "sk-123" not in json.dumps(failure.payload)


def test_a_unary_error_with_status_200_is_a_failure() -> None:
    failure = whole({"error": {"message": "Boom", "code": 429}}).emitter.failure

    assert isinstance(failure, UpstreamRejected)
    assert failure.status == 429


# Usage...


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (USAGE, (10, 4, 0, 0, 0)),
        (USAGE | {"total_tokens": 20}, (10, 10, 0, 0, 0)),
        (USAGE | {"total_tokens": None}, (10, 4, 0, 0, 0)),
        (USAGE | {"prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 1}}, (10, 4, 8, 1, 0)),
        (USAGE | {"prompt_tokens_details": None, "prompt_cache_hit_tokens": 6}, (10, 4, 6, 0, 0)),
        (USAGE | {"num_cached_tokens": 5}, (10, 4, 5, 0, 0)),
        (USAGE | {"completion_tokens_details": {"reasoning_tokens": 3}}, (10, 4, 0, 0, 3)),
    ],
)
def test_usage_counts_what_the_servers_mean(counts: Json, expected: tuple[int, ...]) -> None:
    usage = whole(message(content="Hi", usage=counts)).response["usage"]

    read, given = usage["input_tokens_details"], usage["output_tokens_details"]
    assert (usage["input_tokens"], usage["output_tokens"]) == expected[:2]
    assert (read["cached_tokens"], read["cache_write_tokens"], given["reasoning_tokens"]) == expected[2:]
    assert usage["total_tokens"] == sum(expected[:2])


@pytest.mark.parametrize(
    "last", [{"choices": [], "usage": USAGE}, {"choices": [], "x_groq": {"usage": USAGE}}, {"usage": USAGE}]
)
def test_usage_after_the_finish_reason_counts(last: Json) -> None:
    found = play([chunk({"content": "Hi"}, "stop"), last, DONE])

    assert found.response["usage"]["total_tokens"] == 14
    assert found.emitter.raw_usage == USAGE


def test_without_usage_it_is_null() -> None:
    assert whole(message(content="Hi")).response["usage"] is None
    assert whole(message(content="Hi", usage={})).response["usage"] is None


def test_the_servers_model_and_service_tier_are_told() -> None:
    response = whole(message(content="Hi") | {"service_tier": "flex"}).response

    assert (response["model"], response["service_tier"]) == ("up", "flex")


GARBLED = [
    {"finish_reason": "function_call_filter: MALFORMED_FUNCTION_CALL"},
    {"finish_reason": "error", "native_finish_reason": "MALFORMED_FUNCTION_CALL"},
    {"finish_reason": "stop", "native_finish_reason": "UNEXPECTED_TOOL_CALL"},
]


@pytest.mark.parametrize("ending", GARBLED)
def test_a_call_that_gemini_has_garbled_fails_and_may_be_asked_for_again(ending: Json) -> None:
    last = chunk({"role": "assistant"})
    last["choices"][0] |= ending
    found = Play(call_of(stream=True))

    assert found.feed(last) == []  # nothing has begun that could not be asked for again
    failure = found.close().emitter.failure
    assert isinstance(failure, UpstreamRejected)
    assert (failure.status, failure.kind) == (502, "malformed")


def test_what_came_before_a_garbled_call_is_kept_in_the_failed_response() -> None:
    last = chunk({})
    last["choices"][0] |= GARBLED[0]
    found = play([chunk({"content": "I shall look."}), last])

    assert found.response["status"] == "failed" and text_of(found.output) == "I shall look."
