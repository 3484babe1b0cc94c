"""Warming up (`"generate": false`): asked of an upstream with a socket of its own, and answered here for any other."""

from __future__ import annotations

import secrets
import time

from ..exchange.job import Job, provider_of
from ..exchange.reply import STREAM_TYPE, Reply
from ..routing.target import Target
from ..upstream.call import call_of, outgoing_of
from ..upstream.chain import guarded_exchange
from ..upstream.upstream_request import resolve
from ..wire.response import response_object, stream_of
from ..wire.usage import usage

NOTHING = usage(input=0, output=0)


async def answer(job: Job, target: Target) -> Reply:
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
