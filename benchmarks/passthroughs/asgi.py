"""What the pass-throughs share: the ASGI side, and where the upstream is."""

from __future__ import annotations

import os

from starlette.types import Message, Receive

URL = os.environ.get("UPSTREAM", "http://127.0.0.1:9100/v1") + "/responses"
HEADERS = {"content-type": "application/json", "authorization": "Bearer sk-bench", "accept-encoding": "identity"}
END: Message = {"type": "http.response.body", "body": b"", "more_body": False}


async def read_body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def start(status: int, content_type: str) -> Message:
    return {"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type.encode())]}


def piece(data: bytes) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": True}
