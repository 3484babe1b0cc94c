"""Compaction items: sealed or kept for one tenant, and nothing to anybody else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import string
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, strategies as st

from gomodel_asgi import Gateway, Limits, Target
from gomodel_asgi.emulation.compaction import Compactor
from gomodel_asgi.history.compaction_item import KEPT, SEALED, is_ours, items_in, opened, sealed
from gomodel_asgi.history.quota import Quotas
from gomodel_asgi.history.records import COMPACTIONS, Records
from gomodel_asgi.stores import MemoryStore, NoStore, RedisStore, Store
from gomodel_asgi.testing import Answer, FakeProvider
from tests.emulation.test_context_management import LONG, MANAGED, gateway_of
from tests.support.databases import RedisServer
from tests.support.driving import Caller, ask
from tests.support.engines import Open
from tests.support.tenants import of, tenant

Json = dict[str, Any]

AEAD = AESGCM(bytes(range(32)))
OWNER = b"acme"
ALPHABET = string.ascii_letters + string.digits + "-_/= \u00e9"
SECRET = "of sixteen bytes or more"
PATH = "/v1/responses/compact"
QUESTION = {"type": "message", "role": "user", "content": "The word?"}
ITEMS: list[Json] = [{"type": "message", "role": "user", "content": "The word is heron."}]

without_cipher = pytest.mark.usefixtures("no_cipher")


@pytest.fixture
def no_cipher(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra `encryption` is not installed."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)


@pytest.fixture(params=["sealed", "kept"])
def form(request: pytest.FixtureRequest) -> str:
    """Whether items are sealed, or kept since the extra `encryption` is not installed."""
    if request.param == "kept":
        request.getfixturevalue("no_cipher")
    return SEALED if request.param == "sealed" else KEPT


@pytest.fixture
def upstream() -> Iterator[FakeProvider]:
    with FakeProvider(dialect="chat").run_in_thread() as fake:
        yield fake


def compactor_of(store: Store, bytes: int | None = None) -> Compactor:
    records = Records(store)
    return Compactor(records, Quotas(records, None, bytes))


async def open_with(compactor: Compactor, tenant: str | None, item: Json) -> list[Json] | None:
    text = await compactor.opened(tenant, item["encrypted_content"])
    return None if text is None else items_in(text)


def of_old_cipher(secret: bytes, text: bytes) -> str:
    """An item of the first format, well made."""
    keys, nonce = hashlib.sha512(secret).digest(), bytes(16)
    stream = hashlib.shake_256(keys[:32] + nonce).digest(len(text))
    signed = nonce + bytes(one ^ other for one, other in zip(text, stream, strict=True))
    return "gmc1." + base64.urlsafe_b64encode(signed + hmac.digest(keys[32:], signed, "sha256")).decode()


# One text, sealed...


@given(st.binary())
def test_what_is_sealed_opens_again(text: bytes) -> None:
    assert opened(AEAD, OWNER, sealed(AEAD, OWNER, text)) == text


@given(st.binary(max_size=200))
def test_what_was_not_sealed_does_not_open(rubbish: bytes) -> None:
    assert opened(AEAD, OWNER, SEALED + base64.urlsafe_b64encode(rubbish).decode()) is None
    assert opened(AEAD, OWNER, SEALED + rubbish.decode("latin-1")) is None


def test_a_change_of_any_byte_or_character_is_noticed() -> None:
    content = sealed(AEAD, OWNER, b"The word is heron. ")
    packed = base64.urlsafe_b64decode(content[len(SEALED) :])
    assert content.endswith("=")  # so that some bits of the last character mean nothing
    for place in range(len(packed)):
        changed = packed[:place] + bytes([packed[place] ^ 1]) + packed[place + 1 :]
        assert opened(AEAD, OWNER, SEALED + base64.urlsafe_b64encode(changed).decode()) is None
        assert opened(AEAD, OWNER, SEALED + base64.urlsafe_b64encode(packed[:place]).decode()) is None
    for place in range(len(SEALED), len(content)):
        for letter in ALPHABET:
            changed_text = content[:place] + letter + content[place + 1 :]
            assert changed_text == content or opened(AEAD, OWNER, changed_text) is None


def test_two_items_of_the_same_text_differ_and_show_nothing_of_it() -> None:
    first, second = sealed(AEAD, OWNER, b"heron" * 20), sealed(AEAD, OWNER, b"heron" * 20)

    assert first != second
    assert b"heron" not in base64.urlsafe_b64decode(first[len(SEALED) :])


def test_the_tenant_is_authenticated_with_the_text() -> None:
    assert opened(AEAD, b"other", sealed(AEAD, OWNER, b"heron")) is None


# Whose it is...


async def test_an_item_opens_for_its_tenant_and_for_nobody_else(form: str) -> None:
    compactor = compactor_of(MemoryStore())
    item = await compactor.item("acme", ITEMS)

    assert item["encrypted_content"].startswith(form) and "heron" not in str(item)
    assert await open_with(compactor, "acme", item) == ITEMS
    for stranger in ("other", None, "None", ""):
        assert await open_with(compactor, stranger, item) is None


async def test_every_store_keeps_or_seals_what_another_worker_opens(open_store: Open, form: str) -> None:
    first, second = open_store(), open_store()
    item = await compactor_of(first).item("acme", ITEMS)

    assert await open_with(compactor_of(second), "acme", item) == ITEMS
    assert await open_with(compactor_of(second), "other", item) is None
    await first.aclose()
    await second.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_under_a_secret_that_everybody_knows_nothing_is_sealed(redis_server: RedisServer) -> None:
    stores = [RedisStore(redis_server.url, namespace="secrets", secret=secret) for secret in (None, SECRET, "x" * 16)]
    compactors = [compactor_of(store) for store in stores]
    kept, mine = await compactors[0].item(None, ITEMS), await compactors[1].item(None, ITEMS)

    assert kept["encrypted_content"].startswith(KEPT) and mine["encrypted_content"].startswith(SEALED)
    assert [await open_with(one, None, mine) for one in compactors] == [None, ITEMS, None]
    for store in stores:
        await store.aclose()


async def test_what_is_sealed_needs_no_store_and_what_is_kept_is_random_and_nowhere_in_the_item(form: str) -> None:
    store = MemoryStore()
    compactor = compactor_of(store)
    items = [await compactor.item("acme", ITEMS) for _ in range(3)]
    held = [key async for key in store.scan(COMPACTIONS)]

    assert len({item["encrypted_content"] for item in items}) == 3
    assert len(held) == (3 if form == KEPT else 0)
    for item in items:
        assert item["id"].removeprefix("cmp_") not in item["encrypted_content"]


async def test_without_a_store_the_key_is_this_process_own() -> None:
    first, second = compactor_of(NoStore()), compactor_of(NoStore())
    item = await first.item(None, ITEMS)

    assert await open_with(first, None, item) == ITEMS
    assert await open_with(second, None, item) is None


async def test_a_worker_without_the_cipher_opens_what_is_kept_and_not_what_is_sealed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore()
    item = await compactor_of(store).item("acme", ITEMS)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    kept = await compactor_of(store).item("acme", ITEMS)

    assert await open_with(compactor_of(store), "acme", item) is None
    monkeypatch.undo()
    assert await open_with(compactor_of(store), "acme", kept) == ITEMS


def test_compactions_of_others_are_left_alone() -> None:
    assert not is_ours({"type": "compaction", "encrypted_content": "gAAAA"})


# What is kept...


@without_cipher
async def test_a_kept_text_lives_as_long_as_its_store_says() -> None:
    now = 0.0
    compactor = compactor_of(MemoryStore(ttl=60, clock=lambda: now))
    item = await compactor.item("acme", ITEMS)

    now = 59.0
    assert await open_with(compactor, "acme", item) == ITEMS
    now = 61.0
    assert await open_with(compactor, "acme", item) is None


@without_cipher
async def test_a_kept_text_counts_in_its_tenants_quota_and_the_oldest_makes_room(open_atomic: Open) -> None:
    store = open_atomic()
    compactor = compactor_of(store, bytes=150)
    items = [await compactor.item("acme", ITEMS) for _ in range(3)]
    other = await compactor.item("other", ITEMS)

    assert [await open_with(compactor, "acme", item) for item in items] == [None, ITEMS, ITEMS]
    assert await open_with(compactor, "other", other) == ITEMS
    await store.aclose()


@without_cipher
async def test_a_kept_text_is_forgotten_with_its_tenant(upstream: FakeProvider) -> None:
    async with gateway(upstream) as one:
        item = (await compacted(one, "acme")).json()["output"][0]
        assert await one.forget("acme") > 0
        refused = await say(one, [item])

    assert (refused.status, refused.error["code"]) == (400, "invalid_encrypted_content")


# Through the gateway...


@asynccontextmanager
async def gateway(upstream: FakeProvider, **options: Any) -> AsyncIterator[Gateway]:
    made = gateway_of(upstream, "chat", tenant=tenant, **options)
    async with made:
        yield made


async def compacted(gateway: Gateway, whose: str = "acme", **body: Any) -> Caller:
    return await ask(gateway, {"model": "m", "input": LONG, **body}, path=PATH, headers=of(whose))


async def say(gateway: Gateway, input: Any, whose: str = "acme", **body: Any) -> Caller:
    return await ask(gateway, {"model": "m", "input": input, **body}, headers=of(whose))


def last_told(upstream: FakeProvider) -> str:
    return json.dumps(upstream.requests[-1].json())


async def test_the_next_turn_is_told_what_the_item_stands_for(upstream: FakeProvider, form: str) -> None:
    upstream.script(Answer(text="They spoke of a heron."), Answer(text="Heron."))
    async with gateway(upstream) as one:
        answer = (await compacted(one)).json()
        assert answer["output"][0]["encrypted_content"].startswith(form)
        assert (await say(one, [*answer["output"], {"role": "user", "content": "The word?"}])).status == 200

    assert "They spoke of a heron." in last_told(upstream)


async def test_a_foreign_item_is_answered_as_rubbish_is(upstream: FakeProvider, form: str) -> None:
    async with gateway(upstream) as one:
        theirs = (await compacted(one, "other")).json()["output"][0]["encrypted_content"]
        asked = len(upstream.requests)
        answers = []
        old = of_old_cipher(one.store.secret, b"[]")
        for content in (theirs, form + "AAAA", form + "0" * 48, old, "gmc1.", form):
            caller = await say(one, [{"type": "compaction", "id": "cmp_1", "encrypted_content": content}])
            answers.append((caller.status, caller.json()))

    assert all(answer == answers[0] for answer in answers)
    assert (answers[0][0], answers[0][1]["error"]["code"]) == (400, "invalid_encrypted_content")
    assert "compact that again" in answers[0][1]["error"]["message"]
    assert len(upstream.requests) == asked


async def test_a_context_past_its_threshold_is_compacted_in_the_same_form(upstream: FakeProvider, form: str) -> None:
    upstream.script(Answer(text="They spoke of a heron."), Answer(text="Heron."), Answer(text="Yes."))
    said = [{"role": "user", "content": LONG}, {"role": "assistant", "content": "So it is."}]
    async with gateway(upstream) as one:
        asked = [*said, {"role": "user", "content": "The word?"}]
        first = (await say(one, asked, context_management=MANAGED)).json()
        assert first["output"][0]["encrypted_content"].startswith(form)
        assert (await say(one, "Sure?", previous_response_id=first["id"])).status == 200

    assert "They spoke of a heron." in last_told(upstream) and LONG not in last_told(upstream)


async def test_an_item_that_is_only_referred_to_is_opened_too(upstream: FakeProvider, form: str) -> None:
    upstream.script(Answer(text="They spoke of a heron."), Answer(text="Heron."), Answer(text="Yes."))
    async with gateway(upstream) as one:
        content = (await compacted(one)).json()["output"][0]["encrypted_content"]
        assert content.startswith(form)
        first = (await say(one, [{"type": "compaction", "encrypted_content": content}, QUESTION])).json()
        path = f"/v1/responses/{first['id']}/input_items"
        listed = (await ask(one, path=path, query=b"order=asc", method="GET", headers=of("acme"))).json()["data"]
        assert listed[0]["type"] == "compaction"
        reference = {"type": "item_reference", "id": listed[0]["id"]}
        assert (await say(one, [reference, QUESTION])).status == 200

    assert "They spoke of a heron." in last_told(upstream)


@without_cipher
async def test_a_history_whose_kept_text_is_gone_goes_on_from_what_was_said(upstream: FakeProvider) -> None:
    upstream.script(Answer(text="They spoke of a heron."), Answer(text="Heron."), Answer(text="Yes."))
    said = [{"role": "user", "content": LONG}, {"role": "assistant", "content": "So it is."}]
    async with gateway(upstream) as one:
        asked = [*said, {"role": "user", "content": "The word?"}]
        first = (await say(one, asked, context_management=MANAGED)).json()
        for key in [key async for key in one.store.scan(COMPACTIONS)]:
            await one.store.delete(COMPACTIONS, key)
        assert (await say(one, "Sure?", previous_response_id=first["id"])).status == 200

    assert LONG.strip() in last_told(upstream)


@without_cipher
@pytest.mark.parametrize("why", ["no store", "store: false", "params"])
async def test_what_can_be_neither_sealed_nor_kept_is_501_and_nothing_is_spent(
    upstream: FakeProvider, why: str
) -> None:
    options: Json = {"store": NoStore()} if why == "no store" else {}
    if why == "params":
        options["policy"] = lambda request: Target("up", params={"store": False})
    body: Json = {"store": False} if why == "store: false" else {}
    said = [{"role": "user", "content": LONG}, {"role": "assistant", "content": "So it is."}]
    async with gateway(upstream, **options) as one:
        answers = [
            await compacted(one, **body),
            await say(one, [*said, {"role": "user", "content": "?"}], context_management=MANAGED, **body),
        ]

    for answer in answers:
        assert (answer.status, answer.error["code"]) == (501, "unsupported_response_operation")
    assert not upstream.requests


async def test_without_a_store_what_is_sealed_goes_round(upstream: FakeProvider) -> None:
    upstream.script(Answer(text="They spoke of a heron."))
    async with gateway(upstream, store=NoStore()) as one:
        items = (await compacted(one)).json()["output"]
        assert (await say(one, [*items, {"role": "user", "content": "The word?"}])).status == 200

    assert "They spoke of a heron." in last_told(upstream)


@without_cipher
async def test_a_text_larger_than_the_quota_is_refused(upstream: FakeProvider) -> None:
    upstream.script(Answer(text=LONG))
    async with gateway(upstream, limits=Limits(tenant_bytes=100)) as one:
        refused = await compacted(one)

    assert (refused.status, refused.error["code"]) == (400, "quota_exceeded")


@without_cipher
async def test_small_items_cannot_stand_for_more_than_a_body_may_hold(upstream: FakeProvider) -> None:
    upstream.script(Answer(text=LONG))
    async with gateway(upstream, limits=Limits(body=10_000)) as one:
        item = (await compacted(one)).json()["output"][0]
        once, often = await say(one, [item]), await say(one, [item] * 3)

    assert once.status == 200
    assert (often.status, often.error["code"]) == (413, "request_too_large")


SUBPROCESS = """
import sys
sys.modules["cryptography"] = None
import anyio
from gomodel_asgi.emulation.compaction import Compactor
from gomodel_asgi.history.quota import Quotas
from gomodel_asgi.history.records import Records
from gomodel_asgi.stores import MemoryStore
async def main():
    records = Records(MemoryStore())
    compactor = Compactor(records, Quotas(records, None, None))
    item = await compactor.item("acme", [{"said": "heron"}])
    print(item["encrypted_content"][:5], await compactor.opened("acme", item["encrypted_content"]))
anyio.run(main)
"""


def test_a_process_that_has_no_cryptography_keeps() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", SUBPROCESS], capture_output=True, text=True, timeout=60)

    assert (done.stderr, done.stdout) == ("", f"""{KEPT} b'[{{"said":"heron"}}]'\n""")
