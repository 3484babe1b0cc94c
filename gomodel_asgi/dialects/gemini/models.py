"""What a model's name says about it: its path in the API, its generation, how its thinking is set."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from ..unsupported import NEAREST_EFFORT, NO_THOUGHTS, REASONING, Unsupported
from ..values import malformed

Json = dict[str, Any]

RESOURCE = re.compile(r"(projects/[^/]+/locations/[^/]+/)?((publishers/[^/]+/)?models|tunedModels|endpoints)/[^/]+")
"""Names that are paths already; any other name belongs under `models/`."""

GENERATION = re.compile(r"gemini-(\d+)(?:\.(\d+))?")
LATEST = (99, 0)
"""Of names without a number, such as `gemini-flash-latest` and tuned ones: they move with the newest."""

BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
MOST_FLASH = 24576
MOST_PRO = 32768
LEAST_PRO = 128
"""Tokens of thought for 2.5 models (Gemini API, "Thinking"); Pro cannot go without."""

LEVELS = {"minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "HIGH", "max": "HIGH"}
LEVELS_PRO = {**LEVELS, "minimal": "LOW"}
LEVELS_3_PRO = {**LEVELS_PRO, "medium": "HIGH"}
"""Thinking levels of 3 models and newer: Pro has no minimal, the first of them no medium."""


def path_of(model: str) -> str:
    """The resource path of *model*, each segment percent-encoded, so that a name never leads elsewhere.

    :raises InvalidRequest: a segment is empty, `.` or `..`, which encoding does not disarm.
    """
    segments = model.split("/") if RESOURCE.fullmatch(model) else ["models", model]
    if any(segment in ("", ".", "..") for segment in segments):
        raise malformed("model", "is not a model name")
    return "/" + "/".join(quote(segment, safe="", errors="replace") for segment in segments)


def model_name(model: str) -> str:
    """The model's own name, whichever way its path is written."""
    return model.rpartition("/")[2]


def is_pro(model: str) -> bool:
    """Returns whether *model* is one that cannot go without thinking."""
    return "-pro" in model_name(model)


def generation(model: str) -> tuple[int, int]:
    """The version of *model* as (major, minor)."""
    match = GENERATION.search(model_name(model))
    return (int(match[1]), int(match[2] or 0)) if match else LATEST


def combines(model: str) -> bool:
    """Returns whether *model* takes functions beside hosted tools and beside a form of its answer (Gemini API, "Combine
    built-in tools and function calling", "Structured outputs with tools")."""
    return generation(model) >= (3, 0)


def thinking(model: str, effort: str | None, thoughts: bool, unsupported: Unsupported) -> Json:
    """Returns the `thinkingConfig` for `reasoning.effort`, empty for none; *thoughts*: the reply shall hold them.

    :raises InvalidRequest: the effort is unknown, or the model does not think and that is refused.
    """
    if effort is not None and effort != "none" and effort not in LEVELS:
        raise malformed("reasoning.effort", f"must be one of none, {', '.join(LEVELS)}")
    if generation(model) < (2, 5):
        return _unthinking(effort, thoughts, unsupported)
    config: Json = {"includeThoughts": True} if thoughts else {}
    if effort is None:
        return config
    if generation(model) < (3, 0):
        return config | {"thinkingBudget": _budget(model, effort, unsupported)}
    return config | {"thinkingLevel": _level(model, effort, unsupported)}


def _unthinking(effort: str | None, thoughts: bool, unsupported: Unsupported) -> Json:
    if effort not in (None, "none"):
        unsupported.leave_out(REASONING, "reasoning.effort", "reasoning with this model")
    if thoughts:
        unsupported.leave_out(NO_THOUGHTS, "reasoning.summary")
    return {}


def _budget(model: str, effort: str, unsupported: Unsupported) -> int:
    pro = is_pro(model)
    if effort == "none" and pro:
        unsupported.leave_out(NEAREST_EFFORT, "reasoning.effort")
        return LEAST_PRO
    if effort == "none":
        return 0
    return BUDGETS.get(effort, MOST_PRO if pro else MOST_FLASH)


def _level(model: str, effort: str, unsupported: Unsupported) -> str:
    levels = LEVELS
    if is_pro(model):
        levels = LEVELS_3_PRO if generation(model) == (3, 0) else LEVELS_PRO
    if effort == "none":
        # Thinking cannot be switched off here: the least there is comes nearest.
        unsupported.leave_out(NEAREST_EFFORT, "reasoning.effort")
        return levels["minimal"]
    return levels[effort]
