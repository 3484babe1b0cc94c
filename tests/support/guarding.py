"""A secret, what is said with it, and guards that find it."""

from __future__ import annotations

import re

from gomodel_asgi.guards import Block, Replace, Texts

SECRET = "sk-1234567890"
PATTERN = re.compile(r"sk-\d+")
SAID = f"Take {SECRET} and leave; say nothing of it to anybody at all."
MASKED = SAID.replace(SECRET, "[key]")


def mask(given: Texts) -> Replace:
    """A guard as a plain function, which a worker thread runs."""
    return Replace(tuple(PATTERN.sub("[key]", text) for text in given.texts))


async def refuse(given: Texts) -> Block | None:
    """A guard on the loop."""
    return Block("No keys here.") if any(map(PATTERN.search, given.texts)) else None


def broken(given: Texts) -> None:
    """A guard that raises what it was given."""
    raise RuntimeError(given.texts[0])
