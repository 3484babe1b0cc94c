"""Failing inputs from public reports (`../shared/cases`), each played through a gateway, and the kind that each stands
for on every translating dialect, streamed and not.

A case's file holds the client's requests and the upstream's replies, and its rule in words; `RULES` holds the rule as
an assertion.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import OpenAI

from gomodel_asgi import Provider, providers
from gomodel_asgi.testing import FakeProvider

from .support.playing import Json, Played, asked, each_dialect, each_form, kinds, play, said, tools_of, user, values

FOLDER = Path(__file__).parents[2] / "shared" / "cases"
CASES: dict[str, Json] = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
needs_cases = pytest.mark.skipif(not CASES, reason="../shared/cases is not there")


async def play_case(upstream: FakeProvider, name: str) -> Played:
    case = CASES[name]
    options = {"api_key": "sk-canary", **case.get("options", {})}
    if "preset" in case:
        provider = getattr(providers, case["preset"])(upstream.base_url, **options)
    else:
        provider = Provider("up", upstream.base_url, dialect=case["dialect"], **options)
    return await play(upstream, provider, case["steps"])


# What is said upstream, in one form for all dialects...


# The rules of the cases...


def _truncated_call_is_continued(found: Played) -> None:
    assert [response["status"] for response in found.responses] == ["incomplete", "completed"]
    assert values("anthropic", found.sent[1], "call") == [("toolu_1", {"raw_arguments": '{"city": "A'})]
    assert values("anthropic", found.sent[1], "output") == [("toolu_1", "the arguments were cut off")]


def _no_live_search(found: Played) -> None:
    assert found.response["status"] == "completed"
    assert "tools" not in found.sent[0]
    assert found.caller.headers["x-gomodel-unsupported"] == "tools.external_web_access"
    assert "tools[0].external_web_access" in found.left_out


def _malformed_arguments(found: Played) -> None:
    assert found.response["status"] == "completed"
    assert values("anthropic", found.sent[0], "call") == [("c1", {"raw_arguments": '{"city": '})]


def _only_developer(found: Played) -> None:
    assert found.response["status"] == "completed"
    assert said("anthropic", found.sent[0]) == [("user", "Say hello.")]


def _same_call_id_twice(found: Played) -> None:
    assert found.response["status"] == "completed"
    calls, outputs = values("anthropic", found.sent[0], "call"), values("anthropic", found.sent[0], "output")
    assert [arguments["city"] for _, arguments in calls] == ["A", "B"]
    assert outputs == [(calls[0][0], "1"), (calls[1][0], "2")]
    assert calls[0][0] != calls[1][0]


def _codex_first_request(found: Played) -> None:
    assert found.response["status"] == "completed"
    assert said("chat", found.sent[0]) == [("system", "You are a coding agent\n\npermissions"), ("user", "fix it")]
    assert tools_of("chat", found.sent[0]) == ["run"]
    assert found.caller.headers["x-gomodel-unsupported"] == "tools.external_web_access"


def _system_leads(found: Played) -> None:
    assert kinds("chat", found.sent[0]) == ["system", "user", "assistant", "user", "user"]
    assert values("chat", found.sent[0], "system") == ["You are an agent\n\npermissions"]
    assert "developer_instructions" in values("chat", found.sent[0], "user")[1]
    assert "mode changed" in values("chat", found.sent[0], "user")[1]


def _outputs_follow(found: Played) -> None:
    assert kinds("chat", found.sent[0]) == ["user", "call", "output", "user", "user"]
    assert values("chat", found.sent[0], "user") == ["go", "wait", "and?"]


def _null_arguments(found: Played) -> None:
    assert found.response["status"] == "completed"
    assert values("gemini", found.sent[0], "call")[0][1] == {}


def _search_or_functions(found: Played) -> None:
    assert tools_of("gemini", found.sent[0]) == ["run"]
    assert found.caller.headers["x-gomodel-unsupported"] == "tools.type"


def _one_system(found: Played) -> None:
    assert kinds("chat", found.sent[0]) == ["system", "user"]
    assert found.sent[0]["reasoning_split"] is True


def _paused_turn(found: Played) -> None:
    assert len(found.sent) == 8
    assert (found.response["status"], found.response["incomplete_details"]["reason"]) == (
        "incomplete",
        "max_output_tokens",
    )


def _two_calls(found: Played) -> None:
    calls = [item for item in found.response["output"] if item["type"] == "function_call"]
    assert [json.loads(call["arguments"])["city"] for call in calls] == ["A", "B"]
    assert len({call["call_id"] for call in calls}) == 2


def _last_event_is_whole(found: Played) -> None:
    assert found.response["status"] == "completed"
    assert found.response["output"][0]["content"][0]["text"] == "Hello"


def _cut_by_its_tokens(found: Played) -> None:
    assert found.response["output"][0]["type"] == "function_call"
    assert found.response["incomplete_details"] == {"reason": "max_output_tokens"}


def _whose_fault(found: Played) -> None:
    assert found.caller.status == 429
    assert "rate limit exceeded" in found.caller.error["message"]


def _thought_is_no_text(found: Played) -> None:
    thought, message = found.response["output"]
    assert [part["text"] for part in thought["summary"]] == ["\nThe user says hi.\n"]
    assert [part["text"] for part in message["content"]] == ["Hello"]


def _one_item(found: Played) -> None:
    (message,) = found.response["output"]
    assert [part["text"] for part in message["content"]] == ["Hey"]


def _detail_is_kept(found: Played) -> None:
    assert found.caller.status == 422
    assert found.caller.error["message"] == "body.tools: bad tools"


RULES: dict[str, Callable[[Played], None]] = {
    "anthropic-continue-truncated-call": _truncated_call_is_continued,
    "anthropic-external-web-access-false": _no_live_search,
    "anthropic-malformed-arguments-in-history": _malformed_arguments,
    "anthropic-only-developer": _only_developer,
    "anthropic-same-call-id-twice-in-one-turn": _same_call_id_twice,
    "chat-codex-first-request": _codex_first_request,
    "chat-system-not-leading": _system_leads,
    "chat-user-between-call-and-output": _outputs_follow,
    "gemini-null-arguments-in-history": _null_arguments,
    "gemini25-search-with-functions": _search_or_functions,
    "minimax-two-system": _one_system,
    "anthropic-pause-turn-reason": _paused_turn,
    "anthropic-same-tool-use-id": _two_calls,
    "chat-stream-same-id-other-index": _two_calls,
    "chat-unary-same-call-id": _two_calls,
    "gemini-last-event-without-blank-line": _last_event_is_whole,
    "gemini-max-tokens-after-call": _cut_by_its_tokens,
    "minimax-base-resp-error": _whose_fault,
    "minimax-think-in-text": _thought_is_no_text,
    "normalize-done-has-another-id": _one_item,
    "responses-fastapi-detail-error": _detail_is_kept,
}


@needs_cases
@pytest.mark.parametrize("name", sorted(RULES.keys() & CASES.keys()))
async def test_a_reported_case_has_its_right_value(name: str, provider: FakeProvider) -> None:
    found = await play_case(provider, name)
    RULES[name](found)
    if CASES[name].get("sdk"):
        assert read_by_the_sdk(found.caller.content) == found.response["output"]


@needs_cases
def test_every_reported_case_has_a_rule() -> None:
    assert CASES.keys() == RULES.keys()


def read_by_the_sdk(stream: bytes) -> Any:
    """The output that `responses.stream()` of OpenAI's SDK finds in *stream*, members that are None left out."""
    headers = {"content-type": "text/event-stream"}
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, headers=headers, content=stream))
    with OpenAI(api_key="k", http_client=httpx2.Client(transport=transport)) as client:
        with client.responses.stream(model="m", input="hi") as events:
            output = events.get_final_response().output
    return without_parsed([item.model_dump(exclude_unset=True) for item in output])


