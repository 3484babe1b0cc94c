"""The spelling of members: the API takes `functionCall` and `function_call` alike (proto3 JSON)."""

from __future__ import annotations

import re
from typing import Any

FREE = frozenset({"args", "response", "parameters", "parametersJsonSchema", "responseSchema", "responseJsonSchema"})
"""Members whose content is the client's own, or a schema with names of the client's own."""

UNDERSCORE = re.compile(r"_([a-z])")


def camel(name: str) -> str:
    """*name* in camel case."""
    return UNDERSCORE.sub(lambda found: found[1].upper(), name)


def normal(value: Any) -> Any:
    """*value* with all names of members in camel case."""
    if isinstance(value, list):
        return [normal(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {camel(name): member if camel(name) in FREE else normal(member) for name, member in value.items()}
