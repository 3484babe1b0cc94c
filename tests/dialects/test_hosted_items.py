"""Items of hosted tools in a conversation: what they hold reaches the model, and none of them refuses a request."""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from openai.types.responses import ResponseInputItem
from pydantic import BaseModel

from gomodel_asgi.dialects.base import NOTHING_SHOWN, Call, Outgoing, ShownFunctions, built_in
from gomodel_asgi.dialects.hosted_items import contents_of, replayed
from gomodel_asgi.testing import anthropic_rules, chat_rules, gemini_rules
from gomodel_asgi.testing.api import Settings

Json = dict[str, Any]

DIALECTS = ("chat", "anthropic", "gemini")
MODELS = {"chat": "m", "anthropic": "claude-sonnet-4-5", "gemini": "gemini-3-pro-preview"}
TYPES = {"chat": "vllm", "anthropic": "anthropic", "gemini": "gemini"}
RECORDED = Path(__file__).parents[2] / ".." / "shared" / "recorded" / "responses.jsonl"
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()

USER: Json = {"role": "user", "content": "Go on."}
SEARCH: Json = {
    "type": "web_search_call", "id": "ws_1", "status": "completed",
    "action": {"type": "search", "query": "cats", "sources": [{"type": "url", "url": "https://cats.example"}]},
}  # fmt: skip
MCP: Json = {
    "type": "mcp_call", "id": "mcp_1", "status": "completed", "server_label": "crm", "name": "find",
    "arguments": '{"q": 1}', "output": "Ann", "error": None, "approval_request_id": None,
}  # fmt: skip
REQUEST: Json = {
    "type": "mcp_approval_request", "id": "mcpr_1", "server_label": "crm", "name": "pay", "arguments": '{"cents":5}',
}  # fmt: skip
ALL_SHOWN = ShownFunctions(
    {
        ("web_search",): "web_search",
        ("file_search",): "file_search",
        ("code_interpreter",): "hosted__code_interpreter",
        ("image_generation",): "image_generation",
        ("mcp", "crm", "find"): "crm__find",
        ("mcp", "crm", "pay"): "pay",
    }
)
each_dialect = pytest.mark.parametrize("dialect", DIALECTS)
each_policy = pytest.mark.parametrize("policy", ["auto", "reject", "drop"])


def outgoing(dialect: str, items: list[Json], shown: ShownFunctions = NOTHING_SHOWN, policy: Any = "auto") -> Outgoing:
    model, type = MODELS[dialect], TYPES[dialect]
    body: Json = {"model": model, "input": items}
    if shown.names:
        body["tools"] = [{"type": "function", "name": name, "parameters": None} for name in shown.names.values()]
    call = Call("create", body, model, False, "p", type, policy, shown=shown)
    return built_in(dialect).request(call)


def sent(dialect: str, items: list[Json], shown: ShownFunctions = NOTHING_SHOWN, policy: Any = "auto") -> Json:
    """The body for the upstream, which keeps all the rules of its API."""
    body: Json = json.loads((found := outgoing(dialect, items, shown, policy)).body)
    if dialect == "chat":
        chat_rules.check(body, Settings(name="chat", template=True))
    elif dialect == "anthropic":
        anthropic_rules.check(body, betas=dict(found.headers).get("anthropic-beta", ""), counts=False)
    else:
        gemini_rules.check(MODELS[dialect], body, public=True)
    return body


def turns(dialect: str, items: list[Json], shown: ShownFunctions = ALL_SHOWN) -> list[Any]:
    """Who says what: `call NAME ARGUMENTS`, `result TEXT`, `ROLE: TEXT`."""
    body = sent(dialect, items, shown)
    return {"chat": chat_turns, "anthropic": anthropic_turns, "gemini": gemini_turns}[dialect](body)


def call_of(name: str, arguments: Any) -> str:
    return f"call {name} {json.dumps(arguments, sort_keys=True)}"


def chat_turns(body: Json) -> list[str]:
    found = []
    for message in body["messages"]:
        if message["role"] == "tool":
            found.append(f"result {message['content']}")
        elif message["content"]:
            found.append(f"{message['role']}: {message['content']}")
        calls = [each["function"] for each in message.get("tool_calls", ())]
        found += [call_of(each["name"], json.loads(each["arguments"])) for each in calls]
    return found


def anthropic_turns(body: Json) -> list[str]:
    found = []
    for message in body["messages"]:
        for block in message["content"]:
            if block["type"] == "text":
                found.append(f"{message['role']}: {block['text']}")
            elif block["type"] == "tool_use":
                found.append(call_of(block["name"], block["input"]))
            else:
                found.append("result " + "".join(part.get("text", "[image]") for part in block["content"]))
    return found


