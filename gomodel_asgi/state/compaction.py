"""Compaction for upstreams that have none: the model sums the conversation up, and the client keeps the sum, sealed.

The `compaction` item that the client gets holds the summary in `encrypted_content`; in any later turn, to any provider,
it is opened and stands there as text. Nothing of it is stored.

    "gmc1." base64url( 16 bytes of nonce, ciphertext, 32 bytes of tag )

Each tenant has a key of its own, derived from the store's secret, so that a foreign item is damaged and nothing else.
Encrypt-then-MAC: the text is XORed with SHAKE-256 of key and nonce (FIPS 202, section 6.2, as an extendable-output
function that is read once per nonce), nonce and ciphertext are signed with HMAC-SHA-256 (RFC 2104) under another key.
With a shared store give it a `secret`: without one the keys are the same everywhere, and hide nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import time
from copy import copy
from typing import Any

import msgspec

from ..envelope import Envelope, invalid_json
from ..errors import InvalidRequest, UpstreamProtocolError
from ..exchange import Exchange, Job, Reply
from ..providers.provider import Provider
from ..routing import Target
from .keys import packed
from .past import Past
from .records import Records
from .replies import told

Json = dict[str, Any]

MARK = "gmc1."
# Members of a body that are lists of items.
LISTS = ("input", "items")
# The mark, or a letter of it that is escaped: without one of these in it, a body has no item of ours.
SIGNS = (MARK.encode(), *(b"\\u00" + code for code in (b"67", b"6d", b"6D", b"63", b"31", b"2e", b"2E")))
NONCE_BYTES = 16
TAG_BYTES = 32

INSTRUCTIONS = (
    "You compact conversations. Another assistant will continue from your text alone. Keep every fact, decision, name, "
    "number, open question and result of a tool that may still matter, and what the user asked for; leave out the rest."
)
ASK = "Write down the conversation so far in compact form. Answer with that text only."
KEPT = frozenset({"model", "previous_response_id", "conversation"})
PREFACE = "The conversation so far, in compact form:\n\n"


NOTHING = msgspec.Raw(b"")


class Opening(msgspec.Struct):
    """An item as far as it tells whether it is one of ours."""

    type: msgspec.Raw = NOTHING
    encrypted_content: msgspec.Raw = NOTHING


_openings = msgspec.json.Decoder(list[Opening]).decode
_opening = msgspec.json.Decoder(Opening).decode
_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_any = msgspec.json.Decoder().decode


class Compactor:
    """Makes compaction items, and opens them."""

    def __init__(self, records: Records) -> None:
        self._secret = records.store.secret or os.urandom(32)

    def has_mark(self, envelope: Envelope) -> bool:
        """Whether an item that bears our mark stands in the request. Text that speaks of the mark is text.

        :raises InvalidRequest: an item cannot be examined.
        """
        if not any(sign in envelope.raw for sign in SIGNS):
            return False
        return any(bears_mark(bytes(envelope.members[name])) for name in LISTS if name in envelope.members)

    def expand(self, tenant: str | None, item: Json) -> list[Json]:
        """*item*, or the message that it stands for.

        :raises InvalidRequest: it is one of ours that does not open: damaged, or another tenant's.
        """
        text = item.get("encrypted_content")
        if not isinstance(text, str) or not is_marked(item.get("type"), text):
            return [item]
        summary = opened(self._keys(tenant), text)
        if summary is None:
            raise InvalidRequest(
                "A compaction item is damaged or was not made here.", code="invalid_encrypted_content", param="input"
            )
        content = [{"type": "input_text", "text": PREFACE + summary}]
        return [{"type": "message", "role": "user", "content": content}]

    async def answer(self, job: Job, target: Target, provider: Provider) -> Reply:
        """The reply to `compact`: the upstream's own where it can, else ours.

        :raises InvalidRequest: there is no model, or nothing to compact.
        """
        if job.request.envelope.model is None:
            raise InvalidRequest("Name a 'model'.", param="model", code="missing_required_parameter")
        if provider.native:
            return await Exchange(job, target).run()
        reply = await Exchange(summing_up(job), target).run()
        response = await reply.json()
        summary = text_of(response)
        if not summary:
            raise UpstreamProtocolError("The upstream gave no summary of the conversation.")
        suffix = secrets.token_hex(24)
        content = sealed(self._keys(job.request.tenant), summary)
        item = {"id": f"cmp_{suffix}", "type": "compaction", "encrypted_content": content}
        value = {"id": f"resp_{suffix}", "object": "response.compaction", "created_at": int(time.time())}
        return told({**value, "output": [item], "usage": response.get("usage")}, reply.provider, reply.model)

    def _keys(self, tenant: str | None) -> bytes:
        return hmac.digest(self._secret, packed(b"compaction", tenant), "sha512")


def summing_up(job: Job) -> Job:
    """*job* as a create whose answer is the summary: the same conversation, with other instructions and a last word."""
    request = copy(job.request)
    members = request.envelope.members
    own = request.envelope.body.get("input")
    if own is None and job.past is None:
        raise InvalidRequest("Give the 'input' to compact.", param="input", code="missing_required_parameter")
    items = [{"role": "user", "content": own}] if isinstance(own, str) else own or []
    if not isinstance(items, list):
        raise InvalidRequest("'input' must be a string or an array of items.", param="input", code="invalid_value")
    said = msgspec.json.encode([*items, {"role": "user", "content": ASK}])
    kept = {name: value for name, value in members.items() if name in KEPT}
    instructions = msgspec.Raw(msgspec.json.encode(INSTRUCTIONS))
    kept |= {"input": msgspec.Raw(said), "instructions": instructions}
    request.envelope = request.envelope.with_members(kept)
    request.envelope.stream = False
    request.operation = "create"
    past = copy(job.past)
    if isinstance(past, Past):
        past.original = request.envelope
    return msgspec.structs.replace(job, request=request, past=past, stream=False)


def text_of(response: Json) -> str:
    """The text of the messages in a response."""
    parts = [
        part.get("text", "")
        for item in response.get("output") or ()
        if item.get("type") == "message"
        for part in item.get("content") or ()
        if part.get("type") == "output_text"
    ]
    return "".join(parts).strip()


# Whether it is one of ours...


def is_marked(type: Any, content: str) -> bool:
    """Whether an item of this type, with this `encrypted_content`, claims to be one of ours."""
    return type == "compaction" and content.startswith(MARK)


def bears_mark(items: bytes) -> bool:
    """Whether one of *items* (JSON) claims to be one of ours; False for what is no list.

    :raises InvalidRequest: they cannot be looked at: nested too deeply, say.
    """
    if not items.startswith(b"["):
        return False
    try:
        return any(_is_marked(one) for one in _openings(items))
    except msgspec.ValidationError:  # among the items is one that is no object
        return any(_is_marked(_opening(raw)) for raw in _raws(items) if bytes(raw).startswith(b"{"))
    except (msgspec.MsgspecError, RecursionError):
        raise invalid_json("its items cannot be looked at.") from None


def _is_marked(one: Opening) -> bool:
    type, content = bytes(one.type), bytes(one.encrypted_content)
    texts = type.startswith(b'"') and content.startswith(b'"')
    return texts and is_marked(_any(type), _any(content))


# One text...


def sealed(keys: bytes, text: str) -> str:
    """*text* under *keys* (64 bytes), as it stands in an item."""
    nonce = os.urandom(NONCE_BYTES)
    hidden = _crossed(keys[:32], nonce, text.encode("utf-8", "surrogatepass"))
    packed = nonce + hidden + hmac.digest(keys[32:], nonce + hidden, "sha256")
    return MARK + base64.urlsafe_b64encode(packed).decode("ascii")


def opened(keys: bytes, content: str) -> str | None:
    """The text in *content*; None where it was not sealed with *keys*, or has been changed."""
    try:
        packed = base64.b64decode(content[len(MARK) :].encode("ascii"), b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    signed, tag = packed[:-TAG_BYTES], packed[-TAG_BYTES:]
    if len(signed) < NONCE_BYTES or not hmac.compare_digest(hmac.digest(keys[32:], signed, "sha256"), tag):
        return None
    return _crossed(keys[:32], signed[:NONCE_BYTES], signed[NONCE_BYTES:]).decode("utf-8", "surrogatepass")


def _crossed(key: bytes, nonce: bytes, text: bytes) -> bytes:
    stream = hashlib.shake_256(key + nonce).digest(len(text))
    return (int.from_bytes(text) ^ int.from_bytes(stream)).to_bytes(len(text))
