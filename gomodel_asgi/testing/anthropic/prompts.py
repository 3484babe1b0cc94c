"""Messages of the Messages API as a prompt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..model import Message, Prompt, Tool, objects
from ..responses.conversations import Refused
from .wire import adapts, check_schema, compacts, one_sampler, prefills, samples, takes_budget

Json = Mapping[str, Any]


def prompt_of(body: Json) -> Prompt:
    """*body*, which keeps the rules."""
    tools = tuple(tools_of(body))
    return Prompt(
        model=str(body.get("model")),
        instructions=text_of(body.get("system")),
        messages=tuple(messages_of(objects(body, "messages"))),
        tools=tools,
        demanded=tuple(demanded(body.get("tool_choice"), tools)),
        schema=schema_of(body.get("output_config")),
        thinks=(body.get("thinking") or {}).get("type") in ("enabled", "adaptive"),
        max_output_tokens=body.get("max_tokens"),
        body=body,
    )


def blocks_of(content: Any) -> Sequence[Json]:
    """The blocks of a content, which may be a text."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content or []


def text_of(content: Any) -> str:
    """The texts of a content, joined."""
    return " ".join(str(block["text"]) for block in blocks_of(content) if block.get("type") == "text")


def messages_of(messages: Sequence[Json]) -> Iterator[Message]:
    """Each thing said, thought, called or put out; the texts and media of one message stand together."""
    names: dict[Any, str] = {}
    for message in messages:
        blocks = blocks_of(message["content"])
        for block in blocks:
            if block["type"] == "tool_result":
                id = block["tool_use_id"]
                media = tuple(media_of(block.get("content")))
                yield Message("tool", text_of(block.get("content")), media=media, name=names.get(id), call_id=id)
            elif block["type"] == "compaction":
                yield Message("system", str(block.get("content") or ""))
            elif block["type"] == "thinking":
                yield Message("assistant", block["thinking"], reasoning=True)
        text, media = text_of(blocks), tuple(media_of(blocks))
        if text or media:
            yield Message(message["role"], text, media=media)
        for block in blocks:
            if block["type"] == "tool_use":
                names[block["id"]] = block["name"]
                text = json.dumps(block["input"], ensure_ascii=False)
                yield Message("assistant", text, name=block["name"], call_id=block["id"])


def media_of(content: Any) -> Iterator[str]:
    """The images and documents in a content."""
    for block in blocks_of(content):
        source = block.get("source")
        if block.get("type") not in ("image", "document") or not isinstance(source, Mapping):
            continue
        if source.get("type") == "base64":
            yield f"data:{source['media_type']};base64,{source['data']}"
        else:
            yield str(source.get("url") or source.get("file_id") or source.get("data"))


def tools_of(body: Json) -> Iterator[Tool]:
    """The client's own tools; those that the provider would run are none."""
    for tool in objects(body, "tools"):
        if tool.get("type") in (None, "custom"):
            yield Tool(tool["name"], tool["input_schema"])


def demanded(choice: Any, tools: Sequence[Tool]) -> list[str]:
    """The names of which `tool_choice` demands one."""
    kind = choice.get("type") if isinstance(choice, Mapping) else None
    if kind == "any":
        return [tool.name for tool in tools]
    return [choice["name"]] if kind == "tool" else []


def schema_of(config: Any) -> Json | None:
    """The schema that `output_config.format` gives."""
    form = config.get("format") if isinstance(config, Mapping) else None
    return form["schema"] if isinstance(form, Mapping) else None


# Settings of the Messages API that exclude each other, or that a model does not take.


LEAST_BUDGET = 1024
USUAL_TRIGGER = 150_000
LEAST_TRIGGER = 50_000
EFFORTS = ("low", "medium", "high", "xhigh", "max")
LONGEST_USER = 256


def invalid(message: str) -> Refused:
    return Refused(400, message)


