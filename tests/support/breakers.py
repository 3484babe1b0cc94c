"""Breakers driven by hand, on a clock that goes when it is told to."""

from __future__ import annotations

from gomodel_asgi.resilience.circuit_breaker import Breaker, Permit


class Clock:
    """A clock of the test's own."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def let_through(breaker: Breaker, tenant: str | None) -> Permit:
    """A permit that must be given."""
    permit = breaker.admit(tenant)
    assert permit is not None
    return permit
