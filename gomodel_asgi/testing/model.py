"""The model behind a fake provider: reads a request, decides what to say, says it through the package's event grammar.

It has no randomness and no clock. By default it repeats what the user said; it calls a tool where the request demands
one, writes JSON where a schema demands it, and thinks where reasoning is asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..emitter import Emitter, Reason, usage
from .replies import Answer, ToolCall

Json = dict[str, Any]

WORD = re.compile(r"\s*\S+|\s+$")


def words(text: str) -> list[str]:
    """*text* in the pieces in which it is streamed and counted: words with the space before them."""
    return WORD.findall(text)


# Reading the request...


def text_of(content: Any) -> str:
    """The text in a message's content: itself, or its text parts joined."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


def said_in(item: Mapping[str, Any]) -> str:
    """The text of an item: of a message its content, of a tool's result its output."""
    return text_of(item.get("content") if "content" in item else item.get("output") or item.get("arguments"))


def objects(holder: Mapping[str, Any], name: str) -> list[Any]:
    """The list *name* in *holder*, empty where it is none."""
    value = holder.get(name)
    return value if isinstance(value, list) else []


def count(items: Sequence[Mapping[str, Any]], instructions: Any = None) -> int:
    """How long an input is, in words."""
    texts = [text_of(instructions), *map(said_in, items)]
    return max(1, sum(len(words(text)) for text in texts))


# Deciding what to say...


def default_answer(body: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> Answer:
    """What the model says when the test has not scripted anything."""
    last = items[-1] if items else {}
    reasoning = "The user wants an answer." if thinks(body.get("reasoning")) else None
    calls = () if str(last.get("type")).endswith("_output") else tuple(demanded_calls(body))
    if calls:
        return Answer(reasoning=reasoning, calls=calls)
    return Answer(reasoning=reasoning, text=default_text(body, last))


def thinks(reasoning: Any) -> bool:
    """Whether the request asks for reasoning."""
    if not isinstance(reasoning, Mapping):
        return False
    return reasoning.get("effort") not in (None, "none") or reasoning.get("summary") is not None


def default_text(body: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    """The echo of *last*, or an example of the schema that the request gives."""
    options = body.get("text")
    form = options.get("format") if isinstance(options, Mapping) else None
    kind = form.get("type") if isinstance(form, Mapping) else None
    said = said_in(last)
    if kind == "json_schema" and isinstance(form, Mapping):
        return json.dumps(example(form.get("schema"), said))
    if kind == "json_object":
        return json.dumps({"said": said})
    return f"The tool said: {said}" if str(last.get("type")).endswith("_output") else f"You said: {said}"


def demanded_calls(body: Mapping[str, Any]) -> Iterator[ToolCall]:
    """The call that `tool_choice` demands, with arguments after the tool's schema."""
    tools = [tool for tool in objects(body, "tools") if isinstance(tool, Mapping) and isinstance(tool.get("name"), str)]
    choice = body.get("tool_choice")
    named = choice if isinstance(choice, Mapping) else {}
    if named.get("type") == "allowed_tools":
        allowed = [tool.get("name") for tool in objects(named, "tools") if isinstance(tool, Mapping)]
        tools = [tool for tool in tools if tool["name"] in allowed]
        demanded = named.get("mode") == "required"
    else:
        demanded = choice == "required" or named.get("type") in ("function", "custom")
    for tool in tools:
        fits = "name" not in named or named["name"] == tool["name"]
        if demanded and fits and tool.get("type") in ("function", "custom"):
            yield call_of(tool)
            return


def call_of(tool: Mapping[str, Any]) -> ToolCall:
    """A call of *tool*."""
    if tool["type"] == "custom":
        return ToolCall(tool["name"], "as you wish", custom=True)
    return ToolCall(tool["name"], json.dumps(example(tool.get("parameters"), "Paris")))


def example(schema: Any, text: str, depth: int = 8) -> Any:
    """A value that fits a JSON Schema of the common kind; *text* stands where any string may."""
    if not isinstance(schema, Mapping) or depth == 0:
        return {}
    if "const" in schema:
        return schema["const"]
    if values := objects(schema, "enum"):
        return values[0]
    if branches := objects(schema, "anyOf") or objects(schema, "oneOf"):
        return example(branches[0], text, depth - 1)
    match (objects(schema, "type") or [schema.get("type")])[0]:
        case "string":
            return text
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
        case "array":
            return [example(schema.get("items"), text, depth - 1)]
    members = schema.get("properties")
    if not isinstance(members, Mapping):
        return {}
    return {name: example(member, text, depth - 1) for name, member in members.items()}


# Saying it...


def speak(emitter: Emitter, answer: Answer, *, input_tokens: int, max_output_tokens: int | None, at: int) -> None:
    """Say *answer*, word by word, and end the response with its usage at Unix time *at*."""
    thought = words(answer.reasoning or "")
    answer, short = limited(answer, None if max_output_tokens is None else max(0, max_output_tokens - len(thought)))
    if thought:
        reasoning = emitter.reasoning()
        for word in thought:
            reasoning.text(word)
        reasoning.seal("fake-encrypted-reasoning")
        reasoning.close()
    say_message(emitter, answer)
    for number, call in enumerate(answer.calls):
        say_call(emitter, call, f"call_{emitter.suffix}{number:02x}")
    said = (answer.text or "", answer.refusal or "", *(call.text() for call in answer.calls))
    output = len(thought) + sum(len(words(text)) for text in said)
    emitter.usage(usage(input=input_tokens, output=output, reasoning=len(thought)))
    reason: Reason | None = "max_output_tokens" if short else answer.incomplete
    emitter.complete(at) if reason is None else emitter.incomplete(reason)


def limited(answer: Answer, most: int | None) -> tuple[Answer, bool]:
    """*answer* with a text of at most *most* words, and whether some are missing."""
    said = words(answer.text or "")
    if most is None or len(said) <= most:
        return answer, False
    return replace(answer, text="".join(said[:most]), calls=()), True


def say_message(emitter: Emitter, answer: Answer) -> None:
    """The message of *answer*, if it has one."""
    if answer.text is None and answer.refusal is None:
        return
    message = emitter.message()
    for word in words(answer.text or ""):
        message.text(word)
    for word in words(answer.refusal or ""):
        message.refusal(word)
    message.close() if answer.calls else None


def say_call(emitter: Emitter, call: ToolCall, call_id: str) -> None:
    """One tool call, its arguments in pieces."""
    call_id = call.call_id or call_id
    if call.custom:
        item: Any = emitter.custom_call(call_id, call.name)
        text = json.dumps({"input": call.text()})
    else:
        item, text = emitter.function_call(call_id, call.name), call.text()
    for start in range(0, len(text), 8):
        item.arguments(text[start : start + 8])
    item.close()
