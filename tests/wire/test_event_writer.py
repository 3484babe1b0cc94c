"""The emitter's grammar: whatever a translator says in whatever order, the stream is a proper one."""

from __future__ import annotations

import json
from typing import Any, cast, get_args

import pytest
from hypothesis import given, settings, strategies as st
from openai._models import validate_type
from openai.types.responses import ResponseError, ResponseStreamEvent
from openai.types.responses.response import IncompleteDetails
from openresponses_types import types as open_responses

from gomodel_asgi.errors import GatewayError, UpstreamTruncated
from gomodel_asgi.wire.calls import Call
from gomodel_asgi.wire.event_writer import Emitter
from gomodel_asgi.wire.items import Item, Message
from gomodel_asgi.wire.response import CODES, Reason
from gomodel_asgi.wire.usage import usage

Json = dict[str, Any]

ENDS = ("completed", "incomplete", "failed")
STARTS = {
    "response.content_part.added": "response.content_part.done",
    "response.reasoning_summary_part.added": "response.reasoning_summary_part.done",
}
DELTAS = {
    "response.output_text.delta": ("response.content_part.added", "text"),
    "response.refusal.delta": ("response.content_part.added", "refusal"),
    "response.reasoning_summary_text.delta": ("response.reasoning_summary_part.added", "text"),
    "response.reasoning_text.delta": ("response.content_part.added", "text"),
}
CALL_DELTAS = {
    "response.function_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
    "response.mcp_call_arguments.delta": "arguments",
    "response.code_interpreter_call_code.delta": "code",
}
CLIENT_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
"""Items whose text must have come in deltas."""
OPEN_ITEMS = ("message", "reasoning", "function_call", "function_call_output", "compaction")
"""All that Open Responses knows."""
STATUSLESS = ("compaction", "mcp_list_tools", "mcp_approval_request")


def emitter(stream: bool = True, after: int = -1, **echo: Any) -> Emitter:
    return Emitter(response_id="resp_ab", created_at=7, model="m", echo=echo, stream=stream, after=after)


