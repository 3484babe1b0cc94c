"""A request to the Gemini API as a prompt: which model, the spelling of members, contents, signatures."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .model import Message, Prompt, Tool, listed, objects

# What the models of Gemini do, by the version in their name (Gemini API, models and thinking).


NAME = re.compile(r"gemini-(\d+)(?:\.(\d+))?")
NEWEST = (99, 0)


def version_of(model: str) -> tuple[int, int]:
    """Returns the version of *model*; one without a number, such as `gemini-flash-latest`, is the newest."""
    found = NAME.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else NEWEST


def signs(model: str) -> bool:
    """Returns whether the model signs its calls, and wants the signatures back; such a model gives its calls ids
    too."""
    return version_of(model) >= (3, 0)


# The spelling of members: the API takes `functionCall` and `function_call` alike (proto3 JSON).


FREE = frozenset({"args", "response", "parameters", "parametersJsonSchema", "responseSchema", "responseJsonSchema"})
"""Members whose content is the client's own, or a schema with names of the client's own."""

UNDERSCORE = re.compile(r"_([a-z])")


def camel(name: str) -> str:
    """Returns *name* in camel case."""
    return UNDERSCORE.sub(lambda found: found[1].upper(), name)


def normal(value: Any) -> Any:
    """Returns *value* with all names of members in camel case."""
    if isinstance(value, list):
        return [normal(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {camel(name): member if camel(name) in FREE else normal(member) for name, member in value.items()}


# Contents of the Gemini API as a prompt; members in camel case.


Object = Mapping[str, Any]


def prompt_of(model: str, body: Object) -> Prompt:
    """Returns the prompt of *body*, which keeps the rules."""
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


def text_of(parts: Sequence[Object]) -> str:
    """Returns the texts of *parts*, thoughts left out, joined."""
    return " ".join(str(part["text"]) for part in parts if part.get("text") and not part.get("thought"))


def messages_of(contents: Sequence[Object]) -> Iterator[Message]:
    """Yields each thought, text, call and output; the texts and media of one content are one."""
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
    """Returns the output of a tool: the text in it, if there is nothing else."""
    if isinstance(response, Mapping) and len(response) == 1:
        (value,) = response.values()
        if isinstance(value, str):
            return value
    return json.dumps(response or {}, ensure_ascii=False)


def media_of(parts: Sequence[Object]) -> Iterator[str]:
    """Yields the images and files in *parts*."""
    for part in parts:
        if inline := part.get("inlineData"):
            yield f"data:{inline['mimeType']};base64,{inline['data']}"
        elif file := part.get("fileData"):
            yield str(file["fileUri"])


def tools_of(body: Object) -> Iterator[Tool]:
    """Yields the functions that may be called; the provider's own tools are none."""
    for tool in objects(body, "tools"):
        for function in objects(tool, "functionDeclarations"):
            yield Tool(function["name"], function.get("parametersJsonSchema") or function.get("parameters") or {})


def demanded(config: Any, tools: Sequence[Tool]) -> list[str]:
    """Returns the names of which the tool configuration demands one."""
    calling = (config or {}).get("functionCallingConfig") or {}
    if calling.get("mode") != "ANY":
        return []
    return listed(calling, "allowedFunctionNames") or [tool.name for tool in tools]


def schema_of(config: Object) -> Object | None:
    """Returns the schema of the answer; an empty one for JSON without a schema."""
    if config.get("responseMimeType") != "application/json":
        return None
    return config.get("responseJsonSchema") or config.get("responseSchema") or {}


def thinks(config: Object) -> bool:
    """Returns whether the request asks for thinking, or for showing it."""
    return bool(config.get("thinkingBudget") or config.get("thinkingLevel") or config.get("includeThoughts"))


# Thought signatures.


OWN = b"fake thought: "
STAND_INS = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
"""What may be sent for a signature that there never was (Gemini API, "Thought signatures")."""


def signature_of(mark: str) -> str:
    """Returns a thought signature."""
    return base64.b64encode(OWN + mark.encode()).decode()


def is_signature(text: object) -> bool:
    """Returns whether *text* is a signature of a fake provider's, in one alphabet of base64 or the other, or a
    stand-in."""
    if not isinstance(text, str):
        return False
    try:
        plain = base64.b64decode(text.translate(str.maketrans("-_", "+/")), validate=True)
    except ValueError:
        plain = b""
    return text in STAND_INS or plain.startswith(OWN)