def check_settings(body: Json) -> None:
    """:raises Refused: a setting cannot be kept."""
    check_sampling(body)
    thinking = body.get("thinking")
    if thinking is not None:
        check_thinking(body, thinking)
    config = body.get("output_config") or {}
    if config.get("effort") not in (None, *EFFORTS):
        raise invalid(f"output_config.effort: Input should be one of {', '.join(EFFORTS)}")
    form = config.get("format")
    if form is not None:
        if form.get("type") != "json_schema" or not isinstance(form.get("schema"), Mapping):
            raise invalid("output_config.format: Input should be a JSON schema")
        check_schema(form["schema"], "output_config.format.schema")
    if triggers(body) and not compacts(body["model"]):
        raise invalid("context_management.edits.0: compact_20260112 is not supported by this model")
    for at, trigger in enumerate(triggers(body)):
        if trigger < LEAST_TRIGGER:
            path = f"context_management.edits.{at}.compact_20260112"
            raise invalid(f"{path}: trigger.value must be at least {LEAST_TRIGGER}")
    if body["messages"][-1]["role"] == "assistant" and not prefills(body["model"]):
        raise invalid(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
    if any(not str(text).strip() for text in body.get("stop_sequences") or []):
        raise invalid("stop_sequences: each stop sequence must contain non-whitespace")
    if len(str((body.get("metadata") or {}).get("user_id") or "")) > LONGEST_USER:
        raise invalid(f"metadata.user_id: String should have at most {LONGEST_USER} characters")


def triggers(body: Json) -> list[int]:
    """From how many tokens on the conversation is to be compacted, for each edit that says so."""
    edits = objects(body.get("context_management"), "edits")
    compactions = [edit for edit in edits if edit.get("type") == "compact_20260112"]
    return [(edit.get("trigger") or {}).get("value", USUAL_TRIGGER) for edit in compactions]


def check_sampling(body: Json) -> None:
    given = [name for name in ("temperature", "top_p", "top_k") if body.get(name) is not None]
    if given and not samples(body["model"]):
        raise invalid(f"`{given[0]}` is deprecated for this model.")
    if {"temperature", "top_p"} <= set(given) and one_sampler(body["model"]):
        raise invalid("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
    for name in ("temperature", "top_p"):
        if name in given and not 0 <= body[name] <= 1:
            raise invalid(f"{name}: range: 0..1")


def check_thinking(body: Json, thinking: Json) -> None:
    kind = thinking.get("type")
    if kind not in ("enabled", "adaptive", "disabled"):
        raise invalid(f"thinking: Input tag '{kind}' found using 'type' does not match any of the expected tags")
    if kind == "disabled":
        return
    if kind == "adaptive" and not adapts(body["model"]):
        raise invalid("adaptive thinking is not supported on this model")
    if kind == "enabled":
        check_budget(body, thinking)
    choice = (body.get("tool_choice") or {}).get("type")
    if choice in ("any", "tool"):
        raise invalid("Thinking may not be enabled when tool_choice forces tool use.")
    if body.get("temperature") not in (None, 1):
        raise invalid("`temperature` may only be set to 1 when thinking is enabled or in adaptive mode.")
    if body.get("top_p") is not None and body["top_p"] < 0.95:
        raise invalid("`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled.")
    if body.get("top_k") is not None:
        raise invalid("`top_k` must be unset when thinking is enabled.")


def check_budget(body: Json, thinking: Json) -> None:
    budget = thinking.get("budget_tokens")
    if not takes_budget(body["model"]):
        raise invalid(
            '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and'
            ' "output_config.effort" to control thinking behavior.'
        )
    if not isinstance(budget, int):
        raise invalid("thinking.enabled.budget_tokens: Field required")
    if budget < LEAST_BUDGET:
        raise invalid(f"thinking.enabled.budget_tokens: Input should be greater than or equal to {LEAST_BUDGET}")
    if "max_tokens" in body and body["max_tokens"] <= budget:
        raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`.")
