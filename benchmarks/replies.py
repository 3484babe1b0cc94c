"""What the upstream of the load runs says, and what of it must reach the client: pure functions of a tag.

Every event names its stream and its place in it, so a hash over the bytes that arrived shows whatever was lost,
reordered, altered, or somebody else's.
"""

from __future__ import annotations

import json
from typing import Any
from zlib import crc32

TEXTS = (
    "plain words ",
    "caf\u00e9 na\u00efve \u2603 \U0001f680 ",
    "back\\\\slash and \\\"quotes\\\" ",
    "line\\nbreak\\ttab ",
    "{\\\"response\\\":{\\\"error\\\":null}} ",
    "[DONE] data: event: ",
    "\\u00e9scaped \\ud83d\\ude80 ",
    "x" * 300,
)  # fmt: skip
"""JSON string contents: characters of one to four bytes, escapes, and text that looks like the protocol."""
PROVIDER = "bench"


def response(tag: str, status: str, text: str = "") -> dict[str, Any]:
    """A response object whose id is made of *tag*."""
    content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    message = {"id": f"msg_{tag}", "type": "message", "role": "assistant", "status": "completed", "content": content}
    counts = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    return {
        "id": f"resp_{tag}", "object": "response", "created_at": 1772295219, "status": status, "error": None,
        "incomplete_details": None, "instructions": None, "model": "bench", "output": [message] if text else [],
        "parallel_tool_calls": True, "previous_response_id": None, "tool_choice": "auto", "tools": [],
        "usage": counts if status == "completed" else None, "metadata": {},
    }  # fmt: skip


def unary(tag: str) -> bytes:
    """The body of a reply that is no stream."""
    return _json(response(tag, "completed", f"hello {tag} " * 10))


def events(tag: str, deltas: int) -> list[bytes]:
    """A stream: the response's beginning, so many *deltas*, its end."""
    first = crc32(tag.encode())
    between = [_delta(tag, n, TEXTS[(first + n) % len(TEXTS)]) for n in range(1, deltas + 1)]
    return [
        _lifecycle("response.created", response(tag, "in_progress"), 0),
        *between,
        _lifecycle("response.completed", response(tag, "completed", f"end of {tag}"), deltas + 1),
    ]


def arriving(tag: str, deltas: int) -> bytes:
    """The bytes of that stream as the client must get them: stamped with the provider's name, else untouched."""
    first, *between, last = events(tag, deltas)
    return b"".join([_stamped(first), *between, _stamped(last)])


def arriving_unary(tag: str) -> bytes:
    """The same of a reply that is no stream."""
    return b'{"provider":"%s",%s' % (PROVIDER.encode(), unary(tag)[1:])


def _stamped(event: bytes) -> bytes:
    return event.replace(b'"response":{', b'"response":{"provider":"%s",' % PROVIDER.encode(), 1)


def _delta(tag: str, number: int, text: str) -> bytes:
    return (
        'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",'
        f'"sequence_number":{number},"item_id":"msg_{tag}","output_index":0,"content_index":0,'
        f'"delta":"{tag}.{number} {text}","logprobs":[]}}\n\n'
    ).encode()


def _lifecycle(kind: str, value: dict[str, Any], number: int) -> bytes:
    data = {"type": kind, "sequence_number": number, "response": value}
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), _json(data))


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
