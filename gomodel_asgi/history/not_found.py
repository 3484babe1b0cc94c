"""The answers to ids that are unknown, expired, deleted, somebody else's, or one too many: one for each kind."""

from __future__ import annotations

from ..errors import InvalidRequest


def unknown_response() -> InvalidRequest:
    """A response that a path names."""
    return InvalidRequest("No such response is known here.", status=404, code="response_not_found", param="response_id")


def unknown_previous(param: str = "previous_response_id") -> InvalidRequest:
    """A response that is to be continued, or that a member of the body names otherwise."""
    what = "No such response is known here; leave it out."
    if param == "previous_response_id":
        what = "No such previous response is known here; send the whole conversation as 'input'."
    return InvalidRequest(what, code="previous_response_not_found", param=param)


def unknown_conversation() -> InvalidRequest:
    """A conversation, in a path or in a request."""
    return InvalidRequest(
        "No such conversation is known here.", status=404, code="conversation_not_found", param="conversation"
    )


def unknown_item() -> InvalidRequest:
    """An item that a path or an `item_reference` names."""
    return InvalidRequest("No such item is known here.", status=404, code="item_not_found", param="item_id")


def exclusive() -> InvalidRequest:
    """What was said before is named twice."""
    return InvalidRequest(
        "Give either 'previous_response_id' or 'conversation'.",
        code="mutually_exclusive_parameters",
        param="conversation",
    )


def unsupported(operation: str) -> InvalidRequest:
    """The upstream cannot do it, and there is nothing stored to do it with."""
    return InvalidRequest(
        f"This provider does not support '{operation}' here.", status=501, code="unsupported_response_operation"
    )
