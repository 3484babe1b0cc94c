"""What a fault is."""

from __future__ import annotations

from typing import Protocol

from ..plan import Plan


class Fault(Protocol):
    """Turns the plan of a good reply into that of a bad one. Write your own with one method."""

    def apply(self, plan: Plan) -> Plan:
        """The plan with the fault in it.

        :raises ValueError: this reply cannot fail in this way.
        """
        ...
