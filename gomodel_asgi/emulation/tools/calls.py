"""The calls of one round: run several at a time, told to the client in their order, answered to the model in words."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import anyio

from ...deadline import clock
from ...errors import InvalidRequest
from ...observers import ToolCalled
from ...observers.answer import clean
from ...threads import call as called
from ...tools import Call, Execution, ToolError
from ...wire.json_scan import tree
from .families import FAILED, Asked, Told
from .ledger import BROKEN, cut
from .memory import Remembered
from .plan import Shown
from .rounds import HostedCall, Round
from .source import Json, Outcome, unreachable
from .values import data_url, mended, sound
from .work import Work

LATE = "The tool took too long."
OutcomeOf = Literal["completed", "failed", "timeout", "refused"]


async def run_calls(work: Work, round: Round) -> list[Json]:
    """Run the calls of *round* and tell of them: their outputs for the model, in the order of the calls."""
    running: list[Running] = []
    for call in round.calls:
        if call.answer is None and not call.approves and call.shown is not None and call.begun is not None:
            made = _prepared(work, call, call.shown)
            if made is not None:
                running.append(made)
    if running:
        work.ran = True
        try:
            await _run(work, running)
        finally:  # what has answered is kept, whatever ends the others
            for one in running:
                if one.over.is_set() and one.call.told is None:
                    _finish(work, one)
                    _output(work, one.call, round.number)
    return [_output(work, call, round.number) for call in round.calls if not call.approves]


async def _run(work: Work, running: Sequence[Running]) -> None:
    places = anyio.Semaphore(max(1, work.job.setup.limits.tool_parallel))
    async with anyio.create_task_group() as group:
        for one in running:
            work.rewriter.started(one.call)
            group.start_soon(one.run, places)
        await work.flush()
        for one in running:
            await one.over.wait()
            _finish(work, one)
            await work.flush()


class Running:
    """One call of the host's function. *given* are its arguments, checked; *result* is what came of it, or *failure*
    makes what is told of that."""

    def __init__(self, work: Work, call: HostedCall, shown: Shown, given: Json) -> None:
        self.work = work
        self.call = call
        self.shown = shown
        self.given = given
        self.over = anyio.Event()
        self.result: Any = None
        self.failure: Callable[[Asked], Told] | None = None
        self.outcome: OutcomeOf = "completed"
        self.detail: str | None = None
        self.seconds = 0.0
        self.partials = 0

    async def run(self, places: anyio.Semaphore) -> None:
        """Call it, within its time. Raises nothing of what the host's function does."""
        setup = self.work.job.setup
        async with places:
            started = clock()
            seconds = max(0.0, min(setup.timeouts.tool, self.work.until - started))
            try:
                with anyio.move_on_after(seconds) as scope:
                    self.result = trimmed(await self._asked(started + seconds), setup.limits.tool_result)
                if scope.cancelled_caught:
                    self._fails(LATE, "timeout")
            except ToolError as error:
                self._fails(str(error), "failed")
            except Exception as error:  # the host's own: its text is not for model and client
                self._fails(FAILED, "failed", f"{type(error).__name__}: {error}")
            finally:
                self.seconds = clock() - started
        self.over.set()

    async def _asked(self, deadline: float) -> Any:
        shown, begun, work = self.shown, self.call.begun, self.work
        assert begun is not None and self.call.id is not None
        asked = Call(
            tool=begun.tool,
            arguments=self.given,
            request=work.job.request,
            response_id=work.id,
            item_id=self.call.id,
            deadline=deadline,
            container_id=begun.container_id,
            told=self._partial if self._wanted() and work.outlet is not None else None,
        )
        if shown.listed is not None:
            session = work.sessions.held[shown.label].session
            assert session is not None
            return await session.call_tool(shown.listed.name, self.given, asked)
        return await called(work.toolbox.hosts[shown.declared.family].function, asked)

    def _wanted(self) -> int:
        """How many images that are not finished the client wants to see."""
        wanted = self.shown.declared.shown.get("partial_images")
        is_image = self.shown.declared.family == "image_generation"
        return wanted if is_image and isinstance(wanted, int) else 0

    async def _partial(self, data: bytes) -> None:
        if self.partials < self._wanted():
            self.work.rewriter.partial(self.call, base64.b64encode(data).decode("ascii"))
            self.partials += 1
            await self.work.flush()

    def _fails(self, text: str, outcome: OutcomeOf, detail: str | None = None) -> None:
        self.outcome, self.detail = outcome, detail
        late = outcome == "timeout" and self.shown.listed is not None

        def failure(asked: Asked) -> Told:
            told = self.shown.family.failed(asked, text)
            return replace(told, members={**told.members, "error": unreachable(504, text)}) if late else told

        self.failure = failure


