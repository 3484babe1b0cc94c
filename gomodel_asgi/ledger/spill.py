"""Rows that the sink cannot take now, on the disk until it can.

    ledger.spill                       what is added now, by every process that names this path
    ledger.spill.<number>.replay       taken out of its way, to be written into the sink

Who replays renames the file and holds a lock on it, so that only one process replays it. If that one is killed, its
lock is gone and the next one begins anew: rows that are written twice are written once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from uuid import uuid4

import msgspec

from ..logs import log
from ..settings import MIB
from .files import append, held, held_already, in_thread, names
from .row import Entry, decode_entry, encode

MOST = 1024 * MIB
"""Bytes of the file that is added to: some million rows."""


class Spill:
    """The rows at *path*, a file of JSON lines on a local disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def put(self, entries: Sequence[Entry]) -> None:
        """Adds *entries*; when this returns they are on the disk.

        :raises OSError: they are not: there is no room, or no such directory.
        """
        data = b"".join(encode(entry) + b"\n" for entry in entries)
        await in_thread(append, self.path, data, MOST)

    async def set_aside(self, entry: Entry) -> Path:
        """Adds *entry*, which no sink takes, to the file `<path>.refused`, for somebody to look at, and returns that.

        :raises OSError: it cannot be written.
        :raises ValueError: it cannot be written as JSON.
        """
        path = self.path.with_name(f"{self.path.name}.refused")
        await in_thread(append, path, encode(entry) + b"\n", MOST)
        return path

    async def claim(self) -> Claim | None:
        """Returns some of the rows, to be replayed by nobody else; None where there is none.

        :raises OSError: they cannot be read.
        """
        return await in_thread(self._claim, ends=True)

    def _claim(self) -> Claim | None:
        if self.path.exists() and self.path.stat().st_size:
            with held(self.path):
                os.rename(self.path, self.path.with_name(f"{self.path.name}.{uuid4().hex}.replay"))
        for path in sorted(self.path.parent.glob(f"{self.path.name}.*.replay")):
            found = _locked(path)
            if found is not None:
                return Claim(path, found)
        return None


def _locked(path: Path) -> int | None:
    """Returns the file at *path*, unless another process replays it, or has just done so."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if held_already(file) or not names(path, file):
        os.close(file)
        return None
    return file


class Claim:
    """Spilled rows that are this process's to replay, until it lets go of them."""

    def __init__(self, path: Path, file: int) -> None:
        self.path = path
        self.lines = open(file, "rb")
        self.unreadable = 0

    async def read(self, count: int) -> list[Entry]:
        """Returns the next entries, at most *count*; none at the end."""
        return await in_thread(self._read, count, ends=True)

    def _read(self, count: int) -> list[Entry]:
        found: list[Entry] = []
        while not found and (lines := list(islice(self.lines, count))):
            for line in lines:
                try:
                    found.append(decode_entry(line))
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    self.unreadable += bool(line.strip())
        return found

    async def done(self) -> None:
        """All of them are in the sink."""
        if self.unreadable:
            log("ledger_spill_damaged", rows=self.unreadable, path=str(self.path))
        await in_thread(self._done, ends=True)

    def _done(self) -> None:
        self.path.unlink(missing_ok=True)
        self.lines.close()

    def release(self) -> None:
        """Closes the file and leaves it: its lines were not written, and the next writer reads them from the start."""
        self.lines.close()
