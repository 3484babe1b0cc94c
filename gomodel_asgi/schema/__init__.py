"""The Responses API in pydantic models, for policies that like types and for OpenAPI pages. Imported on first use.

The models describe; they do not guard. Whatever is unknown, null or new is kept, and nothing is made up:
`ResponsesRequest.model_validate(body).model_dump(exclude_unset=True)` is `body` again.
"""

from __future__ import annotations

from .items import (
    AnyItem,
    Compaction,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    ItemReference,
    Message,
    Part,
    ReasoningItem,
)
from .request import ReasoningOptions, ResponsesRequest, StreamOptions, TextOptions, Tool
from .response import (
    CompactedResponse,
    DeletedResponse,
    ErrorDetails,
    ErrorEnvelope,
    IncompleteDetails,
    InputItemList,
    InputTokens,
    InputTokensDetails,
    OutputTokensDetails,
    Response,
    ResponseError,
    Usage,
)

__all__ = [
    "AnyItem",
    "CompactedResponse",
    "Compaction",
    "CustomToolCall",
    "CustomToolCallOutput",
    "DeletedResponse",
    "ErrorDetails",
    "ErrorEnvelope",
    "FunctionCall",
    "FunctionCallOutput",
    "IncompleteDetails",
    "InputItemList",
    "InputTokens",
    "InputTokensDetails",
    "Item",
    "ItemReference",
    "Message",
    "OutputTokensDetails",
    "Part",
    "ReasoningItem",
    "ReasoningOptions",
    "Response",
    "ResponseError",
    "ResponsesRequest",
    "StreamOptions",
    "TextOptions",
    "Tool",
    "Usage",
]