def without_parsed(value: Any) -> Any:
    """*value* without the members that the SDK adds."""
    if isinstance(value, list):
        return [without_parsed(one) for one in value]
    if isinstance(value, dict):
        return {name: without_parsed(one) for name, one in value.items() if not name.startswith("parsed")}
    return value


# The kinds, on every dialect...


RUN: Json = {"type": "function", "name": "run", "parameters": {"type": "object", "properties": {}}, "strict": False}
STOP: Json = {**RUN, "name": "stop"}
CACHED: Json = {"type": "web_search", "external_web_access": False}


def developer(text: str) -> Json:
    return {"type": "message", "role": "developer", "content": text}


def call(id: str = "c1", arguments: str = '{"city":"A"}') -> Json:
    return {"type": "function_call", "call_id": id, "name": "run", "arguments": arguments}


def output(id: str = "c1", text: str = "ok") -> Json:
    return {"type": "function_call_output", "call_id": id, "output": text}


@each_form
@each_dialect
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"city": "A', {"raw_arguments": '{"city": "A'}),
        ("null", {}),
        ("", {}),
        ("[1]", {"raw_arguments": "[1]"}),
        ("{" * 10_000, {"raw_arguments": "{" * 10_000}),
    ],
    ids=["cut off", "null", "empty", "array", "deep"],
)
async def test_arguments_in_a_history_are_any_text(
    provider: FakeProvider, dialect: str, stream: bool, arguments: str, expected: Json
) -> None:
    items = [user("go"), call(arguments=arguments), output(), user("continue")]
    found = await asked(provider, dialect, stream, {"input": items, "tools": [RUN]})

    assert found.response["status"] == "completed"
    assert [given for _, given in values(dialect, found.sent[0], "call")] == [expected]


