"""The MCP servers of one response: listed before the model is asked; the client gets a list once a conversation."""

from __future__ import annotations

import hmac

from ...deadline import clock
from ...errors import ToolsUnlisted
from ...exchange.job import provider_of
from ...history.tenancy import packed
from ...tools import Call
from .plan import Upstream, is_asked, plan_of
from .remembered import kept_list, known_list
from .request import is_said_elsewhere, labels_of
from .results import passed_list
from .run import Run
from .seams import Json, Listed, Visit
from .sessions import ServerSession


async def open_servers(run: Run) -> None:
    """Has each server list its tools, and makes the plans.

    :raises ToolsUnlisted: a server could not be listed; in a stream an item reports it.
    :raises GatewayError: one may not be asked.
    :raises InvalidRequest: a declaration or the `tool_choice` is malformed.
    """
    deadline = min(clock() + run.job.setup.timeouts.tool, run.until)
    allowed = {label: declared.allowed for label, declared in run.labels.items()}
    await run.sessions.prepare([_known(run, _held(run, label, deadline)) for label in run.labels])
    _give_up(run)
    for label in run.labels:
        held = run.sessions.by_label[label]
        held.tools = await passed_list(run.job, label, held.tools)
    for label in run.labels:
        held, server = run.sessions.by_label[label], run.toolbox.servers.get(label)
        names = None if server is None or server.allowed is None else frozenset(server.allowed)
        shown = [one for one in held.tools if allowed[label].admits(one)]
        run.lists[label] = [one for one in shown if names is None or one.name in names]
    names_state = run.job.continuation is not None
    for one in run.chain:
        keeps = names_state and provider_of(one.target, run.job).keeps_state
        run.plans.append(plan_of(one, run.lists, run.toolbox, keeps))
    _warn_hidden(run)


def _give_up(run: Run) -> None:
    """Leaves out fallbacks whose servers could not be listed: the others do without these.

    :raises ToolsUnlisted: the Target that is asked first needs one of them.
    :raises GatewayError: it needs one that may not be asked.
    """
    held = run.sessions.by_label
    failed = [label for label in run.labels if not held[label].is_listed or held[label].refusal is not None]
    if not failed:
        return
    needed = [held[label] for label in failed if label in labels_of(run.chain[:1], run.toolbox)]
    for one in needed:
        if one.refusal is not None:  # before anything of the response is written
            raise one.refusal
    if needed:
        raise _unlisted(run, needed[0])
    for label in failed:
        run.labels.pop(label)
        run.job.warn([f"tool {label}: not listed; Targets that need it are left out"])
    run.chain = [one for one in run.chain if labels_of([one], run.toolbox).keys().isdisjoint(failed)]


async def emit_lists(run: Run, upstream: Upstream) -> None:
    """The lists that the client does not have yet stand before all else; *upstream* answers, and gives by itself those
    of the servers that it asks."""
    if is_said_elsewhere(run.job):
        return  # the conversation is at an upstream alone, and the client got the list in an earlier turn
    for label, declared in run.labels.items():
        if not declared.added and label not in run.given and is_asked(declared, run.toolbox, upstream):
            item = run.emitter.open(_begun(label))
            item.progress("in_progress")
            item.progress("completed")
            item.close("completed", {"tools": [_listed(one) for one in run.lists[label]]})
            held = run.sessions.by_label[label]
            run.remembered[item.value["id"]] = kept_list(place_of(run, held), held.tools)
    await run.flush()


def _known(run: Run, held: ServerSession) -> ServerSession:
    """*held* with its list, where the conversation knows that."""
    label = held.visit.label
    named_by_client = label not in run.toolbox.servers
    wanted = run.labels[label].allowed if named_by_client else None
    found = known_list(label, place_of(run, held), run.before, run.own, run.known, wanted)
    run.given |= {label} if found.has else set()
    if found.tools is not None:
        held.tools, held.is_listed = found.tools, True
    return held


def place_of(run: Run, held: ServerSession) -> str | None:
    """Returns the digest by which a list of this server is remembered; no address can be read from it."""
    place = held.source.place(held.visit)
    if place is None:
        return None
    return hmac.digest(run.secret, packed(b"list", held.visit.label, place), "sha256").hex()[:32]


def _held(run: Run, label: str, deadline: float) -> ServerSession:
    declared = run.labels[label]
    call = Call(
        tool=declared.shown,
        arguments={},
        request=run.job.request,
        response_id=run.id,
        item_id="",
        deadline=deadline,
    )

    def notice(text: str) -> None:
        run.job.warn([run.redacted(f"tool {label}: {text}")])

    source = run.toolbox.sources.get(label)
    if source is not None:
        return ServerSession(source, Visit(label, call, deadline, notice=notice))
    assert run.toolbox.client_named is not None
    url, authorization, headers = (declared.value.get(name) for name in ("server_url", "authorization", "headers"))
    return ServerSession(run.toolbox.client_named, Visit(label, call, deadline, url, authorization, headers, notice))


def _unlisted(run: Run, held: ServerSession) -> ToolsUnlisted:
    """The failure of a server that could not be listed."""
    label, why, cause = held.visit.label, held.error or "", held.cause
    message = f"Error retrieving tool list from MCP server: '{label}'. {why[:1].upper()}{why[1:].rstrip('.')}."
    if run.outlet is not None:
        item = run.emitter.open(_begun(label))
        item.progress("in_progress")
        item.progress("failed")
        item.close("failed", {"error": message})
    return ToolsUnlisted(message, detail=None if cause is None else run.redacted(f"{type(cause).__name__}: {cause}"))


def _warn_hidden(run: Run) -> None:
    """Warns of functions that the policy has added and nobody could approve."""
    for label, declared in run.labels.items():
        if declared.added:
            server = run.toolbox.servers[label]
            hidden = [one.name for one in run.lists[label] if "always" in (server.approval, one.approval)]
            run.job.warn(f"tool {label}.{name}: not shown, since nobody could approve it" for name in hidden)


def _begun(label: str) -> Json:
    return {"type": "mcp_list_tools", "server_label": label, "tools": []}


def _listed(one: Listed) -> Json:
    return {
        "name": one.name,
        "description": one.description,
        "input_schema": one.input_schema,
        "annotations": {"read_only": one.read_only},
    }
