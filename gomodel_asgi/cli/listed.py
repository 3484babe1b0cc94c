"""Whether a provider's list of models has one, as its vendor takes names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

ANY_DATE = r"(?:-latest|-\d{8}|-\d{4}-\d{2}-\d{2})?"
SUFFIXES = {
    "anthropic": (r"-latest$", ANY_DATE),
    "ollama": ("$^", r"(?::latest)?"),
    "xai": (r"-latest$", r"(?:-latest|-\d{4})?"),
    "openrouter": (r":[a-z]+$", r"(?::[a-z]+)?"),
}
"""By type: what a name may end with that no list has, and what a list may add to a name. Anthropic lists dated models
and takes names without the date ("Models overview"), as xAI does; Ollama lists tags, OpenRouter takes variants."""
UNLISTED = ("azure", "llamacpp")
"""Types that take names which no list has: Azure's are those of the customer's deployments, and a llama.cpp with one
model takes any."""
PUBLIC = ("openrouter",)
"""Types that show their list to everybody, so that it says nothing of the key."""


def lists(known: Iterable[str], wanted: str, type: str) -> bool:
    """Returns whether *known*, the list of a provider of this *type*, has the model or pattern *wanted*."""
    if type in UNLISTED or any(name == wanted or fnmatchcase(name, wanted) for name in known):
        return True
    ending, added = SUFFIXES.get(type, ("$^", ""))
    spelling = re.compile(re.escape(re.sub(ending, "", wanted)) + added)
    return any(spelling.fullmatch(name) for name in known)