def _prepared(work: Work, call: HostedCall, shown: Shown) -> Running | None:
    """*call* as it is to be run; None where it is answered without."""
    arguments = _object(call.arguments)
    refusal = BROKEN if arguments is None else work.ledger.refusal(shown, call.arguments)
    given: Json = {}
    try:
        given = shown.family.read(arguments or {}) if refusal is None else {}
    except InvalidRequest as error:
        refusal = f"Not run: {error.message}"
    if refusal is None:
        given = given if shown.listed is None else mended(given, shown.listed.input_schema)
        return Running(work, call, shown, given)
    work.rewriter.started(call)
    told = shown.family.failed(work.rewriter.asked(call, arguments or {}, work.included), refusal)
    work.rewriter.finished(call, told)
    _observe(work, call, shown, "refused", 0.0, refusal)
    return None


def _finish(work: Work, one: Running) -> None:
    """*one* has answered: what came of it, as the client and the model get it."""
    call, shown = one.call, one.shown
    asked = work.rewriter.asked(call, one.given, work.included)
    try:
        told = one.failure(asked) if one.failure is not None else shown.family.told(asked, one.result)
    except Exception as error:  # the host's function has given what it cannot give
        one.outcome, one.detail = "failed", f"{type(error).__name__}: {error}"
        told = shown.family.failed(asked, FAILED)
    text, members = sound(work.ledger.fit(told.text)), sound(told.members)
    if isinstance(members.get("output"), str):
        members["output"] = text
    told = replace(told, text=text, members=members)
    failed = told.status == "failed"
    work.ledger.ended(shown, failed=failed)
    work.rewriter.finished(call, told)
    outcome: OutcomeOf = "failed" if failed and one.outcome == "completed" else one.outcome
    _observe(work, call, shown, outcome, one.seconds, told.text, one.detail)


def _output(work: Work, call: HostedCall, number: int) -> Json:
    """What the model is told of *call*, and will be in later turns."""
    text = call.answer if call.answer is not None else call.told.text if call.told is not None else FAILED
    if call.id is not None:
        work.told[call.id] = Remembered(call.name, call.arguments, text, max(number, 0), call.call_id)
    images = [one for one in call.told.images if one.format != "svg"] if call.told is not None else []
    output: Any = text
    if images and work.plans[0].upstream.sees:
        shown = [{"type": "input_image", "image_url": data_url(one)} for one in images]
        output = [{"type": "input_text", "text": text}, *shown]
    return {"type": "function_call_output", "call_id": call.call_id, "output": output}


def _observe(
    work: Work,
    call: HostedCall,
    shown: Shown,
    outcome: OutcomeOf,
    seconds: float,
    text: str,
    detail: str | None = None,
) -> None:
    trace = work.job.trace
    if trace is None:
        return
    record = ToolCalled(
        trace.context,
        tool=shown.declared.family,
        label=clean(shown.label) or None,
        name=clean(shown.called) or "",
        seconds=seconds,
        outcome=outcome,
        bytes_in=len(call.arguments.encode("utf-8", "surrogatepass")),
        bytes_out=len(text.encode("utf-8", "surrogatepass")),
        detail=None if detail is None else work.redacted(detail),
    )
    trace.observers.notify(record)


def trimmed(result: Any, most: int) -> Any:
    """*result* with no text longer than a model is told of one, so that the client sees what the model saw."""
    if isinstance(result, str):
        return cut(result, most)
    if isinstance(result, Outcome):
        return replace(result, text=cut(result.text, most))
    if isinstance(result, Execution):
        return replace(result, logs=cut(result.logs, most))
    return result


def _object(text: str) -> Json | None:
    """*text* as a JSON object; None of what is none. What is empty means no arguments."""
    try:
        value = tree(text or "{}")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
