"""A finished response told again as the event stream that it could have been."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import UpstreamRejected
from ..wire.event_writer import DONE, error_event, frame

Json = dict[str, Any]
TERMINAL_OF_STATUS = {"incomplete": "response.incomplete", "failed": "response.failed", "cancelled": "response.failed"}
WHOLE_FIELDS = {
    "function_call": ("arguments", "response.function_call_arguments"),
    "custom_tool_call": ("input", "response.custom_tool_call_input"),
}
TEXT_FIELDS = {"output_text": ("text", "response.output_text"), "refusal": ("refusal", "response.refusal")}


def events_of(response: Json) -> list[Json]:
    """Every event of *response*, numbered from 0, in the order of the event grammar."""
    events = [*_events(response)]
    return [{"type": event.pop("type"), "sequence_number": number, **event} for number, event in enumerate(events)]


def stream_of(response: Json) -> bytes:
    """`events_of` as bytes, `[DONE]` included."""
    return b"".join(map(frame, events_of(response))) + DONE


def _events(response: Json) -> Iterator[Json]:
    begun = {**response, "status": "in_progress", "output": [], "usage": None, "error": None, "completed_at": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(response.get("output") or ()):
        yield from _item(index, item)
    if response.get("status") == "failed":
        error = response.get("error") or {}
        failure = UpstreamRejected(error.get("message") or "The response failed.", code=error.get("code"))
        event = error_event(failure, 0)
        yield {name: value for name, value in event.items() if name != "sequence_number"}
    yield {"type": TERMINAL_OF_STATUS.get(response.get("status", ""), "response.completed"), "response": response}


def _item(index: int, item: Json) -> Iterator[Json]:
    place = {"item_id": item.get("id"), "output_index": index}
    yield {"type": "response.output_item.added", "output_index": index, "item": _begun(item)}
    if item.get("type") == "message":
        yield from _parts(place, item)
    elif item.get("type") == "reasoning":
        yield from _summary(place, item)
    elif item.get("type") in WHOLE_FIELDS:
        field, prefix = WHOLE_FIELDS[item["type"]]
        yield {"type": f"{prefix}.delta", **place, "delta": item.get(field, "")}
        yield {"type": f"{prefix}.done", **place, "name": item.get("name"), field: item.get(field, "")}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _begun(item: Json) -> Json:
    emptied: Json = {"message": {"content": []}, "reasoning": {"summary": []}}.get(item.get("type", ""), {})
    field = WHOLE_FIELDS.get(item.get("type", ""))
    return {**item, "status": "in_progress", **emptied, **({field[0]: ""} if field else {})}


def _parts(place: Json, item: Json) -> Iterator[Json]:
    for number, part in enumerate(item.get("content") or ()):
        here = {**place, "content_index": number}
        field, prefix = TEXT_FIELDS.get(part.get("type"), ("", ""))
        yield {"type": "response.content_part.added", **here, "part": {**part, **_cleared(field)}}
        if field:
            logprobs = {"logprobs": part.get("logprobs") or []} if field == "text" else {}
            yield {"type": f"{prefix}.delta", **here, "delta": part.get(field, ""), **logprobs}
            yield {"type": f"{prefix}.done", **here, field: part.get(field, ""), **logprobs}
        yield {"type": "response.content_part.done", **here, "part": part}


def _cleared(field: str) -> Json:
    cleared: dict[str, Json] = {"text": {"text": "", "annotations": []}, "refusal": {"refusal": ""}}
    return cleared.get(field, {})


def _summary(place: Json, item: Json) -> Iterator[Json]:
    for number, part in enumerate(item.get("summary") or ()):
        here = {**place, "summary_index": number}
        text = part.get("text", "")
        yield {"type": "response.reasoning_summary_part.added", **here, "part": {**part, "text": ""}}
        yield {"type": "response.reasoning_summary_text.delta", **here, "delta": text}
        yield {"type": "response.reasoning_summary_text.done", **here, "text": text}
        yield {"type": "response.reasoning_summary_part.done", **here, "part": part}
