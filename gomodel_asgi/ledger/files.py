"""Files of lines that several processes append to, and from which whole lines come back, whatever was killed when.

Who writes holds a lock on the file (flock, which the system releases when a process dies) and looks whether the path
still names it: another one may have renamed or replaced it meanwhile. What is appended is on the disk (fsync) when
`append` returns, or is not there at all; a line that a killed process left half is ended before the next one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from ..threads import of_this_loop

try:
    import fcntl
except ImportError as error:  # pragma: no cover - not POSIX
    raise ImportError("A ledger's files need POSIX file locks, which this system has not.") from error

T = TypeVar("T")

THREADS = 4
"""Threads of our own for files, which block."""
_limiter: RunVar[CapacityLimiter] = RunVar("gomodel_asgi_ledger_files")


async def in_thread(function: Callable[..., T], *arguments: object, ends: bool = False) -> T:
    """Returns what *function* returns, run in one of a few threads of our own: the host may have used up all others. A
    cancelled caller waits for it only if it must have ended (*ends*); what is written may be written again."""
    limiter = of_this_loop(_limiter, lambda: CapacityLimiter(THREADS))
    return await to_thread.run_sync(function, *arguments, abandon_on_cancel=not ends, limiter=limiter)


@contextmanager
def held(path: Path) -> Iterator[int]:
    """The file at *path*, made where it is missing, which nobody else writes meanwhile: its descriptor.

    :raises OSError: it cannot be opened.
    """
    while True:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not names(path, file):
                continue
            yield file
            return
        finally:
            os.close(file)


def held_already(file: int) -> bool:
    """Locks *file* if nobody else has; returns whether somebody else has."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def names(path: Path, file: int) -> bool:
    """Returns whether *path* names the open *file*."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False


def append(path: Path, data: bytes, most: int | None = None) -> None:
    """Adds *data*, whole lines, to the file at *path*, all of it or nothing.

    :raises OSError: it cannot be written, or the file would have more than *most* bytes.
    """
    with held(path) as file:
        size = os.fstat(file).st_size
        if most is not None and size + len(data) > most:
            raise OSError(f"It would have more than {most} bytes.")
        half = size > 0 and os.pread(file, 1, size - 1) != b"\n"
        try:
            _write(file, b"\n" + data if half else data)
            os.fsync(file)
        except OSError:
            os.ftruncate(file, size)
            raise
        if size == 0:
            sync_directory(path)


def rewrite(path: Path, kept: Callable[[bytes], bool]) -> int:
    """Removes the lines of the file at *path* that are not *kept*; returns how many. A reader sees the file before or
    after, never a part of it.

    :raises OSError: it cannot be written.
    """
    if not path.exists():
        return 0
    with held(path) as file:
        gone, new = 0, path.with_name(path.name + ".new")
        try:
            with open(file, "rb", closefd=False) as old, open(new, "wb", opener=_private) as to:
                old.seek(0)
                for line in old:
                    if kept(line):
                        to.write(line if line.endswith(b"\n") else line + b"\n")
                    else:
                        gone += 1
                to.flush()
                os.fsync(to.fileno())
            if gone:
                os.rename(new, path)
                sync_directory(path)
        finally:
            new.unlink(missing_ok=True)
    return gone


def sync_directory(path: Path) -> None:
    """Brings the names in the directory of *path* to the disk."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