def events(data: bytes) -> list[Json]:
    """The events of *data*, each named by its type, `[DONE]` checked and taken off."""
    blocks = data.decode().split("\n\n")
    assert blocks[-2:] == ["data: [DONE]", ""]
    found = []
    for block in blocks[:-2]:
        name, body = block.split("\n")
        found.append(json.loads(body.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


class Grammar:
    """An independent judge: reads events and keeps what a client would keep."""

    def __init__(self) -> None:
        self.items: dict[int, Json] = {}
        self.parts: dict[tuple[int, str, int], Json] = {}
        self.texts: dict[tuple[int, str, int], str] = {}
        self.done: set[int] = set()

    def read(self, found: list[Json]) -> None:
        assert [event["sequence_number"] for event in found] == list(range(len(found)))
        assert [event["type"] for event in found[:2]] == ["response.created", "response.in_progress"]
        final = found[-1]
        assert final["type"] in tuple(f"response.{end}" for end in ENDS)
        middle = found[2:-2] if final["type"] == "response.failed" else found[2:-1]
        for event in middle:
            self.event(event)
        self.end(final)

    def event(self, event: Json) -> None:
        kind = event["type"]
        index = event["output_index"]
        if kind == "response.output_item.added":
            assert index == len(self.items)
            item = event["item"]
            assert item.get("status") == (None if item["type"] in STATUSLESS else "in_progress")
            self.items[index] = event["item"]
            return
        assert index not in self.done
        if kind == "response.output_item.done":
            self.item_done(index, event["item"])
        else:
            assert event["item_id"] == self.items[index]["id"]
            self.inside(kind, index, event)

    def inside(self, kind: str, index: int, event: Json) -> None:
        numbering = next((name for name in ("content_index", "summary_index") if name in event), "")
        place = (index, numbering, event.get(numbering, -1))
        if kind in STARTS:
            assert place not in self.texts
            self.parts[place], self.texts[place] = event["part"], ""
        elif kind in DELTAS:
            assert place in self.parts
            self.texts[place] += event["delta"]
        elif kind in CALL_DELTAS:
            self.texts[place] = self.texts.get(place, "") + event["delta"]
        elif kind in STARTS.values():
            part = event["part"]
            assert part.get("text", part.get("refusal")) == self.texts[place]
            del self.parts[place]

    def item_done(self, index: int, item: Json) -> None:
        assert not [place for place in self.parts if place[0] == index]
        assert (item["id"], item["type"]) == (self.items[index]["id"], self.items[index]["type"])
        place = (index, "", -1)
        if place in self.texts or item["type"] in CLIENT_CALLS:
            told = {name: item.get(name) for name in CALL_DELTAS.values() if name in item}
            assert list(told.values()) == [self.texts.get(place, "")]
        self.items[index] = item
        self.done.add(index)

    def end(self, final: Json) -> None:
        response = final["response"]
        assert response["status"] == final["type"].removeprefix("response.")
        output = response["output"]
        assert len(output) == len(self.items)
        for index, item in self.items.items():
            assert output[index]["id"] == item["id"]
            if index in self.done:
                assert output[index] == item
        if response["status"] != "failed":
            assert self.done == set(self.items)
        assert len({item["id"] for item in output}) == len(output)
        if all(item["type"] in OPEN_ITEMS for item in output):
            open_responses.ResponseResource.model_validate(response)


KINDS = ("message", "reasoning", "function_call", "custom_call", "item")
VERBS = ("text", "refusal", "annotate", "end_part", "arguments", "set_encrypted_content", "close")
step = st.tuples(st.sampled_from(KINDS + VERBS + VERBS), st.integers(0, 7), st.text(max_size=5))
story = st.tuples(st.lists(step, max_size=25), st.sampled_from(ENDS))


def tell(to: Emitter, told: tuple[list[tuple[str, int, str]], str]) -> None:
    """Tell *to* a story: open items and speak to any of them that is open and understands."""
    steps, end = told
    opened: list[Item] = []
    for verb, which, text in steps:
        if verb in KINDS:
            opened += open_item(to, verb, text)
            continue
        able = [item for item in opened if not item.closed and hasattr(item, verb)]
        if able:
            speak(able[which % len(able)], verb, text)
    if end == "failed":
        to.fail(UpstreamTruncated("It stopped."))
    elif end == "incomplete":
        to.incomplete("max_output_tokens")
    else:
        to.complete()


def open_item(to: Emitter, kind: str, text: str) -> list[Item]:
    if kind == "item":
        to.item({"type": "web_search_call", "status": "completed"}, "response.web_search_call.in_progress")
        to.items[-1].close()
        return []
    if kind in ("message", "reasoning"):
        return [getattr(to, kind)()]
    return [getattr(to, kind)(f"call_{text}", "tool")]


def speak(item: Item, verb: str, text: str) -> None:
    if verb == "annotate":
        getattr(item, verb)({"type": "url_citation", "url": text, "title": "", "start_index": 0, "end_index": 0})
    elif verb in ("end_part", "close"):
        getattr(item, verb)()
    else:
        getattr(item, verb)(text)


@settings(max_examples=150, deadline=None)
@given(story)
def test_every_story_makes_a_stream_of_the_grammar(told: Any) -> None:
    to = emitter()
    tell(to, told)

    Grammar().read(events(to.take()))


@settings(max_examples=60, deadline=None)
@given(story)
def test_the_response_object_is_the_same_whether_it_was_streamed_or_not(told: Any) -> None:
    streamed, whole = emitter(), emitter(stream=False)
    tell(streamed, told)
    tell(whole, told)

    assert json.dumps(streamed.response) == json.dumps(whole.response)
    assert whole.take() == b""


def test_parts_that_are_open_at_once_keep_their_places() -> None:
    to = emitter()
    message = to.message()
    first, second = (message.open_part({"type": "output_text"}, "content") for _ in range(2))
    second.text("b")
    first.text("a")
    second.close()
    first.text("A")
    to.complete()

    Grammar().read(events(to.take()))
    assert [part["text"] for part in to.response["output"][0]["content"]] == ["aA", "b"]


def test_a_part_that_has_no_deltas_comes_whole() -> None:
    to = emitter()
    audio = {"type": "output_audio", "data": "UklGRg==", "transcript": "Hi"}
    to.message().open_part(audio, "content").close()
    to.complete()

    assert to.response["output"][0]["content"] == [audio]
    assert [event["part"] for event in events(to.take()) if "part" in event] == [audio, audio]


HOSTED: dict[str, tuple[Json, list[tuple[str, Json]], Json]] = {
    "web_search_call": (
        {},
        [("in_progress", {}), ("searching", {}), ("completed", {})],
        {"action": {"type": "search", "query": "Rome", "queries": ["Rome"]}},
    ),
    "file_search_call": (
        {"queries": [], "results": None},
        [("in_progress", {}), ("searching", {}), ("completed", {})],
        {"queries": ["Rome"], "results": [{"file_id": "file_1", "filename": "a.txt", "score": 0.5, "text": "Rome"}]},
    ),
    "code_interpreter_call": (
        {"code": "", "outputs": [], "container_id": "cntr_1"},
        [("in_progress", {}), ("text", {"delta": "1+"}), ("text", {"delta": "1"}), ("end_text", {}),
         ("interpreting", {}), ("completed", {})],
        {"code": "1+1", "outputs": [{"type": "logs", "logs": "2"}], "container_id": "cntr_1"},
    ),
    "image_generation_call": (
        {},
        [("in_progress", {}), ("generating", {}),
         ("partial_image", {"partial_image_b64": "AA==", "partial_image_index": 0}), ("completed", {})],
        {"result": "AAAA"},
    ),
    "mcp_call": (
        {"server_label": "crm", "name": "f", "arguments": "", "output": None, "error": None},
        [("in_progress", {}), ("text", {"delta": "{}"}), ("end_text", {}), ("completed", {})],
        {"server_label": "crm", "name": "f", "arguments": "{}", "output": "ok", "error": None},
    ),
    "mcp_list_tools": (
        {"server_label": "crm", "tools": []},
        [("in_progress", {}), ("completed", {})],
        {"server_label": "crm", "tools": [{"name": "f", "input_schema": {}}]},
    ),
    "mcp_approval_request": ({"server_label": "crm", "name": "f", "arguments": "{}"}, [], {}),
}  # fmt: skip
"""How a hosted tool's call begins, what is told of it on the way, and how it ends (OpenAI, Responses API reference)."""


@pytest.mark.parametrize("type", HOSTED)
def test_a_hosted_tool_s_call_is_announced_gets_on_and_ends_at_its_place(type: str) -> None:
    begun, steps, ended = HOSTED[type]
    to = emitter()
    to.message().text("Let me see.")
    call: Any = to.open({"type": type, **begun})
    for phase, members in steps:
        getattr(call, phase)(*members.values()) if hasattr(call, phase) else call.progress(phase, **members)
    call.close("completed", ended)
    to.complete()

    found = events(to.take())
    Grammar().read(found)
    mine = [event for event in found if event.get("output_index") == 1]
    status = {} if type in STATUSLESS else {"status": "in_progress"}
    added, *between, done = mine
    assert added["item"] == {"id": call.value["id"], "type": type, **begun, **status}
    assert (
        done["item"] == to.response["output"][1] == added["item"] | ended | ({"status": "completed"} if status else {})
    )
    assert all(event["item_id"] == call.value["id"] for event in between)
    expected = ["response.%s.%s" % (type, phase) for phase, _ in steps if not hasattr(call, phase)]
    assert [event["type"] for event in between if event["type"].startswith(f"response.{type}.")] == expected
    for event in found:
        if event is not added or type != "web_search_call":  # announced without the action that the SDK requires
            validate_type(type_=cast(Any, ResponseStreamEvent), value=event)


def test_code_and_arguments_of_hosted_tools_are_told_in_deltas_and_whole_at_their_end() -> None:
    to = emitter()
    code = to.open({"type": "code_interpreter_call", "container_id": "cntr_1", "code": ""})
    assert isinstance(code, Call)
    code.text("1+")
    code.text("1")
    code.progress("interpreting")
    to.complete()

    found = [event for event in events(to.take()) if "code_interpreter_call" in event["type"]]
    assert [event["type"].removeprefix("response.code_interpreter_call") for event in found] == [
        "_code.delta", "_code.delta", ".interpreting", "_code.done",
    ]  # fmt: skip
    assert (found[-1]["code"], to.response["output"][0]["code"]) == ("1+1", "1+1")


def test_a_hosted_tool_s_call_that_came_whole_keeps_its_text() -> None:
    to = emitter()
    to.item({"type": "mcp_call", "server_label": "crm", "name": "f", "arguments": '{"a":1}', "output": "ok"})
    to.complete()

    assert to.response["output"][0]["arguments"] == '{"a":1}'


def test_an_item_keeps_its_own_id_unless_another_one_has_it() -> None:
    to = emitter()
    for id in ("x", "x", None, 5, "msg_ab05", "x", ""):
        to.open({"type": "message", "id": id}).close()
    to.message()
    to.complete()

    ids = [item["id"] for item in to.response["output"]]
    assert (ids[0], ids[4], len(set(ids))) == ("x", "msg_ab05", len(ids))
    Grammar().read(events(to.take()))


def test_a_call_keeps_its_own_call_id_unless_another_one_has_it() -> None:
    to = emitter()
    for call_id in ("c", "c", "", "d"):
        to.function_call(call_id, "f").close()
    to.custom_call("c", "g").close()
    to.open({"type": "shell_call", "call_id": "d"}).close()
    to.open({"type": "function_call_output", "call_id": "c", "output": "1"}).close()
    to.open({"type": "tool_search_call", "call_id": None}).close()
    to.complete()

    *calls, output, search = to.response["output"]
    assert len({call["call_id"] for call in calls}) == len(calls)
    assert (calls[0]["call_id"], calls[3]["call_id"], output["call_id"], search["call_id"]) == ("c", "d", "c", None)


def test_an_item_of_any_type_is_written() -> None:
    to = emitter()
    to.open({"type": "acme:thing", "weight": 3}).close("completed", {"weight": 4, "id": "other", "type": "other"})
    to.complete()

    item = to.response["output"][0]
    assert item == {"id": "thing_ab00", "type": "acme:thing", "weight": 4, "status": "completed"}


def test_an_event_carries_what_an_upstream_adds_to_it() -> None:
    to = emitter()
    message = to.open({"type": "message"}, trace=1)
    assert isinstance(message, Message)
    part = message.open_part({"type": "output_text"}, "content", trace=2)
    part.text("a", obfuscation="xyz")
    part.annotate({"type": "file_citation"}, trace=3)
    part.end_text(trace=4)
    part.close({"seen": True}, trace=5)
    message.close("completed", {"phase": "final_answer"}, trace=6)
    to.complete()

    found = events(to.take())
    assert [event["trace"] for event in found if "trace" in event] == [1, 2, 3, 4, 5, 6]
    assert next(event for event in found if "obfuscation" in event)["type"] == "response.output_text.delta"
    item = to.response["output"][0]
    assert (item["phase"], item["content"][0]["seen"]) == ("final_answer", True)


def test_nothing_is_held_back() -> None:
    to = emitter()
    message = to.message()
    to.take()
    message.text("a")
    assert b'"delta":"a"' in to.take()
    message.text("b")
    assert b'"delta":"b"' in to.take()


def test_a_response_repeats_the_request_and_has_defaults_for_the_rest() -> None:
    response = emitter(
        temperature=0.3, metadata={"a": "b"}, user=None, tools=[{"type": "function", "name": "f"}]
    ).response

    assert (response["temperature"], response["metadata"], response["top_p"]) == (0.3, {"a": "b"}, 1.0)
    assert response["tools"] == [
        {"type": "function", "name": "f", "description": None, "parameters": None, "strict": None}
    ]
    assert "user" not in response


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ({"verbosity": "low"}, {"verbosity": "low", "format": {"type": "text"}}),
        ({"format": None}, {"format": {"type": "text"}}),
        (
            {"format": {"type": "json_schema", "name": "n", "schema": {}}},
            {"format": {"type": "json_schema", "name": "n", "schema": {}, "description": None, "strict": False}},
        ),
        (
            {"format": {"type": "json_schema", "name": "n", "schema": {}, "description": "d", "strict": True}},
            {"format": {"type": "json_schema", "name": "n", "schema": {}, "description": "d", "strict": True}},
        ),
    ],
)
def test_the_repeated_format_has_every_member_that_open_responses_requires(text: Json, expected: Json) -> None:
    assert emitter(text=text).response["text"] == expected


