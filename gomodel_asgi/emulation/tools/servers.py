"""The MCP servers of one response: listed before the model is asked, and told to the client once a conversation."""

from __future__ import annotations

from ...deadline import clock
from ...errors import ToolsUnlisted
from ...exchange.job import provider_of
from ...tools import Call
from .declarations import Declared
from .memory import Remembered
from .request import labels_listed, plan_of
from .sessions import Held
from .source import Json, Listed, Visit
from .work import Work


async def open_servers(work: Work) -> None:
    """Have the servers' lists, and make the plans.

    :raises ToolsUnlisted: a server has not answered with one; in a stream it has been told as an item.
    :raises InvalidRequest: a declaration or the `tool_choice` is malformed.
    """
    deadline = min(clock() + work.job.setup.timeouts.tool, work.until)
    allowed = {label: declared.allowed for label, declared in work.labels.items()}
    visits = [(work.toolbox.sources[label], _visit(work, label, one, deadline)) for label, one in work.labels.items()]
    await work.sessions.listed(visits)
    for label in work.labels:
        held, server = work.sessions.held[label], work.toolbox.servers[label]
        if held.error is not None:
            raise _unlisted(work, label, held)
        names = None if server.allowed is None else frozenset(server.allowed)
        shown = [one for one in held.tools if allowed[label].admits(one)]
        work.lists[label] = [one for one in shown if names is None or one.name in names]
    names_state = work.job.continuation is not None
    for one in work.chain:
        keeps = names_state and provider_of(one.target, work.job).keeps_state
        work.plans.append(plan_of(one, work.lists, work.toolbox, keeps))
    _warn_hidden(work)


async def tell_lists(work: Work) -> None:
    """The lists that the client has not been told of yet stand before all else."""
    known = labels_listed([*work.before, *work.own])
    if not work.before and work.job.request.envelope.has("previous_response_id"):
        return  # an upstream or a connection knows what was said: in a turn before this the list was told
    for label, declared in work.labels.items():
        if not declared.added and label not in known:
            item = work.emitter.open(_begun(label))
            item.progress("in_progress")
            item.progress("completed")
            item.close("completed", {"tools": [_listed(one) for one in work.lists[label]]})
            work.told[item.value["id"]] = Remembered("", "")
    await work.flush()


def _visit(work: Work, label: str, declared: Declared, deadline: float) -> Visit:
    call = Call(
        tool=declared.shown,
        arguments={},
        request=work.job.request,
        response_id=work.id,
        item_id="",
        deadline=deadline,
    )
    return Visit(label, call, deadline)


def _unlisted(work: Work, label: str, held: Held) -> ToolsUnlisted:
    """The failure of a server that could not be listed."""
    why, cause = held.error or "", held.cause
    message = f"Error retrieving tool list from MCP server: '{label}'. {why[:1].upper()}{why[1:].rstrip('.')}."
    if work.outlet is not None:
        item = work.emitter.open(_begun(label))
        item.progress("in_progress")
        item.progress("failed")
        item.close("failed", {"error": message})
    return ToolsUnlisted(message, detail=None if cause is None else work.redacted(f"{type(cause).__name__}: {cause}"))


def _warn_hidden(work: Work) -> None:
    """Tell observers of functions that the policy has added and nobody could approve."""
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
