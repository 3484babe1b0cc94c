"""What common clients send by default, answered on every translating dialect with default settings.

The bodies are those that the clients sent to a fake in November 2026, texts and schemas shortened: Codex 0.171,
openai-python 3.57 and openai-node 6.49, Agents SDK 0.24, AI SDK 6.0, pydantic-ai 2.68, langchain-openai 1.7,
llama-index-llms-openai 0.8, LiteLLM 1.110.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming, MessageCreateParamsStreaming
from google.genai import types
from openai.types.chat import completion_create_params
from pydantic import ConfigDict, TypeAdapter, with_config

from gomodel_asgi import Provider
from gomodel_asgi.testing import FakeProvider

from ..support.playing import Json, Played, answer, asked, each_dialect, play, said, tools_of, user

WEATHER: Json = {
    "type": "function",
    "name": "weather",
    "description": "Weather.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
STRICT: Json = {**WEATHER, "strict": True}
OUT: Json = {"type": "json_schema", "name": "Out", "strict": True, "schema": WEATHER["parameters"]}

CODEX: Json = {
    "input": [
        {
            "type": "message",
            "id": "msg_1",
            "role": "developer",
            "content": [{"type": "input_text", "text": "You code."}],
        },
        {
            "type": "message",
            "id": "msg_2",
            "role": "developer",
            "content": [{"type": "input_text", "text": "<skills>"}],
        },
        {
            "type": "message",
            "id": "msg_3",
            "role": "user",
            "content": [{"type": "input_text", "text": "<cwd>/w</cwd>"}],
        },
        {"type": "message", "id": "msg_4", "role": "user", "content": [{"type": "input_text", "text": "say hi"}]},
    ],
    "tools": [
        {**WEATHER, "name": "exec_command", "strict": False},
        {**WEATHER, "name": "view_image", "strict": False},
        {
            "type": "namespace",
            "name": "multi_agent_v1",
            "description": "Sub-agents.",
            "tools": [{**WEATHER, "name": "spawn"}],
        },
        {
            "type": "custom",
            "name": "apply_patch",
            "description": "Edits files.",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: begin"},
        },
        {"type": "web_search", "external_web_access": False},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "01a2234d",
    "client_metadata": {"thread_id": "01a2234d"},
}
CODEX_WITH_PLUGINS: Json = {
    **CODEX,
    "tools": [
        *CODEX["tools"],
        {"type": "tool_search", "execution": "client", "description": "Finds.", "parameters": WEATHER["parameters"]},
    ],
    "reasoning": {"effort": "medium", "summary": "auto"},
    "text": {"verbosity": "medium"},
    "parallel_tool_calls": False,
}
LLAMA_INDEX: Json = {
    "include": None,
    "max_output_tokens": None,
    "metadata": None,
    "previous_response_id": None,
    "store": False,
    "stream": False,
    "truncation": "disabled",
    "user": None,
    "instructions": None,
}

FIRST: dict[str, Json] = {
    "Codex": CODEX,
    "Codex with plugins": CODEX_WITH_PLUGINS,
    "openai-python": {"input": "hi"},
    "openai-python stream": {"input": "hi", "stream": True},
    "openai-python parse": {"input": "hi", "text": {"format": OUT}},
    "Agents SDK": {
        "instructions": "Be brief.",
        "input": [{"content": "hi", "role": "user"}],
        "include": [],
        "tools": [STRICT],
        "reasoning": {"effort": "none"},
        "text": {"verbosity": "low"},
    },
    "Agents SDK output type": {
        "input": [{"content": "hi", "role": "user"}],
        "include": [],
        "tools": [],
        "stream": True,
        "text": {"format": OUT, "verbosity": "low"},
    },
    "AI SDK": {
        "input": [
            {"role": "developer", "content": "Be."},
            {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        ],
        "tools": [WEATHER],
        "tool_choice": "auto",
        "stream": True,
    },
    "AI SDK object": {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
        "text": {"format": {**OUT, "schema": {"$schema": "http://json-schema.org/draft-07/schema#", **OUT["schema"]}}},
    },
    "pydantic-ai": {
        "instructions": "Be brief.",
        "input": [{"role": "user", "content": "hi"}],
        "stream": False,
        "include": ["reasoning.encrypted_content"],
        "tool_choice": "auto",
        "tools": [STRICT],
    },
    "pydantic-ai output type": {
        "input": [{"role": "system", "content": "Sys"}, {"role": "user", "content": "hi"}],
        "stream": False,
        "include": ["reasoning.encrypted_content"],
        "tool_choice": "required",
        "tools": [STRICT],
    },
    "LangChain": {
        "input": [
            {"type": "message", "role": "system", "content": "Be."},
            {"type": "message", "role": "user", "content": "hi"},
        ],
        "stream": False,
        "tools": [WEATHER],
    },
    "LangChain function calling": {
        "input": [{"type": "message", "role": "user", "content": "hi"}],
        "stream": False,
        "parallel_tool_calls": False,
        "tool_choice": {"type": "function", "name": "weather"},
        "tools": [WEATHER],
    },
    "LangChain JSON mode": {
        "input": [{"type": "message", "role": "user", "content": "hi json"}],
        "stream": False,
        "text": {"format": {"type": "json_object"}},
    },
    "llama-index": {
        **LLAMA_INDEX,
        "input": [{"role": "developer", "content": "Be."}, {"role": "user", "content": "hi"}],
        "temperature": 0.1,
        "top_p": 1.0,
        "tools": [],
    },
    "llama-index tools": {
        **LLAMA_INDEX,
        "input": "hi",
        "temperature": 0.1,
        "top_p": 1.0,
        "parallel_tool_calls": False,
        "tool_choice": "auto",
        "tools": [WEATHER],
    },
    "LiteLLM": {
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
        "instructions": "Be.",
        "tools": [{**WEATHER, "strict": None}],
    },
}
MODELS = [
    ("chat", "openai", "gpt-5"),
    ("chat", "vllm", "qwen3.5"),
    ("chat", "mistral", "mistral-large"),
    ("chat", "minimax", "MiniMax-M2.5"),
    ("anthropic", "anthropic", "claude-sonnet-4-5"),
    ("anthropic", "anthropic", "claude-opus-5-5"),
    ("gemini", "gemini", "gemini-2.5-flash"),
    ("gemini", "gemini", "gemini-3-flash"),
]
STRICTLY = ConfigDict(extra="forbid")


@functools.cache
def adapter(params: Any) -> TypeAdapter[Any]:
    return TypeAdapter(params)


def validate(dialect: str, type: str, body: Json) -> None:
    """Whether the provider's own SDK would have let *body* pass."""
    if dialect == "anthropic":
        params: Any = MessageCreateParamsStreaming if body["stream"] else MessageCreateParamsNonStreaming
        adapter(params).validate_python(body)
    elif dialect == "gemini":
        for content in body["contents"]:
            types.Content.model_validate(content)
        for tool in body.get("tools", ()):
            types.Tool.model_validate(tool)
    elif type == "openai":
        streaming, unary = (
            completion_create_params.CompletionCreateParamsStreaming,
            completion_create_params.CompletionCreateParamsNonStreaming,
        )
        params = streaming if body.get("stream") else unary
        exhaust(adapter(with_config(STRICTLY)(params)).validate_python(body))