def test_the_stamp_is_the_first_member_of_every_response_object() -> None:
    to = Emitter(response_id="resp_ab", created_at=7, model="m", echo={}, stamp="prod")
    to.complete()

    carrying = [event for event in events(to.take()) if "response" in event]
    assert {next(iter(event["response"].items())) for event in carrying} == {("provider", "prod")}


def test_missing_arguments_are_an_empty_object() -> None:
    to = emitter()
    to.function_call("call_1", "f").close()
    to.complete()

    found = events(to.take())
    deltas = [event["delta"] for event in found if event["type"] == "response.function_call_arguments.delta"]
    assert deltas == ["{}"]
    assert to.response["output"][0]["arguments"] == "{}"


def test_only_the_last_item_of_an_incomplete_response_is_incomplete() -> None:
    to = emitter()
    to.message().text("a")
    to.message().text("b")
    to.incomplete("content_filter")

    assert [item["status"] for item in to.response["output"]] == ["completed", "incomplete"]
    assert to.response["incomplete_details"] == {"reason": "content_filter"}


def test_a_failure_says_both_forms_of_the_error_then_failed_and_keeps_what_came() -> None:
    to = emitter()
    to.message().text("half")
    to.fail(UpstreamTruncated("It stopped."))

    *_, error, failed = events(to.take())
    assert error["message"] == error["error"]["message"] == failed["response"]["error"]["message"] == "It stopped."
    assert error["code"] == "upstream_stream_truncated"
    assert failed["response"]["output"][0]["content"][0]["text"] == "half"
    assert failed["response"]["output"][0]["status"] == "incomplete"


