"""For the tests of your app: a fake provider on a real socket, faults for it, harnesses for policies and tools.

    with FakeProvider().run_in_thread() as provider:
        provider.script(Answer(text="Hello"), Answer(calls=[ToolCall("weather", {"city": "Oslo"})]))
        provider.script(lambda prompt: Answer(text=f"The weather: {prompt.last.text}"))
        provider.fail_next(Status(429, retry_after=1))
        provider.fail_next(Cut(after_events=3))
        ...
        assert "sk-client-key" not in provider.requests[0]

The names are loaded on first use, so that the pytest plugin costs nothing where it is not used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .faults import (
        ContentType,
        Cut,
        Empty,
        ErrorInside,
        ExtraHeaders,
        Fault,
        Garbage,
        Html,
        Malformed,
        MalformedEvent,
        NoTerminal,
        Oversize,
        SetCookie,
        Slow,
        Stall,
        Status,
        Swapped,
        Trailing,
    )
    from .model import Message, Prompt, Tool
    from .plan import Answer, Reply, ToolCall
    from .policy import run_policy
    from .provider import FakeProvider, Scripted
    from .received import ReceivedRequest, Signal
    from .tool import ToolResult, run_tool

__all__ = [
    "Answer",
    "ContentType",
    "Cut",
    "Empty",
    "ErrorInside",
    "ExtraHeaders",
    "FakeProvider",
    "Fault",
    "Garbage",
    "Html",
    "Malformed",
    "MalformedEvent",
    "Message",
    "NoTerminal",
    "Oversize",
    "Prompt",
    "ReceivedRequest",
    "Reply",
    "Scripted",
    "SetCookie",
    "Signal",
    "Slow",
    "Stall",
    "Status",
    "Swapped",
    "Tool",
    "ToolCall",
    "ToolResult",
    "Trailing",
    "run_policy",
    "run_tool",
]

MODULES = {
    "FakeProvider": "provider",
    "Scripted": "provider",
    "Answer": "plan",
    "Reply": "plan",
    "ToolCall": "plan",
    "Message": "model",
    "Prompt": "model",
    "Tool": "model",
    "ReceivedRequest": "received",
    "Signal": "received",
    "ToolResult": "tool",
    "run_policy": "policy",
    "run_tool": "tool",
}
"""Where each name lives; what is not here is a fault."""


def __getattr__(name: str) -> object:
    """Imports a name when it is first used: some need an extra.

    :raises AttributeError: there is no such name.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f".{MODULES.get(name, 'faults')}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
