"""The processes of a run: gateways under uvicorn, upstreams; and what the kernel says of them (Linux)."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
TICK = os.sysconf("SC_CLK_TCK")
STARTING = 90.0  # seconds that a server may take to listen
UVICORN = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "critical", "--backlog", "8192")


def raise_file_limit() -> int:
    """Allow this process and those it starts as many files as may be; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A process that listens on *port* of the loopback until its `with` ends; *log* takes what it says."""

    def __init__(
        self, command: list[str], port: int, env: dict[str, str] | None = None, log: Path | None = None
    ) -> None:
        self.port = port
        with log.open("wb") if log is not None else nullcontext() as output:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | (env or {}), stdout=output, stderr=output
            )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def cpu(self) -> float:
        """Seconds of CPU, user and system, that the process has used."""
        fields = self._read("stat").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def rss(self) -> int:
        """Bytes of resident memory."""
        return int(self._read("status").split("VmRSS:")[1].split()[0]) * 1024

    def held(self) -> int:
        """Bytes of resident memory without the pages of files: the kernel drops and rereads those as it likes."""
        return int(self._read("status").split("RssAnon:")[1].split()[0]) * 1024

    def sockets(self) -> int:
        """How many sockets it holds, listening ones included."""
        links = Path(f"/proc/{self.process.pid}/fd")
        return sum(os.readlink(link).startswith("socket:") for link in links.iterdir() if link.is_symlink())

    def settled_sockets(self, wanted: int, seconds: float = 20.0) -> int:
        """How many sockets it holds once there are no more than *wanted*, or when *seconds* have passed."""
        until = time.monotonic() + seconds
        while (found := self._try_sockets(wanted)) > wanted and time.monotonic() < until:
            time.sleep(0.1)
        return found

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _try_sockets(self, wanted: int) -> int:
        try:
            return self.sockets()
        except FileNotFoundError:  # one was closed while we looked
            return wanted + 1

    def _read(self, name: str) -> str:
        return Path(f"/proc/{self.process.pid}/{name}").read_text()

    def _wait(self) -> None:
        until = time.monotonic() + STARTING
        while time.monotonic() < until and self.process.poll() is None:
            try:
                return socket.create_connection(("127.0.0.1", self.port), 0.2).close()
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"{self.process.args!r} does not listen on port {self.port}")


def gateway(target: str, upstream: int, *options: str, env: dict[str, str] | None = None) -> Server:
    """The ASGI app *target* under uvicorn, in front of the *upstream* on that port."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", target, "--port", str(port), *UVICORN, *options]
    return Server(command, port, {"UPSTREAM": f"http://127.0.0.1:{upstream}/v1", **(env or {})})


def upstream() -> Server:
    """Our own upstream."""
    port = free_port()
    return Server([sys.executable, "-m", "benchmarks.upstream", str(port)], port)