def test_a_failure_keeps_each_item_as_far_as_it_had_come() -> None:
    to = emitter()
    to.reasoning().text("hm")
    to.message().refusal("no")
    to.function_call("call_1", "f").arguments('{"a"')
    to.custom_call("call_2", "patch").arguments('{"input": "x')
    to.fail(UpstreamTruncated("It stopped."))

    thought, refusal, call, custom = to.response["output"]
    assert thought["summary"] == [{"type": "summary_text", "text": "hm"}]
    assert refusal["content"] == [{"type": "refusal", "refusal": "no"}]
    assert (call["arguments"], custom["input"]) == ('{"a"', "x")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("rate_limit_exceeded", "rate_limit_exceeded"),
        ("context_length_exceeded", "context_length_exceeded"),
        ("insufficient_quota", "insufficient_quota"),
        ("upstream_stream_truncated", "server_error"),
        ("overloaded_error", "server_error"),
        ("server_shutdown", "server_error"),
        (None, "server_error"),
    ],
)
def test_the_code_of_a_failed_response_is_one_that_clients_know_and_its_event_has_the_real_one(
    code: str | None, told: str
) -> None:
    to = emitter()
    failure = GatewayError("It stopped.", code=code)
    to.fail(failure)

    *_, error, failed = events(to.take())
    assert error["code"] == error["error"]["code"] == code
    assert failed["response"]["error"]["code"] == told


