"""Usage and cost of every recorded exchange, against a reading of the recording that shares nothing with ours."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import genai_prices
import pytest

from gomodel_asgi import Gateway
from gomodel_asgi.contrib.prices import Priced
from gomodel_asgi.observers import Ended
from gomodel_asgi.testing import FakeProvider, Reply

from ..support.chat_reader import WHY_SKIPPED, data_lines, exchanges
from ..support.driving import ask
from ..support.seen import Seen, native

Json = dict[str, Any]

DIALECTS = ("responses", "chat", "anthropic", "gemini")
EXCHANGES = [(dialect, exchange) for dialect in DIALECTS for exchange in exchanges(dialect)]

PRICED = {
    "api.openai.com": "openai",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "openrouter.ai": "openrouter",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "google",
    "aiplatform.googleapis.com": "google",
}
"""Hosts by the price list's name of their operator."""

TYPES = {"google": "gemini"}

pytestmark = [
    pytest.mark.skipif(not EXCHANGES, reason=WHY_SKIPPED),
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),
    pytest.mark.parametrize(
        ("dialect", "exchange"),
        EXCHANGES,
        ids=[f"{dialect}-{number}" for number, (dialect, _) in enumerate(EXCHANGES)],
    ),
]


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeProvider]:
    with FakeProvider().run_in_thread() as provider:
        yield provider


async def test_usage_and_cost_are_those_of_the_recording(
    upstream: FakeProvider, dialect: str, exchange: Json, anyio_backend: str
) -> None:
    expected = read(dialect, exchange)
    ended = await replayed(upstream, dialect, exchange)

    usage = ended.usage
    if expected is None:
        assert usage is None
        return
    assert usage is not None
    found = Counts(usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.cache_write_tokens)
    assert (found, usage.reasoning_tokens) == (expected.counts, expected.reasoning)
    assert not usage.estimated
    assert ended.cost is not None and ended.cost.total == paid(exchange, expected)


async def replayed(upstream: FakeProvider, dialect: str, exchange: Json) -> Ended:
    """What observers see when the recorded reply answers a request."""
    reply, stream = exchange["reply"], "event-stream" in exchange["content_type"]
    body = reply.encode() if isinstance(reply, str) else reply
    upstream.clear()
    upstream.script(Reply(body, exchange["status"], content_type=exchange["content_type"]))
    operator = PRICED.get(exchange["host"], "nobody")
    provider = native(upstream, type=TYPES.get(operator, operator), dialect=dialect, models=("*",))
    seen = Seen()
    path = f"/v1/responses/{last}" if (last := exchange["path"].split("/")[-1]) in ("compact", "input_tokens") else ""
    async with Gateway(providers=[provider], observers=[Priced(seen)]) as gateway:
        asked = {"model": model_of(exchange), "input": "Hello", "stream": stream}
        await ask(gateway, asked, path=path or "/v1/responses")
    return seen.ended


def model_of(exchange: Json) -> str:
    """What the request named; Gemini's stands in the path."""
    named = exchange["request"].get("model")
    return str(named or exchange["path"].split("models/")[-1].split(":")[0])


# The independent reading...


@dataclass(frozen=True)
class Counts:
    input: int
    output: int
    cached: int
    written: int


@dataclass(frozen=True)
class Reading:
    """*hour* of the written tokens are kept for an hour; *model* is what the reply names."""

    counts: Counts
    reasoning: int
    model: str | None
    hour: int = 0
    tier: str | None = None


def read(dialect: str, exchange: Json) -> Reading | None:
    if exchange["status"] != 200 or exchange["path"].endswith("input_tokens"):
        return None
    reply = exchange["reply"]
    chunks = [reply] if isinstance(reply, dict) else parsed(reply)
    readers = {"responses": responses, "chat": chat, "anthropic": anthropic, "gemini": gemini}
    return readers[dialect](chunks)


def parsed(reply: str) -> list[Json]:
    return [json.loads(line) for line in data_lines(reply) if line != "[DONE]"]


def at(value: Any, *path: str) -> int:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value or 0


def responses(chunks: list[Json]) -> Reading | None:
    last = chunks[-1].get("response", chunks[-1])
    usage = last.get("usage")
    if usage is None:
        return None
    counts = Counts(
        usage["input_tokens"],
        usage["output_tokens"],
        at(usage, "input_tokens_details", "cached_tokens"),
        at(usage, "input_tokens_details", "cache_write_tokens"),
    )
    reasoning = at(usage, "output_tokens_details", "reasoning_tokens")
    return Reading(counts, reasoning, last.get("model"), tier=last.get("service_tier"))


def chat(chunks: list[Json]) -> Reading | None:
    usages = [chunk.get("usage") or at(chunk, "x_groq", "usage") for chunk in chunks]
    usage: Any = next((one for one in reversed(usages) if one), None)
    if usage is None:
        return None
    prompt = usage["prompt_tokens"]
    cached = at(usage, "prompt_tokens_details", "cached_tokens") or at(usage, "num_cached_tokens")
    output = max(usage["completion_tokens"], usage["total_tokens"] - prompt)
    written = at(usage, "prompt_tokens_details", "cache_write_tokens")
    counts = Counts(prompt, output, cached or at(usage, "prompt_cache_hit_tokens"), written)
    return Reading(counts, at(usage, "completion_tokens_details", "reasoning_tokens"), chunks[-1].get("model"))


def anthropic(chunks: list[Json]) -> Reading | None:
    usage: Json = {}
    for chunk in chunks:
        given = chunk.get("usage") or at(chunk, "message", "usage") or {}
        usage.update({name: value for name, value in given.items() if value is not None})  # type: ignore[union-attr]
    rounds = [usage, *(one for one in usage.get("iterations") or () if one["type"] == "compaction")]
    cached = sum(at(one, "cache_read_input_tokens") for one in rounds)
    written = sum(at(one, "cache_creation_input_tokens") for one in rounds)
    fresh, output = sum(at(one, "input_tokens") for one in rounds), sum(at(one, "output_tokens") for one in rounds)
    model = chunks[0].get("model") or chunks[0]["message"]["model"]
    hour = at(usage, "cache_creation", "ephemeral_1h_input_tokens")
    thinking = at(usage, "output_tokens_details", "thinking_tokens")
    return Reading(Counts(fresh + cached + written, output, cached, written), thinking, model, hour)


def gemini(chunks: list[Json]) -> Reading | None:
    usages = [chunk["usageMetadata"] for chunk in chunks if "usageMetadata" in chunk]
    if not usages:
        return None
    usage = usages[-1]
    counts = Counts(
        at(usage, "promptTokenCount") + at(usage, "toolUsePromptTokenCount"),
        at(usage, "candidatesTokenCount") + at(usage, "thoughtsTokenCount"),
        at(usage, "cachedContentTokenCount"),
        0,
    )
    return Reading(counts, at(usage, "thoughtsTokenCount"), chunks[-1].get("modelVersion"))


def paid(exchange: Json, reading: Reading) -> Decimal | None:
    """The list's price for what was read; None where it has none."""
    counts = reading.counts
    usage = genai_prices.Usage(
        input_tokens=counts.input,
        output_tokens=counts.output,
        cache_read_tokens=counts.cached,
        cache_write_tokens=counts.written,
        cache_write_1h_tokens=reading.hour,
    )
    context = {"service_tier": reading.tier} if reading.tier else None
    for model in (reading.model, model_of(exchange)):
        try:
            operator = PRICED.get(exchange["host"], "nobody")
            return genai_prices.calc_price(usage, model or "", provider_id=operator, price_context=context).total_price
        except LookupError:
            continue
    return None
