"""A gateway that was made, or even used, before its process forked: each child serves as if it were alone.

Row 6 of what a host may do. What a fork copies is one state in several processes: sockets, random numbers, locks,
whatever belongs to an event loop.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..support.raw_client import Answer, call, post
from ..support.scripted_upstream import Peer, Upstream, reply

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

CHILDREN = 3
REQUESTS = 5
UNARY = b'{"model": "m", "input": "hi"}'


def numbered(peer: Peer) -> None:
    """Answer every request in the Chat API with the number of its connection."""
    while peer.request() is not None:
        message = {"role": "assistant", "content": str(peer.number)}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        completion = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        peer.send(reply(json.dumps(completion).encode(), b"content-type: application/json"))


def connection_of(response: Any) -> int:
    """The connection to the upstream on which a response came."""
    return int(response["output"][0]["content"][0]["text"])


@dataclass
class Host:
    """A host that has forked: *origins* are its children's, *before* what the parent was answered before that."""

    process: subprocess.Popen[str]
    origins: list[str]
    before: list[Any]

    def parent(self) -> Any:
        """What the parent is answered now."""
        assert self.process.stdin is not None
        self.process.stdin.write("once more\n")
        self.process.stdin.flush()
        return self.told()

    def told(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def children(self) -> list[list[Answer]]:
        """What each child answers to several requests, the children by turns."""
        rounds = [[post(origin, UNARY) for origin in self.origins] for _ in range(REQUESTS)]
        return [list(answers) for answers in zip(*rounds, strict=True)]


@contextmanager
def forked(upstream: Upstream, loop: str, uses: int) -> Iterator[Host]:
    command = [sys.executable, "-m", "tests.support.forking_host", f"http://127.0.0.1:{upstream.port}/v1"]
    with subprocess.Popen(
        [*command, str(CHILDREN), loop, str(uses)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        host = Host(process, [], [])
        told = host.told()
        host.origins = [f"http://127.0.0.1:{port}" for port in told["ports"]]
        host.before = told["answers"]
        yield host


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=[0, 2], ids=["made before", "used before"])
def host(request: pytest.FixtureRequest, loop: str) -> Iterator[Host]:
    """One for all tests: what they ask leaves each as it was."""
    upstream = Upstream(numbered)
    try:
        with forked(upstream, loop, request.param) as running:
            yield running
    finally:
        upstream.close()


def test_every_child_answers_with_ids_of_its_own(host: Host) -> None:
    answers = [answer for child in host.children() for answer in child]

    assert {answer.status for answer in answers} == {200}
    assert len({answer.headers["x-request-id"] for answer in answers}) == CHILDREN * REQUESTS
    responses = [answer.json()["id"] for answer in answers] + [response["id"] for response in host.before]
    assert len(set(responses)) == CHILDREN * REQUESTS + len(host.before)


def test_no_connection_to_an_upstream_is_shared_between_processes(host: Host) -> None:
    parents = {connection_of(response) for response in host.before}

    children = [{connection_of(answer.json()) for answer in child} for child in host.children()]
    again = connection_of(host.parent())

    everybodys = [*children, parents | {again}]
    assert len(set().union(*everybodys)) == sum(map(len, everybodys))


def test_what_one_child_keeps_the_others_do_not_have(host: Host) -> None:
    id = post(host.origins[0], UNARY).json()["id"]

    found = [call(origin, "GET", f"/v1/responses/{id}").status for origin in host.origins]

    assert found == [200, 404, 404]
