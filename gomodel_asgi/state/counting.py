"""How many tokens an input has: the upstream's own count where it counts, else an estimate that says it is one.

The estimate is of what would be sent, in the upstream's own form: four bytes of JSON text are one token, which is near
for English and for code, and too low for scripts whose characters take three bytes; inline media counts `MEDIA` tokens
a piece, whatever it holds. It answers with `"estimated": true`.
"""

from __future__ import annotations

import re

from ..exchange import Exchange, Job, Reply
from ..exchange.candidate import resolve
from ..exchange.outgoing import call_of
from ..providers.provider import Provider
from ..routing import Target
from .replies import told
from .unknown import unsupported

BYTES_PER_TOKEN = 4

# What a picture of middling size costs at most makers of models.
MEDIA = 1000

# Base64 of more than a paragraph: pictures, sounds, files.
INLINE = re.compile(rb'"[^"\\]{0,80}[A-Za-z0-9+/=]{400,}"')


async def answer(job: Job, target: Target, provider: Provider) -> Reply:
    """The reply to `input_tokens`.

    :raises InvalidRequest: 501, the upstream does not count and the provider allows no estimate.
    """
    candidate = await resolve(target, job)
    if candidate.dialect is None or getattr(candidate.dialect, "counts_tokens", False):
        return await Exchange(job, target).run()
    if not provider.estimate_tokens:
        raise unsupported("input_tokens")
    outgoing = candidate.dialect.request(call_of(candidate, job))
    job.warn(["input_tokens: estimated, since the upstream does not count"])
    value = {"object": "response.input_tokens", "input_tokens": estimated(outgoing.body), "estimated": True}
    return told(value, provider.name, candidate.model)


def estimated(body: bytes) -> int:
    """About how many tokens the JSON *body* is."""
    text, media = INLINE.subn(b"", body)
    return max(1, -(-len(text) // BYTES_PER_TOKEN)) + media * MEDIA
