"""What every operation of a fake provider ends with: its answer as JSON, or an error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .plan import Headers, Plan, unary
from .wire import Failure

JSON: Headers = ((b"content-type", b"application/json"),)


class Refused(Exception):
    """The request is answered with an error, in the form of the API that refuses it."""

    def __init__(
        self, status: int, message: str, *, type: str | None = None, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.failure = Failure(status=status, message=message, type=type, code=code, param=param)


def answered(value: Mapping[str, Any], headers: Headers = JSON) -> Plan:
    """*value* as the reply."""
    return unary(200, headers, json.dumps(value).encode(), value)
