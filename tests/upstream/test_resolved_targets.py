"""What is put together once for many requests holds nothing of any one of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from gomodel_asgi import Gateway, RoutingRequest, Target
from gomodel_asgi.dialects.base import Call, Outgoing
from gomodel_asgi.dialects.chat import ChatDialect
from gomodel_asgi.observers import Completed, Record
from gomodel_asgi.transport import Transport, UpstreamReply, UpstreamRequest
from gomodel_asgi.upstream.upstream_request import MOST_CANDIDATES, MOST_FORMS

from ..support.driving import JSON
from ..support.lab import KINDS, Lab, anyio_backend, fakes, kind, lab

__all__ = ["anyio_backend", "fakes", "kind", "lab"]

BODY = {"model": "gpt-5", "input": "hi"}


@pytest.mark.parametrize(
    ("name", "value"),
    [(b"openai-beta", b"canary=v1"), (b"idempotency-key", b"canary"), (b"x-forwarded-for-us", b"canary")],
)
async def test_a_header_of_one_client_is_not_sent_for_the_next(lab: Lab, name: bytes, value: bytes) -> None:
    lab.make(lab.provider(lab.bad, forward_headers=["x-forwarded-for-us"]))

    for given in ([], [(name, value)], []):
        await lab.ask(BODY, headers=[JSON, *given])

    sent = [request.header(name.decode()) for request in lab.bad.requests]
    assert [one is not None for one in sent] == [False, True, False]


async def test_the_query_of_one_client_is_not_sent_for_the_next(lab: Lab) -> None:
    lab.make()

    for query in (b"", b"canary=1", b""):
        await lab.ask(BODY, query=query)

    assert [request.query for request in lab.bad.requests] == [b"", b"canary=1", b""]


async def test_the_key_headers_and_params_of_one_target_are_not_used_for_the_next(lab: Lab) -> None:
    own = Target("bad", api_key="sk-canary-of-a-tenant", headers={"x-own": "canary"}, params={"user": "canary"})
    lab.make(policy=lambda request: own if request.metadata else Target("bad"))

    for body in (BODY, BODY | {"metadata": {"own": "yes"}}, BODY):
        await lab.ask(body)

    assert ["canary-of-a-tenant" in request for request in lab.bad.requests] == [False, True, False]
    assert [request.header("x-own") for request in lab.bad.requests] == [None, "canary", None]
    assert [request.json().get("user") for request in lab.bad.requests] == [None, "canary", None]


async def test_params_and_labels_of_one_target_are_not_those_of_the_next(lab: Lab) -> None:
    targets = [Target("bad", params={"user": "canary"}, labels={"team": "one"}), Target("bad")]
    gateway = lab.make(policy=lambda request: targets.pop(0))
    labels = []
    for _ in range(2):
        async with await gateway.respond(BODY) as reply:
            labels.append(dict(reply.labels))

    assert [request.json().get("user") for request in lab.bad.requests] == ["canary", None]
    assert labels == [{"team": "one"}, {}]


async def test_labels_are_those_of_the_request_s_own_target(lab: Lab) -> None:
    seen: list[Any] = []

    def observe(record: Record) -> None:
        if isinstance(record, Completed):
            seen.append(record.labels.get("team"))

    lab.make(policy=lambda request: Target("bad", labels={"team": request.metadata["team"]}), observers=[observe])
    for team in ("one", "two"):
        await lab.ask(BODY | {"metadata": {"team": team}})

    assert seen == ["one", "two"]


async def test_a_stream_and_a_whole_reply_are_asked_for_each_in_its_way(lab: Lab) -> None:
    lab.make()

    for stream in (False, True, False):
        await lab.ask(BODY | {"stream": stream})

    accepted = [request.header("accept") for request in lab.bad.requests]
    assert accepted == ["application/json", "text/event-stream", "application/json"]


async def test_after_a_reload_a_name_means_the_new_provider(lab: Lab) -> None:
    lab.make()
    await lab.ask(BODY)
    lab.gateway.reload(providers=[lab.provider(lab.good, api_key="sk-new")])
    await lab.ask(BODY)

    assert (len(lab.bad.requests), len(lab.good.requests)) == (1, 1)
    assert lab.good.requests[0].header("authorization") == "Bearer sk-new"


async def test_what_a_transport_adds_to_a_request_is_not_in_the_next(lab: Lab) -> None:
    class Marking:
        """A transport of the host's that marks each request in place."""

        def __init__(self, within: Transport) -> None:
            self.within = within
            self.count = 0

        async def open(self, request: UpstreamRequest) -> UpstreamReply:
            self.count += 1
            request.headers.append((b"x-mark", b"%d" % self.count))
            return await self.within.open(request)

        async def aclose(self) -> None:
            await self.within.aclose()

    lab.transport = Marking(lab.transport)
    lab.make()
    for _ in range(3):
        await lab.ask(BODY)

    assert [request.values("x-mark") for request in lab.bad.requests] == [["1"], ["2"], ["3"]]


async def test_models_that_clients_invent_do_not_pile_up(lab: Lab) -> None:
    async def refuse(request: RoutingRequest) -> Target:
        return Target("bad", params={"input": None})

    gateway: Gateway = lab.make(policy=refuse)
    known = gateway.setup.candidates
    template = None
    for number in range(3):
        await lab.ask(BODY | {"model": f"m{number}"})
        template = known["bad", f"m{number}"]
    assert template is not None
    known.update({("bad", f"invented-{number}"): template for number in range(MOST_CANDIDATES)})
    await lab.ask(BODY | {"model": "one-more"})

    assert len(known) == 1


@pytest.mark.parametrize("kind", KINDS[:1], indirect=True, ids=["http11"])
async def test_a_dialect_that_asks_for_another_place_each_time_leaves_no_more_than_so_many_forms(lab: Lab) -> None:
    class Moving(ChatDialect):
        """A dialect of the host's, with a number in each query."""

        numbers = count()

        def request(self, call: Call) -> Outgoing:
            return replace(super().request(call), query=f"number={next(self.numbers)}")

    lab.make(lab.provider(lab.bad, dialect=Moving()))
    asked = MOST_FORMS + 3
    for _ in range(asked):
        await lab.ask(BODY)

    assert [request.query for request in lab.bad.requests] == [b"number=%d" % number for number in range(asked)]
    assert len(lab.gateway.setup.candidates["bad", BODY["model"]].forms) == MOST_FORMS
