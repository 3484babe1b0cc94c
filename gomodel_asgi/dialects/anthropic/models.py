"""What a model of the Messages API accepts, read off its name.

Source: Anthropic's documentation (models overview, thinking, effort, tool use, migration guides), November 2026. A name
that says Claude and no version is taken for a current model, any other name (compatible APIs of other makers) for one
with the first form of every feature.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

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
        """Whether this is a Claude of this version or newer."""
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
