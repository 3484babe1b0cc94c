"""Takes our credentials out of what an upstream says: some quote the key that they refuse, and clients read errors.

A key is found as it was sent, and as JSON may escape it: PHP writes `/` as `\\/`, .NET and Go write `+` and others as
`\\u002B`. Against an upstream that means to give a key away, in base64 say, nothing helps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from ..settings import KIB

REDACTED = b"[redacted]"
SHORTEST = 6
"""Characters: anything shorter is no key, and would black out ordinary words."""
WORD = 20
"""Characters: what is shorter and all letters is a word (`EMPTY`, `ollama`), which stands for no key."""
CREDENTIAL_NAMES = re.compile(
    r"auth|key|token|secret|cookie|passw|credential|signature|^(?:sig|sas|code|pwd|pass|jwt)$", re.IGNORECASE
)
"""Names of headers and query members that carry a credential: Azure signs URLs with `sig`, a function has a `code`."""
ESCAPE = re.compile(rb"\\(?:u00[2-7]|/)")
"""A printable ASCII character in another spelling."""
SAFE = re.compile(r"[A-Za-z0-9._-]+")  # what has but one spelling in JSON, unless somebody means to hide it
NEEDLE = 32  # bytes: more make the search dearer, not surer
SPELLING = 6
"""Bytes of the longest other spelling of a character, \\u002B."""
MOST_NEEDLES = 1000
"""Parts of a secret that are looked around; of more than that each is taken out."""
LONG = 64 * KIB
"""Bytes in which another spelling is looked for only where the part of a key is found that has none."""


def carried(*givens: Mapping[str, str] | None) -> tuple[str, ...]:
    """Returns the credentials in headers or query members: of `Bearer abc` both all and its last word."""
    found: dict[str, None] = {}
    for given in givens:
        for name, value in (given or {}).items():
            if CREDENTIAL_NAMES.search(name):
                found.update(dict.fromkeys((value, *value.split()[-1:])))
    return tuple(found)


def redacted(secrets: Iterable[str | None], data: bytes) -> bytes:
    """Returns *data* with each of *secrets* replaced."""
    for secret in secrets:
        if secret is not None and not is_word(secret):
            written = secret.encode()
            if written in data:
                data = data.replace(written, REDACTED)
            if len(data) > LONG:
                data = _without_spelled(secret, data)
            elif ESCAPE.search(data):
                data = _pattern(secret).sub(REDACTED, data)
    return data


def _without_spelled(secret: str, data: bytes) -> bytes:
    """Long *data* without *secret* in another spelling, looked for around the part that has none: a search of all of it
    takes 16 ns a byte."""
    needle, pattern = needle_of(secret), _pattern(secret)
    if len(needle) < SHORTEST:
        return pattern.sub(REDACTED, data) if needle in data and ESCAPE.search(data) else data
    if SAFE.fullmatch(secret) or needle not in data:
        return data
    if data.count(needle) > MOST_NEEDLES:  # this is no quotation
        return data.replace(needle, REDACTED)
    reach, at, pieces = len(needle) + SPELLING * len(secret), 0, []
    place = data.find(needle)
    while place >= 0:
        start, end = max(0, place - reach), place + reach
        while 0 <= (place := data.find(needle, place + 1)) < end + reach:
            end = place + reach
        pieces += [data[at:start], pattern.sub(REDACTED, data[start:end])]
        at = end
    return b"".join([*pieces, data[at:]])


def needle_of(secret: str) -> bytes:
    """Returns the bytes of *secret* that every spelling holds: its longest run of characters that are never escaped."""
    end = secret[-NEEDLE:]
    run = end if SAFE.fullmatch(end) else max(SAFE.findall(secret), key=len, default="")[-NEEDLE:]
    return run.encode()


def is_word(secret: str) -> bool:
    """Returns whether *secret* is a word that would be found in any text, and no key."""
    return len(secret) < SHORTEST or (len(secret) < WORD and secret.isalpha())


@lru_cache(maxsize=256)
def _pattern(secret: str) -> re.Pattern[bytes]:
    return re.compile(b"".join(map(_spelled, secret)))


def _spelled(char: str) -> bytes:
    """*char* in each of its spellings inside a JSON string."""
    optional = rb"\\?" if char in '"\\/' else b""
    return rb"(?:%s%s|\\u(?i:%04x))" % (optional, re.escape(char).encode(), ord(char))


# Our credentials, taken out of a stream whose bytes otherwise pass.
#
# Strategy: a credential holds a run of characters that nobody escapes, and only bytes that hold this run, the needle,
# are looked at more closely. An event that is given in parts is looked at before a part leaves, and as many bytes
# stay behind as a credential has, so that none leaves in two halves.


NOTHING = b"\0" * 8  # a needle that is in no event


class Redactor:
    """Takes *secrets* out of bytes. Not found: one that is spread over two events or over several `data` lines, and
    one of which an upstream escapes letters or digits, which none does that does not mean to give it away."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self.secrets = tuple(secret for secret in secrets if not is_word(secret))
        self.written = tuple(secret.encode() for secret in self.secrets)
        self.needles = tuple(map(needle_of, self.secrets))
        found = self.needles or (NOTHING,)
        self.needle = found[0] if len(found) == 1 else b""
        """The one needle that bytes are free of secrets without; empty where no single one says so."""
        self.longest = max(map(_longest, self.secrets), default=0)
        """Bytes of the longest spelling of any."""

    def whole(self, data: bytes) -> bytes:
        """Returns *data*, one event or a body that came whole, without the secrets, as `redacted` does."""
        if len(data) > LONG or ESCAPE.search(data) is not None:
            return redacted(self.secrets, data)
        for written in self.written:
            if written in data:
                data = data.replace(written, REDACTED)
        return data

    def of(self, data: bytes) -> bytes:
        """Returns *data* with each secret replaced; the same object where it holds none."""
        for needle in self.needles:
            if data.rfind(needle) >= 0:
                return redacted(self.secrets, data)
        return data


@lru_cache(maxsize=1024)
def redactor_of(secrets: tuple[str, ...]) -> Redactor:
    """Returns the redactor for *secrets*, a shared one: nearly all streams of a provider have the same."""
    return Redactor(secrets)


def _longest(secret: str) -> int:
    escaped = len(secret) - sum(map(len, SAFE.findall(secret)))
    return len(secret) + escaped * (SPELLING - 1)
