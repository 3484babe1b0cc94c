"""Token counts of every API in one form: nothing lost, nothing counted twice."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gomodel_asgi.observers import Usage
from gomodel_asgi.observers.answer import estimate, read_usage
from gomodel_asgi.wire.usage import MEDIA


def test_responses_usage_is_taken_as_it_stands() -> None:
    raw = {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
        "output_tokens": 50,
        "output_tokens_details": {"reasoning_tokens": 40},
        "total_tokens": 150,
    }

    usage = read_usage(raw)

    assert usage == Usage(
        input_tokens=100, output_tokens=50, cached_tokens=60, cache_write_tokens=10, reasoning_tokens=40
    )
    assert usage is not None and usage.total_tokens == 150


def test_chat_reasoning_is_a_part_of_the_output() -> None:
    raw = {
        "prompt_tokens": 20,
        "completion_tokens": 30,
        "total_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 25},
    }

    assert read_usage(raw) == Usage(input_tokens=20, output_tokens=30, cached_tokens=5, reasoning_tokens=25)


def test_chat_output_counted_in_the_total_only_is_not_lost() -> None:
    raw = {
        "prompt_tokens": 20,
        "completion_tokens": 10,
        "total_tokens": 60,
        "completion_tokens_details": {"reasoning_tokens": 30},
    }

    assert read_usage(raw) == Usage(input_tokens=20, output_tokens=40, reasoning_tokens=30)


def test_anthropic_input_is_what_was_read_and_written_too() -> None:
    raw = {
        "input_tokens": 10,
        "cache_read_input_tokens": 200,
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10},
        "output_tokens": 7,
    }

    assert read_usage(raw) == Usage(
        input_tokens=240, output_tokens=7, cached_tokens=200, cache_write_tokens=30, cache_write_1h_tokens=10
    )


def test_anthropic_usage_without_a_cache_means_the_same_in_both_forms() -> None:
    assert read_usage({"input_tokens": 10, "output_tokens": 7}) == Usage(input_tokens=10, output_tokens=7)


def test_gemini_thoughts_are_added_to_the_candidates() -> None:
    raw = {
        "promptTokenCount": 10,
        "toolUsePromptTokenCount": 5,
        "cachedContentTokenCount": 4,
        "candidatesTokenCount": 20,
        "thoughtsTokenCount": 30,
        "totalTokenCount": 65,
    }

    assert read_usage(raw) == Usage(input_tokens=15, output_tokens=50, cached_tokens=4, reasoning_tokens=30)


def test_an_estimate_is_marked() -> None:
    assert estimate(b"123456789", 9, 8) == Usage(input_tokens=3, output_tokens=2, estimated=True)


def test_what_was_said_before_counts_where_it_is_sent_along() -> None:
    assert estimate(b"123456789", 89, 0) == Usage(input_tokens=23, estimated=True)


@pytest.mark.parametrize("size", [1_000, 100_000])
def test_media_counts_by_the_piece_and_not_by_its_bytes(size: int) -> None:
    picture = "data:image/png;base64," + "iVBORw0KGgo" * size
    body = json.dumps({"input": [{"image_url": picture}, {"image_url": picture}, "word " * 400]}).encode()
    usage = estimate(body, len(body), 0)

    assert 2 * MEDIA + 500 <= usage.input_tokens <= 2 * MEDIA + 600


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        "7",
        {},
        {"tokens": 7},
        {"input_tokens": None, "iterations": 7},
        {"cache_read_input_tokens": "x", "input_tokens": 1},
    ],
)
def test_what_is_no_usage_is_none(raw: Any) -> None:
    assert read_usage(raw) is None


@pytest.mark.parametrize("count", [-1, "5", None, True and None, 2**64, float("nan"), float("inf"), [], {}])
def test_a_count_that_is_none_counts_nothing(count: Any) -> None:
    assert read_usage({"input_tokens": count, "output_tokens": 1}) == Usage(output_tokens=1)
