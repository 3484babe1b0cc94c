"""The members of a request that set how an answer is sampled, shaped, billed and cached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..losses import Losses, expect, malformed
from ..members import integer, mapping, number
from .models import Model

Json = dict[str, Any]

TIERS: Mapping[str, str] = {"auto": "auto", "default": "standard_only", "priority": "auto"}
CACHEABLE = frozenset({"text", "image", "document", "tool_use", "tool_result"})
MAX_BREAKPOINTS = 4


def max_tokens(members: Mapping[str, Any], model: Model) -> int:
    """`max_output_tokens`, or the model's default (see `Model.max_tokens`)."""
    given = integer(members, "max_output_tokens")
    if given is not None and given < 1:
        raise malformed("max_output_tokens", "must be at least 1")
    return model.max_tokens if given is None else given


def sampling(members: Mapping[str, Any], model: Model, thinks: bool, losses: Losses) -> Json:
    """temperature, top_p, top_k and stop_sequences; values that ask for the default are left out.

    With thinking on, temperature must stay at its default and top_p at 0.95 or more; newer models know none of them.
    """
    temperature, top_p = number(members, "temperature"), number(members, "top_p")
    free = model.samples and not thinks
    value: Json = {}
    if temperature is not None and temperature != 1:
        if free and 0 <= temperature <= 1:
            value["temperature"] = temperature
        else:
            losses.add("temperature", f"a temperature of {temperature} with this model and reasoning")
    if top_p is not None and top_p != 1:
        if (free or (model.samples and top_p >= 0.95)) and not (value and model.one_sampler):
            value["top_p"] = top_p
        else:
            losses.add("top_p", f"a top_p of {top_p} with this model, temperature and reasoning")
    return value | _top_k(members, free, losses) | _stop(members)


def _top_k(members: Mapping[str, Any], free: bool, losses: Losses) -> Json:
    top_k = integer(members, "top_k")
    if top_k is not None and not free:
        losses.add("top_k", "top_k with this model and reasoning")
    return {} if top_k is None or not free else {"top_k": top_k}


def _stop(members: Mapping[str, Any]) -> Json:
    stop = members.get("stop")
    if stop is None:
        return {}
    return {"stop_sequences": [stop] if isinstance(stop, str) else expect(stop, list, "stop")}


def output_format(members: Mapping[str, Any], losses: Losses) -> Json | None:
    """`output_config.format` for `text.format`; there is no form for JSON without a schema."""
    text = mapping(members, "text")
    if text.get("verbosity") not in (None, "medium"):
        losses.add("text.verbosity", "the member `text.verbosity`")
    format = mapping(text, "format", "text")
    kind = format.get("type", "text")
    if kind == "json_schema":
        return {"type": "json_schema", "schema": expect(format.get("schema"), dict, "text.format.schema")}
    if kind != "text":
        losses.add("text.format", f"the format `{str(kind)[:64]}`; use `json_schema`")
    return None


def service_tier(members: Mapping[str, Any], losses: Losses) -> str | None:
    """Anthropic's tier; its `auto` is what uses priority capacity."""
    tier = members.get("service_tier")
    if tier is None:
        return None
    if expect(tier, str, "service_tier") not in TIERS:
        losses.add("service_tier", f"the service tier `{tier[:64]}`")
    return TIERS.get(tier)


def user_id(members: Mapping[str, Any]) -> str | None:
    """Who the client acts for: `safety_identifier`, else the older `user`."""
    for name in ("safety_identifier", "user"):
        if members.get(name) is not None:
            return str(expect(members[name], str, name))
    return None


def context_edits(members: Mapping[str, Any], losses: Losses) -> list[Json]:
    """`context_management` as edits: compaction of the context once it is long enough."""
    edits: list[Json] = []
    for index, entry in enumerate(expect(members.get("context_management") or [], list, "context_management")):
        path = f"context_management[{index}]"
        if expect(entry, dict, path).get("type") != "compaction":
            losses.add(f"{path}.type", "context management other than compaction")
            continue
        edit: Json = {"type": "compact_20260112"}
        threshold = entry.get("compact_threshold")
        if threshold is not None:
            value = expect(threshold, int, f"{path}.compact_threshold")
            edit["trigger"] = {"type": "input_tokens", "value": value}
        edits.append(edit)
    return edits


def cache_ttl(members: Mapping[str, Any]) -> str | None:
    """The lifetime of cache entries: Anthropic has five minutes (the default) and an hour."""
    return "1h" if mapping(members, "prompt_cache_options").get("ttl") else None


def caches_by_itself(members: Mapping[str, Any]) -> bool:
    """Whether the client wants a breakpoint at the end: it names a cache and does not say `explicit`."""
    explicit = mapping(members, "prompt_cache_options").get("mode") == "explicit"
    return bool(members.get("prompt_cache_key")) and not explicit


def place_breakpoints(messages: list[Json], system: list[Json], automatic: Json | None) -> None:
    """Put *automatic* (a `cache_control`) on the last block that takes one; of more than four keep the latest."""
    blocks = [*system, *(block for message in messages for block in message["content"])]
    takers = [block for block in blocks if block["type"] in CACHEABLE]
    if automatic is not None and takers:
        takers[-1]["cache_control"] = automatic
    marked = [part for block in blocks for part in _in_prompt_order(block) if "cache_control" in part]
    for block in marked[:-MAX_BREAKPOINTS]:
        del block["cache_control"]


def _in_prompt_order(block: Json) -> list[Json]:
    """*block* after the blocks inside it: a breakpoint marks an end."""
    return [*(block.get("content", ()) if block["type"] == "tool_result" else ()), block]
