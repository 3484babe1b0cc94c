"""Plays a plan for an ASGI server: the door of a fake provider that is not its own server."""

from __future__ import annotations

import anyio
from starlette.types import Receive, Scope, Send

from .plan import Body, End, Fill, Head, Hold, Pause, Plan, Step
from .server import ReceivedRequest
from .signals import Signal


class ScriptedCut(ConnectionAbortedError):
    """The script breaks the connection off here: the server has to, since an ASGI app cannot."""


async def received(scope: Scope, receive: Receive) -> ReceivedRequest | None:
    """The request in *scope*, None if its client left before it was whole."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    path = scope.get("raw_path") or scope["path"].encode()
    headers = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
    return ReceivedRequest(scope["method"], path.decode("latin-1"), scope["query_string"], headers, bytes(body))


async def send_plan(request: ReceivedRequest, plan: Plan, released: Signal, receive: Receive, send: Send) -> None:
    """Answer *request* with *plan*, until its end or until the client leaves.

    :raises ScriptedCut: the script says that the connection breaks.
    """
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            await receive()  # after the body's end there is nothing but `http.disconnect`
            request.disconnected.set()
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        try:
            for step in plan.steps:
                await _play(step, released, send)
        except Exception as exc:  # raised below, where no task group wraps it
            failure = exc
        if failure is None or isinstance(failure, ScriptedCut):
            request.answered.set()
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _play(step: Step, released: Signal, send: Send) -> None:
    match step:
        case Head():
            await send({"type": "http.response.start", "status": step.status, "headers": _headers(step)})
        case Body(data):
            await send({"type": "http.response.body", "body": data, "more_body": True})
        case Fill():
            for piece in step.pieces():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        case Hold():
            await released.wait()
        case Pause(seconds):
            await anyio.sleep(seconds)
        case End():
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        case _:  # Raw, Close
            raise ScriptedCut("the script breaks the connection off")


def _headers(head: Head) -> list[tuple[bytes, bytes]]:
    length = [] if head.length is None or head.framed or head.bodiless else [(b"content-length", b"%d" % head.length)]
    return [*head.headers, *length]