@each_form
@each_dialect
async def test_outputs_stand_right_behind_their_calls_in_the_order_of_the_calls(
    provider: FakeProvider, dialect: str, stream: bool
) -> None:
    items = [user("go"), call("a"), call("b"), user("wait"), developer("note"), output("b", "2"), output("a", "1")]
    found = await asked(provider, dialect, stream, {"input": items, "tools": [RUN]})

    assert found.response["status"] == "completed"
    assert kinds(dialect, found.sent[0]) == ["user", "call", "call", "output", "output", "user", "user"]
    assert [text for _, text in values(dialect, found.sent[0], "output")] == ["1", "2"]


@each_form
@each_dialect
async def test_a_call_without_an_output_and_an_output_without_a_call_are_no_dead_end(
    provider: FakeProvider, dialect: str, stream: bool
) -> None:
    items = [user("go"), call("a"), output("lost", "42"), user("?"), call("b"), output("b")]
    found = await asked(provider, dialect, stream, {"input": items, "tools": [RUN]})

    assert found.response["status"] == "completed"
    assert [text for _, text in values(dialect, found.sent[0], "output")] == [
        "No output of this call was recorded.",
        "ok",
    ]
    assert "42" in " ".join(values(dialect, found.sent[0], "user"))


@each_form
@each_dialect
@pytest.mark.parametrize(
    "items",
    [
        [user("go"), call("s"), call("s"), output("s", "1"), output("s", "2")],
        [user("go"), call("s"), output("s", "1"), call("s"), output("s", "2")],
    ],
    ids=["within a turn", "across turns"],
)
async def test_each_result_goes_to_its_own_call_where_ids_repeat(
    provider: FakeProvider, dialect: str, stream: bool, items: list[Json]
) -> None:
    found = await asked(provider, dialect, stream, {"input": items, "tools": [RUN]})

    calls, outputs = values(dialect, found.sent[0], "call"), values(dialect, found.sent[0], "output")
    assert [id for id, _ in outputs] == [id for id, _ in calls]
    assert len({id for id, _ in calls}) == 2
    assert [text for _, text in outputs] == ["1", "2"]


@each_form
@each_dialect
@pytest.mark.parametrize(
    "choice",
    [
        {"type": "function", "name": "stop"},
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "stop"}]},
    ],
    ids=["function", "allowed_tools"],
)
async def test_a_forced_function_leaves_the_other_tools_in_the_request(
    provider: FakeProvider, dialect: str, stream: bool, choice: Json
) -> None:
    found = await asked(provider, dialect, stream, {"input": "hi", "tools": [RUN, STOP], "tool_choice": choice})

    assert found.response["status"] == "completed"
    assert tools_of(dialect, found.sent[0]) == ["run", "stop"]


