"""What forwarding costs: our gateway, bare pass-throughs with three libraries, and LiteLLM's proxy, in one run.

    python -m benchmarks.compare [--rounds 5] [--seconds 3] [--only ours,httpx] [--json OUT]

All stand in front of the same upstream, under the same uvicorn (LiteLLM brings its own), one process each, asked by the
same client. Cases: `json`, small unary requests on 16 connections; `stream`, 200 events 1 ms apart on 32. Each round
asks each contender in turn, so that a busy minute of the machine is shared by all. CPU is the contender's own process
(user and system, from /proc); what is quoted is the median over the rounds, with the least and the most.
A contender that is not installed is left out, and said so.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from . import serving
from .client import Connection, body_of, connect, request_of

EVENTS = 200
CONNECTIONS = {"json": 16, "stream": 32}
KEYS = {"json": ("cpu_us", "p50_ms", "p99_ms", "rss_mb"), "stream": ("cpu_us_event", "p50_ms", "p99_ms", "rss_mb")}
BODIES = {"json": body_of(False), "stream": body_of(True, events=EVENTS, gap_ms=1)}
COMMON_UPSTREAM = serving.ROOT.parent / "shared" / "bench" / "upstream.py"
"""The upstream of the yardstick that the project's targets refer to; where it is not there, our own serves."""
LITELLM = """
model_list:
  - model_name: bench
    litellm_params: {model: openai/bench, api_base: "http://127.0.0.1:%d/v1", api_key: sk-bench}
"""
KEY = f"sk-{secrets.token_hex(32)}"
"""What the client shows to all of them; LiteLLM does not start without one."""
Figures = dict[str, float]


def asgi(target: str) -> Callable[[int], serving.Server]:
    return lambda upstream: serving.gateway(target, upstream)


def litellm(upstream: int) -> serving.Server:
    config = Path(tempfile.mkdtemp()) / "litellm.yaml"
    config.write_text(LITELLM % upstream)
    port = serving.free_port()
    command = [
        shutil.which("litellm") or "litellm",
        "--config",
        str(config),
        "--port",
        str(port),
        "--telemetry",
        "False",
    ]
    # Its own packages only, nothing fetched.
    env = {"LITELLM_MASTER_KEY": KEY, "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": ""}
    return serving.Server(command, port, env, config.with_suffix(".log"))


CONTENDERS: dict[str, Callable[[int], serving.Server]] = {
    "ours": asgi("benchmarks.app:app"),
    "httpx": asgi("benchmarks.passthroughs.with_httpx:app"),
    "httpx2": asgi("benchmarks.passthroughs.with_httpx2:app"),
    "aiohttp": asgi("benchmarks.passthroughs.with_aiohttp:app"),
    "litellm": litellm,
}


def installed(name: str) -> bool:
    if name == "litellm":
        return shutil.which("litellm") is not None
    return name == "ours" or importlib.util.find_spec(name) is not None


def upstream() -> serving.Server:
    if not COMMON_UPSTREAM.exists():
        return serving.upstream()
    port = serving.free_port()
    return serving.Server([sys.executable, str(COMMON_UPSTREAM), str(port)], port)


async def ask(connection: Connection, port: int, until: float, data: bytes, latencies: list[float]) -> int:
    """Ask again and again until it is time; how many were not answered with a whole 200."""
    failed = 0
    while time.perf_counter() < until:
        since = time.perf_counter()
        await connection.ask(data)
        latencies.append(time.perf_counter() - since)
        failed += connection.status != 200 or not connection.whole
        if not connection.reusable:
            connection.abort()
            connection = await connect(port)
    connection.abort()
    return failed


async def load(port: int, case: str, seconds: float) -> tuple[list[float], int]:
    """Seconds that each request took, and how many failed."""
    latencies: list[float] = []
    connections = [await connect(port) for _ in range(CONNECTIONS[case])]
    until, data = time.perf_counter() + seconds, request_of(BODIES[case], KEY)
    failed = await asyncio.gather(*(ask(each, port, until, data, latencies) for each in connections))
    return latencies, sum(failed)


def measure(server: serving.Server, case: str, seconds: float) -> Figures:
    uvloop.run(load(server.port, case, seconds / 4))
    before = server.cpu()
    latencies, failed = uvloop.run(load(server.port, case, seconds))
    cpu = (server.cpu() - before) / len(latencies) * 1e6
    cuts = statistics.quantiles(latencies, n=100)
    return {
        "cpu_us": cpu, "cpu_us_event": cpu / EVENTS, "p50_ms": cuts[49] * 1e3, "p99_ms": cuts[98] * 1e3,
        "rss_mb": server.rss() / 1e6, "requests": len(latencies), "failed": failed,
    }  # fmt: skip


def compete(names: list[str], rounds: int, seconds: float) -> dict[str, dict[str, list[Figures]]]:
    """Figures by case, contender and round."""
    found: dict[str, dict[str, list[Figures]]] = {case: {name: [] for name in names} for case in BODIES}
    with upstream() as up:
        for turn in range(rounds):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                for case in BODIES:
                    with CONTENDERS[name](up.port) as server:
                        found[case][name].append(measure(server, case, seconds))
    return found


def summary(runs: list[Figures]) -> dict[str, dict[str, float]]:
    """Of each figure the median, the least and the most."""
    columns = {key: [run[key] for run in runs] for key in runs[0]}
    return {
        key: {"median": statistics.median(values), "least": min(values), "most": max(values)}
        for key, values in columns.items()
    }


def table(case: str, rows: dict[str, dict[str, dict[str, float]]]) -> str:
    """Markdown: a row for each contender, median (least to most), and CPU as a multiple of ours."""
    keys = KEYS[case]
    lines = [f"| {case} | {' | '.join(keys)} | CPU to ours | failed |", "|---|" + "---|" * (len(keys) + 2)]
    for name, row in rows.items():
        cells = [f"{row[k]['median']:.4g} ({row[k]['least']:.4g} to {row[k]['most']:.4g})" for k in keys]
        ours = rows.get("ours", row)["cpu_us"]["median"]
        cells += [f"{row['cpu_us']['median'] / ours:.1f}", f"{row['failed']['most']:.0f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--only", default=",".join(CONTENDERS))
    parser.add_argument("--json")
    options = parser.parse_args()
    names = [name for name in options.only.split(",") if installed(name)]
    for name in set(options.only.split(",")) - set(names):
        print(f"{name} is not installed, so it is left out.")
    found = compete(names, options.rounds, options.seconds)
    report = {case: {name: summary(runs) for name, runs in rows.items()} for case, rows in found.items()}
    for case, rows in report.items():
        print(table(case, rows), end="\n\n")
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
