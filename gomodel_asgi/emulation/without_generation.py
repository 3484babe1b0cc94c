"""Requests that generate nothing, for upstreams that have no such thing: a count of tokens, and a warm-up.

Tokens are counted by the upstream where it counts, else estimated (`wire.usage`) from what would be sent, in
the upstream's own form; the answer then has `"estimated": true`. A warm-up (`"generate": false`) goes to an upstream
with a socket of its own, and is answered here for any other.
"""

from __future__ import annotations

import secrets
import time

from ..errors import UpstreamRejected
from ..exchange.job import Job, provider_of
from ..exchange.reply import STREAM_TYPE, Reply, json_reply
from ..history.records import unsupported
from ..providers.provider import Provider
from ..routing.target import Target
from ..threads import paced
from ..upstream.call import call_of, outgoing_of
from ..upstream.chain import Exchange, guarded_exchange, lacks_operation
from ..upstream.upstream_request import native, resolve, rewritten
from ..wire.response import response_object, stream_of
from ..wire.usage import estimated, usage

NOTHING = usage(input=0, output=0)


async def count_tokens(job: Job, target: Target, provider: Provider) -> Reply:
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
        sent = (await rewritten(native(candidate, job, 0.0), candidate, job)).body
    else:
        sent = (await outgoing_of(candidate, job, await call_of(candidate, job))).body
    job.warn(["input_tokens: estimated, since the upstream does not count"])
    tokens = await paced(estimated(sent or b""))
    value = {"object": "response.input_tokens", "input_tokens": tokens, "estimated": True}
    return json_reply(value, provider.name, candidate.model)


async def warm_up(job: Job, target: Target) -> Reply:
    """Returns the reply to a request that is to generate nothing.

    :raises GatewayError: it cannot be sent as it is, or nothing answered.
    :raises LookupError: the policy named an unknown provider.
    """
    if provider_of(target, job).websocket:
        return await guarded_exchange(job, target)
    candidate = await resolve(target, job)
    call = await call_of(candidate, job)
    if candidate.dialect is not None:
        await outgoing_of(candidate, job, call)  # what it would refuse then, it refuses now
    now, name = int(time.time()), candidate.provider.name
    stamp = name if job.setup.stamp else None
    response = response_object("resp_" + secrets.token_hex(24), now, call.model, call.body, stamp)
    response |= {"status": "completed", "completed_at": now, "usage": NOTHING}
    body = stream_of(response)
    return Reply(status=200, raw_headers=[STREAM_TYPE], provider=name, model=call.model, attempts=0, body=body)
