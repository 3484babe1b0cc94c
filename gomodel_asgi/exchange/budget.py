"""Keeps retries a fraction of the traffic, so that a failing upstream is not stormed, each tenant's apart."""

from __future__ import annotations

from collections import OrderedDict

# In tenths of a retry, so that sums are exact.
RETRY = 10
SHARE = 2  # per request: a fifth of a retry
RESERVE = 10 * RETRY  # what a gateway with little traffic may still make
CEILING = 100 * RETRY  # what a long quiet time can save up

MOST_TENANTS = 4096  # whose purses are kept; beyond this the one unused for longest is dropped


class RetryBudget:
    """Purses: each request puts a fifth of a retry in, each retry takes one out.

    A tenant's request puts half of that into a purse of the tenant's own, which its retries take from first, and half
    into the one for all. So whoever uses up what is there for all, the others keep what half of their requests earn.
    """

    __slots__ = ("own", "purse")

    def __init__(self) -> None:
        self.purse = RESERVE
        self.own: OrderedDict[str, int] = OrderedDict()

    def earn(self, tenant: str | None) -> None:
        """A request has come in."""
        share = SHARE
        if tenant is not None:
            share = SHARE // 2
            self.own[tenant] = min(self.own.get(tenant, 0) + share, CEILING // 2)
            self.own.move_to_end(tenant)
            if len(self.own) > MOST_TENANTS:
                self.own.popitem(last=False)
        if self.purse < CEILING:
            self.purse += share

    def spend(self, tenant: str | None) -> bool:
        """Take one retry out; False where there is none."""
        own = 0 if tenant is None else self.own.get(tenant, 0)
        if tenant is not None and own >= RETRY:
            self.own[tenant] = own - RETRY
            return True
        if self.purse < RETRY:
            return False
        self.purse -= RETRY
        return True
