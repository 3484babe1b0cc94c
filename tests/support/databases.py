"""Real Redis and PostgreSQL processes: throw-away data, reached through a socket in a directory of their own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

SYSTEM_BINARIES = "/usr/lib/postgresql"

# Seconds that a server may take to start or to stop before the tests fail.
TIMEOUT = 60.0


class Server:
    """One process in a directory of its own, which can be stopped, frozen and started again on the same data."""

    def __init__(self, name: str, listens_on: str, user: str | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"state-{name}-"))
        self.socket = self.directory / listens_on
        self.user = user
        self.process: subprocess.Popen[bytes] | None = None
        if user is not None:
            shutil.chown(self.directory, user)

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def start(self) -> None:
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(self.command(), user=self.user, stdout=log, stderr=log, cwd=self.directory)
        deadline = time.monotonic() + TIMEOUT
        while not self.answers():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError((self.directory / "log").read_text())
            time.sleep(0.01)

    def answers(self) -> bool:
        """Whether the server takes connections."""
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def signal(self, number: int) -> None:
        """Send a signal to the process and to its children, which PostgreSQL puts into groups of their own."""
        assert self.process is not None
        main = self.process.pid
        os.kill(main, number)
        for child in Path(f"/proc/{main}/task/{main}/children").read_text().split():
            with suppress(ProcessLookupError):  # one that has ended meanwhile
                os.kill(int(child), number)

    def stop(self) -> None:
        assert self.process is not None
        # PostgreSQL would wait for its clients, unless told to be quick.
        self.process.send_signal(signal.SIGINT)
        self.process.wait(TIMEOUT)

    def remove(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.directory)


class RedisServer(Server):
    def __init__(self) -> None:
        super().__init__("redis", "redis.sock")

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def command(self) -> Sequence[str]:
        return ["redis-server", "--port", "0", "--unixsocket", str(self.socket), "--save", "", "--appendonly", "no"]


class PostgresServer(Server):
    def __init__(self, binaries: Path) -> None:
        # PostgreSQL refuses to run as root.
        super().__init__("postgres", ".s.PGSQL.5432", "postgres" if os.geteuid() == 0 else None)
        self.binaries = binaries
        self.data = self.directory / "data"
        initdb = [str(binaries / "initdb"), "--pgdata", str(self.data), "--auth=trust", "--username=state", "--no-sync"]
        subprocess.run(initdb, user=self.user, check=True, capture_output=True, cwd=self.directory)

    @property
    def dsn(self) -> str:
        return f"postgresql://state@/postgres?host={self.directory}"

    def command(self) -> Sequence[str]:
        options = [f"unix_socket_directories={self.directory}", "listen_addresses=", "fsync=off", "shared_buffers=16MB"]
        flags = [word for option in options for word in ("-c", option)]
        return [str(self.binaries / "postgres"), "-D", str(self.data), *flags]

    def answers(self) -> bool:
        """PostgreSQL listens before it lets anyone in."""
        probe = [str(self.binaries / "pg_isready"), "--quiet", "--host", str(self.directory)]
        return subprocess.run(probe, check=False).returncode == 0


def postgres_binaries() -> Path | None:
    """Where initdb is: on the path, or where Debian puts it."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    return next((path.parent for path in sorted(Path(SYSTEM_BINARIES).glob("*/bin/initdb"))), None)
