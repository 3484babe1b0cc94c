"""The calls of one round: run several at a time, emitted in their order, answered to the model in words."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import anyio

from ...deadline import clock
from ...errors import ContentBlocked, GatewayError, GuardUnavailable, InvalidRequest
from ...observers import ToolCalled
from ...observers.records import clean
from ...threads import call as called
from ...tools import Call, ToolError
from ...wire.json_scan import tree
from .call_limits import BROKEN, cut
from .families import FAILED, data_url
from .remembered import Remembered
from .replay import output_of
from .results import bounded, pass_arguments, passed
from .round import HostedCall, Round
from .run import Run
from .seams import CallInput, CallResult, Json, Outcome, Shown, sound, unreachable

LATE = "The tool took too long."
LATE_CODE = 504
"""Of the `http_error` of a server that did not answer in time."""
OutcomeOf = Literal["completed", "failed", "timeout", "refused"]


async def run_calls(run: Run, round: Round) -> list[Json]:
    """Runs the calls of *round* and emits what came of them: their outputs for the model, in the order of the calls."""
    running: list[RunningCall] = []
    await pass_arguments(run.job, round)
    for call in round.calls:
        if call.answer is None and not call.approves and call.shown is not None and call.begun is not None:
            made = _prepared(run, call, call.shown)
            if made is not None:
                running.append(made)
    if running:
        run.ran = True
        try:
            await _run(run, running)
        finally:  # what has answered is kept, whatever ends the others
            for one in running:
                if one.over.is_set() and one.refusal is None and one.call.result is None:
                    _finish(run, one)
                    _output(run, one.call, round.number)
    return [_output(run, call, round.number) for call in round.calls if not call.approves]


async def _run(run: Run, running: Sequence[RunningCall]) -> None:
    """Runs all of *running*, as many at a time as the limits allow, and shows each as it ends.

    :raises GatewayError: a guard has refused one of them.
    """
    places = anyio.Semaphore(max(1, run.job.setup.limits.tool_parallel))
    refusal: GatewayError | None = None
    async with anyio.create_task_group() as group:
        try:
            for one in running:
                one.call.start()
                group.start_soon(one.execute, places)
            await run.flush()
            for one in running:
                await one.over.wait()
                refusal = one.refusal
                if refusal is not None:
                    break
                _finish(run, one)
                await run.flush()
        finally:
            for one in running:
                one.abandon()
    if refusal is not None:  # out here: a group would wrap it
        raise refusal


class RunningCall:
    """One call of the host's function. *given* are its arguments, checked; *returned* is what the function gave back,
    or *failure* what may be said of that."""

    def __init__(self, run: Run, call: HostedCall, shown: Shown, given: Json) -> None:
        self.run = run
        self.call = call
        self.shown = shown
        self.given = given
        self.over = anyio.Event()
        self.scope = anyio.CancelScope(shield=True)
        """Whoever waits for it cancels this: a task that is cancelled with its group leaves a ring of references."""
        self.is_abandoned = False
        self.returned: Any = None
        self.failure: str | None = None
        self.refusal: GatewayError | None = None
        """Why a guard of the host's has refused the result."""
        self.outcome: OutcomeOf = "completed"
        self.detail: str | None = None
        self.seconds = 0.0
        self.partials = 0

    async def execute(self, places: anyio.Semaphore) -> None:
        """Calls it, within its time. Raises nothing of what the host's function does."""
        with self.scope:
            async with places:
                await self._timed()
        if self.is_abandoned:
            return
        if self.scope.cancelled_caught:
            self._fails(LATE, "timeout")
        self.over.set()

    def abandon(self) -> None:
        """Ends it where it stands, without a result, if it has none."""
        self.is_abandoned = not self.over.is_set()
        self.scope.cancel()

    async def _timed(self) -> None:
        limits, started = self.run.job.setup.limits, clock()
        seconds = max(0.0, min(self.run.job.setup.timeouts.tool, self.run.until - started))
        self.scope.deadline = anyio.current_time() + seconds
        try:
            try:
                returned = await self._result_of_host(started + seconds)
            except ToolError as error:
                text = await passed(self.run.job, self.shown, str(error))
                return self._fails(cut(text, limits.tool_result), "failed")
            self.returned = bounded(await passed(self.run.job, self.shown, returned), limits)
        except ToolError as error:
            self._fails(cut(str(error), limits.tool_result), "failed")
        except (ContentBlocked, GuardUnavailable) as error:
            self.refusal = error
        except Exception as error:  # the host's own: its text is not for model and client
            self._fails(FAILED, "failed", f"{type(error).__name__}: {error}")
        finally:
            self.seconds = clock() - started

    async def _result_of_host(self, deadline: float) -> Any:
        shown, begun, run = self.shown, self.call.begun, self.run
        assert begun is not None and self.call.id is not None
        host_call = Call(
            tool=begun.tool,
            arguments=self.given,
            request=run.job.request,
            response_id=run.id,
            item_id=self.call.id,
            deadline=deadline,
            container_id=begun.container_id,
            on_partial=self._partial if self._wanted() and run.outlet is not None else None,
        )
        if shown.listed is not None:
            return await run.sessions.by_label[shown.label].call_tool(shown.listed.name, self.given, host_call)
        return await called(run.toolbox.hosts[shown.family.name].function, host_call)

    def _wanted(self) -> int:
        """How many images that are not finished the client wants to see."""
        wanted = self.shown.tool.get("partial_images")
        is_image = self.shown.family.name == "image_generation"
        return wanted if is_image and isinstance(wanted, int) else 0

    async def _partial(self, data: bytes) -> None:
        too_large = len(data) > self.run.job.setup.limits.event // 2
        if self.partials < self._wanted() and not too_large:
            self.call.add_partial(base64.b64encode(data).decode("ascii"))
            self.partials += 1
            await self.run.flush()

    def ended(self, call_input: CallInput) -> CallResult:
        """What has come of it.

        :raises Exception: the host's function has given what it cannot give.
        """
        if self.failure is None:
            return self.shown.family.completed(call_input, self.returned)
        result = self.shown.family.failed(call_input, self.failure)
        if self.outcome == "timeout" and self.shown.listed is not None:
            return replace(result, members={**result.members, "error": unreachable(LATE_CODE, self.failure)})
        return result

    def _fails(self, text: str, outcome: OutcomeOf, detail: str | None = None) -> None:
        self.failure, self.outcome, self.detail = text, outcome, detail