def gemini_turns(body: Json) -> list[str]:
    found = []
    for content in body["contents"]:
        role = "assistant" if content["role"] == "model" else "user"
        for part in content["parts"]:
            if "functionCall" in part:
                found.append(call_of(part["functionCall"]["name"], part["functionCall"]["args"]))
            elif "functionResponse" in part:
                found.append(f"result {part['functionResponse']['response']['output']}")
            else:
                found.append(f"{role}: {part['text']}")
    return found


# A tool that runs here is a function, and its items are calls of it...


@each_dialect
def test_items_of_a_tool_that_is_shown_are_calls_of_its_function_with_their_results(dialect: str) -> None:
    answer = {"type": "message", "role": "assistant", "content": "Cats."}

    assert turns(dialect, [USER, SEARCH, MCP, answer, USER]) == [
        "user: Go on.",
        call_of("web_search", {"query": "cats"}),
        call_of("crm__find", {"q": 1}),
        "result Sources:\nhttps://cats.example",
        "result Result:\nAnn",
        "assistant: Cats.",
        "user: Go on.",
    ]


@each_dialect
def test_calls_with_words_or_reasoning_between_them_are_turns_of_their_own(dialect: str) -> None:
    said = {"type": "message", "role": "assistant", "content": "Now the other."}
    thought: Json = {"type": "reasoning", "summary": []}
    third = {**SEARCH, "id": "ws_2"}
    searched = [call_of("web_search", {"query": "cats"}), "result Sources:\nhttps://cats.example"]
    found = [call_of("crm__find", {"q": 1}), "result Result:\nAnn"]

    assert turns(dialect, [USER, SEARCH, said, MCP, thought, third, USER]) == [
        "user: Go on.", *searched, "assistant: Now the other.", *found, *searched, "user: Go on.",
    ]  # fmt: skip


@each_dialect
def test_calls_of_the_clients_and_of_the_hosts_in_one_turn_have_their_results_together(dialect: str) -> None:
    own = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c1", "output": "ok"}

    assert turns(dialect, [USER, own, SEARCH, output, USER])[1:5] == [
        call_of("f", {}),
        call_of("web_search", {"query": "cats"}),
        "result ok",
        "result Sources:\nhttps://cats.example",
    ]


@pytest.mark.parametrize(
    ("item", "arguments", "result"),
    [
        ({"type": "file_search_call", "queries": ["a", "b"], "results": None}, {"queries": ["a", "b"]}, "recorded"),
        (
            {"type": "file_search_call", "queries": [], "results": [{"filename": "f", "text": "T"}]},
            {"queries": []},
            "T",
        ),
        ({"type": "code_interpreter_call", "code": "1", "outputs": None}, {"code": "1"}, "No output"),
        ({"type": "code_interpreter_call", "code": None, "status": "failed"}, {"code": ""}, "Failed"),
        ({"type": "code_interpreter_call", "code": "1", "status": "interpreting"}, {"code": "1"}, "Not finished"),
        (
            {"type": "image_generation_call", "result": PIXEL, "revised_prompt": "a cat"},
            {"prompt": "a cat"},
            "user sees",
        ),
        ({"type": "image_generation_call", "status": "failed", "error": {"message": "No."}}, {"prompt": ""}, "No."),
        (
            {"type": "web_search_call", "action": {"type": "open_page", "url": "https://a"}},
            {"query": "https://a"},
            "No",
        ),
        ({"type": "web_search_call", "action": {"type": "other"}, "status": "failed"}, {"query": ""}, "Failed"),
    ],
)
def test_the_arguments_are_those_of_the_function_and_the_result_is_never_empty(
    item: Json, arguments: Json, result: str
) -> None:
    call, output = (each for _, each in replayed([item], ALL_SHOWN))

    assert json.loads(call["arguments"]) == arguments
    assert result in output["output"] and call["call_id"] == output["call_id"]


def test_the_arguments_of_an_mcp_call_are_the_text_that_the_model_wrote() -> None:
    call, _ = (each for _, each in replayed([{**MCP, "arguments": '{ "q" :1 }'}], ALL_SHOWN))

    assert call["arguments"] == '{ "q" :1 }'


def test_an_item_without_an_id_is_the_same_call_in_every_turn() -> None:
    bare = {name: value for name, value in SEARCH.items() if name != "id"}
    first = [each for _, each in replayed([USER, bare], ALL_SHOWN)]
    later = [each for _, each in replayed([USER, USER, bare], ALL_SHOWN)]

    assert first[1:] == later[2:]


def test_a_model_that_sees_is_shown_the_image_that_was_drawn() -> None:
    item = {"type": "image_generation_call", "id": "ig_1", "result": PIXEL, "output_format": "webp"}
    _, output = (each for _, each in replayed([item], ShownFunctions(ALL_SHOWN.names, sees=True)))

    assert output["output"][1] == {"type": "input_image", "image_url": f"data:image/webp;base64,{PIXEL}"}