def test_the_codes_and_reasons_are_those_of_the_sdk() -> None:
    known = set(get_args(ResponseError.model_fields["code"].annotation))
    assert CODES - {"context_length_exceeded", "insufficient_quota", "usage_not_included"} == known
    reasons = get_args(get_args(IncompleteDetails.model_fields["reason"].annotation)[0])
    assert set(get_args(Reason)) == set(reasons)


def test_a_failure_before_anything_begins_the_response_first() -> None:
    to = emitter()
    to.fail(UpstreamTruncated("It stopped."))

    assert [event["type"] for event in events(to.take())][:2] == ["response.created", "response.in_progress"]


def test_a_failure_that_is_reported_is_told_at_once_and_ends_the_response_once() -> None:
    to = emitter()
    to.message().text("half")
    to.report(UpstreamTruncated("It stopped."))
    assert to.take().endswith(b"}\n\n") and to.terminal is None
    to.report(UpstreamTruncated("Again."))
    to.fail(UpstreamTruncated("It broke off."), {"code": "x", "message": "No."}, trace=1)

    (failed,) = events(to.take())
    assert (failed["type"], failed["trace"], failed["sequence_number"]) == ("response.failed", 1, 6)
    assert failed["response"]["error"] == {"code": "x", "message": "No."}
    assert to.failure is not None and to.failure.message == "It stopped."


