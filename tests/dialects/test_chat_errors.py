"""Error bodies of chat servers, in each of the forms that they use."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gomodel_asgi.dialects.base import Call
from gomodel_asgi.dialects.chat import ChatDialect
from gomodel_asgi.errors import UpstreamAuthError, UpstreamRejected
from gomodel_asgi.wire.event_writer import Emitter


def read(status: int, value: Any) -> Any:
    return ChatDialect().error(status, value if isinstance(value, bytes) else json.dumps(value).encode())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "Boom", "type": "t", "param": "p", "code": "c"}}, "Boom"),
        ({"error": "Boom"}, "Boom"),
        ({"detail": "Boom"}, "Boom"),
        ({"detail": [{"loc": ["body", "top_k"], "msg": "Extra", "type": "x"}]}, "body.top_k: Extra"),
        ({"message": "Boom", "type": "t"}, "Boom"),
        ({"object": "error", "message": {"detail": [{"loc": ["body"], "msg": "Extra"}]}}, "body: Extra"),
        ([{"error": {"message": "Boom", "code": 400, "status": "INVALID_ARGUMENT"}}], "Boom"),
        ({"error": {"code": "1214"}}, "The upstream reported an error."),
        ({"base_resp": {"status_code": 2013, "status_msg": "invalid params"}}, "invalid params (2013)"),
    ],
)
def test_the_servers_message_is_found_in_each_form(body: Any, message: str) -> None:
    error = read(400, body)

    assert isinstance(error, UpstreamRejected)
    assert (error.status, error.message) == (400, message)


def test_an_openai_shaped_body_is_passed_on_with_all_four_keys() -> None:
    complete = {"error": {"message": "Boom", "type": "t", "param": "p", "code": "c", "more": {"x": 1}}, "id": 7}

    assert json.loads(read(400, complete).body()) == complete
    expected = {"message": "Boom", "type": "upstream_error", "param": None, "code": None}
    assert json.loads(read(400, {"error": {"message": "Boom"}}).body()) == {"error": expected}
    assert json.loads(read(422, {"detail": "Boom"}).body())["error"]["message"] == "Boom"


def test_a_status_that_the_error_names_counts() -> None:
    assert read(200, {"error": {"message": "Boom", "code": 429}}).status == 429
    assert read(400, {"error": {"message": "Boom", "code": "1214"}}).status == 400


@pytest.mark.parametrize("status", [401, 402, 403])
def test_refused_credentials_are_ours_and_their_text_is_for_the_operator(status: int) -> None:
    error = read(status, {"error": {"message": "Bad key sk-123"}})

    assert isinstance(error, UpstreamAuthError)
    assert error.status == 502
    assert b"sk-123" not in error.body()
    assert "sk-123" in (error.detail or "")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'"x"', b'{"choices": []}', b"[" * 100_000])
def test_what_is_no_error_of_this_api_is_none(body: bytes) -> None:
    assert read(500, body) is None


BASE_RESP = [(1002, 429), (1004, None), (1008, None), (2013, 400), (2049, None), (1000, 502), (999999, 502)]
"""Codes of MiniMax and the status that each stands for, None where our credentials were refused."""


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unary"])
@pytest.mark.parametrize(("code", "status"), BASE_RESP)
def test_a_base_resp_in_a_200_is_a_failure_that_says_whose_fault_it_is(
    code: int, status: int | None, stream: bool
) -> None:
    found = answered({"id": "x", "choices": [], "base_resp": {"status_code": code, "status_msg": "no"}}, stream)

    if status is None:
        assert isinstance(found.failure, UpstreamAuthError)
        assert "no" not in found.failure.message
    else:
        assert isinstance(found.failure, UpstreamRejected)
        assert (found.failure.status, found.failure.message) == (status, f"no ({code})")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unary"])
@pytest.mark.parametrize("told", [{"status_code": 0, "status_msg": ""}, None, "ok", {}, {"status_code": "0"}])
def test_a_base_resp_that_tells_of_no_error_is_passed_over(told: Any, stream: bool) -> None:
    said = {"role": "assistant", "content": "Hello"}
    choice = {"delta" if stream else "message": said, "finish_reason": "stop"}
    found = answered({"choices": [choice], "base_resp": told}, stream)

    assert (found.failure, found.terminal) == (None, "completed")


def answered(value: Any, stream: bool) -> Emitter:
    """The emitter that has been told of a reply which is *value*, streamed or not."""
    call = Call("create", {"input": "hi"}, "m", stream, "minimax", "minimax")
    emitter = Emitter(response_id="resp_1", created_at=1, model="m", echo=call.body, stream=stream)
    translator = ChatDialect().translator(call, emitter)
    translator.feed("", json.dumps(value).encode())
    if stream:
        translator.feed("", b"[DONE]")
    translator.close()
    return emitter