# What is not shown is told in words...


@each_dialect
@each_policy
def test_items_of_a_tool_that_is_not_shown_are_text_with_all_that_they_hold(dialect: str, policy: str) -> None:
    body = json.dumps(sent(dialect, [USER, SEARCH, MCP, USER], policy=policy))

    assert all(word in body for word in ("cats", "https://cats.example", "find", "crm", "Ann"))
    assert "functionCall" not in body and "tool_use" not in body and "tool_calls" not in body


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": "No such order."}]},
            "No such order.",
        ),
        ({"type": "mcp_protocol_error", "code": -32601, "message": "Unknown tool"}, "Unknown tool (-32601)"),
        ({"type": "http_error", "code": 502, "message": "Bad gateway"}, "Bad gateway (502)"),
        ("It broke.", "It broke."),
        ({"type": "new_error"}, '{"type":"new_error"}'),
        (None, "Failed"),
    ],
)
def test_a_call_that_failed_says_why_in_any_form_of_the_error(error: Any, words: str) -> None:
    found = contents_of({**MCP, "status": "failed", "output": None, "error": error})

    assert found.text.endswith(words) and found.result.endswith(words)
    assert "null" not in found.text and "Failed" in found.result


@pytest.mark.parametrize("item", [SEARCH, MCP, {"type": "code_interpreter_call", "code": "1"}])
@pytest.mark.parametrize(
    ("status", "words"), [("failed", "Failed"), ("incomplete", "Not finished"), ("in_progress", "Not finished")]
)
def test_what_failed_or_was_not_finished_says_so(item: Json, status: str, words: str) -> None:
    assert words in contents_of({**item, "status": status}).text


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_action_of_an_unknown_type_is_told_as_far_as_it_can_be(dialect: str) -> None:
    action = {"type": "screenshot", "page": "https://cats.example"}

    assert "https://cats.example" in json.dumps(sent(dialect, [USER, {**SEARCH, "action": action}, USER]))
    assert "Go on." in json.dumps(sent(dialect, [USER, {**SEARCH, "action": {"type": "other"}}, USER]))


# Approvals...


@each_dialect
def test_an_approval_that_nobody_answered_counts_as_denied(dialect: str) -> None:
    assert turns(dialect, [USER, REQUEST, USER])[1:3] == [
        call_of("pay", {"cents": 5}),
        "result The user did not approve this call.",
    ]
    assert "did not approve" in json.dumps(sent(dialect, [USER, REQUEST, USER]))


@each_dialect
def test_a_denied_call_has_the_reason_for_its_result_and_the_response_is_not_told_twice(dialect: str) -> None:
    denied = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": False, "reason": "Too dear."}

    assert turns(dialect, [USER, REQUEST, denied]) == [
        "user: Go on.",
        call_of("pay", {"cents": 5}),
        "result The user did not approve this call.\nReason:\nToo dear.",
    ]


@each_dialect
def test_an_approved_call_is_told_once_by_the_call_itself(dialect: str) -> None:
    approved = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
    paid = {**MCP, "name": "pay", "arguments": REQUEST["arguments"], "output": "Paid.", "approval_request_id": "mcpr_1"}

    assert turns(dialect, [USER, REQUEST, approved, paid, USER]) == [
        "user: Go on.",
        call_of("pay", {"cents": 5}),
        "result Result:\nPaid.",
        "user: Go on.",
    ]


# Paths...


@each_dialect
def test_the_paths_of_later_items_are_those_of_the_clients_own_list(dialect: str) -> None:
    with pytest.raises(Exception, match=r"input\[3\]"):
        outgoing(dialect, [USER, SEARCH, REQUEST, {"type": "message", "role": "user", "content": 3}], ALL_SHOWN)


# Gemini's and the like...


def test_a_search_of_the_hosts_is_told_to_gemini_beside_its_own_signatures() -> None:
    from gomodel_asgi.dialects.gemini import output

    signed = output.pack([{"call": "c1", "signature": "c2ln"}], "gemini", MODELS["gemini"])
    thought = {"type": "reasoning", "summary": [], "encrypted_content": signed}

    assert "https://cats.example" in json.dumps(sent("gemini", [USER, thought, SEARCH, USER]))


def test_code_that_failed_elsewhere_is_no_success_at_gemini() -> None:
    code = {"type": "code_interpreter_call", "id": "ci", "status": "failed", "code": "1/0", "outputs": []}
    (_, result) = sent("gemini", [USER, code, USER])["contents"][1]["parts"]

    assert result == {"codeExecutionResult": {"outcome": "OUTCOME_FAILED", "output": "Failed"}}


