"""How a gateway, its providers and their breakers are doing: the snapshots that policies, hosts and the console get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["closed", "open", "half-open"]
"""Of a circuit breaker."""


@dataclass(frozen=True, slots=True)
class ProviderHealth:
    """A snapshot of one provider over all its models and credentials.

    *available* is false when every breaker that has seen requests is open: to a policy, for its request's tenant, which
    may be shut out alone. *requests* and *failures* are everybody's, of the last window (30 to 60 seconds);
    *failure_rate* is failures per request, 0 where there were none. *first_event* is the recent mean of seconds to the
    first event, None before any.
    """

    provider: str
    available: bool
    state: State
    in_flight: int
    requests: int
    failures: int
    failure_rate: float
    first_event: float | None


@dataclass(frozen=True, slots=True)
class BreakerHealth:
    """A snapshot of one breaker. Those of several credentials look alike: a credential is not shown.

    *retry_after* is the seconds until an open one lets a request through. *shut_out* is how many tenants it is open for
    though not for everybody; *state* does not count them.
    """

    provider: str
    model: str | None
    state: State
    in_flight: int
    requests: int
    failures: int
    retry_after: float
    shut_out: int = 0


@dataclass(frozen=True, slots=True)
class GatewayHealth(Mapping[str, ProviderHealth]):
    """A snapshot of a gateway: a mapping from the names of its providers to their health.

    *available* says whether a request could be answered by any provider, *draining* that new requests are refused.
    *in_flight* is how many are with an upstream. *breakers* are all that know of recent requests, those of providers
    made per request included. `to_dict` gives it as JSON has it; a web framework's response model takes it as it is.
    """

    available: bool
    draining: bool
    in_flight: int
    providers: Mapping[str, ProviderHealth]
    breakers: tuple[BreakerHealth, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns it in dicts, lists, strings and numbers: what `json.dumps` takes."""
        return {
            "available": self.available,
            "draining": self.draining,
            "in_flight": self.in_flight,
            "providers": {name: asdict(one) for name, one in self.providers.items()},
            "breakers": [asdict(one) for one in self.breakers],
        }

    def __getitem__(self, name: str) -> ProviderHealth:
        return self.providers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.providers)

    def __len__(self) -> int:
        return len(self.providers)
