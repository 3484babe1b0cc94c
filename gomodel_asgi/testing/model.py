"""The model behind a fake provider: reads a prompt, decides what to say, and counts it.

It has no randomness and no clock. By default it repeats what the user said; it calls a tool where the request demands
one, writes JSON where a schema demands it, and thinks where the request asks for reasoning.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Literal

from .plan import Answer, ToolCall

# What the model behind a fake provider is shown, the same whichever API carried it.


Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of the conversation: a text, a thought, a call, or the output of a tool.

    *text* of a call is its arguments. *media* are the images and files beside the text: URLs (`data:` URLs where they
    came inline) or ids of files. *name* and *call_id* are those of a tool's call and of its output, where the API gives
    them. *reasoning* marks what the model thought.
    """

    role: Role
    text: str = ""
    _: KW_ONLY
    media: tuple[str, ...] = ()
    name: str | None = None
    call_id: str | None = None
    reasoning: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the model may call. *custom* ones take free text, all others what *parameters* (a JSON Schema) says.
    *namespace* is the one that it stands in, if any."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    custom: bool = False
    namespace: str | None = None

    def wrapped(self, text: str) -> Json:
        """Returns free text as the arguments of a function: its first parameter that is a string."""
        members = self.parameters.get("properties")
        found = members.items() if isinstance(members, Mapping) else ()
        return {next((name for name, schema in found if is_string(schema)), "input"): text}


def is_string(schema: Any) -> bool:
    """Returns whether *schema* is that of a string, in JSON Schema's or in Gemini's spelling."""
    return isinstance(schema, Mapping) and str(schema.get("type")).lower() == "string"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One request to the model. *instructions* are those that stand apart from the conversation.

    *demanded* names the tools of which one has to be called, none where the model is free. *schema* is the JSON Schema
    of the answer; an empty one demands any JSON, None allows text. *thinks*: reasoning is requested.
    *body* is the request's JSON as it came.
    """

    model: str
    instructions: str = ""
    messages: tuple[Message, ...] = ()
    tools: tuple[Tool, ...] = ()
    demanded: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    thinks: bool = False
    max_output_tokens: int | None = None
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def last(self) -> Message:
        """The last message; an empty one of the user's where there is none."""
        return self.messages[-1] if self.messages else Message("user")

    @property
    def outputs(self) -> tuple[Message, ...]:
        """The outputs of tools that came since the model spoke last."""
        found: list[Message] = []
        for message in reversed(self.messages):
            if message.role == "assistant":
                break
            if message.role == "tool":
                found.append(message)
        return tuple(reversed(found))

    def tool(self, name: str) -> Tool | None:
        """Returns the tool of this name, None where it is not offered. One that was in a namespace is found by its own
        name too, where a gateway has made one name of both (`crm__lookup`).
        """
        exact = next((tool for tool in self.tools if tool.name == name), None)
        joined = [tool for tool in self.tools if tool.name.endswith(f"__{name}")]
        return exact or (joined[0] if len(joined) == 1 else None)


Json = dict[str, Any]
Model = Callable[[Prompt], Answer]

EPOCH = 1_772_295_219
"""All times of a fake provider count from here, one second a response."""

WORD = re.compile(r"\s*\S+|\s+$")
PIECE = 8
"""Characters of a call's arguments in one event."""


def words(text: str) -> list[str]:
    """Returns *text* in the pieces in which it is streamed and counted: words with the space before them."""
    return WORD.findall(text)


def listed(holder: Any, name: str) -> list[Any]:
    """Returns the list *name* in *holder*, empty where it is none."""
    value = holder.get(name) if isinstance(holder, Mapping) else None
    return value if isinstance(value, list) else []


def objects(holder: Any, name: str) -> list[Mapping[str, Any]]:
    """Returns the objects in the list *name* of *holder*."""
    return [each for each in listed(holder, name) if isinstance(each, Mapping)]


