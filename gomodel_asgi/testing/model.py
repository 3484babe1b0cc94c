"""The model behind a fake provider: reads a prompt, decides what to say, and counts it.

It has no randomness and no clock. By default it repeats what the user said; it calls a tool where the request demands
one, writes JSON where a schema demands it, and thinks where reasoning is asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .prompt import Prompt, Tool
from .replies import Answer, ToolCall

Json = dict[str, Any]
Model = Callable[[Prompt], Answer]

EPOCH = 1_772_295_219
"""All times of a fake provider count from here, one second a response."""

WORD = re.compile(r"\s*\S+|\s+$")
PIECE = 8
"""Characters of a call's arguments in one event."""


def words(text: str) -> list[str]:
    """*text* in the pieces in which it is streamed and counted: words with the space before them."""
    return WORD.findall(text)


def listed(holder: Any, name: str) -> list[Any]:
    """The list *name* in *holder*, empty where it is none."""
    value = holder.get(name) if isinstance(holder, Mapping) else None
    return value if isinstance(value, list) else []


def objects(holder: Any, name: str) -> list[Mapping[str, Any]]:
    """The objects in the list *name* of *holder*."""
    return [each for each in listed(holder, name) if isinstance(each, Mapping)]


def count(prompt: Prompt) -> int:
    """How long a prompt is, in words."""
    texts = [prompt.instructions, *(message.text for message in prompt.messages)]
    return max(1, sum(len(words(text)) for text in texts))


# Deciding what to say...


def default_answer(prompt: Prompt) -> Answer:
    """What the model says when the test has not scripted anything."""
    reasoning = "The user wants an answer." if prompt.thinks else None
    wanted = [tool for tool in prompt.tools if tool.name in prompt.demanded]
    if wanted and prompt.last.role != "tool":
        return Answer(reasoning=reasoning, calls=(call_of(wanted[0]),))
    return Answer(reasoning=reasoning, text=default_text(prompt))


def default_text(prompt: Prompt) -> str:
    """The echo of what was said last, or an example of the schema that the request gives."""
    said = prompt.last.text
    if prompt.schema is not None:
        return json.dumps(example(prompt.schema, said) if prompt.schema else {"said": said})
    return f"The tool said: {said}" if prompt.last.role == "tool" else f"You said: {said}"


def call_of(tool: Tool) -> ToolCall:
    """A call of *tool*."""
    if tool.custom:
        return ToolCall(tool.name, "as you wish", custom=True)
    return ToolCall(tool.name, json.dumps(example(tool.parameters, "Paris")))


def example(schema: Any, text: str, root: Any = None, depth: int = 8) -> Any:
    """A value that fits a JSON Schema of the common kind; *text* stands where any string may. References are looked up
    in *root*, the schema itself if None."""
    root = schema if root is None else root
    if not isinstance(schema, Mapping) or depth == 0:
        return {}
    if "const" in schema:
        return schema["const"]
    if "$ref" in schema:
        return example(referred(root, str(schema["$ref"])), text, root, depth - 1)
    if values := listed(schema, "enum"):
        return values[0]
    if branches := listed(schema, "anyOf") or listed(schema, "oneOf") or listed(schema, "allOf"):
        return example(branches[0], text, root, depth - 1)
    match str((listed(schema, "type") or [schema.get("type")])[0]).lower():  # Gemini writes types in capitals
        case "string":
            return text
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
        case "array":
            return [example(schema.get("items"), text, root, depth - 1)]
    members = schema.get("properties")
    if not isinstance(members, Mapping):
        return {}
    return {name: example(member, text, root, depth - 1) for name, member in members.items()}


def referred(root: Any, reference: str) -> Any:
    """What *reference* (`#/$defs/City`) names in *root*."""
    for name in reference.removeprefix("#").strip("/").split("/"):
        root = root.get(name) if isinstance(root, Mapping) else None
    return root


# Saying it...


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """An answer as it will be said: cut to what the request allows, in words, and counted.

    *input* includes the *cached* tokens, *output* those of the *thought*. *incomplete* is the reason of an early end.
    """

    thought: Sequence[str]
    text: Sequence[str]
    refusal: Sequence[str]
    calls: Sequence[ToolCall]
    incomplete: str | None
    input: int
    cached: int
    output: int

    @property
    def reasoning(self) -> int:
        """How many tokens were thought."""
        return len(self.thought)


def speech(prompt: Prompt, answer: Answer) -> Speech:
    """*answer* to *prompt*, at most as long as it allows."""
    thought = words(answer.reasoning or "")
    most = prompt.max_output_tokens
    answer, short = limited(answer, None if most is None else max(0, most - len(thought)))
    text, refusal = words(answer.text or ""), words(answer.refusal or "")
    called = sum(len(words(call.text())) for call in answer.calls)
    length = count(prompt)
    return Speech(
        thought=thought,
        text=text,
        refusal=refusal,
        calls=[as_offered(prompt, call) for call in answer.calls],
        incomplete="max_output_tokens" if short else answer.incomplete,
        input=length,
        cached=min(answer.cached, length),
        output=len(thought) + len(text) + len(refusal) + called,
    )


def as_offered(prompt: Prompt, call: ToolCall) -> ToolCall:
    """*call* by the name under which its tool is offered."""
    tool = prompt.tool(call.name)
    return call if tool is None else replace(call, name=tool.name)


def limited(answer: Answer, most: int | None) -> tuple[Answer, bool]:
    """*answer* with a text of at most *most* words, and whether some are missing."""
    said = words(answer.text or "")
    if most is None or len(said) <= most:
        return answer, False
    return replace(answer, text="".join(said[:most]), calls=()), True


def pieces(text: str) -> Iterator[str]:
    """*text* in the pieces in which arguments are streamed."""
    for start in range(0, len(text), PIECE):
        yield text[start : start + PIECE]


def as_function(prompt: Prompt, call: ToolCall) -> str:
    """The arguments of *call* as JSON text; free text is wrapped as the function that was offered takes it."""
    if not call.custom:
        return call.text()
    tool = prompt.tool(call.name) or Tool(call.name)
    return json.dumps(tool.wrapped(call.text()), ensure_ascii=False)