def _prepared(run: Run, call: HostedCall, shown: Shown) -> RunningCall | None:
    """Returns *call* ready to be run; None where it is answered without running it."""
    arguments: Json | None = _read(call.arguments or "{}", dict)  # nothing means no arguments
    refusal = BROKEN if arguments is None else run.call_limits.refusal(shown, call.arguments)
    given: Json = {}
    try:
        given = shown.family.read(arguments or {}) if refusal is None else {}
    except InvalidRequest as error:
        refusal = f"Not run: {error.message}"
    if refusal is None:
        given = given if shown.listed is None else mended(given, shown.listed.input_schema)
        return RunningCall(run, call, shown, given)
    run.call_limits.give_back()
    call.start()
    result = shown.family.failed(run.rewriter.call_input(call, arguments or {}, run.included), refusal)
    run.rewriter.finished(call, result)
    _observe(run, call, shown, "refused", 0.0, refusal)
    return None


def _finish(run: Run, one: RunningCall) -> None:
    """Writes the result of *one* for the client, and keeps it for the model."""
    call, shown = one.call, one.shown
    call_input = run.rewriter.call_input(call, one.given, run.included)
    try:
        result = one.ended(call_input)
    except Exception as error:  # the host's function has given what it cannot give
        one.outcome, one.detail = "failed", f"{type(error).__name__}: {error}"
        result = shown.family.failed(call_input, FAILED)
    text, members = sound(run.call_limits.fit(result.text)), sound(result.members)
    if isinstance(members.get("output"), str):
        members["output"] = text
    result = replace(result, text=text, members=members)
    failed = result.status == "failed"
    reported = one.returned.error if isinstance(one.returned, Outcome) else None
    if reported is not None and reported.get("code") == LATE_CODE:
        one.outcome = "timeout"
    run.call_limits.ended(shown, failed=failed)
    run.rewriter.finished(call, result)
    outcome: OutcomeOf = "failed" if failed and one.outcome == "completed" else one.outcome
    _observe(run, call, shown, outcome, one.seconds, result.text, one.detail)


def _output(run: Run, call: HostedCall, number: int) -> Json:
    """What the model reads of *call*, and will in later turns."""
    text = call.answer if call.answer is not None else call.result.text if call.result is not None else FAILED
    images = [one for one in call.result.images if one.format != "svg"] if call.result is not None else []
    urls = [data_url(one) for one in images]
    if call.id is not None:
        # An image that was drawn is in the item itself.
        drawn = call.shown is not None and call.shown.family.name == "image_generation"
        kept = () if drawn else run.call_limits.images_to_keep(urls)
        run.remembered[call.id] = Remembered(call.name, call.arguments, text, max(number, 0), call.call_id, images=kept)
    output = output_of(text, urls if run.plans[0].upstream.sees else ())
    return {"type": "function_call_output", "call_id": call.call_id, "output": output}


def _observe(
    run: Run,
    call: HostedCall,
    shown: Shown,
    outcome: OutcomeOf,
    seconds: float,
    text: str,
    detail: str | None = None,
) -> None:
    trace = run.job.trace
    if trace is None:
        return
    record = ToolCalled(
        trace.context,
        tool=shown.family.name,
        label=clean(shown.label) or None,
        name=clean(shown.called) or "",
        seconds=seconds,
        outcome=outcome,
        bytes_in=len(call.arguments.encode("utf-8", "surrogatepass")),
        bytes_out=len(text.encode("utf-8", "surrogatepass")),
        detail=None if detail is None else run.redacted(detail),
    )
    trace.observers.notify(record)


def _read(text: str, kind: type) -> Any:
    """Returns *text*, of JSON, as a value; None where it is not of this *kind*."""
    try:
        value = tree(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, kind) else None


def mended(arguments: Json, schema: Json) -> Json:
    """*arguments* with those members that *schema* says are objects or lists, and that a model has written as text of
    such (Gemini does), as what they are."""
    properties = schema.get("properties")
    return {
        name: _mended(value, properties.get(name)) if isinstance(value, str) and isinstance(properties, dict) else value
        for name, value in arguments.items()
    }


def _mended(text: str, schema: Any) -> Any:
    kind = {"object": dict, "array": list}.get(str(schema.get("type"))) if isinstance(schema, dict) else None
    value = None if kind is None else _read(text, kind)
    return text if value is None else value
