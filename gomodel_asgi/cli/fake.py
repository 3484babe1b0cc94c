"""`fake`: the fake provider on a port, with chosen faults."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable

import anyio

from ..testing.faults import Cut, Empty, ErrorInside, Fault, Garbage, Html, Malformed, NoTerminal, Slow, Stall, Status
from ..testing.provider import FakeProvider, Scripted
from .loading import Unusable, write_json

FAULTS: dict[str, tuple[str, Callable[[float | None], Fault]]] = {
    "status": ("an error status, 500 if N is not given", lambda n: Status(int(n or 500))),
    "cut": ("the connection breaks off after N events (1)", lambda n: Cut(after_events=_count(n, 1))),
    "stall": ("silence for ever, before the head or after N events", lambda n: Stall(after_events=_count(n, None))),
    "slow": ("a piece of 16 bytes every N seconds (0.1)", lambda n: Slow(16, 0.1 if n is None else n)),
    "error": ("an error inside a 200, after N events (0)", lambda n: ErrorInside(after_events=_count(n, 0) or 0)),
    "no-terminal": ("a stream without its last events", lambda n: NoTerminal()),
    "malformed": ("a 200 that is not JSON", lambda n: Malformed()),
    "html": ("a web page with status 200", lambda n: Html()),
    "empty": ("a 200 without a body", lambda n: Empty()),
    "garbage": ("bytes that are not HTTP", lambda n: Garbage()),
}
GOOD = "none"
ROUNDS = 10_000  # how often --loop begins anew: for longer than anybody watches, in a few MB

FAULTS_HELP = "\n".join(
    [
        "Each --fault happens to one request, in order; later requests go well. Several at once: --fault cut=3,slow",
        "",
        *(f"  {name:<12} {meaning}" for name, (meaning, _) in FAULTS.items()),
        f"  {GOOD:<12} nothing: this request goes well",
    ]
)


def run(given: Namespace) -> int:
    """0 at Ctrl-C."""
    script = [_scripted(spelling) for spelling in given.fault]
    provider = FakeProvider(
        dialect=given.dialect, models=given.model, strict=given.strict, template=given.template, pace=given.pace
    )
    for _ in range(ROUNDS if given.loop else 1):
        provider.script(script)
    try:
        anyio.run(_serve, provider, given)
    except KeyboardInterrupt:
        pass
    except OSError as error:
        raise Unusable(f"cannot listen on {given.host}, port {given.port}: {error.strerror or error}") from None
    return 0


async def _serve(provider: FakeProvider, given: Namespace) -> None:
    async with provider.serve(host=given.host, port=given.port):
        if given.json:
            write_json({"base_url": provider.base_url})
        else:
            print(f"A fake provider ({given.dialect}) is served on {provider.base_url}. Ctrl-C stops it.", flush=True)
        await anyio.sleep_forever()


def _scripted(spelling: str) -> Scripted:
    return Scripted(None, tuple(_fault(part) for part in spelling.split(",") if part != GOOD))


def _fault(spelling: str) -> Fault:
    name, _, number = spelling.partition("=")
    if name not in FAULTS:
        raise Unusable(f"--fault {spelling}: there are {', '.join([*FAULTS, GOOD])}.")
    try:
        return FAULTS[name][1](float(number) if number else None)
    except ValueError:
        raise Unusable(f"--fault {spelling}: '{number}' is no number.") from None


def _count(number: float | None, otherwise: int | None) -> int | None:
    return otherwise if number is None else int(number)
