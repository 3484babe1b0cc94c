"""What the model behind a fake provider is shown, the same whichever API carried it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal

Json = dict[str, Any]
Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """One thing in the conversation: something said, thought or called, or the output of a tool.

    *text* of a call is its arguments. *media* are the images and files beside the text: URLs (`data:` URLs where they
    came inline) or ids of files. *name* and *call_id* are those of a tool's call and of its output, where the API says
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
        """Free text as the arguments of a function: its first parameter that is a string."""
        members = self.parameters.get("properties")
        found = members.items() if isinstance(members, Mapping) else ()
        return {next((name for name, schema in found if is_string(schema)), "input"): text}


def is_string(schema: Any) -> bool:
    """Whether *schema* is that of a string, in JSON Schema's or in Gemini's spelling."""
    return isinstance(schema, Mapping) and str(schema.get("type")).lower() == "string"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One request to the model. *instructions* are those that stand apart from the conversation.

    *demanded* names the tools of which one has to be called, none where the model is free. *schema* is the JSON Schema
    of the answer; an empty one demands any JSON, None allows text. *thinks* says whether reasoning is asked for.
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
        """What was said last; an empty message of the user's where nothing was."""
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
        """The tool of this name, None where it is not offered. One that was in a namespace is found by its own name
        too, where a gateway has made one name of both (`crm__lookup`)."""
        exact = next((tool for tool in self.tools if tool.name == name), None)
        joined = [tool for tool in self.tools if tool.name.endswith(f"__{name}")]
        return exact or (joined[0] if len(joined) == 1 else None)
