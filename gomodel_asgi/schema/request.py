"""The body of `POST /responses`: every member of the OpenAI API, and the gateway's `provider` hint."""

from __future__ import annotations

from typing import Any

from .items import AnyItem, Json, Number, WireModel


class Tool(WireModel):
    """A tool that the model may call: a function of yours, or one that the provider runs itself."""

    type: str | None = None
    """`function`, `custom`, `namespace`, `web_search`, `file_search`, `code_interpreter`, `image_generation`, `mcp`,
    `computer`, `shell`, `apply_patch`, …"""
    name: str | None = None
    """The name by which the model calls a function, custom tool or namespace."""
    description: str | None = None
    """What the tool is for; the model reads it."""
    parameters: Json | None = None
    """A function's arguments, as JSON Schema."""
    strict: bool | None = None
    """Whether the arguments must follow `parameters` exactly."""
    tools: list[Tool] | None = None
    """The tools of a namespace."""


class ReasoningOptions(WireModel):
    """How much a reasoning model thinks, and what it shows of it."""

    effort: str | None = None
    """`none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`."""
    summary: str | None = None
    """`auto`, `concise` or `detailed`: give a summary of the reasoning."""
    generate_summary: str | None = None
    """The older name of `summary`."""
    context: str | None = None
    """`auto`, `current_turn` or `all_turns`."""
    mode: str | None = None
    """`standard` or `pro`."""


class StreamOptions(WireModel):
    """Options of a streamed reply."""

    include_obfuscation: bool | None = None
    """Whether events are padded to hide the length of their text."""
    include_usage: bool | None = None
    """Whether the last event carries usage; the Responses API always does."""


class TextOptions(WireModel):
    """What the answer's text looks like."""

    format: Json | None = None
    """`{"type": "text"}`, `{"type": "json_object"}`, or `{"type": "json_schema", "name", "schema", "strict"}`."""
    verbosity: str | None = None
    """`low`, `medium` or `high`."""


class ResponsesRequest(WireModel):
    """Asks a model for a response. No member is required here; upstreams want at least `model` and `input`."""

    model: str | None = None
    """The model, as the chosen provider names it; may be prefixed by a provider: `claude/claude-sonnet-4-5`."""
    provider: str | Json | None = None
    """Which provider should answer: a hint to the gateway, taken out before the upstream sees the request. An object
    holds OpenRouter's own routing preferences."""
    input: str | list[AnyItem] | None = None
    """What is said to the model: plain text, or a list of items."""
    instructions: str | list[AnyItem] | None = None
    """A system message, valid for this response only."""
    stream: bool | None = None
    """Whether the reply comes as server-sent events."""
    stream_options: StreamOptions | None = None
    """Options of a streamed reply."""
    store: bool | None = None
    """Whether the response is kept for later retrieval; true if left out."""
    previous_response_id: str | None = None
    """The response that this one continues."""
    conversation: str | Json | None = None
    """The conversation that this turn belongs to: its id, or `{"id"}`. Excludes `previous_response_id`."""
    prompt: Json | None = None
    """A stored prompt: `{"id", "version", "variables"}`."""
    include: list[str] | None = None
    """More to be returned, such as `reasoning.encrypted_content` or `message.output_text.logprobs`."""
    tools: list[Tool] | None = None
    """The tools that the model may call."""
    tool_choice: str | Json | None = None
    """`none`, `auto`, `required`, or an object that names a tool or a set of them."""
    parallel_tool_calls: bool | None = None
    """Whether the model may call several tools in one turn."""
    max_tool_calls: int | None = None
    """At most so many calls of the provider's own tools."""
    max_output_tokens: int | None = None
    """At most so many tokens of answer, reasoning included."""
    temperature: Number | None = None
    """Randomness, from 0 to 2."""
    top_p: Number | None = None
    """Nucleus sampling, from 0 to 1."""
    top_logprobs: int | None = None
    """How many alternatives to report for each token, 0 to 20."""
    truncation: str | None = None
    """`auto` drops the oldest items when the input is too long; `disabled` is an error then."""
    text: TextOptions | None = None
    """Form of the answer's text: free, JSON, or JSON after a schema."""
    reasoning: ReasoningOptions | None = None
    """How much a reasoning model thinks."""
    metadata: dict[str, Any] | None = None
    """Up to 16 pairs of your own, returned with the response."""
    background: bool | None = None
    """Whether to answer at once and work on; the result is retrieved later."""
    background_options: Json | None = None
    """`{"completion_window", "continuation_id"}`."""
    context_management: list[Json] | None = None
    """When to compact the conversation: `[{"type": "compaction", "compact_threshold"}]`."""
    service_tier: str | None = None
    """`auto`, `default`, `flex`, `scale`, `priority`, `fast` or `ultrafast`."""
    prompt_cache_key: str | None = None
    """Requests with the same key are likely to share a cache."""
    prompt_cache_options: Json | None = None
    """`{"mode", "ttl", "prewarm", "comparison_response_id"}`."""
    prompt_cache_retention: str | None = None
    """The older way to say how long a prompt is cached."""
    safety_identifier: str | None = None
    """A stable, opaque name of your end user, for abuse detection."""
    user: str | None = None
    """The older name of `safety_identifier` and `prompt_cache_key`."""
    moderation: Json | None = None
    """`{"model", "policy"}`."""
    access_programs: Json | None = None
    """Programs of trusted access that the caller takes part in."""
    image: Json | None = None
    """How input images are treated."""
    generate: bool | None = None
    """Over WebSocket only: false prepares a response without generating it."""
    stream_id: str | None = None
    """Over WebSocket only: the lane that the events of this response carry."""
    client_metadata: Json | None = None
    """What a coding agent says about itself."""
