"""Keeps retries a fraction of the traffic, so that a failing upstream is not stormed."""

from __future__ import annotations

SHARE = 0.2  # retries per request that the traffic may carry
RESERVE = 10.0  # retries that a gateway with little traffic may still make
CEILING = 100.0  # what a long quiet time can save up


class RetryBudget:
    """A purse: each request puts a fifth of a retry in, each retry takes one out."""

    __slots__ = ("purse",)

    def __init__(self) -> None:
        self.purse = RESERVE

    def earn(self) -> None:
        """A request has come in."""
        if self.purse < CEILING:
            self.purse += SHARE

    def spend(self) -> bool:
        """Take one retry out; False where there is none."""
        if self.purse < 1.0:
            return False
        self.purse -= 1.0
        return True
