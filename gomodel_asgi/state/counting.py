"""How many tokens an input has: the upstream's own count where it counts, else an estimate that says it is one.

The estimate is of what would be sent, in the upstream's own form: four bytes of JSON text are one token, but no word is
less than one. That is near for English and for code, and too low for scripts whose characters take three bytes; inline
media counts `MEDIA` tokens
a piece, whatever it holds. It answers with `"estimated": true`.
"""

from __future__ import annotations

import re

from ..errors import UpstreamRejected
from ..exchange import Exchange, Job, Reply
from ..exchange.candidate import resolve
from ..exchange.outgoing import call_of, native
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
    dialect = candidate.dialect
    if dialect is None or getattr(dialect, "counts_tokens", False):
        try:
            return await Exchange(job, target).run()
        except UpstreamRejected as error:
            if dialect is not None or not lacks_operation(error):
                raise
    if not provider.estimate_tokens:
        raise unsupported("input_tokens")
    sent = (native(candidate, job, 0.0) if dialect is None else dialect.request(call_of(candidate, job))).body
    job.warn(["input_tokens: estimated, since the upstream does not count"])
    value = {"object": "response.input_tokens", "input_tokens": estimated(sent or b""), "estimated": True}
    return told(value, provider.name, candidate.model)


def lacks_operation(error: UpstreamRejected) -> bool:
    """Whether a native upstream says with *error* that it does not have the operation, and not only the model."""
    return error.status in (404, 405, 501) and error.code != "model_not_found"


def estimated(body: bytes) -> int:
    """About how many tokens the JSON *body* is."""
    text, media = INLINE.subn(b"", body)
    return max(1, -(-len(text) // BYTES_PER_TOKEN), text.count(b" ")) + media * MEDIA