@each_form
@each_dialect
async def test_calls_one_at_a_time_are_no_reason_to_refuse(provider: FakeProvider, dialect: str, stream: bool) -> None:
    found = await asked(provider, dialect, stream, {"input": "hi", "tools": [RUN], "parallel_tool_calls": False})

    assert found.response["status"] == "completed"
    assert "x-gomodel-unsupported" not in found.caller.headers


@each_form
@each_dialect
async def test_instructions_lead_and_later_ones_are_marked_in_place(
    provider: FakeProvider, dialect: str, stream: bool
) -> None:
    items = [developer("b"), user("c"), {"role": "assistant", "content": "d"}, developer("e"), user("f")]
    found = await asked(provider, dialect, stream, {"instructions": "a", "input": items})

    said_by = said(dialect, found.sent[0])
    assert "\n\n".join(text for role, text in said_by if role == "system") == "a\n\nb"
    assert [(role, text) for role, text in said_by if role != "system"] == [
        ("user", "c"),
        ("assistant", "d"),
        ("user", "<developer_instructions>\ne\n</developer_instructions>"),
        ("user", "f"),
    ]


@each_form
@each_dialect
async def test_input_of_developer_messages_alone_is_answered(
    provider: FakeProvider, dialect: str, stream: bool
) -> None:
    found = await asked(provider, dialect, stream, {"instructions": "Be.", "input": [developer("Say hello.")]})

    assert found.response["status"] == "completed"
    assert said(dialect, found.sent[0]) == [("system", "Be."), ("user", "Say hello.")]


@each_form
@each_dialect
async def test_a_history_that_begins_with_the_assistant_is_accepted(
    provider: FakeProvider, dialect: str, stream: bool
) -> None:
    items = [{"role": "assistant", "content": "Hello!"}, user("hi")]
    found = await asked(provider, dialect, stream, {"input": items})

    assert found.response["status"] == "completed"
    assert [part for part in said(dialect, found.sent[0]) if "speaks first" not in part[1]] == [
        ("assistant", "Hello!"),
        ("user", "hi"),
    ]


@each_form
@each_dialect
@pytest.mark.parametrize("choice", ["auto", "required", {"type": "web_search"}], ids=["auto", "required", "forced"])
async def test_a_search_that_may_not_be_live_never_becomes_one(
    provider: FakeProvider, dialect: str, stream: bool, choice: Any
) -> None:
    found = await asked(provider, dialect, stream, {"input": "hi", "tools": [RUN, CACHED], "tool_choice": choice})

    assert found.response["status"] == "completed"
    assert tools_of(dialect, found.sent[0]) == ["run"]
    assert found.caller.headers["x-gomodel-unsupported"] == "tools.external_web_access"
    assert found.response["tools"][1] == CACHED