def text_of(content: Any) -> str:
    """Returns the text in the content of a message of the OpenAI APIs: itself, or its text parts joined."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


def count(prompt: Prompt) -> int:
    """Returns how long a prompt is, in words."""
    texts = [prompt.instructions, *(message.text for message in prompt.messages)]
    return max(1, sum(len(words(text)) for text in texts))


# Deciding on an answer...


def default_answer(prompt: Prompt) -> Answer:
    """Returns the answer of a model that the test has not scripted."""
    reasoning = "The user wants an answer." if prompt.thinks else None
    wanted = [tool for tool in prompt.tools if tool.name in prompt.demanded]
    if wanted and prompt.last.role != "tool":
        return Answer(reasoning=reasoning, calls=(call_of(wanted[0]),))
    return Answer(reasoning=reasoning, text=default_text(prompt))


def default_text(prompt: Prompt) -> str:
    """Returns the echo of the last message, or an example of the schema that the request gives."""
    speech = prompt.last.text
    if prompt.schema is not None:
        return json.dumps(example(prompt.schema, speech) if prompt.schema else {"said": speech})
    return f"The tool said: {speech}" if prompt.last.role == "tool" else f"You said: {speech}"


def call_of(tool: Tool) -> ToolCall:
    """Returns a call of *tool*."""
    if tool.custom:
        return ToolCall(tool.name, "as you wish", custom=True)
    return ToolCall(tool.name, json.dumps(example(tool.parameters, "Paris")))


def example(schema: Any, text: str, root: Any = None, depth: int = 8) -> Any:
    """Returns a value that fits a JSON Schema of the common kind; *text* stands where any string may. References are
    looked up in *root*, the schema itself if None.
    """
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
    """Returns what *reference* (`#/$defs/City`) names in *root*."""
    for name in reference.removeprefix("#").strip("/").split("/"):
        root = root.get(name) if isinstance(root, Mapping) else None
    return root


def check_shown(prompt: Prompt, answer: Answer) -> None:
    """Compares the outputs of tools in *prompt* with those that *answer* expects.

    :raises AssertionError: there are more or fewer, or one does not hold its text.
    """
    if answer.shown is None:
        return
    found = [output.text for output in prompt.outputs]
    if len(found) != len(answer.shown) or not all(map(str.__contains__, found, answer.shown)):
        raise AssertionError(f"The model was shown {found}, and expects {list(answer.shown)}.")


# The answer in words...


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """An answer as it is sent: cut to what the request allows, in words, and counted.

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
        """Tokens of the thought."""
        return len(self.thought)


def speech_of(prompt: Prompt, answer: Answer) -> Speech:
    """Returns *answer* to *prompt*, at most as long as it allows."""
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
    """Returns *call* by the name under which its tool is offered."""
    tool = prompt.tool(call.name)
    return call if tool is None else replace(call, name=tool.name)


def limited(answer: Answer, most: int | None) -> tuple[Answer, bool]:
    """Returns *answer* with a text of at most *most* words, and whether some are missing."""
    speech = words(answer.text or "")
    if most is None or len(speech) <= most:
        return answer, False
    return replace(answer, text="".join(speech[:most]), calls=()), True


def pieces(text: str) -> Iterator[str]:
    """Yields *text* in the pieces in which arguments are streamed."""
    for start in range(0, len(text), PIECE):
        yield text[start : start + PIECE]


def as_function(prompt: Prompt, call: ToolCall) -> str:
    """Returns the arguments of *call* as JSON text; free text is wrapped as the function that was offered takes it."""
    if not call.custom:
        return call.text()
    tool = prompt.tool(call.name) or Tool(call.name)
    return json.dumps(tool.wrapped(call.text()), ensure_ascii=False)


# Bytes that stand inside JSON.


def is_base64(data: object) -> bool:
    """Returns whether *data* is base64 of something."""
    if not isinstance(data, str) or not data:
        return False
    try:
        base64.b64decode(data, validate=True)
    except (ValueError, binascii.Error):
        return False
    return True


def media_type_of(url: str) -> str | None:
    """Returns the media type of a `data:` URL with sound base64 in it, None for any other URL."""
    head, comma, data = url.partition(",")
    if not head.startswith("data:") or not head.endswith(";base64") or not comma or not is_base64(data):
        return None
    return head.removeprefix("data:").removesuffix(";base64")
