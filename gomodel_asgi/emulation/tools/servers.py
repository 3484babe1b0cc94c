"""The MCP servers of one response: listed before the model is asked; the client gets a list once a conversation."""

from __future__ import annotations

import hmac

from ...deadline import clock
from ...errors import ToolsUnlisted
from ...exchange.job import provider_of
from ...history.tenancy import packed
from ...tools import Call
from .plan import Upstream, is_asked
from .remembered import kept_list, known_list
from .request import is_said_elsewhere, labels_of, plan_of
from .results import passed_list
from .seams import Json, Listed, Visit
from .sessions import Held
from .work import Work


async def open_servers(work: Work) -> None:
    """Has the servers' lists, and makes the plans.

    :raises ToolsUnlisted: a server has not answered with one; in a stream an item says so.
    :raises GatewayError: one may not be asked.
    :raises InvalidRequest: a declaration or the `tool_choice` is malformed.
    """
    deadline = min(clock() + work.job.setup.timeouts.tool, work.until)
    allowed = {label: declared.allowed for label, declared in work.labels.items()}
    await work.sessions.prepare([_known(work, _held(work, label, deadline)) for label in work.labels])
    _give_up(work)
    for label in work.labels:
        held = work.sessions.held[label]
        held.tools = await passed_list(work.job, label, held.tools)
    for label in work.labels:
        held, server = work.sessions.held[label], work.toolbox.servers.get(label)
        names = None if server is None or server.allowed is None else frozenset(server.allowed)
        shown = [one for one in held.tools if allowed[label].admits(one)]
        work.lists[label] = [one for one in shown if names is None or one.name in names]
    names_state = work.job.continuation is not None
    for one in work.chain:
        keeps = names_state and provider_of(one.target, work.job).keeps_state
        work.plans.append(plan_of(one, work.lists, work.toolbox, keeps))
    _warn_hidden(work)


def _give_up(work: Work) -> None:
    """Leaves out fallbacks whose servers could not be listed: the others do without these.

    :raises ToolsUnlisted: the Target that is asked first needs one of them.
    :raises GatewayError: it needs one that may not be asked.
    """
    held = work.sessions.held
    failed = [label for label in work.labels if not held[label].is_listed or held[label].refusal is not None]
    if not failed:
        return
    needed = [held[label] for label in failed if label in labels_of(work.chain[:1], work.toolbox)]
    for one in needed:
        if one.refusal is not None:  # before anything of the response is written
            raise one.refusal
    if needed:
        raise _unlisted(work, needed[0])
    for label in failed:
        work.labels.pop(label)
        work.job.warn([f"tool {label}: not listed; Targets that need it are left out"])
    work.chain = [one for one in work.chain if labels_of([one], work.toolbox).keys().isdisjoint(failed)]


async def emit_lists(work: Work, upstream: Upstream) -> None:
    """The lists that the client does not have yet stand before all else; *upstream* answers, and gives by itself those
    of the servers that it asks."""
    if is_said_elsewhere(work.job):
        return  # an upstream alone knows what was said: in a turn before this the list was given
    for label, declared in work.labels.items():
        if not declared.added and label not in work.given and is_asked(declared, work.toolbox, upstream):
            item = work.emitter.open(_begun(label))
            item.progress("in_progress")
            item.progress("completed")
            item.close("completed", {"tools": [_listed(one) for one in work.lists[label]]})
            held = work.sessions.held[label]
            work.remembered[item.value["id"]] = kept_list(place_of(work, held), held.tools)
    await work.flush()


def _known(work: Work, held: Held) -> Held:
    """*held* with its list, where the conversation knows that."""
    label = held.visit.label
    named_by_client = label not in work.toolbox.servers
    wanted = work.labels[label].allowed if named_by_client else None
    found = known_list(label, place_of(work, held), work.before, work.own, work.known, wanted)
    work.given |= {label} if found.has else set()
    if found.tools is not None:
        held.tools, held.is_listed = found.tools, True
    return held


def place_of(work: Work, held: Held) -> str | None:
    """What a list of this server is remembered by: nobody can tell an address from it."""
    place = held.source.place(held.visit)
    if place is None:
        return None
    return hmac.digest(work.secret, packed(b"list", held.visit.label, place), "sha256").hex()[:32]


def _held(work: Work, label: str, deadline: float) -> Held:
    declared = work.labels[label]
    call = Call(
        tool=declared.shown,
        arguments={},
        request=work.job.request,
        response_id=work.id,
        item_id="",
        deadline=deadline,
    )

    def notice(text: str) -> None:
        work.job.warn([work.redacted(f"tool {label}: {text}")])

    source = work.toolbox.sources.get(label)
    if source is not None:
        return Held(source, Visit(label, call, deadline, notice=notice))
    assert work.toolbox.strangers is not None
    url, authorization, headers = (declared.value.get(name) for name in ("server_url", "authorization", "headers"))
    return Held(work.toolbox.strangers, Visit(label, call, deadline, url, authorization, headers, notice))


def _unlisted(work: Work, held: Held) -> ToolsUnlisted:
    """The failure of a server that could not be listed."""
    label, why, cause = held.visit.label, held.error or "", held.cause
    message = f"Error retrieving tool list from MCP server: '{label}'. {why[:1].upper()}{why[1:].rstrip('.')}."
    if work.outlet is not None:
        item = work.emitter.open(_begun(label))
        item.progress("in_progress")
        item.progress("failed")
        item.close("failed", {"error": message})
    return ToolsUnlisted(message, detail=None if cause is None else work.redacted(f"{type(cause).__name__}: {cause}"))


def _warn_hidden(work: Work) -> None:
    """Tells observers of functions that the policy has added and nobody could approve."""
    for label, declared in work.labels.items():
        if declared.added:
            server = work.toolbox.servers[label]
            hidden = [one.name for one in work.lists[label] if "always" in (server.approval, one.approval)]
            work.job.warn(f"tool {label}.{name}: not shown, since nobody could approve it" for name in hidden)


def _begun(label: str) -> Json:
    return {"type": "mcp_list_tools", "server_label": label, "tools": []}


def _listed(one: Listed) -> Json:
    return {
        "name": one.name,
        "description": one.description,
        "input_schema": one.input_schema,
        "annotations": {"read_only": one.read_only},
    }
