"""What an upstream says is looked at within bounds, however large it is: memory and steps are counted, not time."""

from __future__ import annotations

import ast
import json
import re
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gomodel_asgi import Gateway, Limits, Provider
from gomodel_asgi.dialects.failure import reported_failure
from gomodel_asgi.dialects.native import NativeReader
from gomodel_asgi.dialects.reader import failure_of, members_and_type
from gomodel_asgi.dialects.tools import MAX_NAME, family_of, flatten_name
from gomodel_asgi.errors import UpstreamAuthError
from gomodel_asgi.history.replies import response_in
from gomodel_asgi.observers import Record, Warned
from gomodel_asgi.observers.answer import LONG, Measure, of_body
from gomodel_asgi.testing import FakeProvider, Reply
from gomodel_asgi.transport.websocket_socket import _error as error_in
from gomodel_asgi.wire.calls import LONGEST_OPENING, StringMember
from gomodel_asgi.wire.items import Message
from gomodel_asgi.wire.json_scan import SHORT, VALUES, short, tree
from gomodel_asgi.wire.redaction import REDACTED, redacted
from gomodel_asgi.wire.response import stream_of
from gomodel_asgi.wire.sse import MOST_LINES, Event, parse
from gomodel_asgi.wire.websocket_frames import Frames

from ..support.driving import ask

