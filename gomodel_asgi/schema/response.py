"""The response object, as it is returned by a unary reply and carried by a stream's lifecycle events."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from .items import AnyItem, Json, Number, WireModel
from .request import ReasoningOptions, TextOptions, Tool


class InputTokensDetails(WireModel):
    """What the input tokens were."""

    cached_tokens: int | None = None
    """Read from the provider's cache."""
    cache_write_tokens: int | None = None
    """Written to the provider's cache."""
    audio_tokens: int | None = None
    """Tokens of sound."""
    image_tokens: int | None = None
    """Tokens of images."""
    text_tokens: int | None = None
    """Tokens of text."""


class OutputTokensDetails(WireModel):
    """What the output tokens were."""

    reasoning_tokens: int | None = None
    """Spent on reasoning."""
    audio_tokens: int | None = None
    """Tokens of sound."""
    accepted_prediction_tokens: int | None = None
    """Of a predicted output, those that came true."""
    rejected_prediction_tokens: int | None = None
    """Of a predicted output, those that did not."""


SPELLINGS = (
    ("input_tokens", "prompt_tokens"),
    ("output_tokens", "completion_tokens"),
    ("input_tokens_details", "prompt_tokens_details"),
    ("output_tokens_details", "completion_tokens_details"),
)
"""The same number under two names: that of the Responses API and that of Chat Completions."""


