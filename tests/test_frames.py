"""What one request costs, in calls of our own functions: a bound, so that it is raised on purpose or not at all."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST = {"native": (74, 27), "chat": (208, 50), "large": (101, 32)}
"""Frames and modules of each case of `benchmarks/frames.py`."""
FIGURES = re.compile(r"^(\w+) +(\d+) frames in +(\d+) modules", re.MULTILINE)


def test_a_request_takes_no_more_calls_than_it_did() -> None:
    """In a process of its own: where trio was imported, a request asks which event loop it is on."""
    command = [sys.executable, "-m", "benchmarks.frames", "--loops", "10", "--rounds", "1"]
    said = subprocess.run(command, cwd=ROOT, timeout=60, check=True, capture_output=True, text=True).stdout
    found = {name: (int(frames), int(modules)) for name, frames, modules in FIGURES.findall(said)}

    assert found.keys() == MOST.keys()
    for name, (frames, modules) in found.items():
        assert (frames <= MOST[name][0], modules <= MOST[name][1]) == (True, True), said
