"""Which event loop runs us, asked without a system call where trio was never imported."""

from __future__ import annotations

import sys


def on_trio() -> bool:
    """Whether the running task is trio's; if not, it is asyncio's."""
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_task())
