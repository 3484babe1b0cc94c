"""What ownership costs: microseconds of CPU per request with MemoryStore. First to remember who answered, for each kind
of request; then to look at what a request brings, which may name what others own.

python -m benchmarks.ownership
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from typing import Any

from gomodel_asgi import Gateway, Provider, Target
from gomodel_asgi.exchange.job import Job
from gomodel_asgi.exchange.reply import Reply
from gomodel_asgi.pipeline import Inbound, job_of
from gomodel_asgi.upstream.upstream_request import resolve
from gomodel_asgi.wire.json_body import Envelope

ROUNDS = 9
REQUESTS = 3000
BODY = b'{"model":"gpt-5","input":"Tell me about herons."}'


def response(number: int) -> bytes:
    text = {"type": "output_text", "text": "A heron is a bird. " * 20, "annotations": []}
    message = {"id": f"msg_{number:048x}", "type": "message", "role": "assistant", "content": [text]}
    value = {"id": f"resp_{number:048x}", "object": "response", "status": "completed", "output": [message]}
    return json.dumps(value).encode()


async def one_round(gateway: Gateway, tenant: str | None, start: int, native: bool) -> float:
    """Microseconds that a unary request spends on being remembered."""
    state, jobs = gateway.state, []
    for number in range(REQUESTS):
        envelope = Envelope.parse(BODY)
        job: Job = job_of(gateway.setup, Inbound("create", envelope, None, {"type": "http"}, "req", {}), tenant)
        candidate = await resolve(Target("one"), job)
        reply = Reply(
            status=200, raw_headers=[], provider="one", model="gpt-5", attempts=1, body=response(start + number),
            candidate=candidate, response_id=None if not native else f"resp_{start + number:048x}",
        )  # fmt: skip
        jobs.append((job, reply))
    begun = time.process_time()
    for job, reply in jobs:
        await state.recorder.record(job, reply)
    return (time.process_time() - begun) / REQUESTS * 1e6


async def measure(name: str, tenant: str | None, dialect: str = "responses", more: bool = False) -> None:
    providers = [Provider("one", "http://127.0.0.1:1/v1", dialect=dialect)]  # type: ignore[arg-type]
    if more:
        providers.append(Provider("two", "http://127.0.0.1:2/v1"))
    gateway = Gateway(providers=providers)
    times = [await one_round(gateway, tenant, number * REQUESTS, dialect == "responses") for number in range(ROUNDS)]
    print(f"{name:48} {statistics.median(times):6.1f} us  (best {min(times):.1f}, worst {max(times):.1f})")


TEXT = 'lorem ipsum "dolor" sit amet\n' * 42
CALL = {"type": "function_call", "call_id": "c", "name": "shell", "arguments": '{"a":1}' * 10, "status": "completed"}
INPUTS: dict[str, Any] = {
    "text": "hi",
    "3 messages": [{"role": "user", "content": "hello"}] * 3,
    "100 calls of a tool with ids": [{**CALL, "id": f"fc_{number}"} for number in range(100)],
    "200 messages, 282 KB": [{"role": "user", "content": [{"type": "input_text", "text": TEXT}]}] * 200,
}


async def looked_at(name: str, given: Any, tenant: str | None) -> None:
    gateway = Gateway(providers=[Provider("one", "http://127.0.0.1:1/v1")])
    envelope, target, times = Envelope.parse(json.dumps({"model": "m", "input": given}).encode()), Target("one"), []
    job = job_of(gateway.setup, Inbound("create", envelope, None, {"type": "http"}, "req", {}), tenant)
    count = max(20, 1_000_000 // len(envelope.raw))
    for _ in range(ROUNDS):
        begun = time.process_time()
        for _ in range(count):
            assert not gateway.state.names(job)
            await gateway.state.admit(job, target)
        times.append((time.process_time() - begun) / count * 1e6)
    whose = "no tenants" if tenant is None else "tenants"
    print(f"{name + ', ' + whose:48} {statistics.median(times):6.1f} us  (best {min(times):.1f})")


async def main() -> None:
    await measure("native, no tenants", None)
    await measure("native, with tenants (and its items)", "acme")
    await measure("native beside others (and what was said)", "acme", more=True)
    await measure("translated (and what was said)", "acme", "chat")
    for name, given in INPUTS.items():
        for tenant in (None, "acme"):
            await looked_at(name, given, tenant)


if __name__ == "__main__":
    asyncio.run(main())
