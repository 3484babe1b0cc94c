"""What Gemini is asked: each member of a client's request in Gemini's own terms, or refused by its name."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from google.genai import types

from gomodel_asgi.dialects.base import Call, Outgoing
from gomodel_asgi.dialects.emulations import single_call
from gomodel_asgi.dialects.gemini import GeminiDialect, output
from gomodel_asgi.errors import InvalidRequest

Json = dict[str, Any]

TOOL = {"type": "function", "name": "f", "parameters": {"type": "object", "$defs": {}}, "description": "Does f."}
OTHER = {"type": "function", "name": "g"}
STAND_IN = "skip_thought_signature_validator"


def ask(
    model: str = "gemini-3-pro-preview", *, stream: bool = False, policy: Any = "auto", op: str = "create", **body: Any
) -> Outgoing:
    body = {"model": "m", "input": "Hello", **body}
    return GeminiDialect().request(Call(op, body, model, stream, "google", "gemini", policy))


def sent(model: str = "gemini-3-pro-preview", **body: Any) -> Json:
    found: Json = json.loads(ask(model, **body).body)
    return found


def contents(*items: Json, model: str = "gemini-3-pro-preview", **body: Any) -> list[Json]:
    found: list[Json] = sent(model, input=list(items), **body)["contents"]
    for content in found:
        types.Content.model_validate(content)
    return found


def refused(*, policies: tuple[str, ...] = ("auto", "reject"), **body: Any) -> str:
    """The `param` of the refusal under each of *policies*."""
    params = set()
    for policy in policies:
        with pytest.raises(InvalidRequest) as caught:
            ask(policy=policy, **body)
        params.add(caught.value.param)
    (param,) = params
    assert param
    return param


def preferred(**body: Any) -> str:
    """The `param` of a preference: refused under `"reject"`, else left out and named to the client."""
    param = refused(policies=("reject",), **body)
    assert param in ask(**body).unsupported and param in ask(policy="drop", **body).unsupported
    return param


def user(content: Any) -> Json:
    return {"role": "user", "content": content}


def call_item(call_id: str, name: str = "f", arguments: str = "{}") -> Json:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def answer(call_id: str, output: Any = "ok") -> Json:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


# Where it goes...


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-3-pro", "/models/gemini-3-pro"),
        ("models/gemini-3-pro", "/models/gemini-3-pro"),
        ("publishers/google/models/gemini-3-pro", "/publishers/google/models/gemini-3-pro"),
        ("projects/p/locations/l/endpoints/7", "/projects/p/locations/l/endpoints/7"),
        ("tunedModels/x", "/tunedModels/x"),
        ("google/gemini-3-pro", "/models/google%2Fgemini-3-pro"),
        ("../../files", "/models/..%2F..%2Ffiles"),
        ("x:countTokens?key=1#y", "/models/x%3AcountTokens%3Fkey%3D1%23y"),
        ("models/x:y", "/models/x%3Ay"),
        ("a\r\nb", "/models/a%0D%0Ab"),
    ],
)
def test_the_model_names_the_path_and_never_alters_it(model: str, path: str) -> None:
    assert (ask(model).path, ask(model).query) == (f"{path}:generateContent", "")
    assert (ask(model, stream=True).path, ask(model, stream=True).query) == (f"{path}:streamGenerateContent", "alt=sse")


@pytest.mark.parametrize("model", ["", ".", "..", "models/..", "publishers/../models/x"])
def test_a_model_that_is_a_way_up_is_refused(model: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(model)
    assert caught.value.param == "model"


def test_tokens_are_counted_with_instructions_and_tools() -> None:
    outgoing = ask("gemini-3-pro", op="input_tokens", instructions="Be brief.", tools=[TOOL])
    request = json.loads(outgoing.body)["generateContentRequest"]

    assert outgoing.path == "/models/gemini-3-pro:countTokens"
    assert (request["model"], len(request["tools"])) == ("models/gemini-3-pro", 1)
    assert request["systemInstruction"]["parts"] == [{"text": "Be brief."}]


def test_tokens_are_counted_at_vertex_without_a_wrapper() -> None:
    model = "publishers/google/models/gemini-3-pro"
    body = json.loads(ask(model, op="input_tokens", tools=[TOOL], tool_choice="required").body)

    assert body.keys() == {"contents", "tools"}


# Who says what...


def test_instructions_and_what_the_developer_says_first_are_the_system_instruction() -> None:
    body = sent(instructions="One.", input=[{"role": "developer", "content": "Two."}, user("Hello")])

    assert body["systemInstruction"] == {"parts": [{"text": "One."}, {"text": "Two."}]}
    assert body["contents"] == [{"role": "user", "parts": [{"text": "Hello"}]}]


def test_later_instructions_keep_their_place_and_are_marked() -> None:
    given = contents(user("Hello"), {"role": "assistant", "content": "Hi."}, {"role": "system", "content": "Be brief."})

    assert [content["role"] for content in given] == ["user", "model", "user"]
    assert given[2]["parts"] == [{"text": "<developer_instructions>\nBe brief.\n</developer_instructions>"}]


def test_a_conversation_that_begins_with_the_model_gets_a_user_before_it() -> None:
    given = contents({"role": "assistant", "content": "Hi."}, user("Hello"))

    assert [content["role"] for content in given] == ["user", "model", "user"]
    assert contents(call_item("call_1"), answer("call_1"))[0]["role"] == "user"


def test_instructions_alone_are_said_by_the_user() -> None:
    """Gemini refuses a request without contents."""
    body = sent(input=[{"role": "system", "content": "Write."}])

    assert body == {"contents": [{"role": "user", "parts": [{"text": "Write."}]}]}


def test_instructions_other_than_text_are_shown_by_the_user() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,aQ=="}
    (given,) = contents({"role": "system", "content": [image]}, user("Hello"))

    assert [list(part) for part in given["parts"]] == [["text"], ["inlineData"], ["text"], ["text"]]


def test_a_request_of_which_nothing_is_left_is_refused() -> None:
    assert refused(input=[{"type": "reasoning", "summary": []}]) == "input"


def test_an_image_that_the_assistant_is_said_to_have_shown_is_the_models() -> None:
    said = {"role": "assistant", "content": [{"type": "input_image", "image_url": DATA_URL}]}

    assert contents(user("Hello"), said)[1]["parts"] == [{"inlineData": {"mimeType": "image/png", "data": "aWJt"}}]


def test_a_file_in_an_assistant_message_is_shown_or_refused_like_any_other() -> None:
    stored = {"type": "input_file", "file_id": "file-abc"}
    said = [user("Hello"), {"role": "assistant", "content": [{"type": "output_text", "text": "Hm."}, stored]}]

    assert refused(policies=("reject",), input=said) == "input[1].content[1].file_id"
    assert "cannot be shown" in sent(input=said)["contents"][1]["parts"][1]["text"]
    assert json.loads(ask(policy="drop", input=said).body)["contents"][1]["parts"] == [{"text": "Hm."}]


def test_messages_of_one_side_that_follow_each_other_are_one_content() -> None:
    refusal = {"type": "refusal", "refusal": "No."}
    said = {"role": "assistant", "content": [{"type": "output_text", "text": "Hm."}, refusal]}
    given = contents(user("a"), user("b"), said, {"role": "assistant", "content": "Well."}, user("c"))

    assert [len(content["parts"]) for content in given] == [2, 3, 1]
    assert given[1]["parts"] == [{"text": "Hm."}, {"text": "No."}, {"text": "Well."}]


DATA_URL = "data:image/png;base64,aWJt"
FILES = "https://generativelanguage.googleapis.com/v1beta/files/abc"


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "input_text", "text": "a"}, {"text": "a"}),
        (
            {"type": "input_image", "image_url": DATA_URL},
            {"inlineData": {"mimeType": "image/png", "data": "aWJt"}},
        ),
        (
            {"type": "input_image", "image_url": "https://a/b.PNG?c=d.jpg"},
            {"fileData": {"mimeType": "image/png", "fileUri": "https://a/b.PNG?c=d.jpg"}},
        ),
        (
            {"type": "input_image", "image_url": "gs://bucket/cat"},
            {"fileData": {"mimeType": "image/jpeg", "fileUri": "gs://bucket/cat"}},
        ),
        (
            {"type": "input_file", "file_id": FILES, "filename": "notes.txt"},
            {"fileData": {"mimeType": "text/plain", "fileUri": FILES}},
        ),
        (
            {"type": "input_file", "file_url": "https://a/b.pdf"},
            {"fileData": {"mimeType": "application/pdf", "fileUri": "https://a/b.pdf"}},
        ),
        (
            {"type": "input_file", "file_data": "data:text/csv;base64,YQ==", "filename": "a.csv"},
            {"inlineData": {"mimeType": "text/csv", "data": "YQ=="}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "YQ==", "format": "wav"}},
            {"inlineData": {"mimeType": "audio/wav", "data": "YQ=="}},
        ),
    ],
)
def test_each_content_part_has_its_form(part: Json, expected: Json) -> None:
    assert contents(user([part]))[0]["parts"] == [expected]


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "input_file", "file_id": "file-abc"}, "input[0].content[0].file_id"),
        ({"type": "input_image", "file_id": "file-abc"}, "input[0].content[0].file_id"),
        ({"type": "input_image", "image_url": "ftp://a/b.png"}, "input[0].content[0].image_url"),
        ({"type": "input_video"}, "input[0].content[0].type"),
    ],
)
def test_a_content_part_that_gemini_cannot_read_is_refused_by_its_path(part: Json, param: str) -> None:
    assert refused(input=[user([part])]) == param


def test_dropped_content_is_listed() -> None:
    part = {"type": "input_file", "file_id": "file-abc"}
    outgoing = ask(policy="drop", input=[user([{"type": "input_text", "text": "a"}, part])])

    assert outgoing.dropped == ("input[0].content[1].file_id",)
    assert json.loads(outgoing.body)["contents"] == [{"role": "user", "parts": [{"text": "a"}]}]


@pytest.mark.parametrize(
    ("details", "expected"),
    [(["low", "low"], "MEDIA_RESOLUTION_LOW"), (["high"], "MEDIA_RESOLUTION_HIGH"), (["low", "high"], None)],
)
def test_image_detail_is_the_media_resolution_if_all_images_agree(details: list[str], expected: str | None) -> None:
    parts = [{"type": "input_image", "image_url": DATA_URL, "detail": detail} for detail in details]

    assert sent(input=[user(parts)]).get("generationConfig", {}).get("mediaResolution") == expected


# Calls and their outputs...


def test_parallel_calls_are_one_turn_and_their_outputs_stand_in_the_same_order() -> None:
    given = contents(
        user("Hello"),
        call_item("call_1", "f", '{"a": 1}'),
        call_item("call_2", "f", '{"a": 2}'),
        answer("call_2", "two"),
        answer("call_1", "one"),
        user("Go on."),
        model="gemini-2.5-pro",
    )

    assert [content["role"] for content in given] == ["user", "model", "user", "user"]
    assert given[1]["parts"] == [
        {"functionCall": {"name": "f", "args": {"a": 1}}},
        {"functionCall": {"name": "f", "args": {"a": 2}}},
    ]
    assert [part["functionResponse"]["response"] for part in given[2]["parts"]] == [
        {"output": "one"},
        {"output": "two"},
    ]
    assert given[3]["parts"] == [{"text": "Go on."}]


def test_an_id_that_gemini_gave_goes_back_in_call_and_response() -> None:
    given = contents(user("Hello"), call_item("j425u3dm"), answer("j425u3dm"))

    assert given[1]["parts"][0]["functionCall"]["id"] == "j425u3dm"
    assert given[2]["parts"][0]["functionResponse"]["id"] == "j425u3dm"


def test_custom_and_namespaced_calls_go_by_their_flat_names() -> None:
    tools = [
        {"type": "custom", "name": "shell"},
        {"type": "namespace", "name": "mail", "description": "", "tools": [{"type": "function", "name": "send"}]},
    ]
    custom = {"type": "custom_tool_call", "call_id": "call_1", "name": "shell", "input": "ls"}
    given = contents(
        user("Hello"),
        custom,
        {**call_item("call_2", "send"), "namespace": "mail"},
        {"type": "custom_tool_call_output", "call_id": "call_1", "output": "a b"},
        answer("call_2"),
        tools=tools,
    )

    assert [part["functionCall"]["name"] for part in given[1]["parts"]] == ["shell", "mail__send"]
    assert given[1]["parts"][0]["functionCall"]["args"] == {"input": "ls"}
    assert [part["functionResponse"]["name"] for part in given[2]["parts"]] == ["shell", "mail__send"]


MIXED = [
    {"type": "input_text", "text": "See: "},
    {"type": "input_image", "image_url": DATA_URL},
    {"type": "input_file", "file_data": "data:audio/wav;base64,YQ=="},
]


def test_images_in_an_output_stay_inside_it_and_other_media_follow() -> None:
    given = contents(user("Hello"), call_item("call_1"), answer("call_1", MIXED))

    response = given[2]["parts"][0]["functionResponse"]
    assert response["response"] == {"output": "See: "}
    assert response["parts"] == [{"inlineData": {"mimeType": "image/png", "data": "aWJt"}}]
    assert given[3] == {"role": "user", "parts": [{"inlineData": {"mimeType": "audio/wav", "data": "YQ=="}}]}


def test_older_models_get_all_media_after_the_output() -> None:
    given = contents(user("Hello"), call_item("call_1"), answer("call_1", MIXED[1:]), model="gemini-2.5-pro")

    assert given[2]["parts"] == [{"functionResponse": {"name": "f", "response": {}}}]
    assert len(given[3]["parts"]) == 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [("null", {}), ("", {}), ('{"a": ', {"raw_arguments": '{"a": '}), ("[1]", {"raw_arguments": "[1]"})],
)
def test_arguments_that_are_no_object_are_sent_in_one(arguments: str, expected: Json) -> None:
    given = contents(user("Hello"), call_item("call_1", "f", arguments), answer("call_1"))

    assert given[1]["parts"][0]["functionCall"]["args"] == expected


def test_outputs_follow_their_calls_and_a_call_without_one_gets_a_stand_in() -> None:
    given = contents(
        user("Hello"), call_item("call_1"), user("wait"), call_item("call_2"), answer("call_1"), answer("lost")
    )

    assert [content["role"] for content in given] == ["user", "model", "user", "user", "model", "user", "user"]
    assert [part["functionResponse"]["response"]["output"] for part in given[2]["parts"] + given[5]["parts"]] == [
        "ok",
        "No output of this call was recorded.",
    ]
    assert "lost" in given[6]["parts"][0]["text"]


def test_an_id_that_repeats_goes_back_as_two() -> None:
    given = contents(user("Hello"), call_item("x"), call_item("x"), answer("x", "1"), answer("x", "2"))

    assert [part["functionCall"]["id"] for part in given[1]["parts"]] == ["x", "x_2"]
    assert [
        (part["functionResponse"]["id"], part["functionResponse"]["response"]["output"]) for part in given[2]["parts"]
    ] == [("x", "1"), ("x_2", "2")]


def test_media_of_a_tool_that_cannot_be_shown_are_named_to_the_model() -> None:
    output = [{"type": "input_file", "file_id": "file-abc", "filename": "a.pdf"}]
    given = contents(user("Hello"), call_item("call_1"), answer("call_1", output))

    assert given[2]["parts"][0]["functionResponse"]["response"] == {
        "output": "[file a.pdf: cannot be shown to this model]"
    }


# Signatures that are missing...


def test_a_call_of_the_current_turn_without_its_signature_gets_the_stand_in() -> None:
    given = contents(
        user("Hello"),
        call_item("call_1"),
        answer("call_1"),
        user("And now?"),
        call_item("call_2"),
        call_item("call_3"),
        answer("call_2"),
        answer("call_3"),
        call_item("call_4"),
        answer("call_4"),
    )

    signatures = [
        part.get("thoughtSignature") for content in given for part in content["parts"] if "functionCall" in part
    ]
    assert signatures == [None, STAND_IN, None, STAND_IN]


def test_files_of_a_tool_output_begin_no_new_turn() -> None:
    given = contents(user("Hello"), call_item("call_1"), answer("call_1", MIXED))

    assert given[1]["parts"][0]["thoughtSignature"] == STAND_IN


def test_older_models_need_no_stand_in() -> None:
    given = contents(user("Hello"), call_item("call_1"), answer("call_1"), model="gemini-2.5-pro")

    assert STAND_IN not in json.dumps(given)


# Other items...


def test_foreign_reasoning_is_left_out() -> None:
    foreign = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}], "encrypted_content": "gAAAA"}

    assert contents(user("Hello"), foreign, user("Go on.")) == [
        {"role": "user", "parts": [{"text": "Hello"}, {"text": "Go on."}]}
    ]


def test_images_of_an_earlier_turn_are_shown_again() -> None:
    image = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "aWJt"}

    assert contents(user("Draw."), image, user("Again."))[1]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": "aWJt"}}
    ]


def test_code_that_another_provider_ran_is_shown_as_code() -> None:
    code = {"type": "code_interpreter_call", "id": "ci_1", "status": "completed", "container_id": "c", "code": "1+1"}
    code["outputs"] = [{"type": "logs", "logs": "2"}]  # type: ignore[assignment]

    assert contents(user("Add."), code, user("Again."))[1]["parts"] == [
        {"executableCode": {"language": "PYTHON", "code": "1+1"}},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2"}},
    ]


@pytest.mark.parametrize("policy", ["auto", "reject", "drop"])
def test_a_conversation_is_never_refused_for_its_calls_of_hosted_tools(policy: str) -> None:
    search = {"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "query": "cats"}}
    called = {"type": "mcp_call", "name": "find", "server_label": "crm", "arguments": "{}", "error": {"type": "x"}}
    asked = ask(input=[user("Hello"), search, called, {"type": "computer_call", "call_id": "c"}], policy=policy)
    parts = json.loads(asked.body)["contents"][1]["parts"]

    assert [part["text"].partition(":")[0] for part in parts] == [
        "[Web search",
        "[Called find of the MCP server crm with {}\nFailed",
    ]
    assert asked.dropped == ("input[3]",)


def test_searches_of_geminis_own_stay_with_their_sealed_parts() -> None:
    called = {"part": {"toolCall": {"toolType": "GOOGLE_SEARCH_WEB", "args": {"queries": ["cats"]}}}}
    sealed = output.pack([called], "gemini", "gemini-3-pro-preview")
    own = {"type": "reasoning", "summary": [], "encrypted_content": sealed}
    search = {"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "query": "cats"}}

    assert contents(user("Hello"), own, search)[1]["parts"] == [called["part"]]


# Tools...


def test_functions_are_declared_with_their_json_schema() -> None:
    assert sent(tools=[TOOL, OTHER])["tools"] == [
        {
            "functionDeclarations": [
                {"name": "f", "description": "Does f.", "parametersJsonSchema": {"type": "object", "$defs": {}}},
                {"name": "g", "parametersJsonSchema": {"type": "object", "properties": {}}},
            ]
        }
    ]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "name": "g"}, {"mode": "ANY", "allowedFunctionNames": ["g"]}),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
            {"mode": "ANY", "allowedFunctionNames": ["f"]},
        ),
    ],
)
def test_each_tool_choice_has_its_mode(choice: Any, expected: Json | None) -> None:
    body = sent(tools=[TOOL, OTHER], tool_choice=choice)

    assert body.get("toolConfig") == (expected and {"functionCallingConfig": expected})
    assert len(body["tools"][0]["functionDeclarations"]) == 2


def test_tools_that_may_not_be_called_are_not_offered_where_no_list_can_say_so() -> None:
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}
    body = sent(tools=[TOOL, OTHER, {"type": "web_search"}], tool_choice=allowed)

    assert [tool["name"] for tool in body["tools"][0]["functionDeclarations"]] == ["f"]
    assert len(body["tools"]) == 1


def test_strict_functions_are_validated_where_the_model_can() -> None:
    strict = {**TOOL, "strict": True}

    assert sent(tools=[strict])["toolConfig"] == {"functionCallingConfig": {"mode": "VALIDATED"}}
    assert preferred(model="gemini-2.5-pro", tools=[strict]) == "tools[0].strict"


def test_hosted_tools_have_their_own_names() -> None:
    tools = [{"type": "web_search_preview"}, {"type": "code_interpreter", "container": {"type": "auto"}}]

    assert sent(tools=tools)["tools"] == [{"googleSearch": {}}, {"codeExecution": {}}]


def test_hosted_tools_beside_functions_ask_for_their_invocations() -> None:
    tools = [TOOL, {"type": "web_search"}]

    assert sent(tools=tools)["toolConfig"] == {"includeServerSideToolInvocations": True}
    assert sent(tools=tools, tool_choice="auto")["toolConfig"] == {"includeServerSideToolInvocations": True}
    assert "toolConfig" not in sent("publishers/google/models/gemini-3-pro", tools=tools)


def test_a_forced_function_leaves_the_other_tools_in_the_request() -> None:
    body = sent(tools=[TOOL, OTHER, {"type": "web_search"}], tool_choice={"type": "function", "name": "g"})

    assert (len(body["tools"]), len(body["tools"][0]["functionDeclarations"])) == (2, 2)
    assert body["toolConfig"]["functionCallingConfig"] == {"mode": "ANY", "allowedFunctionNames": ["g"]}


@pytest.mark.parametrize("type", ["web_search", "code_interpreter"])
def test_an_older_model_is_never_sent_functions_beside_hosted_tools(type: str) -> None:
    body: Json = {"model": "gemini-2.5-flash", "tools": [TOOL, {"type": type, "container": {"type": "auto"}}]}

    assert refused(**body) == "tools[1].type"
    assert [list(tool) for tool in json.loads(ask(policy="drop", **body).body)["tools"]] == [["functionDeclarations"]]
    assert len(sent("gemini-2.5-flash", tools=body["tools"][1:])["tools"]) == 1


SCHEMA = {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}


@pytest.mark.parametrize("tool", [TOOL, {"type": "web_search"}])
def test_an_older_model_is_never_sent_tools_beside_a_form_of_the_answer(tool: Json) -> None:
    body: Json = {"model": "gemini-2.5-flash", "tools": [tool]}

    assert refused(**body, text=SCHEMA) == "text.format"
    assert "generationConfig" not in json.loads(ask(policy="drop", **body, text=SCHEMA).body)
    found = sent(**body, text={"format": {"type": "json_object"}})
    assert "JSON object" in found["systemInstruction"]["parts"][0]["text"] and "generationConfig" not in found
    assert sent(tools=[tool], text=SCHEMA)["generationConfig"]["responseJsonSchema"] == {"type": "object"}


def test_settings_of_a_search_that_only_colour_it_are_preferences() -> None:
    assert preferred(tools=[{"type": "web_search", "search_context_size": "low"}]) == "tools[0].search_context_size"
    place = {"type": "web_search", "search_context_size": "medium", "user_location": {"type": "approximate"}}
    assert preferred(tools=[place]) == "tools[0].user_location"
    code = {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}}
    assert preferred(tools=[code]) == "tools[0].container.memory_limit"


def test_a_search_that_may_not_be_live_is_never_one() -> None:
    cached = {"type": "web_search", "external_web_access": False}

    assert preferred(tools=[TOOL, cached]) == "tools[1].external_web_access"
    assert "tools" not in sent(tools=[cached], tool_choice={"type": "web_search"})
    assert "toolConfig" not in sent("gemini-2.5-flash", tools=[TOOL, cached])


def test_a_hosted_tool_that_must_be_called_is_asked_for_in_words() -> None:
    body: Json = {"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}}

    assert "Call the tool `web_search`" in sent(**body)["systemInstruction"]["parts"][0]["text"]
    assert refused(policies=("reject",), **body) == "tool_choice"
    assert ask(policy="drop", **body).unsupported == ("tool_choice",)


def test_calls_one_at_a_time_are_a_matter_of_the_reply() -> None:
    call = Call("create", {"parallel_tool_calls": False}, "m", False, "p", "gemini")

    assert ask(tools=[TOOL], parallel_tool_calls=False).dropped == ()
    assert refused(policies=("reject",), tools=[TOOL], parallel_tool_calls=False) == "parallel_tool_calls"
    assert ask(parallel_tool_calls=False, policy="reject").dropped == ()
    assert single_call(call) and not single_call(dataclasses.replace(call, unsupported="drop"))
    assert not single_call(dataclasses.replace(call, body={}))


def test_a_bound_on_tool_calls_counts_only_hosted_ones() -> None:
    assert ask(tools=[TOOL], max_tool_calls=3, policy="reject").dropped == ("max_tool_calls",)
    assert preferred(tools=[{"type": "web_search"}], max_tool_calls=3) == "max_tool_calls"


def test_without_tools_allowed_none_of_the_hosted_are_offered() -> None:
    assert "tools" not in sent(tools=[{"type": "web_search"}], tool_choice="none")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": [TOOL, {"type": "computer"}]}, "tools[1].type"),
        ({"tools": [{"type": "web_search", "filters": {"allowed_domains": ["a.org"]}}]}, "tools[0].filters"),
        ({"tools": [{"type": "code_interpreter", "container": "cntr_1"}]}, "tools[0].container"),
        (
            {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["x"]}}]},
            "tools[0].container",
        ),
    ],
)
def test_a_tool_or_setting_that_gemini_lacks_is_refused_by_name(body: Json, param: str) -> None:
    assert refused(**body) == param
    assert param in ask(policy="drop", **body).dropped


# Settings...


def test_settings_have_their_own_names() -> None:
    body = sent(
        max_output_tokens=100,
        temperature=0.5,
        top_p=0.9,
        presence_penalty=1,
        frequency_penalty=-1,
        seed=7,
        stop="END",
        top_logprobs=3,
        service_tier="flex",
    )

    assert body["serviceTier"] == "flex"
    assert body["generationConfig"] == {
        "maxOutputTokens": 100,
        "temperature": 0.5,
        "topP": 0.9,
        "presencePenalty": 1,
        "frequencyPenalty": -1,
        "seed": 7,
        "stopSequences": ["END"],
        "responseLogprobs": True,
        "logprobs": 3,
    }


def test_logprobs_are_asked_for_by_include() -> None:
    body = sent(include=["message.output_text.logprobs"], top_logprobs=0)

    assert body["generationConfig"] == {"responseLogprobs": True}


@pytest.mark.parametrize(
    ("format", "expected"),
    [
        ({"type": "text"}, {}),
        ({"type": "json_object"}, {"responseMimeType": "application/json"}),
        (
            {"type": "json_schema", "name": "n", "schema": {"type": "object"}},
            {"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}},
        ),
    ],
)
def test_each_text_format_has_its_form(format: Json, expected: Json) -> None:
    assert sent(text={"format": format}).get("generationConfig", {}) == expected


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}),
        ("gemini-2.5-flash", "minimal", {"thinkingBudget": 1024}),
        ("gemini-2.5-flash", "medium", {"thinkingBudget": 8192}),
        ("gemini-2.5-flash", "max", {"thinkingBudget": 24576}),
        ("gemini-2.5-pro", "xhigh", {"thinkingBudget": 32768}),
        ("gemini-3-flash-preview", "none", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3-flash-preview", "medium", {"thinkingLevel": "MEDIUM"}),
        ("gemini-3-pro-preview", "minimal", {"thinkingLevel": "LOW"}),
        ("gemini-3-pro-preview", "medium", {"thinkingLevel": "HIGH"}),
        ("gemini-3.1-pro-preview", "medium", {"thinkingLevel": "MEDIUM"}),
        ("projects/pro/locations/l/publishers/google/models/gemini-3-flash", "minimal", {"thinkingLevel": "MINIMAL"}),
        ("gemini-flash-latest", "xhigh", {"thinkingLevel": "HIGH"}),
    ],
)
def test_reasoning_effort_is_a_budget_or_a_level_by_the_model(model: str, effort: str, expected: Json) -> None:
    config = sent(model, reasoning={"effort": effort})["generationConfig"]["thinkingConfig"]

    assert config == expected
    types.ThinkingConfig.model_validate(config)


def test_effort_none_where_thinking_cannot_be_switched_off_is_told_to_observers() -> None:
    for model in ("gemini-2.5-pro", "gemini-3-flash"):
        found = ask(model, reasoning={"effort": "none"}, policy="reject")
        assert (found.dropped, found.unsupported) == (("reasoning.effort",), ())


def test_a_summary_asks_for_thoughts() -> None:
    thinking = sent(reasoning={"summary": "auto"})["generationConfig"]["thinkingConfig"]

    assert thinking == {"includeThoughts": True}


def test_models_that_do_not_think_are_not_asked_to() -> None:
    assert "generationConfig" not in sent("gemini-2.0-flash", reasoning={"effort": "none", "summary": "auto"})
    assert preferred(model="gemini-2.0-flash", reasoning={"effort": "low"}) == "reasoning.effort"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"max_output_tokens": 1.5}, "max_output_tokens"),
        ({"stop": [3]}, "stop[0]"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"reasoning": {"effort": 3}}, "reasoning.effort"),
        ({"service_tier": 3}, "service_tier"),
        ({"parallel_tool_calls": 3}, "parallel_tool_calls"),
        ({"logit_bias": {}}, "logit_bias"),
        ({"input": None}, "input"),
    ],
)
def test_a_setting_that_is_malformed_or_lacking_is_refused_by_name(body: Json, param: str) -> None:
    assert refused(**body) == param


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"service_tier": "scale"}, "service_tier"),
        ({"include": ["file_search_call.results"]}, "include[0]"),
    ],
)
def test_a_preference_is_left_out_and_named(body: Json, param: str) -> None:
    assert preferred(**body) == param


def test_state_and_bookkeeping_never_reach_the_upstream() -> None:
    body = sent(store=True, previous_response_id="resp_0", background=False, metadata={"a": "b"}, user="u", include=[])

    assert body == {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
