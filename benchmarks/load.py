"""Does it hold under load?

    python -m benchmarks.load SCENARIO [--scale 1.0]

integrity     10,000 streams of 100 events, a hash over each
open          5,000 streams open at once
faults        100,000 requests, a fifth of them faulty: outcomes, memory, sockets
overload      ten times the load that fits: goodput beside the best
disconnects   10,000 clients that leave at any moment
shutdown      SIGTERM with 500 streams open

All of it on the loopback, with an upstream and a client of our own. *scale* multiplies the counts. The exit status is 1
where something was lost or left behind; times and rates are printed and judged by the reader.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable

import uvloop

from . import serving
from .scenarios import disconnects, faults, integrity, many_open, overload, shutdown

SCENARIOS: dict[str, Callable[[float], Awaitable[bool]]] = {
    "integrity": integrity.run,
    "open": many_open.run,
    "faults": faults.run,
    "overload": overload.run,
    "disconnects": disconnects.run,
    "shutdown": shutdown.run,
}


async def perform(scenario: str, scale: float) -> bool:
    return await SCENARIOS[scenario](scale)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    serving.raise_file_limit()
    sys.exit(0 if uvloop.run(perform(options.scenario, options.scale)) else 1)


if __name__ == "__main__":
    main()