@each_policy
def test_a_screenshot_that_the_model_cannot_see_does_not_refuse_the_conversation(policy: Any) -> None:
    shot = {
        "type": "computer_call_output",
        "call_id": "c",
        "output": {"type": "computer_screenshot", "file_id": "file_1"},
    }
    call = Call("create", {"model": "m", "input": [USER, shot, USER]}, "m", False, "p", "deepseek", policy)
    if policy == "reject":
        return  # says that even what can be told otherwise is refused
    assert b"Go on." in built_in("chat").request(call).body


@each_dialect
def test_tools_that_a_search_found_and_only_its_provider_has_refuse_nothing(dialect: str) -> None:
    searched = {"type": "tool_search_output", "execution": "server", "status": "completed", "call_id": None}
    tools = [{"type": "mcp", "server_label": "crm"}, {"type": "computer"}, 3, {"type": "function", "name": "f"}]

    assert b'"f"' in outgoing(dialect, [USER, {**searched, "tools": tools}]).body
    assert outgoing(dialect, [USER, {**searched, "tools": "none"}]).body


# Whatever the schema allows...

APART = {"message", "function_call_output", "custom_tool_call_output", "item_reference"}
APART |= {"additional_tools", "tool_search_output"}
"""Types whose content a target may refuse, or that are no items of history; and those that bring tools along."""
WORD = st.sampled_from(["", "a", "https://a.example", '{"a":1}', "ä b", "null"])


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of the annotation *kind*, as JSON."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return values(inner[0])
    if origin in (Union, UnionType):
        return st.one_of([values(each) for each in inner])
    if origin is Literal:
        return st.sampled_from(inner)
    if origin is list:
        return st.lists(values(inner[0]), max_size=2)
    if origin is dict:
        return st.dictionaries(WORD, st.none() | WORD, max_size=2)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return items_of(kind)
    plain = {str: WORD, int: st.integers(0, 9), float: st.floats(0, 1), bool: st.booleans(), NoneType: st.none()}
    return plain.get(kind, st.none() | WORD)


@cache
def items_of(model: type[BaseModel]) -> st.SearchStrategy[Json]:
    fields = model.model_fields
    required = {name: values(field.annotation) for name, field in fields.items() if field.is_required()}
    optional = {name: values(field.annotation) for name, field in fields.items() if not field.is_required()}
    return st.fixed_dictionaries(required, optional=optional)


def kind_of(model: type[BaseModel]) -> str:
    field = model.model_fields["type"]
    literals = [each for each in get_args(field.annotation) if isinstance(each, str)]
    return literals[0] if literals else "message"


MODELS_OF_ITEMS = [model for model in get_args(get_args(ResponseInputItem)[0]) if kind_of(model) not in APART]


def legal(item: Json) -> Json:
    """*item* with an image that can be one, and an id that can be answered."""
    if item.get("call_id") == "":
        item["call_id"] = "c1"
    if item["type"] == "computer_call_output":
        item["output"].pop("file_id", None)
        item["output"]["image_url"] = f"data:image/png;base64,{PIXEL}"
    return item


@pytest.mark.parametrize("model", MODELS_OF_ITEMS, ids=kind_of)
@given(st.data())
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_item_of_the_schema_refuses_a_request(model: type[BaseModel], data: st.DataObject) -> None:
    items = [legal(item) for item in data.draw(st.lists(items_of(model), min_size=1, max_size=3))]
    for dialect in DIALECTS:
        for shown in (NOTHING_SHOWN, ALL_SHOWN):
            sent(dialect, [USER, *items, USER], shown)
        for policy in ("reject", "drop"):
            assert outgoing(dialect, [USER, *items, USER], policy=policy).body


def recorded_items() -> list[list[Json]]:
    if not RECORDED.exists():
        return []
    replies = [json.loads(line)["reply"] for line in RECORDED.read_text().splitlines()]
    outputs = [reply.get("output") or [] for reply in replies if isinstance(reply, dict)]
    for reply in replies:
        if isinstance(reply, str):
            events = [json.loads(line[6:]) for line in reply.splitlines() if line.startswith("data: {")]
            outputs.append([event["item"] for event in events if event.get("type") == "response.output_item.done"])
    return [output for output in outputs if output]


@pytest.mark.skipif(not RECORDED.exists(), reason="../shared/recorded is not there")
@each_dialect
def test_no_recorded_output_refuses_the_next_request(dialect: str) -> None:
    seen = set()
    for output in recorded_items():
        seen |= {item["type"] for item in output}
        calls = [item["call_id"] for item in output if item["type"] == "function_call"]
        answers = [{"type": "function_call_output", "call_id": id, "output": "ok"} for id in calls]
        for shown in (NOTHING_SHOWN, ALL_SHOWN):
            sent(dialect, [USER, *output, *answers, USER], shown)
    assert {"web_search_call", "message"} <= seen
