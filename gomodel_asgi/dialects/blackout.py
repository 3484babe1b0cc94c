"""Our credentials, taken out of a stream whose bytes otherwise pass.

Strategy: a credential holds a run of characters that nobody escapes, and only bytes that hold this run, the needle, are
looked at more closely. An event that is given in parts is looked at before a part leaves, and as many bytes stay behind
as a credential has, so that none leaves in two halves.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ..wire.redaction import SAFE, SPELLING, is_word, needle_of, without
from ..wire.sse import Framer

NOTHING = b"\0" * 8  # a needle that is in no event


class Blackout:
    """Takes *secrets* out of bytes. Not found: one that is spread over two events or over several `data` lines, and
    one of which an upstream escapes letters or digits, which none does that does not mean to give it away."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self.secrets = tuple(secret for secret in secrets if not is_word(secret))
        self.needles = tuple(map(needle_of, self.secrets))
        found = self.needles or (NOTHING,)
        self.needle = found[0] if len(found) == 1 else b""
        """The one needle that bytes are free of secrets without; empty where no single one says so."""
        self.longest = max(map(_longest, self.secrets), default=0)
        """Bytes of the longest spelling of any."""

    def of(self, data: bytes) -> bytes:
        """*data* with each secret replaced; the same object where there is none in it."""
        for needle in self.needles:
            if data.rfind(needle) >= 0:
                return without(self.secrets, data)
        return data


@lru_cache(maxsize=1024)
def blackout_of(secrets: tuple[str, ...]) -> Blackout:
    """The one for *secrets*; nearly every stream of a provider has the same."""
    return Blackout(secrets)


def _longest(secret: str) -> int:
    escaped = len(secret) - sum(map(len, SAFE.findall(secret)))
    return len(secret) + escaped * (SPELLING - 1)


class BlackingFramer(Framer):
    """A framer whose parts are blacked out; its whole events are not."""

    def __init__(self, blackout: Blackout, **options: Any) -> None:
        super().__init__(**options)
        self.blackout = blackout

    def _part(self) -> bytes:
        self.pending = bytearray(self.blackout.of(bytes(self.pending)))
        end = len(self.pending) - self.blackout.longest
        if end <= 3:  # which stay anyhow
            return b""
        behind = self.pending[end:]
        del self.pending[end:]
        part = super()._part()
        self.pending += behind
        return part
