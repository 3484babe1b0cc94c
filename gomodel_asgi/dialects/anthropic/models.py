"""`reasoning` as Anthropic's thinking: adaptive with an effort, or a budget of tokens, or none.

Thinking gives way where the API would refuse it: while a tool is forced, while the open tool turn began without a
thinking block (API reference, "Extended thinking with tool use"), and where `max_tokens` leaves no room for a budget.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..members import reasoning_of
from ..unsupported import NEAREST_EFFORT, REASONING, Unsupported
from ..values import malformed

Json = dict[str, Any]

BUDGETS: Mapping[str, int] = {
    "minimal": 1_024,
    "low": 2_048,
    "medium": 8_192,
    "high": 16_384,
    "xhigh": 32_000,
    "max": 48_000,
}
"""Tokens of thinking for models that take a budget; never more than half of `max_tokens`."""

LEAST_BUDGET = 1_024
"""Tokens: the least `budget_tokens` that the API takes; it must stay below `max_tokens` (Anthropic, "Extended
thinking")."""
EFFORTS = ("none", *BUDGETS)
OFF: Json = {"type": "disabled"}


@dataclass(frozen=True, slots=True)
class Thinking:
    """*config* is the member `thinking`, *effort* that of `output_config`; None: not sent."""

    config: Json | None = None
    effort: str | None = None

    @property
    def on(self) -> bool:
        """Whether the request itself turns thinking on."""
        return self.config is not None and self.config != OFF


@dataclass(frozen=True, slots=True)
class Conditions:
    """What thinking depends on: *prevented* says that the API would refuse it in this request."""

    model: Model
    max_tokens: int
    prevented: bool


def read_thinking(members: Mapping[str, Any], given: Conditions, unsupported: Unsupported) -> Thinking:
    """The thinking that `reasoning` asks for.

    :raises InvalidRequest: it is malformed, or asks for what the model cannot do and is refused.
    """
    reasoning = reasoning_of(members, unsupported)
    effort = reasoning.get("effort")
    if effort is not None and effort not in EFFORTS:
        raise malformed("reasoning.effort", f"must be one of {', '.join(EFFORTS)}")
    if not given.model.thinks:
        return _never(effort, unsupported)
    shown = any(reasoning.get(name) not in (None, "none") for name in ("summary", "generate_summary"))
    if effort == "none":
        return _off(given.model, unsupported)
    if effort is None and not shown:
        return Thinking()
    # A model that always thinks also takes such a turn as it is.
    if given.prevented and not given.model.always_thinks:
        unsupported.leave_out(NEAREST_EFFORT, "reasoning")
        return Thinking(OFF)
    return _adaptive(effort, shown, given.model) if given.model.adaptive else _budget(effort, given, unsupported)


def _off(model: Model, unsupported: Unsupported) -> Thinking:
    if not model.always_thinks:
        return Thinking(OFF)
    unsupported.leave_out(REASONING, "reasoning.effort", "a model that does not reason; this one always does")
    return Thinking(effort="low")


def _never(effort: str | None, unsupported: Unsupported) -> Thinking:
    if effort not in (None, "none"):
        unsupported.leave_out(REASONING, "reasoning.effort", "reasoning with this model")
    return Thinking()


def _adaptive(effort: str | None, shown: bool, model: Model) -> Thinking:
    config: Json = {"type": "adaptive", **({"display": "summarized"} if shown else {})}
    return Thinking(config, _level(effort, model))


def _level(effort: str | None, model: Model) -> str | None:
    if effort == "minimal":
        return "low"
    # Claude 4.6 has a level above `high`, but it is `max`, which costs more than was requested.
    return "high" if effort == "xhigh" and not model.since(4, 7) else effort


def _budget(effort: str | None, given: Conditions, unsupported: Unsupported) -> Thinking:
    if given.max_tokens <= LEAST_BUDGET:
        unsupported.leave_out(NEAREST_EFFORT, "reasoning")
        return Thinking(OFF)
    budget = max(LEAST_BUDGET, min(BUDGETS[effort or "medium"], given.max_tokens // 2))
    return Thinking({"type": "enabled", "budget_tokens": budget})


def open_turn_lacks_thinking(messages: list[Json]) -> bool:
    """Returns whether the tool turn that *messages* end in has called tools without a thinking block at its
    beginning."""
    turn: list[Json] = []
    for message in reversed(messages):
        if message["role"] == "user" and not _holds(message, "tool_result"):
            break
        if message["role"] == "assistant":
            turn.append(message)
    called = any(_holds(message, "tool_use") for message in turn)
    return called and turn[-1]["content"][0]["type"] not in ("thinking", "redacted_thinking")


def _holds(message: Json, kind: str) -> bool:
    return any(block["type"] == kind for block in message["content"])


NAME = re.compile(
    r"claude-(?:(?P<family>opus|sonnet|haiku|fable|mythos)(?:-|$))?(?:(?P<major>\d)(?:[-.](?P<minor>\d{1,2})(?!\d))?)?"
)


CURRENT = (9, 9)


@dataclass(frozen=True, slots=True)
class Model:
    """*version* is that of Claude, None for models of others."""

    family: str = ""
    version: tuple[int, int] | None = None

    def since(self, *version: int) -> bool:
        """Returns whether this is a Claude of this version or newer."""
        return self.version is not None and self.version >= version

    @property
    def thinks(self) -> bool:
        """It can think at all."""
        return self.version is None or self.since(3, 7)

    @property
    def always_thinks(self) -> bool:
        """Thinking cannot be turned off, and no tool can be forced."""
        return self.family in ("fable", "mythos") or (self.family == "opus" and self.since(5, 5))

    @property
    def adaptive(self) -> bool:
        """Thinking is `adaptive` with an effort; older models take a budget of tokens."""
        return self.since(4, 6)

    @property
    def interleaves(self) -> bool:
        """Thinking between tool calls is a beta; newer models do it unasked."""
        return self.since(4, 0) and not self.adaptive

    @property
    def samples(self) -> bool:
        """temperature, top_p and top_k may be set."""
        return not self.since(4, 7)

    @property
    def one_sampler(self) -> bool:
        """Only one of temperature and top_p may be set."""
        return self.since(4, 1)

    @property
    def keeps_schemas(self) -> bool:
        """Its output and its calls can be held to a JSON schema."""
        return self.version is None or self.since(4, 1)

    @property
    def prefills(self) -> bool:
        """It goes on with an assistant's message that stands last; newer models refuse one."""
        return not self.since(4, 6)

    @property
    def compacts(self) -> bool:
        """It compacts a long context itself, and goes on from one that was compacted (API guide, "Compaction")."""
        return self.since(4, 6)

    @property
    def max_tokens(self) -> int:
        """The `max_tokens` of a request that sets no bound; Anthropic demands one.

        64,000 from Claude 4.5 on, 32,000 from 3.7 on, else what the oldest models can give (8,192; Claude 3: 4,096).
        """
        if self.since(4, 5):
            return 64_000
        if self.since(3, 7):
            return 32_000
        return 8_192 if self.version is None or self.since(3, 5) else 4_096


def model_of(name: str) -> Model:
    """The model that *name* names, with or without a vendor's prefix, a date, or a cloud's suffix."""
    found = NAME.search(name.lower())
    if found is None:
        return Model()
    major, minor = found["major"], found["minor"]
    return Model(found["family"] or "", (int(major), int(minor or 0)) if major else CURRENT)
