"""A reply that is held whole waits for its verdict until the gate; behind it the client is kept while reads go on."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from gomodel_asgi import Timeouts
from gomodel_asgi.errors import ContentBlocked
from gomodel_asgi.guards import Block, Guard, Texts
from gomodel_asgi.testing import Answer, Scripted, Stall

from ..support.driving import Caller, encoded, scope_of
from ..support.lab import Lab, fakes, kind, lab, until

__all__ = ["anyio_backend", "fakes", "kind", "lab"]
from ..support.lab import anyio_backend

ASK = {"model": "m", "input": "Hello", "stream": True}
QUICK = Timeouts(gate=0.01, heartbeat=0.02)


async def pass_all(given: Texts) -> None:
    return None


async def block_all(given: Texts) -> Block:
    return Block("No.")


async def test_the_status_and_heartbeats_come_while_the_upstream_is_silent_behind_the_gate(lab: Lab) -> None:
    lab.make(guards=[Guard("all", output=pass_all)], timeouts=QUICK)
    lab.bad.script(Scripted(Answer(text="a long answer indeed"), (Stall(after_events=5),)))
    caller = Caller(scope_of(), [encoded(ASK)])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller.run, lab.gateway)
        await until(lambda: caller.content.count(b": heartbeat\n\n") >= 2)
        assert caller.status == 200 and b"output_text.delta" not in caller.content
        await lab.release(lambda: caller.complete)
    events = caller.events()
    assert [event["type"] for event in events][:2] == ["response.created", "response.in_progress"]
    assert events[-1]["type"] == "response.completed"
    assert [event["sequence_number"] for event in events] == [*range(len(events))]
    said = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert said == "a long answer indeed"


async def test_a_block_behind_the_gate_ends_the_response_as_incomplete(lab: Lab) -> None:
    lab.make(guards=[Guard("all", output=block_all)], timeouts=QUICK)
    lab.bad.script(Scripted(Answer(text="a long answer indeed"), (Stall(after_events=4),)))
    caller = Caller(scope_of(), [encoded(ASK)])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller.run, lab.gateway)
        await until(lambda: caller.messages and b"response.created" in caller.content)
        await lab.release(lambda: caller.complete)
    last = caller.events()[-1]
    assert last["type"] == "response.incomplete" and last["response"]["output"] == []
    assert last["response"]["incomplete_details"] == {"reason": "content_filter"}


async def test_a_block_before_the_gate_is_an_answer_of_its_own(lab: Lab) -> None:
    lab.make(guards=[Guard("all", output=block_all)])
    answer = await lab.ask(ASK)
    assert answer.status == 400 and answer.error["code"] == "content_blocked"


@pytest.mark.parametrize("gate", [0.01, 15.0])
@pytest.mark.parametrize("held", [True, False])
async def test_a_client_that_leaves_while_a_reply_is_held_ends_all_that_reads_it(
    lab: Lab, gate: float, held: bool
) -> None:
    """Before the gate and behind it, while the upstream or the guard is waited for."""
    asked = anyio.Event()

    async def endless(given: Texts) -> None:
        asked.set()
        await anyio.sleep_forever()

    output: Any = pass_all if held else endless
    lab.make(guards=[Guard("all", output=output, timeout=100)], timeouts=Timeouts(gate=gate))
    lab.bad.script(Scripted(Answer(text="a long answer indeed"), (Stall(after_events=5),) if held else ()))
    caller = Caller(scope_of(), [encoded(ASK)])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller.run, lab.gateway)
        if held:
            await until(lambda: len(lab.bad.requests) > 0)
        else:
            await asked.wait()
        caller.leave()


async def test_a_drain_ends_a_held_stream_in_band_with_nothing_that_was_held(lab: Lab) -> None:
    lab.make(guards=[Guard("all", output=pass_all)], timeouts=Timeouts(gate=0.01, drain=0.01))
    lab.bad.script(Scripted(Answer(text="a long answer indeed"), (Stall(after_events=9),)))
    caller = Caller(scope_of(), [encoded(ASK)])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller.run, lab.gateway)
        await until(lambda: caller.messages and b"response.created" in caller.content)
        await lab.gateway.drain()
    kinds = [event["type"] for event in caller.events()]
    assert kinds[-2:] == ["error", "response.failed"] and "response.output_text.delta" not in kinds
    assert caller.events()[-1]["response"]["output"] == []


def test_a_refusal_is_no_failure_of_an_upstream() -> None:
    assert ContentBlocked("no").should_retry is False
