"""`manage.py gomodel_ledger purge | export | sums`, for the ledger of the project's gateway."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import anyio
from django.core.management.base import BaseCommand, CommandError

from .....ledger.commands import add_arguments, carry_out
from ...configuration import get_gateway


class Command(BaseCommand):
    """Deletes, exports and sums up what `GOMODEL["LEDGER"]` has kept."""

    help = __doc__

    def add_arguments(self, parser: Any) -> None:
        """Adds what the command understands; see `BaseCommand`."""
        add_arguments(parser)

    def handle(self, *arguments: Any, **options: Any) -> None:
        """Does what the command line says; see `BaseCommand`.

        :raises CommandError: the settings name no ledger.
        """
        try:
            ledger = get_gateway().ledger
        except RuntimeError as error:
            raise CommandError(f"GOMODEL['LEDGER']: {error}") from None
        anyio.run(carry_out, ledger, Namespace(**options), self.stdout)
