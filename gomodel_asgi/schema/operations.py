"""What the other operations return: deletion, the list of input items, token counts, compaction, and errors."""

from __future__ import annotations

from .base import Number, WireModel
from .items import AnyItem
from .response import Usage


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
