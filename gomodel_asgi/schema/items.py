"""Items: what goes into `input` and comes out of `output`, and the parts of which messages are made.

The types that a policy is likely to look into have a model each. Every other type, known to OpenAI or not, is a plain
`Item` with all its members.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, GetJsonSchemaHandler, Tag
from pydantic_core import CoreSchema

# What every model here has in common: nothing that came over the wire is refused for being unknown, or lost.


Number = int | float
"""A JSON number, spelled as it came: 1 stays 1 and 1.0 stays 1.0."""

Json = dict[str, Any]


class WireModel(BaseModel):
    """A JSON object of the Responses API. Members that are not named here are kept, as are explicit nulls: what was
    read is what `model_dump(exclude_unset=True)` gives back. Values are not coerced: `"5"` is not a number. Assigning a
    member raises ValidationError: `model_copy(update=…)` gives a changed copy."""

    model_config = ConfigDict(
        extra="allow", strict=True, frozen=True, use_attribute_docstrings=True, protected_namespaces=()
    )


class Part(WireModel):
    """One part of a message's content, identified by its type."""

    type: str | None = None
    """`input_text`, `input_image`, `input_file`, `input_audio`, `output_text`, `refusal`, `reasoning_text` or
    `summary_text`."""
    text: str | None = None
    """The text of a text part."""
    refusal: str | None = None
    """The model's words for declining, in a refusal part."""
    annotations: list[Any] | None = None
    """Citations in an output text."""
    logprobs: list[Any] | None = None
    """Log probabilities of an output text's tokens, if requested."""
    image_url: str | Json | None = None
    """An image as an URL or data URL; some gateways write an object with `url`, `detail` and `media_type`."""
    detail: str | None = None
    """How closely an image or file is looked at: `auto`, `low`, `high` or `original`."""
    file_id: str | None = None
    """A file uploaded to the same provider before."""
    file_url: str | None = None
    """Where the provider fetches a file."""
    file_data: str | None = None
    """A file as base64 or data URL."""
    filename: str | None = None
    """The name of an input file."""
    input_audio: Json | None = None
    """Sound as `{"data": base64, "format": "wav" | "mp3"}`."""
    prompt_cache_breakpoint: Any = None
    """Marks the end of a prefix worth caching."""


class Item(WireModel):
    """Any item. Types that have no model of their own keep all their members here."""

    type: str | None = None
    """What the item is: `message`, `function_call`, `reasoning`, `web_search_call`, …"""
    id: str | None = None
    """The item's own id, unique within its provider."""
    status: str | None = None
    """`in_progress`, `completed` or `incomplete`."""


class Message(Item):
    """Something said by the user, the developer, the system or the model. The type may be left out in an input."""

    role: str | None = None
    """`user`, `assistant`, `system` or `developer`."""
    content: str | list[Part] | None = None
    """Plain text, or parts."""
    phase: str | None = None
    """`commentary` or `final_answer`; send it back as it came."""


class FunctionCall(Item):
    """The model calls a function tool."""

    call_id: str | None = None
    """Joins the call to its output; not the same as `id`."""
    name: str | None = None
    """The function to run."""
    arguments: str | Json | None = None
    """Its arguments, as JSON text."""
    namespace: str | None = None
    """The namespace tool that the function belongs to, if any."""


class FunctionCallOutput(Item):
    """What a function tool returned."""

    call_id: str | None = None
    """The call that this answers."""
    output: str | list[Part] | None = None
    """Text, or parts."""


class CustomToolCall(Item):
    """The model calls a tool that takes free text."""

    call_id: str | None = None
    """Joins the call to its output."""
    name: str | None = None
    """The tool to run."""
    input: str | None = None
    """The text for it."""


class CustomToolCallOutput(Item):
    """What a free text tool returned."""

    call_id: str | None = None
    """The call that this answers."""
    output: str | list[Part] | None = None
    """Text, or parts."""


class ReasoningItem(Item):
    """How the model came to its answer, as far as the provider shows it."""

    summary: list[Part] | None = None
    """The reasoning in brief."""
    content: list[Part] | None = None
    """The reasoning itself, from models that show it."""
    encrypted_content: str | None = None
    """The reasoning in the provider's own form; send it back as it came."""


class ItemReference(Item):
    """Stands for an item that the provider has stored, named by its id. The type may be left out."""


class Compaction(Item):
    """A conversation in compact form, readable only by the provider that made it."""

    encrypted_content: str | None = None
    """The provider's own form of what was said so far."""


NAMED_TYPES = frozenset(
    {
        "message",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "reasoning",
        "item_reference",
        "compaction",
    }
)


def kind_of(item: object) -> str:
    """Which model reads *item*: its type; without one, a message if it has a role, a reference if it has an id."""
    members = item if isinstance(item, dict) else getattr(item, "__dict__", {})
    type = members.get("type")
    if type is None and members.get("role") is not None:
        return "message"
    if type is None and members.keys() == {"id"}:
        return "item_reference"
    return type if isinstance(type, str) and type in NAMED_TYPES else "other"


class AnyOf:
    """Has JSON Schema say `anyOf` of a union where pydantic says `oneOf`: every item is an `Item` too, and `oneOf`
    refuses what fits twice."""

    def __get_pydantic_json_schema__(self, union: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(union)
        schema["anyOf"] = schema.pop("oneOf")
        return schema


AnyItem = Annotated[
    Annotated[Message, Tag("message")]
    | Annotated[FunctionCall, Tag("function_call")]
    | Annotated[FunctionCallOutput, Tag("function_call_output")]
    | Annotated[CustomToolCall, Tag("custom_tool_call")]
    | Annotated[CustomToolCallOutput, Tag("custom_tool_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[ItemReference, Tag("item_reference")]
    | Annotated[Compaction, Tag("compaction")]
    | Annotated[Item, Tag("other")],
    Discriminator(kind_of),
    AnyOf(),
]
"""An item of any type, read by the model that fits."""
