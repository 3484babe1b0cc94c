"""What can be asked on the command line, and how it ends.

Exit codes: 0 all is well; 1 a problem was found (`check`), the policy refuses the request (`explain`), or nothing is
configured (`providers`); 2 the command itself could not be carried out: wrong arguments, a module that cannot be
imported, a file that cannot be read.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence

from ..testing.provider import APIS
from ..version import __version__
from . import check, explain, fake, loading
from .loading import Unusable

EXIT_CODES = "Exit codes: 0 all is well, 1 a problem was found, 2 the command could not be carried out."
GATEWAY = "a Gateway, or an app that has one, as `package.module:name`"


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line (that of the process, if None); its exit code."""
    given = parser().parse_args(arguments)
    try:
        code: int = given.run(given)
    except Unusable as error:
        print(f"gomodel_asgi: {error}", file=sys.stderr)
        return 2
    return code


def parser() -> ArgumentParser:
    """The whole grammar."""
    whole = ArgumentParser("python -m gomodel_asgi", description=__doc__.splitlines()[0], epilog=EXIT_CODES)
    whole.add_argument("--version", action="version", version=__version__)
    commands = whole.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _check(
        commands.add_parser("check", help="ask every provider of a gateway whether it could serve", epilog=EXIT_CODES)
    )
    _explain(commands.add_parser("explain", help="say where a request would go; nothing is sent", epilog=EXIT_CODES))
    _providers(commands.add_parser("providers", help="list what the environment configures", epilog=EXIT_CODES))
    _fake(commands.add_parser("fake", help="serve a fake provider", formatter_class=RawDescriptionHelpFormatter))
    return whole


def _check(command: ArgumentParser) -> None:
    command.description = "Imports a gateway; asks each of its providers for its models, with its key."
    command.add_argument("gateway", metavar="module:gateway", help=GATEWAY)
    _finish(command, check.run)


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
    _finish(command, explain.run)


def _providers(command: ArgumentParser) -> None:
    command.description = "Lists the providers that the environment configures, as `providers.from_env` finds them."
    _finish(command, loading.run)


def _fake(command: ArgumentParser) -> None:
    command.description = "Serves a fake provider until Ctrl-C: a whole API, no key needed."
    command.epilog = fake.FAULTS_HELP
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
    _finish(command, fake.run)


def _finish(command: ArgumentParser, run: object) -> None:
    command.add_argument("--json", action="store_true", help="write JSON, for programs")
    command.set_defaults(run=run)
    command.epilog = command.epilog or EXIT_CODES
