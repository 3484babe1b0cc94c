"""How replies of the Messages API are read: every trap of its event stream, and every way to end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gomodel_asgi.dialects.anthropic import AnthropicDialect
from gomodel_asgi.dialects.base import Call, unpack_state
from gomodel_asgi.errors import UpstreamAuthError, UpstreamRejected
from gomodel_asgi.wire.event_writer import Emitter

from ..support.anthropic_reader import damaged

Json = dict[str, Any]
DIALECT = AnthropicDialect()
USAGE: Json = {"input_tokens": 10, "output_tokens": 1}


def reading(**body: Any) -> tuple[Any, Emitter]:
    call = Call("create", {"input": "Hello.", **body}, "claude-sonnet-4-5", True, "claude", "anthropic")
    emitter = Emitter(response_id="resp_1", created_at=1, model=call.model, echo=call.body)
    return DIALECT.translator(call, emitter), emitter


def feed(events: list[Json], **body: Any) -> Emitter:
    translator, emitter = reading(**body)
    for event in events:
        translator.feed(event["type"], json.dumps(event).encode())
    translator.close()
    return emitter


def start(**usage: Any) -> Json:
    message = {"type": "message", "id": "msg_1", "model": "claude-sonnet-4-5-20250929", "usage": {**USAGE, **usage}}
    return {"type": "message_start", "message": {**message, "content": []}}


def block(index: int, block: Json, *deltas: Json) -> list[Json]:
    begun = {"type": "content_block_start", "index": index, "content_block": block}
    more = [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
    return [begun, *more, {"type": "content_block_stop", "index": index}]


def text(index: int, *pieces: str) -> list[Json]:
    return block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": piece} for piece in pieces))


def thinking(index: int, words: str, signature: str | None) -> list[Json]:
    deltas: list[Json] = [{"type": "thinking_delta", "thinking": words}]
    if signature:
        deltas.append({"type": "signature_delta", "signature": signature})
    return block(index, {"type": "thinking", "thinking": "", "signature": ""}, *deltas)


def tool_use(index: int, name: str, *pieces: str, id: str = "toolu_1") -> list[Json]:
    deltas = ({"type": "input_json_delta", "partial_json": piece} for piece in pieces)
    return block(index, {"type": "tool_use", "id": id, "name": name, "input": {}}, *deltas)


def end(reason: str | None = "end_turn", details: Json | None = None, **usage: Any) -> list[Json]:
    delta = {"stop_reason": reason, "stop_details": details}
    return [{"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]


def events_of(emitter: Emitter) -> list[Json]:
    return [json.loads(line[6:]) for line in emitter.take().splitlines() if line.startswith(b"data: {")]


def kept(item: Json) -> list[Json]:
    payload = unpack_state(item["encrypted_content"], "anthropic")
    assert payload is not None
    blocks: list[Json] = payload["blocks"]
    return blocks


# Text, thinking, calls...


def test_a_delta_leaves_with_the_event_that_brought_it() -> None:
    translator, emitter = reading()
    for event in [start(), *text(0, "Hel", "lo")[:2]]:
        translator.feed(event["type"], json.dumps(event).encode())
    assert events_of(emitter)[-1]["delta"] == "Hel"


def test_a_ping_anywhere_changes_nothing() -> None:
    plain = [start(), *text(0, "Hello"), *tool_use(1, "f", '{"a": 1}'), *end("tool_use")]
    pings = [each for event in plain[:-1] for each in (event, {"type": "ping"})] + plain[-1:]
    assert feed(pings).take() == feed(plain).take()


def test_adjacent_text_blocks_are_one_part_with_nothing_between() -> None:
    output = feed([start(), *text(0, "One. "), *text(1, "Two."), *end()]).response["output"]
    assert [part["text"] for part in output[0]["content"]] == ["One. Two."]


def test_an_empty_text_block_gives_no_item() -> None:
    assert feed([start(), *text(0), *end()]).response["output"] == []


def test_a_tool_call_without_deltas_has_the_arguments_of_its_start_or_none() -> None:
    whole = block(0, {"type": "tool_use", "id": "a", "name": "f", "input": {"x": "é"}})
    output = feed([start(), *whole, *tool_use(1, "g", "", id="b"), *end("tool_use")]).response["output"]
    assert [item["arguments"] for item in output] == ['{"x": "é"}', "{}"]


def test_interleaved_blocks_stay_apart_by_index() -> None:
    first, second = tool_use(0, "f", '{"a":', "1}", id="a"), tool_use(1, "g", '{"b":', "2}", id="b")
    mixed = [each for pair in zip(first, second, strict=True) for each in pair]
    output = feed([start(), *mixed, *end("tool_use")]).response["output"]
    assert [(item["call_id"], item["arguments"]) for item in output] == [("a", '{"a":1}'), ("b", '{"b":2}')]


def test_a_missing_tool_use_id_is_made() -> None:
    output = feed([start(), *tool_use(0, "f", id=""), *end("tool_use")]).response["output"]
    assert output[0]["call_id"].startswith("call_")


def test_custom_and_namespaced_tools_come_back_as_the_client_named_them() -> None:
    inner = {"type": "function", "name": "find", "parameters": {"type": "object", "properties": {}}}
    tools = [
        {"type": "custom", "name": "sh"},
        {"type": "namespace", "name": "crm", "description": "", "tools": [inner]},
    ]
    calls = [*tool_use(0, "sh", '{"inp', 'ut": "ls \\n', '-l"}'), *tool_use(1, "crm__find", "{}", id="b")]
    custom, function = feed([start(), *calls, *end("tool_use")], tools=tools).response["output"]
    assert (custom["type"], custom["name"], custom["input"]) == ("custom_tool_call", "sh", "ls \n-l")
    assert (function["name"], function["namespace"]) == ("find", "crm")


def test_thinking_goes_into_the_summary_and_comes_back_with_its_signature_when_the_item_is_done() -> None:
    emitter = feed([start(), *thinking(0, "Hmm.", "sig"), *text(1, "Yes."), *end()])
    done = next(event for event in events_of(emitter) if event["type"] == "response.output_item.done")
    assert done["item"]["summary"] == [{"type": "summary_text", "text": "Hmm."}]
    assert kept(done["item"]) == [{"type": "thinking", "thinking": "Hmm.", "signature": "sig"}]


def test_every_thinking_block_is_a_part_of_its_own() -> None:
    output = feed([start(), *thinking(0, "One.", "a"), *thinking(1, "Two.", "b"), *text(2, "Hi"), *end()]).response[
        "output"
    ]
    assert [part["text"] for part in output[0]["summary"]] == ["One.", "Two."]
    assert [block["signature"] for block in kept(output[0])] == ["a", "b"]


def test_an_item_is_done_before_the_next_one_begins() -> None:
    calls = [*tool_use(1, "f", "{}", id="a"), *tool_use(2, "g", "{}", id="b")]
    emitter = feed([start(), *thinking(0, "Hm.", "s"), *calls, *text(3, "Hi"), *end()])
    found = [event for event in events_of(emitter) if event["type"].startswith("response.output_item.")]
    order = [(event["type"].rpartition(".")[2], event["output_index"]) for event in found]
    assert order == [(kind, index) for index in range(4) for kind in ("added", "done")]


def test_thinking_that_was_cut_before_its_signature_is_not_sent_back() -> None:
    output = feed([start(), *thinking(0, "Hmm", None), *end("max_tokens")]).response["output"]
    assert "encrypted_content" not in output[0]
    assert output[0]["summary"][0]["text"] == "Hmm"


def test_redacted_thinking_and_server_tools_are_kept_whole_and_in_order() -> None:
    redacted = {"type": "redacted_thinking", "data": "xyz"}
    use = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
    page = {"type": "web_search_result", "url": "https://a.example", "title": "A", "encrypted_content": "e"}
    result = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [page]}
    query = {"type": "input_json_delta", "partial_json": '{"query": "q"}'}
    events = [start(), *block(0, redacted), *block(1, use, query), *block(2, result), *text(3, "A."), *end()]
    reasoning, search, message = feed(events).response["output"]
    assert kept(reasoning) == [redacted, {**use, "input": {"query": "q"}}, result]
    assert search["action"]["query"] == "q"
    assert search["action"]["sources"] == [{"type": "url", "url": "https://a.example"}]
    assert (search["status"], message["content"][0]["text"]) == ("completed", "A.")


def test_a_failed_search_is_a_failed_item() -> None:
    use = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}}
    error = {"type": "web_search_tool_result_error", "error_code": "unavailable"}
    result = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": error}
    output = feed([start(), *block(0, use), *block(1, result), *end()]).response["output"]
    assert [item["status"] for item in output if item["type"] == "web_search_call"] == ["failed"]


def test_executed_code_is_a_code_interpreter_call_with_both_outputs() -> None:
    use = {"type": "server_tool_use", "id": "s1", "name": "bash_code_execution", "input": {"command": "ls"}}
    ran = {"type": "bash_code_execution_result", "stdout": "out\n", "stderr": "err\n", "return_code": 1, "content": []}
    result = {"type": "bash_code_execution_tool_result", "tool_use_id": "s1", "content": ran}
    tools = [{"type": "code_interpreter", "container": "container_1"}]
    item = feed([start(), *block(0, use), *block(1, result), *end()], tools=tools).response["output"][1]
    assert (item["type"], item["code"], item["container_id"]) == ("code_interpreter_call", "ls", "container_1")
    assert item["outputs"] == [{"type": "logs", "logs": "out\nerr\n"}]


@pytest.mark.parametrize("failed", [False, True])
def test_a_remote_tool_is_an_mcp_call_with_its_output_or_its_error(failed: bool) -> None:
    use = {"type": "mcp_tool_use", "id": "m1", "name": "find", "server_name": "crm", "input": {"q": 1}}
    content = [{"type": "text", "text": "answer"}]
    result = {"type": "mcp_tool_result", "tool_use_id": "m1", "is_error": failed, "content": content}
    item = feed([start(), *block(0, use), *block(1, result), *end()]).response["output"][1]
    assert (item["type"], item["name"], item["server_label"]) == ("mcp_call", "find", "crm")
    assert item["arguments"] == '{"q": 1}'
    assert (item["status"], item["output"]) == (("failed", None) if failed else ("completed", "answer"))


def test_a_tool_without_an_item_is_neither_text_nor_a_call_but_told_to_observers() -> None:
    use = {"type": "server_tool_use", "id": "s1", "name": "advisor", "input": {}}
    result = {"type": "advisor_tool_result", "tool_use_id": "s1", "content": {"type": "advisor_result", "text": "Hm"}}
    emitter = feed([start(), *block(0, use), *block(1, result), *end()])
    assert [item["type"] for item in emitter.response["output"]] == ["reasoning"]
    assert emitter.warnings == ["server tool 'advisor' has no item"]


def test_citations_that_precede_their_text_annotate_exactly_it() -> None:
    citation = {"type": "web_search_result_location", "url": "https://a.example", "title": "A", "cited_text": "..."}
    cited = block(
        1,
        {"type": "text", "text": "", "citations": []},
        {"type": "citations_delta", "citation": citation},
        {"type": "text_delta", "text": "Blue."},
    )
    part = feed([start(), *text(0, "It is: "), *cited, *end()]).response["output"][0]["content"][0]
    note = part["annotations"][0]
    assert part["text"][note["start_index"] : note["end_index"]] == "Blue."
    assert (note["type"], note["url"], note["title"]) == ("url_citation", "https://a.example", "A")


def test_a_compaction_is_an_item_that_holds_the_block() -> None:
    begun = {"type": "compaction", "content": None}
    deltas = {"type": "compaction_delta", "content": "So far...", "encrypted_content": "e"}
    item = feed([start(), *block(0, begun, deltas), *end("compaction")]).response["output"][0]
    assert item["type"] == "compaction"
    assert kept(item) == [{"type": "compaction", "content": "So far...", "encrypted_content": "e"}]


# The end...


@pytest.mark.parametrize(
    ("reason", "status", "why"),
    [
        ("end_turn", "completed", None),
        ("tool_use", "completed", None),
        ("stop_sequence", "completed", None),
        ("compaction", "completed", None),
        ("something_new", "completed", None),
        ("max_tokens", "incomplete", "max_output_tokens"),
        ("model_context_window_exceeded", "incomplete", "max_output_tokens"),
        ("refusal", "incomplete", "content_filter"),
    ],
)
def test_the_stop_reason_sets_the_status(reason: str, status: str, why: str | None) -> None:
    emitter = feed([start(), *text(0, "Hello"), *end(reason)])
    assert emitter.response["status"] == status
    assert (emitter.response["incomplete_details"] or {}).get("reason") == why
    assert bool(emitter.warnings) == (reason == "something_new")


def test_a_call_that_was_cut_is_the_incomplete_last_item() -> None:
    output = feed([start(), *text(0, "Hi"), *tool_use(1, "f", '{"a": "b'), *end("max_tokens")]).response["output"]
    assert [item["status"] for item in output] == ["completed", "incomplete"]
    assert output[1]["arguments"] == '{"a": "b'


def test_a_refusal_s_explanation_is_a_refusal_part_after_the_text_that_came() -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "I will not."}
    output = feed([start(), *text(0, "Well"), *end("refusal", details)]).response["output"]
    assert [part.get("text", part.get("refusal")) for part in output[0]["content"]] == ["Well", "I will not."]
    assert output[0]["content"][1]["type"] == "refusal"


def test_an_answer_that_was_cut_keeps_the_call_that_waits_and_the_result_may_come_in_the_next_reply() -> None:
    use = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}}
    output = feed([start(), *block(0, use), *end("max_tokens")]).response["output"]
    assert kept(output[0]) == [use]
    assert (output[1]["type"], output[1]["status"]) == ("web_search_call", "incomplete")
    result = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}
    again = feed([start(), *block(0, result), *text(1, "None."), *end()]).response["output"]
    assert [item["type"] for item in again] == ["reasoning", "web_search_call", "message"]


def test_nothing_after_the_end_counts() -> None:
    emitter = feed([start(), *text(0, "Hi"), *end(), *text(1, "more"), {"type": "ping"}])
    assert emitter.take() == feed([start(), *text(0, "Hi"), *end()]).take()


def test_a_stop_without_a_block_s_end_still_ends_the_block() -> None:
    output = feed([start(), *tool_use(0, "f", '{"a": 1}')[:-1], *end("tool_use")]).response["output"]
    assert output[0]["arguments"] == '{"a": 1}'


# Usage...


def test_usage_counts_cached_and_written_tokens_into_the_input() -> None:
    usage = feed([start(cache_read_input_tokens=5, cache_creation_input_tokens=3), *end(output_tokens=7)]).response[
        "usage"
    ]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (18, 7, 25)
    assert usage["input_tokens_details"] == {"cached_tokens": 5, "cache_write_tokens": 3}


def test_non_null_numbers_of_message_delta_replace_the_first_ones_zeros_too() -> None:
    last = end(input_tokens=None, output_tokens=4, cache_read_input_tokens=0)
    usage = feed([start(cache_read_input_tokens=5), *last]).response["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (10, 4)


def test_a_compaction_counts_and_an_advisor_does_not() -> None:
    iterations = [
        {"type": "compaction", "input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 1},
        {"type": "advisor_message", "input_tokens": 900, "output_tokens": 90},
        {"type": "message", "input_tokens": 10, "output_tokens": 7},
    ]
    details = {"thinking_tokens": 2}
    usage = feed([start(), *end(output_tokens=7, iterations=iterations, output_tokens_details=details)]).response[
        "usage"
    ]
    assert (usage["input_tokens"], usage["output_tokens"]) == (111, 27)
    assert usage["input_tokens_details"]["cached_tokens"] == 1
    assert usage["output_tokens_details"]["reasoning_tokens"] == 2


def test_a_reply_without_usage_has_none() -> None:
    begun = {"type": "message_start", "message": {"type": "message", "content": []}}
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    assert feed([begun, *text(0, "Hi"), stop, {"type": "message_stop"}]).response["usage"] is None


def test_the_tier_that_served_is_the_response_s_service_tier() -> None:
    assert feed([start(service_tier="priority"), *end()]).response["service_tier"] == "priority"


def test_a_count_of_tokens_is_the_whole_answer() -> None:
    call = Call("input_tokens", {"input": "Hello."}, "claude-sonnet-4-5", False, "claude", "anthropic")
    emitter = Emitter(response_id="resp_1", created_at=1, model=call.model, echo=call.body, stream=False)
    translator = DIALECT.translator(call, emitter)
    with pytest.raises(ValueError):
        translator.feed("", b'{"total": 5}')
    translator.feed("", b'{"input_tokens": 14}')
    assert emitter.response == {"object": "response.input_tokens", "input_tokens": 14}
    assert emitter.terminal == "completed"


# Failures...


@pytest.mark.parametrize(
    ("kind", "status"),
    [("overloaded_error", 529), ("rate_limit_error", 429), ("api_error", 500), ("invalid_request_error", 400)],
)
def test_an_error_event_fails_the_response_with_the_provider_s_words(kind: str, status: int) -> None:
    error = {"type": "error", "error": {"type": kind, "message": "Too much."}}
    emitter = feed([start(), *text(0, "Hel")[:2], error])
    assert (emitter.terminal, emitter.response["error"]["message"]) == ("failed", "Too much.")
    assert isinstance(emitter.failure, UpstreamRejected)
    assert (emitter.failure.status, emitter.failure.kind) == (status, status)
    assert emitter.response["output"][0]["content"][0]["text"] == "Hel"


@pytest.mark.parametrize("kind", ["authentication_error", "permission_error", "billing_error"])
def test_what_the_provider_says_of_our_credentials_is_for_observers_only(kind: str) -> None:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": "key sk-ant-1 is bad"}}).encode()
    error = DIALECT.error(401, body)
    assert isinstance(error, UpstreamAuthError)
    assert "sk-ant-1" not in error.message and "sk-ant-1" in (error.detail or "")


def test_a_body_that_is_no_error_of_this_api_is_not_read_as_one() -> None:
    for body in (b"<html>", b"[]", b'{"error": "x"}', b'{"detail": "x"}', b"", b"[" * 5000):
        assert DIALECT.error(500, body) is None


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"type": "message"}', b'{"id": 1, "choices": []}'])
def test_a_body_that_is_no_answer_is_a_value_error(body: bytes) -> None:
    translator, emitter = reading()
    with pytest.raises(ValueError):
        translator.feed("", body)
    assert emitter.terminal is None


@pytest.mark.parametrize(
    "event",
    [
        {"type": "message_start"},
        {"type": "message_start", "message": None},
        {"type": "content_block_delta", "index": 4, "delta": {"type": "text_delta", "text": "x"}},
        {"type": "content_block_start", "index": 0, "content_block": {"text": "x"}},
        {"type": "content_block_stop"},
        {"type": "error", "error": {}},
    ],
)
def test_an_event_of_another_shape_is_a_value_error(event: Json) -> None:
    translator, _ = reading()
    with pytest.raises(ValueError):
        translator.feed(event["type"], json.dumps(event).encode())


def test_unknown_events_and_deltas_are_passed_over_and_unknown_blocks_are_kept() -> None:
    new = {"type": "hologram", "data": "x"}
    events = [start(), {"type": "tea_break"}, *block(0, new, {"type": "hologram_delta"}), *text(1, "Hi"), *end()]
    emitter = feed(events)
    assert kept(emitter.response["output"][0]) == [new]
    assert emitter.warnings == ["content block 'hologram' has no item"]


def test_a_reply_with_any_value_of_a_wrong_type_is_read_or_a_value_error() -> None:
    citation = {"type": "web_search_result_location", "url": "https://a.example", "title": "A"}
    page = {"type": "web_search_result", "url": "https://a.example"}
    ran = {"type": "bash_code_execution_result", "stdout": "1", "stderr": "", "content": []}
    content = [
        {"type": "thinking", "thinking": "Hm", "signature": "s"},
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [page]},
        {"type": "server_tool_use", "id": "s2", "name": "bash_code_execution", "input": {"command": "ls"}},
        {"type": "bash_code_execution_tool_result", "tool_use_id": "s2", "content": ran},
        {"type": "mcp_tool_use", "id": "m1", "name": "find", "server_name": "crm", "input": {}},
        {"type": "mcp_tool_result", "tool_use_id": "m1", "is_error": False, "content": [{"type": "text", "text": "a"}]},
        {"type": "text", "text": "Yes.", "citations": [citation]},
        {"type": "compaction", "content": "So far"},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
    ]
    usage = {"input_tokens": 1, "output_tokens": 1, "iterations": [{"type": "compaction", "input_tokens": 1}]}
    details = {"type": "refusal", "explanation": "No."}
    message = {"type": "message", "model": "m", "content": content, "stop_reason": "refusal", "stop_details": details}
    for wrong in damaged({**message, "usage": usage, "container": {"id": "c"}}):
        translator, _ = reading()
        try:
            translator.feed("", json.dumps(wrong).encode())
        except ValueError:
            pass
