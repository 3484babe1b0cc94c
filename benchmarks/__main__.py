"""Runs every benchmark once, briefly, so that they keep working: no figure of such a run means anything.

    python -m benchmarks

The exit status is 1 if one of them failed.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from . import serving

LONGEST = 180  # seconds that one of them may take: each needs at most 20, and a machine can be slow
COMMANDS = (
    "load integrity --scale 0.01",
    "load open --scale 0.02",
    "load faults --scale 0.01",
    "load overload --scale 0.1",
    "load disconnects --scale 0.02",
    "load shutdown --scale 0.05",
    "compare --rounds 1 --seconds 0.5 --only ours,httpx,httpx2,aiohttp",
    "isolation 5000 50",
    "observers 2",
    "ledger 2",
    "translation 2000 1",
    "checks 1",
    "frames --loops 20 --rounds 1",
    "counters 1",
    "operating --rounds 2 --requests 2 --beside HEAD",
    "many_rows --rows 20000 --rate 100 --rounds 1",
)
AT_A_TIME = 3  # they wait more than they work


def passes(command: str) -> bool:
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-m", *f"benchmarks.{command}".split()],
        cwd=serving.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        printed, _ = process.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # it prints where each of its threads stands
        printed, _ = process.communicate()
    outcome = "passed" if process.returncode == 0 else f"FAILED with {process.returncode}"
    print(f"== {command}: {outcome} in {time.perf_counter() - began:.1f} s\n{printed}", flush=True)
    return process.returncode == 0


def main() -> None:
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        sys.exit(0 if all(list(pool.map(passes, COMMANDS))) else 1)


if __name__ == "__main__":
    main()
