"""The members of a request that set how an answer is sampled, shaped, billed and cached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..members import leave_out_verbosity, stop_sequences, text_format
from ..unsupported import CONTEXT_EDITS, JSON_OBJECT, SAMPLING, SCHEMA, Unsupported
from ..values import expect, integer, malformed, mapping, number
from .models import Model
from .schema import Room, keepable

# What a model of the Messages API accepts, read off its name.
#
# Source: Anthropic's documentation (models overview, thinking, effort, tool use, migration guides), November 2026. A
# name that says Claude and no version is taken for a current model, any other name (compatible APIs of other makers)
# for one with the first form of every feature.


Json = dict[str, Any]

TIERS: Mapping[str, str] = {"auto": "auto", "default": "standard_only", "priority": "auto"}
"""Service tiers by OpenAI's names; `auto` is what uses priority capacity."""
CACHEABLE = frozenset({"text", "image", "document", "tool_use", "tool_result"})
MAX_BREAKPOINTS = 4
"""`cache_control` marks in one request: the API refuses a fifth (Anthropic, "Prompt caching")."""


def max_tokens(members: Mapping[str, Any], model: Model) -> int:
    """Returns `max_output_tokens`, or the model's default (see `Model.max_tokens`).

    :raises InvalidRequest: it is less than 1.
    """
    given = integer(members, "max_output_tokens")
    if given is not None and given < 1:
        raise malformed("max_output_tokens", "must be at least 1")
    return model.max_tokens if given is None else given


def sampling(members: Mapping[str, Any], model: Model, thinks: bool, unsupported: Unsupported) -> Json:
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
            what = f"a temperature of {temperature} with this model and reasoning"
            unsupported.leave_out(SAMPLING, "temperature", what)
    if top_p is not None and top_p != 1:
        if (free or (model.samples and top_p >= 0.95)) and not (value and model.one_sampler):
            value["top_p"] = top_p
        else:
            what = f"a top_p of {top_p} with this model, temperature and reasoning"
            unsupported.leave_out(SAMPLING, "top_p", what)
    stop = stop_sequences(members)
    return value | _top_k(members, free, unsupported) | ({} if stop is None else {"stop_sequences": stop})


def _top_k(members: Mapping[str, Any], free: bool, unsupported: Unsupported) -> Json:
    top_k = integer(members, "top_k")
    if top_k is not None and not free:
        unsupported.leave_out(SAMPLING, "top_k", "top_k with this model and reasoning")
    return {} if top_k is None or not free else {"top_k": top_k}


def output_format(members: Mapping[str, Any], model: Model, room: Room, unsupported: Unsupported) -> Json | None:
    """`output_config.format` for `text.format`, counted in *room*; None where there is no form for it."""
    leave_out_verbosity(members, unsupported)
    kind, format = text_format(members)
    if kind != "json_schema":
        return None
    schema = expect(format.get("schema"), dict, "text.format.schema")
    kept = keepable(schema, "text.format.schema", unsupported) if model.keeps_schemas else None
    if kept is not None:
        room.form(kept)
        return {"type": "json_schema", "schema": kept}
    unsupported.leave_out(SCHEMA, "text.format", "structured output by a JSON schema with this model")
    return None


def wants_json(members: Mapping[str, Any], unsupported: Unsupported) -> bool:
    """Returns whether an instruction has to ask for JSON, since the API has no form for it without a schema.

    :raises InvalidRequest: it is refused, or the format does not exist.
    """
    what = "the format `json_object`; use `json_schema`"
    return text_format(members)[0] == "json_object" and unsupported.emulates(JSON_OBJECT, "text.format", what)


def user_id(members: Mapping[str, Any]) -> str | None:
    """Who the client acts for: `safety_identifier`, else the older `user`."""
    for name in ("safety_identifier", "user"):
        if members.get(name) is not None:
            return str(expect(members[name], str, name))
    return None


LEAST_COMPACTION = 50_000
"""The least that a `trigger` may name (API guide, "Compaction")."""


def context_edits(members: Mapping[str, Any], model: Model, unsupported: Unsupported) -> list[Json]:
    """`context_management` as edits: compaction of the context once it is long enough, where the model has such."""
    edits: list[Json] = []
    for index, entry in enumerate(expect(members.get("context_management") or [], list, "context_management")):
        path = f"context_management[{index}]"
        if expect(entry, dict, path).get("type") != "compaction":
            unsupported.leave_out(CONTEXT_EDITS, f"{path}.type", "context management other than compaction")
            continue
        edit: Json = {"type": "compact_20260112"}
        threshold = entry.get("compact_threshold")
        if threshold is not None:
            value = expect(threshold, int, f"{path}.compact_threshold")
            edit["trigger"] = {"type": "input_tokens", "value": value}
        edits.append(edit)
    return edits if model.compacts else []


def cache_ttl(members: Mapping[str, Any]) -> str | None:
    """The lifetime of cache entries: Anthropic has five minutes (the default) and an hour."""
    return "1h" if mapping(members, "prompt_cache_options").get("ttl") else None


def wants_cache_at_end(members: Mapping[str, Any]) -> bool:
    """Returns whether the client wants a breakpoint at the end: it names a cache and does not say `explicit`."""
    explicit = mapping(members, "prompt_cache_options").get("mode") == "explicit"
    return bool(members.get("prompt_cache_key")) and not explicit


def place_breakpoints(messages: list[Json], system: list[Json], automatic: Json | None) -> None:
    """Puts *automatic* (a `cache_control`) on the last block that takes one; of more than four it keeps the latest."""
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
