"""What the models of the Messages API take, by the version in their name (Anthropic, migration guides)."""

from __future__ import annotations

import re

NAME = re.compile(r"claude-(?:[a-z]+-)?(\d)(?:[-.](\d{1,2})(?!\d))?")


def version_of(model: str) -> tuple[int, int]:
    """The version of a Claude, (0, 0) for any other model."""
    found = NAME.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def samples(model: str) -> bool:
    """Whether temperature, top_p and top_k may be set."""
    return version_of(model) < (4, 7)


def one_sampler(model: str) -> bool:
    """Whether temperature and top_p exclude each other."""
    return version_of(model) >= (4, 1)


def prefills(model: str) -> bool:
    """Whether the last message may be the beginning of the answer."""
    return version_of(model) < (4, 6)


def takes_budget(model: str) -> bool:
    """Whether thinking may be given a budget of tokens."""
    return version_of(model) < (4, 7)


def adapts(model: str) -> bool:
    """Whether thinking may be adaptive; models of other makers may do as they like."""
    return version_of(model) >= (4, 6) or version_of(model) == (0, 0)


def compacts(model: str) -> bool:
    """Whether a long context can be compacted, and gone on from."""
    return version_of(model) >= (4, 6)


def hides_thinking(model: str) -> bool:
    """Whether thinking comes without its text unless the request wants it summarized."""
    return version_of(model) >= (4, 7)


def takes_system_messages(model: str) -> bool:
    """Whether instructions may stand among the messages."""
    return "opus" in model and version_of(model) >= (4, 8)
