"""How many tokens an input has: the upstream's own count where it counts, else an estimate that says it is one.

The estimate (`wire.usage`) is of what would be sent, in the upstream's own form. It answers with
`"estimated": true`.
"""

from __future__ import annotations

from ..errors import UpstreamRejected
from ..exchange.job import Job
from ..exchange.reply import Reply, json_reply
from ..history.records import unsupported
from ..providers.provider import Provider
from ..routing.target import Target
from ..threads import paced
from ..upstream.call import call_of, outgoing_of
from ..upstream.chain import Exchange, lacks_operation
from ..upstream.upstream_request import native, resolve, retold
from ..wire.usage import estimated


async def answer(job: Job, target: Target, provider: Provider) -> Reply:
    """Returns the reply to `input_tokens`.

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
    return json_reply(value, provider.name, candidate.model)