def exhaust(value: Any) -> None:
    """pydantic validates an `Iterable` while it is iterated, not before."""
    if isinstance(value, dict):
        value = value.values()
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        for inner in value:
            exhaust(inner)


@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize(("dialect", "type", "model"), MODELS, ids=[f"{type}-{model}" for _, type, model in MODELS])
async def test_what_a_client_sends_by_default_is_answered(
    provider: FakeProvider, name: str, dialect: str, type: str, model: str
) -> None:
    request = FIRST[name]
    found = await asked(provider, dialect, bool(request.get("stream")), request, model=model, type=type)

    assert found.response["status"] == "completed"
    validate(dialect, type, found.sent[0])


@each_dialect
async def test_codex_is_told_what_was_left_out_and_keeps_its_tools(provider: FakeProvider, dialect: str) -> None:
    found = await asked(provider, dialect, True, CODEX_WITH_PLUGINS)

    assert found.caller.headers["x-gomodel-unsupported"] == "tools.external_web_access"
    assert tools_of(dialect, found.sent[0]) == [
        "exec_command", "view_image", "multi_agent_v1__spawn", "apply_patch", "tool_search",
    ]  # fmt: skip
    assert [text for role, text in said(dialect, found.sent[0]) if role == "user"] == ["<cwd>/w</cwd>", "say hi"]


CALLS: dict[str, Json] = {
    "chat": {
        "choices": [
            {
                "index": 0,
                "delta": {
                    "tool_calls": [
                        {
                            "index": 0,
                            "id": "s1",
                            "function": {"name": "tool_search", "arguments": '{"query":"calendar"}'},
                        }
                    ]
                },
                "finish_reason": "tool_calls",
            }
        ]
    },
    "gemini": {
        "candidates": [
            {
                "content": {
                    "parts": [{"functionCall": {"name": "tool_search", "args": {"query": "calendar"}, "id": "s1"}}]
                },
                "finishReason": "STOP",
            }
        ]
    },
}
ANTHROPIC_CALL = [
    {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 1, "output_tokens": 1}}},
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "tool_use", "id": "s1", "name": "tool_search", "input": {}},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "input_json_delta", "partial_json": '{"query":"calendar"}'},
    },
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]


def searching(dialect: str) -> Json:
    """A stream in which the model looks for a tool."""
    events = ANTHROPIC_CALL if dialect == "anthropic" else [CALLS[dialect]]
    done = "data: [DONE]\n\n" if dialect == "chat" else ""
    return {"stream": True, "body": "".join(f"data: {json.dumps(event)}\n\n" for event in events) + done}


@each_dialect
async def test_a_client_that_searches_for_tools_itself_finds_them_on_every_upstream(
    provider: FakeProvider, dialect: str
) -> None:
    calendar = {**WEATHER, "name": "add_event", "defer_loading": True}
    loaded = {"type": "tool_search_output", "call_id": "s1", "execution": "client", "status": "completed"}
    space = {"type": "namespace", "name": "calendar", "description": "", "tools": [calendar]}
    first = {"model": "m", **CODEX_WITH_PLUGINS}
    steps = [{"request": first, "reply": searching(dialect)}]
    up = Provider("up", provider.base_url, dialect=dialect, api_key="sk-canary")  # type: ignore[arg-type]
    item = (await play(provider, up, steps)).response["output"][0]

    assert (item["type"], item["execution"], item["call_id"]) == ("tool_search_call", "client", "s1")
    assert item["arguments"] == {"query": "calendar"}

    provider.clear()
    again = {**first, "input": [*first["input"], item, {**loaded, "tools": [space]}, user("go on")]}
    found: Played = await play(provider, up, [{"request": again, "reply": answer(dialect, True)}])
    assert found.response["status"] == "completed"
    assert "calendar__add_event" in tools_of(dialect, found.sent[0])
    assert [kind for kind, _ in said(dialect, found.sent[0])][-3:] == ["call", "output", "user"]
