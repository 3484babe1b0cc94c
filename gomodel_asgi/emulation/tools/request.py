"""What a request needs of the host's tools, read before any upstream is called: values in, values out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...dialects.base import Call, carries
from ...dialects.gemini.models import combines
from ...dialects.hosted_items import HOSTED, kind_of
from ...dialects.unsupported import Policy as Strictness
from ...errors import InvalidRequest
from ...exchange.job import Job, provider_of
from ...history.continuation import Continuation, Recalled
from ...history.turns import Line
from ...operations import BODY
from ...providers.provider import Provider, dialect_of
from ...routing.target import Target
from .declarations import Declared, Toolbox, read_declarations
from .functions import FunctionSource
from .plan import Candidate, Upstream, hosted, is_asked, plan_of
from .remote import read_place
from .seams import Json, Listed

Places = dict[str, str]
BROUGHT = re.compile(rb"_call|mcp_|item_reference|\\u00")
"""What an input holds that may bring items of ours along."""
MEMBERS = (
    "tool_choice", "include", "input", "reasoning", "max_tool_calls", "max_output_tokens",
    "parallel_tool_calls",
)  # fmt: skip
"""What of a request the loop looks at."""
SEEING = ("anthropic", "gemini", "responses")
"""Dialects whose models mostly see images in the outputs of functions."""


def candidates_of(job: Job, target: Target, toolbox: Toolbox) -> list[Candidate]:
    """The chain of *target*, as far as tools are concerned.

    :raises InvalidRequest: a declaration is malformed.
    :raises LookupError: the policy named an unknown provider, or added a tool that nobody here runs.
    """
    envelope, chain = job.request.envelope, target.chain()
    given = envelope.values(("tools",))
    tools = [(one.params or {}).get("tools", given.get("tools")) for one in chain]
    declared = [read_declarations(own, one.tools, toolbox.public) for own, one in zip(tools, chain, strict=True)]
    for each in declared:
        _check_added(each, toolbox)
    if any(declared):  # mostly there is nothing of ours, and the input may be long
        given |= envelope.values(MEMBERS)
    found = []
    for one, each in zip(chain, declared, strict=True):
        body = {name: value for name, value in {**given, **(one.params or {})}.items() if value is not None}
        found.append(Candidate(one, body, each, upstream_of(one, job, _mapped(each, toolbox))))
    return found


def _mapped(declared: Iterable[Declared], toolbox: Toolbox) -> list[Declared]:
    """Those of *declared* that could run here, if their upstream were unable to."""
    client_named = toolbox.client_named is not None
    return [one for one in declared if one.family in toolbox.hosts or (client_named and one.family == "mcp")]


def _check_added(declared: Iterable[Declared], toolbox: Toolbox) -> None:
    """Checks that the host has what the policy has added.

    :raises LookupError: it has not: a programming error of the host's.
    """
    for one in declared:
        if one.added and one.family not in toolbox.hosts and one.label not in toolbox.servers:
            raise LookupError(f"The policy added the tool {one.label or one.family!r}, which no function here runs.")


def upstream_of(target: Target, job: Job, mapped: Iterable[Declared] = ()) -> Upstream:
    """What the upstream of *target* can do by itself, with its model; *mapped* are the tools that could run here too.

    :raises LookupError: the policy named an unknown provider.
    """
    provider, model = provider_of(target, job), model_of(target, job)
    name = provider.dialect if isinstance(provider.dialect, str) else ""
    together = name != "gemini" or combines(model)
    own = [one for one in mapped if one.family in provider.runs] if not provider.native else []
    unable = frozenset(one.path for one in own if not _is_able(provider, model, one))
    return Upstream(provider.runs, model.rpartition("/")[2], provider.native, together, name in SEEING, unable)


def model_of(target: Target, job: Job) -> str:
    """Returns the model that *target* requests, "" where none is named."""
    return (target.model if target.model is not None else job.request.model) or ""


def _is_able(provider: Provider, model: str, one: Declared) -> bool:
    """Returns whether *provider* can keep the declaration *one*: what it would refuse, or leave out, the host's tool
    can do."""
    # Where promises are dropped, they are still better kept by the host.
    strictness = "auto" if provider.unsupported == "drop" else provider.unsupported
    try:
        return carries(dialect_of(provider), probe(provider, model, [one.value], strictness), one.value)
    except InvalidRequest:
        return True  # it is malformed, which its reader reports


def probe(provider: Provider, model: str, tools: Sequence[Any], strictness: Strictness) -> Call:
    """A request for *tools* and nothing else, to see what comes of them."""
    body = {"model": model, "input": "-", "tools": [*tools]}
    return Call("create", body, model, False, provider.name, provider.type or provider.name, strictness)


def places_of(one: Candidate, job: Job, lists: Mapping[str, Sequence[Listed]], toolbox: Toolbox) -> Places:
    """Where each declared tool would run: `here`, `upstream`, or `nowhere`, by `web_search` or `mcp:crm`. What is not
    run here is asked of the dialect, about the request as it would be sent.

    :raises InvalidRequest: a tool is malformed.
    """
    made = plan_of(one, lists, toolbox, keeps=False)
    running, left_out = hosted(one, toolbox)
    unlisted = [label for label in labels_of([one], toolbox) if label not in lists]
    tools = [*made.tools, *({"type": "function", "name": f"{label}_"} for label in unlisted)]
    provider, model = provider_of(one.target, job), model_of(one.target, job)
    found: Places = {}
    for declared in one.declared:
        name = f"{declared.family}:{declared.label}" if declared.label else declared.family
        if declared in running:
            place = "here"
        else:
            kept = declared not in left_out and _is_kept(declared, provider, model, tools)
            place = "upstream" if kept else "nowhere"
        if found.get(name) != "here":
            found[name] = place
    return found


def _is_kept(declared: Declared, provider: Provider, model: str, tools: Sequence[Any]) -> bool:
    """Returns whether the upstream gets the tool *declared*: a native one gets whatever the client declares, another
    what its dialect neither refuses nor leaves out, alone and among all *tools* of the request."""
    if provider.native:
        return True
    dialect, value = dialect_of(provider), declared.value
    alone, among = probe(provider, model, [value], provider.unsupported), probe(provider, model, tools, "drop")
    return carries(dialect, alone, value) and carries(dialect, among, value)


def labels_of(candidates: Iterable[Candidate], toolbox: Toolbox) -> dict[str, Declared]:
    """The servers that have to be asked what they have, by label, in the order of the declarations.

    :raises InvalidRequest: one that only the client names may not be asked as it is declared.
    """
    found: dict[str, Declared] = {}
    for one in candidates:
        for declared in one.declared:
            if is_asked(declared, toolbox, one.upstream) and declared.label not in found:
                found[declared.label] = declared
                if declared.label not in toolbox.servers:
                    read_place(*(declared.value.get(name) for name in ("server_url", "authorization", "headers")))
    return found


def lists_known(candidates: Iterable[Candidate], toolbox: Toolbox) -> dict[str, Sequence[Listed]]:
    """What servers have that are lists of the host's own functions, by label, as far as it may be shown."""
    found: dict[str, Sequence[Listed]] = {}
    for label, declared in labels_of(candidates, toolbox).items():
        source, server = toolbox.sources.get(label), toolbox.servers.get(label)
        if isinstance(source, FunctionSource) and server is not None:
            listed = [one.listed for one in source.plain.values()]
            shown = [one for one in listed if server.allowed is None or one.name in server.allowed]
            found[label] = [one for one in shown if declared.allowed.admits(one)]
    return found


def said_before(job: Job) -> list[Json]:
    """The items of the turns that the request continues, as far as they are known here."""
    return [item for line in _lines_before(job) or () for item in line.items]


def is_said_elsewhere(job: Job) -> bool:
    """Returns whether the request continues turns of which nothing is known here."""
    return _lines_before(job) is None and any(job.request.envelope.has(name) for name in BODY.members)


def _lines_before(job: Job) -> list[Line] | None:
    return job.continuation.said_before() if isinstance(job.continuation, Recalled) else None


def referred_to(job: Job) -> list[Json]:
    """The items that the request refers to by id."""
    continuation = job.continuation
    if not isinstance(continuation, Continuation):
        return []
    return [one.item for one in continuation.referrals.known.values() if one.item is not None]


def own_items(job: Job) -> list[Any]:
    """The items of the request's own input, as far as some may be of ours."""
    raw = job.request.envelope.members.get("input")
    if raw is None or not BROUGHT.search(bytes(raw)):
        return []
    items = job.request.envelope.values(("input",))["input"]
    return items if isinstance(items, list) else []


def are_ours(items: Iterable[Any]) -> bool:
    """Returns whether one of *items* may be of a hosted tool."""
    return any(kind_of(item) in HOSTED for item in items)