HOSTED = [
    {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "cats"}},
    {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["cats"], "results": None},
    {
        "type": "code_interpreter_call",
        "id": "ci_1",
        "status": "completed",
        "code": "1+1",
        "container_id": "c",
        "outputs": [{"type": "logs", "logs": "2"}],
    },
    {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "crm", "tools": []},
    {"type": "mcp_call", "id": "mcp_1", "server_label": "crm", "name": "find", "arguments": "{}", "output": "Ann"},
    {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": None, "revised_prompt": "a cat"},
    {"type": "tool_search_call", "call_id": None, "execution": "server", "arguments": {}, "status": "completed"},
    {"type": "tool_search_output", "call_id": None, "execution": "server", "tools": [STOP], "status": "completed"},
    {"type": "local_shell_call", "id": "ls_1", "call_id": "c", "status": "completed", "action": {"command": ["ls"]}},
    {"type": "local_shell_call_output", "id": "c", "output": "a.py"},
    {"type": "computer_call", "id": "cu_1", "call_id": "d", "status": "completed", "action": {"type": "click"}},
    {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAA-of-openai"},
]


@each_form
@each_dialect
@pytest.mark.parametrize("unsupported", ["auto", "reject", "drop"])
async def test_no_item_of_a_history_is_a_reason_to_refuse(
    provider: FakeProvider, dialect: str, stream: bool, unsupported: str
) -> None:
    body = {"input": [user("go"), *HOSTED, user("and?")], "tools": [RUN]}
    found = await asked(provider, dialect, stream, body, unsupported=unsupported)

    assert found.response["status"] == "completed"
    text = json.dumps(found.sent[0])
    assert "cats" in text and "1+1" in text and "Ann" in text and "a.py" in text
    assert "gAAAA" not in text
    assert tools_of(dialect, found.sent[0]) == ["run", "stop"]


PREFERENCES: Json = {
    "text": {"verbosity": "low"},
    "service_tier": "scale",
    "reasoning": {"mode": "pro"},
    "include": ["file_search_call.results"],
}


@each_form
@pytest.mark.parametrize("dialect", ["anthropic", "gemini"])
async def test_preferences_are_left_out_and_named_to_the_client_and_to_observers(
    provider: FakeProvider, dialect: str, stream: bool
) -> None:
    found = await asked(provider, dialect, stream, {"input": "hi", **PREFERENCES})

    assert found.response["status"] == "completed"
    names = set(found.caller.headers["x-gomodel-unsupported"].split(", "))
    assert names == {"text.verbosity", "service_tier", "reasoning.mode", "include"}
    assert "include[0]: left out" in found.left_out


@each_form
@each_dialect
@pytest.mark.parametrize("name", [*PREFERENCES])
async def test_a_strict_provider_refuses_preferences_by_name(
    provider: FakeProvider, dialect: str, stream: bool, name: str
) -> None:
    if dialect == "chat" and name == "service_tier":
        return  # which open servers take as it is
    body = {"input": "hi", name: PREFERENCES[name]}
    found = await asked(provider, dialect, stream, body, unsupported="reject")

    assert (found.caller.status, found.sent) == (400, [])
    assert found.caller.error["param"].startswith(name)


@each_form
@each_dialect
@pytest.mark.parametrize(
    "body",
    [
        {"tools": [{"type": "image_generation"}]},
        {"moderation": {"model": "omni"}},
        {"prompt": {"id": "pmpt_1"}},
        {"n": 2},
        {"made_up": 1},
    ],
    ids=lambda body: next(iter(body)),
)
async def test_a_promise_is_refused_by_name_with_a_way_out_or_dropped(
    provider: FakeProvider, dialect: str, stream: bool, body: Json
) -> None:
    name = next(iter(body))
    found = await asked(provider, dialect, stream, {"input": "hi", **body})

    assert (found.caller.status, found.caller.error["code"]) == (400, "unsupported_parameter")
    assert found.caller.error["param"].startswith(name)
    assert "choose" in found.caller.error["message"]

    dropped = await asked(provider, dialect, stream, {"input": "hi", **body}, unsupported="drop")
    assert dropped.response["status"] == "completed"
    assert dropped.caller.headers["x-gomodel-unsupported"].startswith(name)


@each_form
@each_dialect
async def test_what_is_without_effect_is_told_to_observers_only(
    provider: FakeProvider, dialect: str, stream: bool
) -> None:
    body = {"input": "hi", "client_metadata": {"a": "b"}, "truncation": "auto", "top_logprobs": 0}
    for unsupported in ("auto", "reject", "drop"):
        found = await asked(provider, dialect, stream, body, unsupported=unsupported)

        assert found.response["status"] == "completed"
        assert "x-gomodel-unsupported" not in found.caller.headers
        assert "client_metadata: left out" in found.left_out


@each_form
@pytest.mark.parametrize("type", ["web_search", "code_interpreter"])
async def test_what_a_model_cannot_combine_is_refused_by_name(provider: FakeProvider, stream: bool, type: str) -> None:
    hosted = {"type": type, "container": {"type": "auto"}} if type == "code_interpreter" else {"type": type}
    body = {"input": "hi", "tools": [RUN, hosted]}
    found = await asked(provider, "gemini", stream, body, model="gemini-2.5-flash")

    assert (found.caller.status, found.caller.error["param"], found.sent) == (400, "tools[1].type", [])
    assert type in found.caller.error["message"]
