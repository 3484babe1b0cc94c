"""What can be asked on the command line, and how it ends.

Exit codes: 0 all is well; 1 the policy refuses the request (`explain`), or nothing is configured (`providers`); 10 to
31 the gravest finding of `check`; 2 the command itself could not be carried out: wrong arguments, a module that cannot
be imported, a file that cannot be read; 130 Ctrl-C.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anyio

from ..errors import GatewayError
from ..explanation import Candidate, Explanation
from ..gateway import Gateway
from ..ledger.commands import add_arguments, carry_out
from ..testing.faults import Cut, Empty, ErrorInside, Fault, Garbage, Html, Malformed, NoTerminal, Slow, Stall, Status
from ..testing.provider import APIS, FakeProvider, Scripted
from ..version import __version__
from . import check, loading
from .hosts import find_gateway, load_gateway, load_ledger
from .loading import Unusable, load, write_json, write_pairs, write_table

# `fake`: the fake provider on a port, with chosen faults.


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


def run_fake(given: Namespace) -> int:
    """Serves a fake provider until Ctrl-C.

    :raises Unusable: a fault is not known, or the address cannot be listened on.
    :raises KeyboardInterrupt: Ctrl-C was pressed.
    """
    script = [_scripted(spelling) for spelling in given.fault]
    provider = FakeProvider(
        dialect=given.dialect, models=given.model, strict=given.strict, template=given.template, pace=given.pace
    )
    for _ in range(ROUNDS if given.loop else 1):
        provider.script(script)
    try:
        anyio.run(_serve, provider, given)
    except OSError as error:
        problem = f"cannot listen on {given.host}, port {given.port}: {error.strerror or error}"
        raise Unusable(f"{problem}. Choose another with --port, or leave it out for a free one.") from None
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
    """Returns the fault that *spelling* names, as `cut=3`.

    :raises Unusable: there is none of that name, or its number is none.
    """
    name, _, number = spelling.partition("=")
    if name not in FAULTS:
        raise Unusable(f"--fault {spelling}: there are {', '.join([*FAULTS, GOOD])}.")
    try:
        return FAULTS[name][1](float(number) if number else None)
    except ValueError:
        raise Unusable(f"--fault {spelling}: '{number}' is no number.") from None


def _count(number: float | None, otherwise: int | None) -> int | None:
    return otherwise if number is None else int(number)


# `check`: whether a gateway could serve.


def run_check(given: Namespace) -> int:
    """Checks a gateway; returns 0, or the status of the gravest finding.

    :raises Unusable: there is none.
    """
    first, *others = find_gateway(given.gateway)
    return check.run(first.gateway, first.path + first.gateway.prefix, len(others), as_json=given.json)


# `explain`: where a request would go, and why.


EXPLAINED = ("", "provider", "model", "dialect", "base URL", "why")


def run_explain(given: Namespace) -> int:
    """Prints where a request would go; returns 1 if the policy refuses, fails, or names an unconfigured provider.

    :raises Unusable: an argument names nothing that can be used.
    """
    gateway, body, scope = load_gateway(given.gateway), _read(given.body), _scope(given)
    try:
        explanation = anyio.run(_explained, gateway, body, scope, given.tenant)
    except GatewayError as error:
        raise Unusable(f"{given.body}: {error.message}") from None
    except LookupError as error:
        return _report_problem(given, str(error.args[0]))
    if explanation.error is not None:
        return _report_problem(given, _refusal(explanation.error), explanation)
    if given.json:
        write_json(_as_json(explanation, None))
    else:
        write_pairs({"model": explanation.model or "none named", "hint": explanation.hint or "none"})
        print()
        found = explanation.candidates
        rows = [(one.provider, one.model or "", one.dialect, one.url, one.why) for one in found]
        write_table(EXPLAINED, [(number, *row) for number, row in enumerate(rows, 1)])
        if any(one.tools for one in found):
            print()
            write_pairs({f"tools of {number}": _tools(one) for number, one in enumerate(found, 1)})
    return 0


def _tools(candidate: Candidate) -> str:
    return ", ".join(f"{name} {place}" for name, place in candidate.tools.items())


async def _explained(gateway: Gateway, body: bytes, scope: dict[str, Any], tenant: str | None) -> Explanation:
    async with gateway:
        return await gateway.explain(body, scope=scope, tenant=tenant)


def _read(path: str) -> bytes:
    """Returns the bytes of the file *path*, or of the standard input for "-".

    :raises Unusable: it cannot be read.
    """
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise Unusable(f"{path} cannot be read: {error.strerror}.") from None


def _scope(given: Namespace) -> dict[str, Any]:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/v1/responses",
        "query_string": b"",
        "state": {},
    }
    scope["headers"] = list(_headers(given.header))
    if given.user is not None:
        scope["user"] = load(given.user)
    return scope


def _headers(lines: Iterable[str]) -> Iterable[tuple[bytes, bytes]]:
    """Gives the names and values of headers, written as `name: value`.

    :raises Unusable: one is not.
    """
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not line.isascii():
            raise Unusable(f"{line}: write a header as 'name: value'.")
        yield name.strip().lower().encode(), value.strip().encode()


def _refusal(error: GatewayError) -> str:
    text = f"{error.status} {error.code}: {error.message}"
    cause = error.__cause__
    return text if cause is None else f"{text}\nThe policy raised {type(cause).__name__}: {cause}"


def _report_problem(given: Namespace, problem: str, explanation: Explanation | None = None) -> int:
    write_json(_as_json(explanation, problem)) if given.json else print(problem)
    return 1


def _as_json(explanation: Explanation | None, problem: str | None) -> dict[str, Any]:
    if explanation is None:
        return {"model": None, "hint": None, "candidates": [], "problem": problem}
    candidates = [asdict(candidate) for candidate in explanation.candidates]
    return {"model": explanation.model, "hint": explanation.hint, "candidates": candidates, "problem": problem}


# `ledger`: what is kept of exchanges, and what they cost.


def run_ledger(given: Namespace) -> int:
    """Purges, exports or sums up the ledger of a gateway; returns 0.

    :raises Unusable: there is none.
    """
    ledger = load_ledger(given.gateway)
    try:
        anyio.run(carry_out, ledger, given)
    except ValueError as error:
        raise Unusable(str(error)) from None
    return 0


# The grammar.


EXIT_CODES = "Exit codes: 0 all is well, 1 a problem was found, 2 the command could not be carried out, 130 Ctrl-C."
CHECK_CODES = f"{EXIT_CODES} Findings: {', '.join(f'{code} {name}' for name, code in check.STATUSES.items())}."
INTERRUPTED = 130
"""What a shell gives for a command that Ctrl-C has ended: 128 and the number of the signal."""
GATEWAY = "a Gateway, or an app that has one, as `package.module:name`"


def main(arguments: Sequence[str] | None = None) -> int:
    """Carries out a command line (that of the process, if None) and returns its exit code."""
    given = parser().parse_args(arguments)
    try:
        code: int = given.run(given)
    except Unusable as error:
        print(f"gomodel_asgi: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return INTERRUPTED
    return code


def parser() -> ArgumentParser:
    """Returns the parser of the whole command line."""
    whole = ArgumentParser("python -m gomodel_asgi", description=__doc__.splitlines()[0], epilog=EXIT_CODES)
    whole.add_argument("--version", action="version", version=__version__)
    commands = whole.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _check(
        commands.add_parser("check", help="ask every provider of a gateway whether it could serve", epilog=CHECK_CODES)
    )
    _explain(commands.add_parser("explain", help="say where a request would go; nothing is sent", epilog=EXIT_CODES))
    _providers(commands.add_parser("providers", help="list what the environment configures", epilog=EXIT_CODES))
    _ledger(commands.add_parser("ledger", help="purge, export and sum up the ledger of a gateway", epilog=EXIT_CODES))
    _fake(commands.add_parser("fake", help="serve a fake provider", formatter_class=RawDescriptionHelpFormatter))
    return whole


def _check(command: ArgumentParser) -> None:
    command.description = "Imports a gateway; asks each of its providers for its models, with its key."
    command.add_argument("gateway", metavar="module:gateway", help=GATEWAY)
    _finish(command, run_check)


def _explain(command: ArgumentParser) -> None:
    command.description = "Asks a gateway's policy where a request would go. Nothing is sent."
    command.add_argument("gateway", metavar="module:gateway", help=GATEWAY)
    command.add_argument("body", metavar="body.json", help="the request's JSON; `-` reads standard input")
    command.add_argument("--user", metavar="module:name", help="the host's user whose request it is")
    command.add_argument(
        "--tenant", help="the tenant whose request it is; by default what the gateway makes of the user"
    )
    command.add_argument(
        "--header", action="append", default=[], metavar="'name: value'", help="a header of the client"
    )
    _finish(command, run_explain)


def _providers(command: ArgumentParser) -> None:
    command.description = "Lists the providers that the environment configures, as `providers.from_env` finds them."
    _finish(command, loading.run)


def _ledger(command: ArgumentParser) -> None:
    command.description = "Deletes old rows of a gateway's ledger, or writes its rows or sums as CSV."
    add_arguments(command, of=f"{GATEWAY}; or a Ledger")
    command.set_defaults(run=run_ledger)


def _fake(command: ArgumentParser) -> None:
    command.description = "Serves a fake provider until Ctrl-C: a whole API, no key needed."
    command.epilog = FAULTS_HELP
    command.add_argument("--host", default="127.0.0.1", help="where to listen (default %(default)s)")
    command.add_argument("--port", type=int, default=0, help="the port; by default a free one")
    command.add_argument(
        "--dialect", choices=tuple(APIS), default="responses", help="the API that it speaks (default %(default)s)"
    )
    command.add_argument(
        "--model", action="append", default=[], metavar="NAME", help="a model that it has; by default it has every one"
    )
    command.add_argument("--strict", action="store_true", help="refuse what only OpenAI itself refuses")
    command.add_argument("--template", action="store_true", help="refuse what the chat templates of open models refuse")
    command.add_argument(
        "--pace", type=float, default=0.0, metavar="SECONDS", help="a pause before each event of a stream"
    )
    command.add_argument("--fault", action="append", default=[], metavar="NAME[=N]", help="what goes wrong; see below")
    command.add_argument("--loop", action="store_true", help="begin with the first --fault again after the last")
    _finish(command, run_fake)


def _finish(command: ArgumentParser, run: object) -> None:
    command.add_argument("--json", action="store_true", help="write JSON, for programs")
    command.set_defaults(run=run)
    command.epilog = command.epilog or EXIT_CODES
