"""Errors that are kept.

An error's traceback, and that of what caused it, hold the frames of the whole request. A request that holds its error
would therefore hold itself, with all its bodies, until the garbage collector comes by.
"""

from __future__ import annotations

from typing import TypeVar

from ..errors import GatewayError

Error = TypeVar("Error", bound=GatewayError)


def detached(error: Error) -> Error:
    """*error*, without its traceback and its causes."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error