class Usage(WireModel):
    """What a response used, in tokens. Both spellings can be read, whichever the provider wrote; what is written is
    the provider's own."""

    input_tokens: int | None = None
    """Tokens of the input, cached ones included."""
    input_tokens_details: InputTokensDetails | None = None
    """What the input tokens were."""
    output_tokens: int | None = None
    """Tokens of the answer, reasoning included."""
    output_tokens_details: OutputTokensDetails | None = None
    """What the output tokens were."""
    total_tokens: int | None = None
    """Both together."""
    prompt_tokens: int | None = None
    """`input_tokens` in the spelling of Chat Completions."""
    completion_tokens: int | None = None
    """`output_tokens` in the spelling of Chat Completions."""
    prompt_tokens_details: InputTokensDetails | None = None
    """`input_tokens_details` in the spelling of Chat Completions."""
    completion_tokens_details: OutputTokensDetails | None = None
    """`output_tokens_details` in the spelling of Chat Completions."""
    raw_usage: Json | None = Field(default=None, exclude=True)
    """The provider's own usage object, every member of it. In Python only, never on the wire."""

    @model_validator(mode="wrap")
    @classmethod
    def _remember(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Keeps the provider's object, and reads each number under both its names. `__dict__` is written to directly,
        so that the members that were not sent still count as unset."""
        usage = handler(data)
        if isinstance(data, dict):
            usage.__dict__["raw_usage"] = data.get("raw_usage") or dict(data)
        for ours, theirs in SPELLINGS:
            if usage.__dict__[ours] is None:
                usage.__dict__[ours] = usage.__dict__[theirs]
            elif usage.__dict__[theirs] is None:
                usage.__dict__[theirs] = usage.__dict__[ours]
        return usage


class ResponseError(WireModel):
    """Why a response failed."""

    code: str | int | None = None
    """`server_error`, `rate_limit_exceeded`, `invalid_prompt`, …"""
    message: str | None = None
    """The same, for people."""
    type: str | None = None
    """The class of the error."""
    param: str | None = None
    """The member of the request that is at fault."""
    misalignment: Any = None
    """What a misalignment policy found."""


class IncompleteDetails(WireModel):
    """Why a response is incomplete."""

    reason: str | None = None
    """`max_output_tokens`, `max_messages`, `content_filter` or `steered`."""


class Response(WireModel):
    """A model's response."""

    id: str | None = None
    """Names the response in later requests."""
    object: str | None = None
    """Always `response`."""
    provider: str | None = None
    """The provider that answered, as the gateway names it."""
    created_at: Number | None = None
    """When it began, in Unix seconds."""
    completed_at: Number | None = None
    """When it ended, in Unix seconds."""
    status: str | None = None
    """`queued`, `in_progress`, `completed`, `incomplete`, `failed` or `cancelled`."""
    error: ResponseError | None = None
    """Why it failed, if it did."""
    incomplete_details: IncompleteDetails | None = None
    """Why it stopped early, if it did."""
    model: str | None = None
    """The model that answered, as its provider names it."""
    output: list[AnyItem] | None = None
    """What the model said and did, in order."""
    usage: Usage | None = None
    """What it used, in tokens."""
    instructions: str | list[AnyItem] | None = None
    """The request's system message."""
    previous_response_id: str | None = None
    """The response that this one continues."""
    conversation: str | Json | None = None
    """The conversation that it belongs to."""
    metadata: dict[str, Any] | None = None
    """The request's own pairs."""
    background: bool | None = None
    """Whether it runs in the background."""
    store: bool | None = None
    """Whether it is kept for retrieval."""
    tools: list[Tool] | None = None
    """The tools that the model could call."""
    tool_choice: str | Json | None = None
    """How it was to choose among them."""
    tool_usage: Json | None = None
    """How much the provider's own tools used."""
    parallel_tool_calls: bool | None = None
    """Whether it could call several in one turn."""
    max_tool_calls: int | None = None
    """The bound on calls of the provider's tools."""
    max_output_tokens: int | None = None
    """The bound on tokens of answer."""
    temperature: Number | None = None
    """The randomness in force."""
    top_p: Number | None = None
    """The nucleus sampling in force."""
    top_logprobs: int | None = None
    """How many alternatives are reported for each token."""
    frequency_penalty: Number | None = None
    """How much repetition is held back."""
    presence_penalty: Number | None = None
    """How much new subjects are favoured."""
    truncation: str | None = None
    """What happens to an input that is too long."""
    text: TextOptions | None = None
    """Form of the answer's text."""
    reasoning: ReasoningOptions | None = None
    """How much the model was to think."""
    service_tier: str | None = None
    """The tier that served it."""
    prompt: Json | None = None
    """The stored prompt that was used."""
    prompt_cache_key: str | None = None
    """The cache key of the request."""
    prompt_cache_options: Json | None = None
    """The cache options of the request."""
    prompt_cache_retention: str | None = None
    """How long the prompt is cached."""
    prompt_cache_diagnostics: Any = None
    """Why the cache was, or was not, hit."""
    safety_identifier: str | None = None
    """The end user's opaque name."""
    user: str | None = None
    """Its older name."""
    moderation: Any = None
    """What moderation found."""
    input_transformations: Any = None
    """What the provider took out of the input, and why."""
    image: Json | None = None
    """How input images were treated."""
    access_programs: Json | None = None
    """Programs of trusted access in force."""


# What the other operations return: deletion, the list of input items, token counts, compaction, and errors.


class DeletedResponse(WireModel):
    """The answer to `DELETE /responses/{id}`."""

    id: str | None = None
    """The response that is gone."""
    object: str | None = None
    """`response`, or `response.deleted`."""
    deleted: bool | None = None
    """Always true."""


class InputItemList(WireModel):
    """One page of what a response was given: the answer to `GET /responses/{id}/input_items`."""

    object: str | None = None
    """Always `list`."""
    data: list[AnyItem] | None = None
    """The items of this page."""
    first_id: str | None = None
    """The id of its first item."""
    last_id: str | None = None
    """The id of its last item; give it as `after` for the next page."""
    has_more: bool | None = None
    """Whether there is a next page."""


class InputTokens(WireModel):
    """How long an input is: the answer to `POST /responses/input_tokens`."""

    object: str | None = None
    """Always `response.input_tokens`."""
    input_tokens: int | None = None
    """Its length in tokens."""


class CompactedResponse(WireModel):
    """A conversation in compact form: the answer to `POST /responses/compact`."""

    id: str | None = None
    """Names the result."""
    object: str | None = None
    """Always `response.compaction`."""
    created_at: Number | None = None
    """When it was made, in Unix seconds."""
    output: list[AnyItem] | None = None
    """The items to go on with, a `compaction` item among them."""
    usage: Usage | None = None
    """What it used, in tokens."""


class ErrorDetails(WireModel):
    """What went wrong."""

    message: str
    """For people: what happened and what to do next."""
    type: str | None
    """The class of the error, such as `invalid_request_error`."""
    param: str | None
    """The member of the request that is at fault, by its path."""
    code: str | int | None
    """The error by a name that programs can rely on."""


class ErrorEnvelope(WireModel):
    """The body of every answer with an error status."""

    error: ErrorDetails
    """What went wrong; all four members are always there."""
