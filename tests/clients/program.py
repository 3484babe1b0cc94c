"""A client's program in a process of its own, asked for one feature after another."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from pathlib import Path
from subprocess import PIPE
from typing import Protocol, Self

from .features import FACTS, Feature
from .installing import Client, python_of

PROGRAMS = Path(__file__).parent / "programs"
START = 120
"""Seconds until a program has imported its library."""
ATTEMPT = 60
"""Seconds for one feature."""


class Driver(Protocol):
    """Makes a client try a feature."""

    def attempt(self, feature: Feature) -> str | None:
        """What is wrong, empty where nothing is, None where the client has no such feature."""
        ...


class Program:
    """A program of `programs`; one that does not answer in time is stopped, and begun anew for the next feature."""

    def __init__(self, client: Client, into: Path, environment: dict[str, str]) -> None:
        self.environment = environment
        if client.npm:
            # Where a program stands is where Node looks for its packages.
            for program in PROGRAMS.glob("*.mjs"):
                shutil.copy(program, into / "node")
            self.command = ["node", str(into / "node" / client.program)]
        else:
            self.command = [str(python_of(client, into)), "-W", "ignore", str(PROGRAMS / client.program)]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command, env=self.environment, text=True, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        self.complaints: list[str] = []
        assert self.process.stderr is not None
        threading.Thread(target=self.complaints.extend, args=(self.process.stderr,), daemon=True).start()
        first = self.line(START)
        self.features: list[str] = json.loads(first) if first else []

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def attempt(self, feature: Feature) -> str | None:
        if not self.features:
            return f"the program does not start: {''.join(self.complaints)[-2000:]}"
        if feature.name not in self.features:
            return None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"feature": feature.name, "facts": FACTS}) + "\n")
        self.process.stdin.flush()
        answer = self.line(ATTEMPT)
        if answer:
            return json.loads(answer)["problem"] or ""
        problem = f"no answer within {ATTEMPT} seconds, or the program broke: {''.join(self.complaints)[-1000:]}"
        self.stop()
        self.start()
        return problem

    def line(self, seconds: float) -> str:
        """The next line of the program, empty where none comes in time."""
        found: list[str] = []
        output = self.process.stdout
        assert output is not None
        reader = threading.Thread(target=lambda: found.append(output.readline()), daemon=True)
        reader.start()
        reader.join(seconds)
        return found[0] if found else ""
