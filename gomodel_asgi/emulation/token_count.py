"""How many tokens an input has: the upstream's own count where it counts, else an estimate that says it is one.

The estimate is of what would be sent, in the upstream's own form: four bytes of JSON text are one token, but no word is
less than one. That is near for English and for code, and too low for scripts whose characters take three bytes; inline
media counts `MEDIA` tokens a piece, whatever it holds. It answers with `"estimated": true`.
"""

from __future__ import annotations

from collections.abc import Generator

from ..errors import UpstreamRejected
from ..exchange.job import Job
from ..exchange.reply import Reply, told
from ..history.records import unsupported
from ..providers.provider import Provider
from ..routing.request import Target
from ..threads import paced
from ..upstream.chain import Exchange
from ..upstream.upstream_request import call_of, native, outgoing_of, resolve, retold
from ..wire.json_scan import WINDOW, window_of

BYTES_PER_TOKEN = 4

# What a picture of middling size costs at most makers of models.
MEDIA = 1000

# Bytes of a string that is media: base64 of more than a paragraph, behind as much as `data:image/png;base64,` takes.
SHORTEST = 400
LONGEST_PREFIX = 80
BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="

# Of two neighbouring quotes that are so far apart that media may stand between them, one such block has neither.
BLOCK = SHORTEST // 2


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
    if dialect is None:
        sent = (await retold(native(candidate, job, 0.0), candidate, job)).body
    else:
        sent = (await outgoing_of(candidate, job, await call_of(candidate, job))).body
    job.warn(["input_tokens: estimated, since the upstream does not count"])
    tokens = await paced(estimated(sent or b""))
    value = {"object": "response.input_tokens", "input_tokens": tokens, "estimated": True}
    return told(value, provider.name, candidate.model)


def lacks_operation(error: UpstreamRejected) -> bool:
    """Whether a native upstream says with *error* that it does not have the operation, and not only the model."""
    return error.status in (404, 405, 501) and error.code != "model_not_found"


def estimated(body: bytes) -> Generator[None, None, int]:
    """About how many tokens the JSON *body* is, a window at each step."""
    text, words, media, at = len(body), 0, 0, 0
    for end in range(WINDOW, len(body) + WINDOW, WINDOW):
        words += body.count(b" ", end - WINDOW, end)
        while at < min(end, len(body)):
            if body.find(b'"', at, at + BLOCK) < 0:
                start, at = body.rfind(b'"', 0, at) + 1, body.find(b'"', at)
                at = len(body) if at < 0 else at
                if (yield from _is_media(body, start, at)):
                    media += 1
                    text -= at - start + 2
                    words -= body.count(b" ", start, start + LONGEST_PREFIX)
            at += BLOCK
        yield
    return max(1, -(-text // BYTES_PER_TOKEN), words) + media * MEDIA


def _is_media(body: bytes, start: int, end: int) -> Generator[None, None, bool]:
    """Whether what stands from *start* to *end* is base64, but for its beginning."""
    behind = start + min(LONGEST_PREFIX, end - start - SHORTEST)
    if behind < start or b"\\" in body[start:behind]:
        return False
    size = window_of(len(body))
    for at in range(behind, end, size):
        if body[at : min(at + size, end)].translate(None, BASE64):
            return False
        yield
    return True
