"""Messages of the Messages API as a prompt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..model import objects
from ..prompt import Message, Prompt, Tool

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