def test_a_response_may_wait_in_a_queue_before_it_is_in_progress() -> None:
    to = emitter()
    to.announce("queued", trace=1)
    to.announce("queued")
    to.message().close()
    to.complete()

    found = events(to.take())
    assert [event["type"] for event in found[:3]] == ["response.created", "response.queued", "response.in_progress"]
    assert [event["response"]["status"] for event in found[:3]] == ["in_progress", "queued", "in_progress"]
    assert (found[1]["trace"], "trace" in found[0]) == (1, False)


def test_a_client_that_has_the_beginning_gets_the_rest_only() -> None:
    whole, rest = emitter(), emitter(after=4)
    for to in (whole, rest):
        to.message().text("a")
        to.complete()

    assert events(rest.take()) == events(whole.take())[5:]


def test_a_reply_that_breaks_off_is_told_behind_what_the_client_has() -> None:
    to = emitter(after=100)
    to.message().text("a")
    to.fail(UpstreamTruncated("It stopped."))

    assert [event["sequence_number"] for event in events(to.take())] == [101, 102]


def test_a_member_of_an_event_may_have_the_name_of_the_event() -> None:
    to = emitter()
    to.emit("item", item={}, type_="x", self=1)
    to.complete()

    assert events(to.take())[0] == {"type": "item", "sequence_number": 0, "item": {}, "type_": "x", "self": 1}


def test_a_response_fails_only_once_and_not_after_its_end() -> None:
    to = emitter()
    to.complete()
    to.take()
    to.fail(UpstreamTruncated("It stopped."))

    assert (to.take(), to.terminal, to.failure) == (b"", "completed", None)


def test_a_beginning_alone_is_not_meaningful_and_an_item_is() -> None:
    to = emitter()
    to.begin("real-model")
    assert not to.meaningful
    to.message()
    assert to.meaningful
    assert to.response["model"] == "real-model"


def test_logprobs_and_annotations_are_in_the_part_and_in_its_events() -> None:
    to = emitter()
    message = to.message(phase="final_answer")
    message.text("a", [{"token": "a", "logprob": 0.0, "bytes": [97], "top_logprobs": []}])
    message.annotate({"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1})
    assert message.length() == 1
    to.complete()

    item = to.response["output"][0]
    assert item["phase"] == "final_answer"
    assert (len(item["content"][0]["logprobs"]), len(item["content"][0]["annotations"])) == (1, 1)
    types = [event["type"] for event in events(to.take())]
    assert "response.output_text.annotation.added" in types


def test_usage_has_all_the_numbers_that_clients_require() -> None:
    assert usage(input=10, output=4, cached=3, written=2, reasoning=1) == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 14,
    }


@pytest.mark.parametrize("pieces", [['{"input": "a', 'b"}'], ['{"inp', 'ut":"ab"}'], ['{"x":1,"input":"ab"}'], ["ab"]])
def test_a_custom_call_gives_its_text_however_the_model_wrapped_it(pieces: list[str]) -> None:
    to = emitter()
    call = to.custom_call("call_1", "patch")
    for piece in pieces:
        call.arguments(piece)
    to.complete()

    assert to.response["output"][0]["input"] == "ab"
    Grammar().read(events(to.take()))