MIB = 1 << 20
LISTS = b"[%b]" % b",".join([b"[]"] * (MIB // 3))  # as a value, thirty times as large


@contextmanager
def within(size: int) -> Iterator[None]:
    """What is done here takes at most *size* bytes of memory."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


# Values...


@pytest.mark.parametrize(
    "data", [b"[" * 129 + b"]" * 129 + b" " * 1000, b"[%b0]" % (b"0," * VALUES), b"{", b"\xff", b"[" * 9_999]
)
def test_a_tree_is_built_within_limits_or_not_at_all(data: bytes) -> None:
    for text in (data, data.decode("latin-1")):
        with pytest.raises(ValueError):
            tree(text)


def test_what_is_no_longer_than_an_id_or_a_usage_is_read() -> None:
    assert short(b'{"a":[1]}') == {"a": [1]}
    assert short(b"") is None
    assert short(b"{") is None
    assert short(b'"%b"' % (b"x" * (SHORT - 2))) == "x" * (SHORT - 2)
    assert short(b'"%b"' % (b"x" * (SHORT - 1))) is None


# Failures...


def test_a_failure_among_much_else_is_told_and_nothing_else_is_parsed() -> None:
    data = b'{"x":%b,"status_code":401,"error":{"message":"no","code":"invalid_api_key"},"y":%b}' % (LISTS, LISTS)
    with within(100_000):
        failure = reported_failure(data)
    assert isinstance(failure, UpstreamAuthError) and failure.detail == "401: no"


@pytest.mark.parametrize("data", [b"x" * MIB, b'"%b"' % (b"x" * MIB), LISTS])
def test_a_failure_that_is_no_object_is_cut(data: bytes) -> None:
    with within(2 * SHORT + 100_000):
        assert len(failure_of(data).message) <= 4096


def test_an_error_event_among_much_else_is_told() -> None:
    data = b'{"type":"error","error":{"message":"no","code":"x"},"y":%b}' % LISTS
    with within(100_000):
        members, type = members_and_type(Event("", data))
        assert type == "error"
        assert failure_of(data).message == "no"
    assert members_and_type(Event("", b'{"type":%b}' % LISTS)) == ({}, None)


# Native streams, and who watches them...


def completed(**members: bytes) -> bytes:
    inside = b",".join(b'"%b":%b' % (name.encode(), value) for name, value in members.items())
    return b'data: {"type":"response.completed","response":{"object":"response",%b}}\n\n' % inside


def test_of_a_response_that_is_kept_only_short_members_are_parsed() -> None:
    reader = NativeReader(name="p", model="m", limits=Limits())
    event = completed(id=b'"resp_1"', usage=LISTS, output=LISTS)
    reader.feed(event)
    with within(100_000):
        assert reader.response_id == "resp_1"
        assert reader.usage() is None
        final = reader.final()
        assert final is not None
        answer = of_body(final)
    assert (answer.response_id, answer.usage) == ("resp_1", None)
    assert NativeReader(name="p", model="m", limits=Limits()).feed(completed(id=LISTS)).startswith(b"data:")


def test_the_number_of_an_event_is_found_among_very_many() -> None:
    event = b'data: {"x":[%b],"y":"\\"sequence_number\\""}\n\n' % b",".join([b'{"sequence_number":7}'] * 20_000)
    reader = NativeReader(name=None, model="m", limits=Limits())
    reader.feed(event)
    with within(100_000):
        reader._count(b"")
    assert reader._number == 7


def test_the_text_of_a_very_large_delta_is_counted_by_its_bytes() -> None:
    event = b'data: {"type":"response.output_text.delta","delta":"%b"}\n\n' % (rb"\n" * LONG)
    measure = Measure()
    with within(100_000):
        measure.add(event)
    assert 0 <= measure.text - 2 * LONG < 100


# Events, keys, names...


def test_an_event_of_more_lines_than_any_has_is_none() -> None:
    for end in (b"\n", b"\r", b"\r\n"):
        line = b"data: x" + end
        assert parse(line * (MOST_LINES // len(end))) is not None
    for end in (b"\n", b"\r"):
        event = (b":" + end) * MIB
        with within(100_000):
            assert parse(event) is None


KEY = "sk-canary/abcdefghijklmnopqrstuvwxyz+0123456789=="
SPELLED = KEY.replace("/", r"\/").replace("+", r"\u002B").replace("=", r"\u003d").encode()


@pytest.mark.parametrize("size", [0, MIB])
def test_a_key_is_taken_out_of_a_reply_of_any_size_however_it_is_spelled(size: int) -> None:
    padding = rb"\u0026\/" * (size // 8)
    assert redacted([KEY], padding + SPELLED + padding) == padding + REDACTED + padding
    assert redacted([KEY], padding + KEY.encode()) == padding + REDACTED


@pytest.mark.parametrize("name", ["x", "x!", "!" * MIB, "\U0001f600" * MIB])
def test_a_name_of_any_length_is_made_one_that_every_target_takes(name: str) -> None:
    with within(len(name.encode()) * 3 + 100_000):
        assert len(flatten_name(name)) <= MAX_NAME
        assert family_of(name + "_preview_2025_03_11") in (name, name + "_preview_2025_03_11")


def test_of_a_string_that_does_not_begin_only_the_beginning_is_looked_at_again() -> None:
    member = StringMember("input")
    for piece in ("{", *" " * 5000, '"input": "x', "y", '"}'):
        assert member.feed(piece) == ""
        assert len(member.pending) <= LONGEST_OPENING + 1
    assert member.rest() == "xy"


# WebSockets...


def test_only_an_error_is_read_of_an_upstreams_first_frame() -> None:
    created = b'{"type":"response.created","response":{"error":null,"instructions":%b}}' % LISTS
    failed = b'{"type":"error","status":404,"error":{"code":"x"},"more":%b}' % LISTS
    with within(100_000):
        assert error_in(created) is None
        told = error_in(failed)
    assert told == {"type": "error", "status": 404, "error": {"code": "x"}}


def test_a_frame_tells_of_an_error_however_large_its_event_is() -> None:
    (text,) = Frames(None, limit=16 * MIB).feed(b'data: {"type":"error","code":"x","more":%b}\n\n' % LISTS, 502)
    event = json.loads(text)
    assert (event["type"], event["status"], event["error"]["type"]) == ("error", 502, "server_error")


def test_a_connection_remembers_no_output_of_more_values_than_may_be_parsed() -> None:
    frames = Frames(None, limit=16 * MIB)
    frames.feed(completed(id=b'"resp_1"', output=b"[%b]" % b",".join([b"[]"] * 600_000)))
    assert frames.terminal == "response.completed"
    with within(10 * MIB):
        assert frames.output == []


# What is kept...


async def test_of_a_response_that_holds_too_much_only_the_id_is_kept(provider: FakeProvider) -> None:
    seen: list[Record] = []
    gateway = Gateway(
        providers=[Provider("a", provider.base_url), Provider("b", provider.base_url, dialect="chat")],
        limits=Limits(values=200),
        tenant=lambda scope: "t",
        observers=[seen.append],
    )
    item = {"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]}
    response = {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": [item] * 200}
    for id in ("resp_1", "resp_2"):
        body = json.dumps({**response, "id": id}).encode()
        provider.script(Reply(body, headers={"content-type": "application/json"}))
    assert (await ask(gateway, b'{"provider":"a","model":"m","input":"x"}')).status == 200
    assert any(isinstance(record, Warned) and "holds too much" in record.message for record in seen)

    continued = b'{"provider":"%b","model":"m","input":"x","previous_response_id":"resp_1"}'
    assert (await ask(gateway, continued % b"a")).status == 200
    assert (await ask(gateway, continued % b"b")).error["code"] == "previous_response_not_found"
    assert len(provider.requests) == 2
    await gateway.aclose()


# The rule...

ROOT = Path(__file__).parents[2] / "gomodel_asgi"
TREES = {
    "wire/json_scan.py": "the place where it is done",
    "wire/json_body.py": "a client's body, counted and of a depth",
    "wire/websocket_frames.py": "a short string, a steer that was looked at, or our own error",
    "upstream/unary.py": "`examine` has looked at it",
    "dialects/base.py": "`check_strings` has looked at it",
    "dialects/chat/reply.py": "its reader has looked at it",
    "upstream/listed_models.py": "`examine` has looked at it",
    "dialects/chat/output.py": "errors are read up to 64 KiB",
    "dialects/gemini/errors.py": "its reader has looked at it, and of errors there are 64 KiB",
    "dialects/anthropic/reply.py": "its reader has looked at it",
    "dialects/anthropic/request.py": "a request of our own",
    "dialects/anthropic/__init__.py": "errors are read up to 64 KiB",
    "dialects/lenient/reply.py": "its reader has looked at it",
    "history/turns.py": "what is kept has been looked at when it came",
    "history/conversation_log.py": "what is kept has been looked at when it came",
    "history/continuation.py": "a client's input, which was counted",
    "history/references.py": "an item whose bytes and values `Mentions` bounds",
    "history/compaction_item.py": "what we have sealed or kept ourselves",
    "emulation/stored.py": "our own response",
    "emulation/tools/remembered.py": "what is kept has been looked at when it came",
    "extras.py": "pip's own file about the installed package",
    "console/books.py": "labels that the ledger keeps",
    "console/pages.py": "the form's body, of so many characters",
    "cache/key.py": "a client's body, counted and of a depth",
    "cache/entry.py": "a response that its reader has looked at, and what is kept of it",
    "quotas/estimate.py": "a short member of a client's body, which was counted",
    "emulation/event_log.py": "our own response",
    "emulation/tools/rewriter.py": "its reader has looked at it",
    "history/connection_memory.py": ("a client's input, and output of a connection, which `Frames` has looked at"),
}
"""Where JSON becomes values of any kind, and what bounds them there."""


OURS = ("parsed", "parser")  # of `json_scan.py`


def calls(path: Path) -> Iterator[ast.Call]:
    """The calls that make values of any kind out of JSON."""
    source = path.read_text()
    reads_values = path == ROOT / "wire/json_scan.py" or re.search(r"from [.\w]*json_scan import .*\bpars", source)
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in ("json.loads", "json.load"):
            yield node
        elif (name in OURS and reads_values) or (name == "msgspec.json.decode" and not node.keywords):
            yield node
        elif name == "msgspec.json.Decoder" and (not node.args or any_kind(ast.unparse(node.args[0]))):
            yield node


def any_kind(type: str) -> bool:
    return "Any" in type or "Json" in type or type in ("dict", "list", "object")


def test_whoever_makes_values_of_json_says_what_bounds_them() -> None:
    found = set()
    for path in ROOT.rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(("testing/", "cli/")) and any(calls(path)):
            found.add(name)
    assert found == TREES.keys()


# Long answers...


class Counted(str):
    """Text that counts how often it is measured."""

    measured = 0

    def __len__(self) -> int:
        Counted.measured += 1
        return super().__len__()


class Unread:
    """Takes the events of an item, which nobody reads."""

    def emit(self, type: str, /, **members: object) -> None:
        pass

    def delta(self, frame: tuple[bytes, bytes, bytes], text: str) -> None:
        pass


def test_where_a_citation_begins_is_known_without_going_over_the_text_again() -> None:
    message = Message(Unread(), 0, {"type": "message", "id": "msg_1"})
    for number in range(500):
        assert message.length() == number * 3
        message.text(Counted("abc"))
    assert Counted.measured <= 3 * 500


def test_the_last_response_of_a_stream_of_our_own_is_read_from_its_end() -> None:
    text = "x" * MIB
    content = [{"type": "output_text", "text": text}]
    response = {"id": "resp_1", "status": "completed", "output": [{"type": "message", "content": content}]}
    stream = stream_of(response)
    with within(6 * MIB):
        found = response_in(stream)
    assert found is not None and json.loads(found) == response


@pytest.mark.parametrize(
    "stream",
    [b"", b"\n\n", b"data: [DONE]\n\n", b"data: {}\n\n", b'data: {"a":"response"}\n\ndata: x\n\n', b"data: x"],
)
def test_a_stream_without_a_response_has_no_last_one(stream: bytes) -> None:
    assert response_in(stream) is None
