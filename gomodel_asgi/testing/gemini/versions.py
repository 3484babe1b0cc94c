"""What the models of Gemini do, by the version in their name (Gemini API, models and thinking)."""

from __future__ import annotations

import re

NAME = re.compile(r"gemini-(\d+)(?:\.(\d+))?")
NEWEST = (99, 0)


def version_of(model: str) -> tuple[int, int]:
    """The version of *model*; one without a number, such as `gemini-flash-latest`, is the newest."""
    found = NAME.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else NEWEST


def signs(model: str) -> bool:
    """Whether the model signs its calls, and wants the signatures back; such a model gives its calls ids too."""
    return version_of(model) >= (3, 0)


def combines(model: str) -> bool:
    """Whether functions may stand beside the provider's own tools, and beside a schema of the answer."""
    return version_of(model) >= (3, 0)


def always_thinks(model: str) -> bool:
    """Whether thinking cannot be turned off."""
    return version_of(model) >= (2, 5) and "-pro" in model
