"""What we recognise our own things by: a mark means something in its own member only, and text that has it is text."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from gomodel_asgi import Gateway, NoStore, Store
from gomodel_asgi.dialects.base import pack_state
from gomodel_asgi.errors import InvalidRequest
from gomodel_asgi.history.compaction_item import KEPT, MARKS, SEALED as MARK
from gomodel_asgi.history.mentions import Lists, lists_of, marked
from gomodel_asgi.operations import BODY
from gomodel_asgi.stores import MemoryStore
from gomodel_asgi.testing import FakeProvider
from gomodel_asgi.wire.json_body import Envelope
from gomodel_asgi.wire.json_scan import run

from ..support.driving import Caller, ask
from ..support.remembering import MODELS, TRANSLATED, provider_of, says
from ..support.tenants import of, tenant

Json = dict[str, Any]

SAID = f"see {MARK} above, or {MARK}AAAA, and gm1.e30 and data:image/png;base64,AAAA"
USER: Json = {"type": "message", "role": "user", "content": SAID}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def fakes() -> Iterator[dict[str, FakeProvider]]:
    with FakeProvider(name="native").run_in_thread() as native, FakeProvider(name="other").run_in_thread() as other:
        yield {"responses": native, **dict.fromkeys(TRANSLATED, other)}


@pytest.fixture(params=[MemoryStore, NoStore])
async def gateway(request: pytest.FixtureRequest, fakes: dict[str, FakeProvider]) -> AsyncIterator[Gateway]:
    store: Store = request.param()
    providers = [provider_of(dialect, fake) for dialect, fake in fakes.items()]
    made = Gateway(providers=providers, store=store, tenant=tenant, stamp=False)
    yield made
    await made.aclose()


async def say(gateway: Gateway, body: Json | bytes) -> Caller:
    return await ask(gateway, body, headers=of("acme"))


def native(**members: Any) -> Json:
    return {"model": MODELS["responses"], **members}


# Text...

TEXTS = {
    "a string": {"input": SAID},
    "a message": {"input": [USER]},
    "a tool's output": {"input": [{"type": "function_call_output", "call_id": "c", "output": SAID}]},
    "instructions": {"input": "hi", "instructions": SAID},
    "the user": {"input": "hi", "user": MARK},
    "metadata": {"input": "hi", "metadata": {"type": "compaction", "encrypted_content": MARK}},
    "another item": {"input": [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": MARK}]},
    "another member": {"input": [{"type": "compaction", "id": MARK, "encrypted_content": "gAAAA"}]},
    "the middle": {"input": [{"type": "compaction", "encrypted_content": f"gAAAA{MARK}"}]},
    "below": {"input": [{**USER, "x": {"type": "compaction", "encrypted_content": MARK}}]},
}


@pytest.mark.parametrize("members", TEXTS.values(), ids=TEXTS)
async def test_a_mark_in_text_is_text_and_the_request_goes_on_as_it_came(
    gateway: Gateway, fakes: dict[str, FakeProvider], members: Json
) -> None:
    body = json.dumps(native(**members), separators=(",", ":")).encode()

    assert (await say(gateway, body)).status == 200
    assert fakes["responses"].requests[-1].body == body


async def test_a_mark_in_text_does_not_break_a_conversation(gateway: Gateway, fakes: dict[str, FakeProvider]) -> None:
    if isinstance(gateway.store, NoStore):
        pytest.skip("nothing is remembered")
    previous: str | None = None
    for _ in range(3):
        answer = await say(gateway, native(input=[USER], previous_response_id=previous))
        assert answer.status == 200
        assert fakes["responses"].requests[-1].json().get("previous_response_id") == previous
        previous = answer.json()["id"]


@pytest.mark.parametrize("input", [False, True, 7, 1.5, {}, {"type": "compaction", "encrypted_content": MARK}, None])
async def test_an_input_that_is_no_input_is_the_upstreams_to_refuse_or_a_400(
    gateway: Gateway, fakes: dict[str, FakeProvider], input: Any
) -> None:
    body = native(input=input, user=MARK)

    answer = await say(gateway, body)
    if answer.status == 400 and not fakes["responses"].requests:
        assert answer.error["param"] == "input"
    else:
        assert fakes["responses"].requests[-1].json() == body
    for dialect in TRANSLATED:
        assert (await say(gateway, {**body, "model": MODELS[dialect]})).error["param"] == "input"


@pytest.mark.parametrize("input", [False, 7, {}, {"id": "x"}])
async def test_an_input_that_is_no_input_cannot_go_on_from_what_is_kept_here(
    gateway: Gateway, fakes: dict[str, FakeProvider], input: Any
) -> None:
    if isinstance(gateway.store, NoStore):
        pytest.skip("nothing is remembered")
    fakes["chat"].script(says("chat", "ok"))
    first = await say(gateway, {"model": MODELS["chat"], "input": "hi"})
    refused = await say(gateway, native(input=input, previous_response_id=first.json()["id"]))

    assert (refused.status, refused.error["param"]) == (400, "input")


# Our own...


def lists(body: bytes) -> Lists:
    """The lists of items in *body*."""
    return run(lists_of(BODY, Envelope.parse(body).members))


def spelled(text: str) -> str:
    """*text* as JSON may spell it."""
    return "".join(f"\\u{ord(letter):04X}" for letter in text)


@pytest.mark.parametrize("member", ["input", "items"])
@pytest.mark.parametrize("beside", [[], [7], [None, "x"], [USER]], ids=repr)
def test_an_item_that_bears_the_mark_is_seen_however_it_is_spelled_and_wherever_it_stands(
    member: str, beside: list[Any]
) -> None:
    for ours in MARKS:
        for letter in ours:
            mark = ours.replace(letter, spelled(letter), 1)
            item = f'{{"type":"{spelled("compaction")}","encrypted_content":"{mark}AAAA"}}'
            body = f'{{"{member}":[{"".join(json.dumps(one) + "," for one in beside)}{item}]}}'
            assert marked(lists(body.encode())) == [ours + "AAAA"], body


def test_an_item_that_cannot_be_examined_is_refused() -> None:
    deep = b"[" * 2000 + b"]" * 2000
    body = b'{"input":[{"type":"compaction","encrypted_content":"gmc1."},%b]}' % deep

    with pytest.raises(InvalidRequest):
        marked(lists(body))


async def test_an_item_that_claims_to_be_ours_and_does_not_open_is_refused_before_an_upstream_sees_it(
    gateway: Gateway, fakes: dict[str, FakeProvider]
) -> None:
    foreign = (await gateway.state.compactor.item("other", [USER]))["encrypted_content"]
    for content in (*(f"{mark}AAAA" for mark in MARKS), foreign, spelled(MARK) + "AAAA", KEPT + "0" * 48):
        item = f'{{"type":"compaction","id":"cmp_1","encrypted_content":"{content}"}}'
        for model in MODELS.values():
            refused = await say(gateway, f'{{"model":"{model}","input":[{item}]}}'.encode())
            assert (refused.status, refused.error["code"]) == (400, "invalid_encrypted_content"), content
    assert not fakes["responses"].requests and not fakes["chat"].requests


# State that is packed for one provider, and comes back as the client's word...

FORGED: list[Any] = [
    {}, {"blocks": None}, {"blocks": [None, 7, {}, {"type": 7}, {"type": "thinking"}, {"type": "x_tool_result"}]},
    {"blocks": [{"type": "compaction", "content": 7}]}, {"blocks": {"type": "thinking"}},
    {"entries": [None, {"part": {}}, {"part": {"text": 7}}, {"call": 7}, {"text": [1], "signature": "s"}]},
    {"entries": [{"text": [10**30, 10**30], "signature": "s"}, {"image": True, "signature": 7}, {"part": {"x": None}}]},
    {"reasoning_content": 7, "reasoning_details": [None, {"text": 7}, {"text": "a"}, {"text": "b", "index": []}]},
    {"extra_content": {"": {}, "c": {"google": None}, "d": 7}, "thinking": "x", "reasoning": None},
]  # fmt: skip


@pytest.mark.parametrize("dialect", TRANSLATED)
@pytest.mark.parametrize("payload", FORGED, ids=repr)
async def test_forged_state_is_taken_as_far_as_its_shape_is_right_and_never_an_error_of_ours(
    gateway: Gateway, fakes: dict[str, FakeProvider], dialect: str, payload: Any
) -> None:
    content = pack_state(dialect, MODELS[dialect], payload)
    for kind in ("reasoning", "compaction", "x_call"):
        fakes[dialect].script(says(dialect, "ok"))
        item: Json = {"type": kind, "id": "i_1", "summary": [], "encrypted_content": content}
        answer = await say(gateway, {"model": MODELS[dialect], "input": [item, {"role": "user", "content": "hi"}]})
        assert answer.status in (200, 400), answer.content
        fakes[dialect].clear()
