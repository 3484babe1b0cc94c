"""`logprobsResult` as the logprobs of an output_text part."""

from __future__ import annotations

from typing import Any

from . import wire

Json = dict[str, Any]


def read_logprobs(result: Json) -> list[Json]:
    """One entry for each chosen token, with the alternatives that were asked for."""
    chosen = wire.records(result.get("chosenCandidates"))
    others = wire.records(result.get("topCandidates"))
    others += [{}] * (len(chosen) - len(others))
    return [_entry(token, wire.records(top.get("candidates"))) for token, top in zip(chosen, others, strict=False)]


def _entry(token: Json, alternatives: list[Json]) -> Json:
    return {**_token(token), "top_logprobs": [_token(alternative) for alternative in alternatives]}


def _token(candidate: Json) -> Json:
    token = wire.string(candidate.get("token"))
    logprob = candidate.get("logProbability")
    if logprob is not None and (isinstance(logprob, bool) or not isinstance(logprob, (int, float))):
        raise ValueError("not a probability")
    return {"token": token, "logprob": logprob or 0.0, "bytes": list(token.encode("utf-8", "surrogatepass"))}
