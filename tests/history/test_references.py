"""Which items stand for others: one table of type and content, for whatever a client may write beside it."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import msgspec
import pytest

from gomodel_asgi.errors import InvalidRequest
from gomodel_asgi.history.mentions import MOST_VALUES, lists_of, mentions_of
from gomodel_asgi.history.references import CONTENT, LONGEST_ID, Reference, nested, only_named, references, slim
from gomodel_asgi.operations import BODY
from gomodel_asgi.settings import KIB
from gomodel_asgi.wire.ambiguity import MOST_MEMBERS, read_items
from gomodel_asgi.wire.json_body import opening
from gomodel_asgi.wire.json_scan import run

ID = "x_1"
LIST: Any = [{"type": "a", "text": "b"}]


def found(item: Any) -> list[tuple[str, str]]:
    """The ids that *item* (JSON, or what to write as JSON) refers to, and the kind of each."""
    raw = item if isinstance(item, str) else json.dumps(item)
    read = read_items(msgspec.Raw(f"[{raw}]".encode()), "input")
    assert references(map(slim, filter(None, read)), "input") == references(read, "input")
    return [(one.id, one.kind) for one in references(read, "input")]


WHOLE = [
    {"type": "message", "role": "user", "content": "hi"},
    {"type": "message", "role": "user", "content": []},
    {"type": "message", "role": "assistant", "content": LIST},
    {"role": "user", "content": "hi"},
    {"type": None, "role": "user", "content": "hi"},
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": "1"},
    {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot"}},
    {"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "1"},
    {"type": "custom_tool_call_output", "call_id": "c", "output": LIST},
    {"type": "image_generation_call", "result": "aGk="},
    {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"},
    {"type": "reasoning", "summary": [], "content": LIST},
    {"type": "compaction", "encrypted_content": "gAAA"},
    {"type": "web_search_call", "status": "completed", "action": {"type": "search"}},
    {"type": "file_search_call", "queries": ["q"]},
    {"type": "code_interpreter_call", "code": "1+1", "container_id": "c"},
    {"type": "computer_call", "call_id": "c", "actions": LIST},
    {"type": "local_shell_call", "call_id": "c", "action": {"type": "exec"}},
    {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}},
    {"type": "apply_patch_call", "call_id": "c", "operation": {"type": "delete_file", "path": "a"}},
    {"type": "mcp_call", "name": "f", "server_label": "s", "arguments": "{}", "output": "1"},
    {"type": "mcp_call", "name": "f", "server_label": "s", "arguments": "{}", "output": None, "error": {"type": "e"}},
    {"type": "mcp_list_tools", "server_label": "s", "tools": LIST},
    {"type": "mcp_approval_request", "name": "f", "server_label": "s", "arguments": "{}"},
    {"type": "program", "call_id": "c", "code": "1", "fingerprint": "f"},
    {"type": "program_output", "call_id": "c", "result": "1"},
    {"type": "tool_search_output", "call_id": None, "tools": LIST},
    {"type": "acme:telegram", "to": {"name": "a"}},
]


@pytest.mark.parametrize("item", WHOLE, ids=lambda item: str(item.get("type")))
def test_an_item_that_brings_its_content_refers_to_nothing(item: Any) -> None:
    assert found({**item, "id": ID}) == []
    assert found({"id": ID, **item, "status": "completed", "phase": "final_answer", "more": 1}) == []


EMPTY = ["null", '""', "[]", "{}", "[ \n]", "{\t}", "0", "false", "5"]


@pytest.mark.parametrize("type", [*CONTENT, "function_call_output", "apply_patch_call_output"])
@pytest.mark.parametrize("beside", ["{}", '{"more":1}', '{"more":"text"}', '{"status":"completed","role":"assistant"}'])
@pytest.mark.parametrize("empty", EMPTY)
def test_an_item_whose_content_is_missing_or_empty_is_a_reference(type: str, beside: str, empty: str) -> None:
    kind = "reasoning" if type == "reasoning" else "item"
    about = f'"id":"{ID}","type":"{type}"'
    more = beside[1:-1] and "," + beside[1:-1]
    assert found("{%s%s}" % (about, more)) == [(ID, kind)]
    for name in CONTENT.get(type, ("output",)):
        if (type, empty.strip("[ \n]")) != ("message", ""):
            assert found('{%s%s,"%s":%s}' % (about, more, name, empty)) == [(ID, kind)], name


@pytest.mark.parametrize("empty", ["[]", "[ ]"])
def test_an_empty_list_is_the_content_of_a_message_that_is_not_the_assistants(empty: str) -> None:
    for role in ("user", "system", "developer", ""):
        assert found('{"type":"message","id":"%s","role":"%s","content":%s}' % (ID, role, empty)) == []
    assert found('{"type":"message","id":"%s","role":"assistant","content":%s}' % (ID, empty)) == [(ID, "item")]
    assert found('{"id":"%s","role":"assistant","content":%s}' % (ID, empty)) == [(ID, "item")]
    assert found('{"id":"%s","role":"user","content":""}' % ID) == [(ID, "item")]


@pytest.mark.parametrize(
    "type", ['"item_reference"', '"Item_Reference"', '" item_reference"', '"item\\u005freference"']
)
def test_an_item_reference_is_one_whatever_it_brings(type: str) -> None:
    assert found('{"type":%s,"id":"%s"}' % (type, ID)) == [(ID, "item")]
    assert found('{"type":%s,"id":"%s","role":"user","content":[1],"more":[1]}' % (type, ID)) == [(ID, "item")]


@pytest.mark.parametrize("type", ["", '"type":null,', '"role":null,'])
def test_what_has_neither_type_nor_role_is_an_item_reference(type: str) -> None:
    assert found('{%s"id":"%s","content":[1]}' % (type, ID)) == [(ID, "item")]


@pytest.mark.parametrize("type", ['"acme:telegram"', '"a_call"', "5", "[]", '""', "true"])
@pytest.mark.parametrize("more", ["", ',"text":"long"', ',"n":1', ',"list":[]', ',"object":{ }', ',"status":{"a":1}'])
def test_an_unknown_type_is_a_reference_unless_it_brings_an_object_or_a_list(type: str, more: str) -> None:
    assert found('{"type":%s,"id":"%s"%s}' % (type, ID, more)) == [(ID, "item")]
    assert found('{"type":%s,"id":"%s"%s,"list":[0],"other":1}' % (type, ID, more.replace("list", "l"))) == []


@pytest.mark.parametrize("id", ["[]", "{}", "5", '""', "true", "1e999"])
def test_an_id_that_is_no_text_is_nobodys(id: str) -> None:
    assert found('{"type":"item_reference","id":%s}' % id) == [("", "item")]
    assert found('{"type":"message","role":"assistant","id":%s}' % id) == [("", "item")]
    assert found('{"type":"reasoning","id":%s}' % id) == [("", "reasoning")]


def test_without_an_id_nothing_is_referred_to() -> None:
    for item in ({"type": "message", "role": "assistant"}, {"type": "image_generation_call", "id": None}, {"x": 1}, {}):
        assert found(item) == []


@pytest.mark.parametrize(
    "item", [{"type": "mcp_approval_response", "approve": True}, {"type": "mcp_call", "output": "1"}]
)
def test_an_approval_names_the_item_that_it_answers(item: Any) -> None:
    assert found({**item, "approval_request_id": ID}) == [(ID, "approval")]
    assert found({**item, "approval_request_id": ID, "id": "x_2"}) == [(ID, "approval")]
    assert found({**item, "approval_request_id": None}) == []
    assert found({**item, "approval_request_id": 5}) == [("", "approval")]


@pytest.mark.parametrize(
    "content", ['"content":"hi","content":null', '"content":null,"content":"hi"', '"content":"hi","Content":null']
)
def test_of_content_that_stands_twice_the_emptier_counts(content: str) -> None:
    assert found('{"type":"message","role":"assistant","id":"%s",%s}' % (ID, content)) == [(ID, "item")]


def test_of_an_unknown_member_that_stands_twice_the_emptier_counts() -> None:
    assert found('{"type":"acme:x","id":"%s","a":[1],"a":null}' % ID) == [(ID, "item")]
    assert found('{"type":"acme:x","id":"%s","a":null,"a":[1]}' % ID) == [(ID, "item")]


def test_items_with_the_same_names_are_told_apart_by_what_they_hold() -> None:
    items = '{"a,b":[1],"id":"x_1","type":"t"},{"a":1,"b,id":[1],"type":"t"},{"a,b":1,"id":"x_2","type":"t"}'
    read = read_items(msgspec.Raw(f"[{items}]".encode()), "items")
    assert references(read, "items") == [Reference("items", 2, "x_2", "item")]


BELOW = [
    '{"type":"message","role":"user","content":[{"type":"item_reference","id":"HERE"}]}',
    '{"type":"message","role":"user","content":{"id":"HERE","type":"item_reference"}}',
    '{"type":"x","a":[[[{"b":{"Type":"item_reference","ID":"HERE"}}]]]}',
    '{"type":"x","a":{"type":"item_reference","id":"HERE","type":"message"}}',
    '{"type":"x","a":{"t\\u0079pe":"item\\u005freference","i\\u0064":"HERE"}}',
    '{"type":"item_reference","id":"own","a":{"type":"item_reference","id":"HERE"}}',
]


@pytest.mark.parametrize("item", BELOW)
def test_a_reference_below_an_item_is_found(item: str) -> None:
    assert nested(item.replace("HERE", "x_9").encode()) == ["x_9"]


@pytest.mark.parametrize("room", [-1, 0])
def test_what_is_too_large_to_be_looked_through_for_references_is_refused(room: int) -> None:
    values = [["item_reference"], *[0] * (MOST_VALUES - 5 - room)]
    body = json.dumps({"input": [{"type": "message", "role": "user", "content": values}]}).encode()
    members = run(opening(body)).members
    looking = mentions_of(BODY, members, body, run(lists_of(BODY, members)), strict=True)

    if room >= 0:
        assert not run(looking)
        return
    with pytest.raises(InvalidRequest) as caught:
        run(looking)
    assert caught.value.param == "input[0]"


def test_a_reference_that_is_the_item_is_not_below_it() -> None:
    assert nested(b'{"type":"item_reference","id":"x"}') == []
    assert nested(b'{"type":"message","content":"{\\"type\\":\\"item_reference\\",\\"id\\":\\"x\\"}"}') == []


# Many items...


MANY = {
    "items of many members": [
        *[b'{"type":"message","role":"user","content":"x",%b}' % b",".join(b'"%d":1' % n for n in range(90))] * 5000,
        b"7",
    ],
    "an item of many members": [b'{"type":"message","role":"user","content":"x",%b}' % b",".join([b'"":1'] * 9000)] * 9,
    "items of many values": [b'{"type":"message","role":"user","content":[%b]}' % b",".join([b"{}"] * 9000)] * 9,
    "references": [b'{"type":"item_reference","id":"x_%d","more":[1]}' % number for number in range(9000)],
}


@pytest.mark.parametrize("items", MANY.values(), ids=list(MANY))
def test_of_many_items_no_more_is_kept_than_may_be_a_reference(items: list[bytes]) -> None:
    items = [*items, b'{"type":"item_reference","id":"%s"}' % ID.encode()]
    members = run(opening(b'{"input":[%b]}' % b",".join(items))).members
    whole = read_items(members["input"], "input")
    steps = 0
    tracemalloc.start()
    try:
        looking = lists_of(BODY, members)
        while True:
            steps += 1
            next(looking)
    except StopIteration as end:
        lists = end.value
    finally:
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert kept < 1500 * len(items)
    assert steps > len(members["input"]) // (512 * KIB)
    assert references(lists["input"], "input") == references(whole, "input")
    assert [item is None for item in lists["input"]] == [item is None for item in whole]


SILENT = '{"role":"user","content":"%s"}'
SPEAKING = [
    '{"id":"x_1","role":"user"}',
    '{"role":"user","content":"x","id":"x_1"}',
    '{"type":"item_reference","id":"x_1"}',
    '{"role":"user","content":"x","\\u0069d":"x_1"}',
    '{"approval_request_id":"x_1"}',
    '{"type":"compaction","encrypted_content":"x"}',
    "7",
    "[]",
]
TWO_WAYS = ['{"role":"user","role":"x"}', '{"role":"user","Content":"x","Role":"x"}', '{"role":"x","ID":"x_1"}']


def elements_of(*items: str, commas: int | None = None) -> list[Any]:
    return run(lists_of(BODY, run(opening(b'{"input":[%b]}' % ",".join(items).encode())).members, commas))["input"]


@pytest.mark.parametrize("size", [1, 200, 200_000])
@pytest.mark.parametrize("commas", [None, 5000])
def test_of_items_whose_names_cannot_name_anything_nothing_is_kept(size: int, commas: int | None) -> None:
    items = [SILENT % ("x" * (size // 20 + 1))] * 20
    for _ in range(2):  # before their members are known, and after
        read = elements_of(*items, commas=commas)

    assert read == []


@pytest.mark.parametrize("item", SPEAKING)
@pytest.mark.parametrize("again", [False, True])
def test_one_item_that_names_something_among_many_that_do_not_is_kept(item: str, again: bool) -> None:
    items = [*[SILENT % "x"] * 30, item, *[SILENT % "x"] * 30]
    if again:
        elements_of(*items)
    assert len(elements_of(*items)) == len(items)


@pytest.mark.parametrize("item", TWO_WAYS)
def test_one_item_that_can_be_read_in_two_ways_among_many_is_refused_each_time(item: str) -> None:
    for _ in range(2):
        elements_of(SILENT % "x")
        with pytest.raises(InvalidRequest) as caught:
            elements_of(*[SILENT % "x"] * 30, item)
        assert (caught.value.param or "").startswith("input[30].")


def test_an_item_of_too_many_members_is_refused() -> None:
    def read(count: int) -> object:
        item = b'{"id":"x","type":"message","content":"a,b","padding":"%b",%b}'
        item %= b"x," * 100_000, b",".join([b'"":1'] * (count - 4))
        return run(lists_of(BODY, run(opening(b'{"input":[7,%b]}' % item)).members))

    assert read(MOST_MEMBERS)
    with pytest.raises(InvalidRequest) as caught:
        read(MOST_MEMBERS + 1)
    assert caught.value.param == "input[1]"


def test_of_an_output_those_items_count_that_a_client_can_give_back_by_their_ids_alone() -> None:
    output = [
        {"type": "image_generation_call", "id": "ig_1", "status": "completed"},
        {"type": "image_generation_call", "id": "ig_2", "result": "aGk="},
        {"type": "reasoning", "id": "rs_1", "summary": []},  # may be left out
        {"type": "mcp_approval_response", "id": "mcpr_2", "approval_request_id": "mcpr_1", "approve": True},
        {"type": "image_generation_call", "id": "i" * LONGEST_ID, "status": "completed"},  # none that may be one
        {"type": "mcp_approval_request", "id": "mcpr_3", "name": "f", "server_label": "s", "arguments": "{}"},
        None,
    ]
    assert only_named(msgspec.Raw(json.dumps(output).encode())) == ["ig_1", "mcpr_3"]
