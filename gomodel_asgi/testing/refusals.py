"""What every operation of a fake provider ends with: its answer as JSON, or an error of the OpenAI API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import type_of_status
from .plan import Headers, Plan, unary
from .replies import error_body

JSON: Headers = ((b"content-type", b"application/json"),)


class Refused(Exception):
    """The request is answered with an error of the OpenAI API."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.plan = unary(status, JSON, error_body(message, type=type_of_status(status), code=code, param=param))


def answered(value: Mapping[str, Any]) -> Plan:
    """*value* as the reply."""
    return unary(200, JSON, json.dumps(value).encode(), value)
