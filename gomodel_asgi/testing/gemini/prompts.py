"""Contents of the Gemini API as a prompt; members in camel case."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..model import listed, objects
from ..prompt import Message, Prompt, Tool

Json = Mapping[str, Any]


def prompt_of(model: str, body: Json) -> Prompt:
    """*body*, which keeps the rules."""
    config = body.get("generationConfig") or {}
    tools = tuple(tools_of(body))
    return Prompt(
        model=model,
        instructions=text_of(objects(body.get("systemInstruction"), "parts")),
        messages=tuple(messages_of(objects(body, "contents"))),
        tools=tools,
        demanded=tuple(demanded(body.get("toolConfig"), tools)),
        schema=schema_of(config),
        thinks=thinks(config.get("thinkingConfig") or {}),
        max_output_tokens=config.get("maxOutputTokens"),
        body=body,
    )


def text_of(parts: Sequence[Json]) -> str:
    """The texts of *parts*, thoughts left out, joined."""
    return " ".join(str(part["text"]) for part in parts if part.get("text") and not part.get("thought"))


def messages_of(contents: Sequence[Json]) -> Iterator[Message]:
    """Each thing said, thought, called or put out; the texts and media of one content stand together."""
    for content in contents:
        parts = objects(content, "parts")
        for part in parts:
            if response := part.get("functionResponse"):
                text, media = output_of(response.get("response")), tuple(media_of(objects(response, "parts")))
                yield Message("tool", text, media=media, name=response["name"], call_id=response.get("id"))
            elif part.get("thought"):
                yield Message("assistant", str(part.get("text")), reasoning=True)
        text, media = text_of(parts), tuple(media_of(parts))
        if text or media:
            yield Message("assistant" if content.get("role") == "model" else "user", text, media=media)
        for part in parts:
            if call := part.get("functionCall"):
                arguments = json.dumps(call.get("args") or {}, ensure_ascii=False)
                yield Message("assistant", arguments, name=call["name"], call_id=call.get("id"))


def output_of(response: Any) -> str:
    """The output of a tool: the text in it, if there is nothing else."""
    if isinstance(response, Mapping) and len(response) == 1:
        (value,) = response.values()
        if isinstance(value, str):
            return value
    return json.dumps(response or {}, ensure_ascii=False)


def media_of(parts: Sequence[Json]) -> Iterator[str]:
    """The images and files in *parts*."""
    for part in parts:
        if inline := part.get("inlineData"):
            yield f"data:{inline['mimeType']};base64,{inline['data']}"
        elif file := part.get("fileData"):
            yield str(file["fileUri"])


def tools_of(body: Json) -> Iterator[Tool]:
    """The functions that may be called; the provider's own tools are none."""
    for tool in objects(body, "tools"):
        for function in objects(tool, "functionDeclarations"):
            yield Tool(function["name"], function.get("parametersJsonSchema") or function.get("parameters") or {})


def demanded(config: Any, tools: Sequence[Tool]) -> list[str]:
    """The names of which the tool configuration demands one."""
    calling = (config or {}).get("functionCallingConfig") or {}
    if calling.get("mode") != "ANY":
        return []
    return listed(calling, "allowedFunctionNames") or [tool.name for tool in tools]


def schema_of(config: Json) -> Json | None:
    """The schema of the answer; an empty one for JSON without a schema."""
    if config.get("responseMimeType") != "application/json":
        return None
    return config.get("responseJsonSchema") or config.get("responseSchema") or {}


def thinks(config: Json) -> bool:
    """Whether the request asks for thinking, or wants to see it."""
    return bool(config.get("thinkingBudget") or config.get("thinkingLevel") or config.get("includeThoughts"))
