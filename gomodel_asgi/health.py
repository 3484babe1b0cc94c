"""How the upstreams are doing: breakers, what is under way, recent times.

A breaker belongs to one provider, model and credential, so that one tenant's bad key or one broken model never closes
the door for others. It opens on a failure rate over a minimum of requests within a window, and after a pause lets one
request through; that one decides. Plain numbers on one clock: no task, no timer, no I/O.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from .providers.provider import Provider

WINDOW = 30.0  # seconds over which failures are counted
MINIMUM = 10  # requests in a window below which a rate says nothing
RATE = 0.5  # of failures, from which a breaker opens
PAUSE = 10.0  # seconds that an open breaker waits before it lets one request through
MAX_BREAKERS = 10_000  # one is about 200 bytes; beyond this the one unused for longest is dropped
LONGEST_MODEL = 256  # characters kept of a model's name, which clients write: a longer one is known by its hash

State = Literal["closed", "open", "half-open"]
Key = tuple[str, str, str | None, str]


@dataclass(frozen=True, slots=True)
class ProviderHealth:
    """A snapshot of one provider over all its models and credentials.

    *available* is false when every breaker that has seen requests is open. *requests* and *failures* are those of the
    last window (30 to 60 seconds), *first_event* the recent mean of seconds to the first event, None before any.
    """

    provider: str
    available: bool
    state: State
    in_flight: int
    requests: int
    failures: int
    first_event: float | None

    @property
    def failure_rate(self) -> float:
        """Failures per request, 0 where there were none."""
        return self.failures / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class BreakerHealth:
    """A snapshot of one breaker. Those of several credentials look alike: a credential is not told.

    *retry_after* is the seconds until an open one lets a request through.
    """

    provider: str
    model: str | None
    state: State
    in_flight: int
    requests: int
    failures: int
    retry_after: float


@dataclass(frozen=True, slots=True)
class GatewayHealth(Mapping[str, ProviderHealth]):
    """A snapshot of a gateway: a mapping from the names of its providers to their health.

    *breakers* are all that know of recent requests, those of providers made per request included. *draining* says that
    new requests are refused.
    """

    providers: Mapping[str, ProviderHealth]
    breakers: tuple[BreakerHealth, ...]
    draining: bool

    @property
    def available(self) -> bool:
        """Whether a request could be answered by any provider."""
        return not self.draining and any(one.available for one in self.providers.values())

    @property
    def in_flight(self) -> int:
        """Requests that are with an upstream."""
        return sum(one.in_flight for one in self.breakers)

    def __getitem__(self, name: str) -> ProviderHealth:
        return self.providers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.providers)

    def __len__(self) -> int:
        return len(self.providers)


class Breaker:
    """Counts in two windows that take turns: the running one and the one before."""

    __slots__ = ("clock", "failures", "in_flight", "opened", "probing", "requests", "since", "was")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.since = clock()
        self.requests = 0
        self.failures = 0
        self.was = (0, 0)
        self.opened: float | None = None
        self.probing = False
        self.in_flight = 0

    @property
    def state(self) -> State:
        if self.opened is None:
            return "closed"
        return "half-open" if self.clock() - self.opened >= PAUSE else "open"

    def admit(self) -> bool:
        """Whether a request may go: always when closed, one at a time when half-open. Pair with one `leave`."""
        if self.opened is not None:
            if self.probing or self.state == "open":
                return False
            self.probing = True
        self.in_flight += 1
        return True

    def leave(self, failed: bool | None) -> None:
        """The admitted request has ended: *failed*, or not, or (None) it says nothing about the upstream."""
        self.in_flight -= 1
        if self.opened is not None:
            self._probed(failed)
        if failed is not None:
            self._turn()
            self.requests += 1
            if failed:
                self._failed()

    def counts(self) -> tuple[int, int]:
        """Requests and failures of the running window and the one before."""
        self._turn()
        return self.requests + self.was[0], self.failures + self.was[1]

    def retry_after(self) -> float:
        """Seconds until an open breaker lets a request through."""
        return 0.0 if self.opened is None else max(0.0, self.opened + PAUSE - self.clock())

    def idle(self) -> bool:
        """Whether it knows nothing that a new one would not."""
        return not self.in_flight and self.opened is None and self.counts() == (0, 0)

    def _probed(self, failed: bool | None) -> None:
        self.probing = False
        if failed is False:
            self.opened = None
            self.requests, self.failures, self.was = 0, 0, (0, 0)
        elif failed:
            self.opened = self.clock()

    def _failed(self) -> None:
        self.failures += 1
        requests, failures = self.requests + self.was[0], self.failures + self.was[1]
        if self.opened is None and requests >= MINIMUM and failures >= RATE * requests:
            self.opened = self.clock()

    def _turn(self) -> None:
        now = self.clock()
        if now - self.since < WINDOW:
            return
        self.was = (self.requests, self.failures) if now - self.since < 2 * WINDOW else (0, 0)
        self.requests, self.failures, self.since = 0, 0, now


class Health:
    """The breakers of a gateway, bounded in number, and the pace of its providers."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.breakers: OrderedDict[Key, Breaker] = OrderedDict()
        self.pace: OrderedDict[str, float] = OrderedDict()

    def breaker(self, provider: Provider, model: str | None, credential: str) -> Breaker:
        """The breaker of this provider, model and credential (its fingerprint, never the key)."""
        if model is not None and len(model) > LONGEST_MODEL:
            model = shortened(model)
        key = (provider.name, provider.base_url, model, credential)
        breaker = self.breakers.get(key)
        if breaker is None:
            breaker = self.breakers[key] = Breaker(self.clock)
            self._bound()
        else:
            self.breakers.move_to_end(key)
        return breaker

    def first_event(self, provider: str, seconds: float) -> None:
        """A request to *provider* took this long to its first event: a fifth of the weight to the newest."""
        known = self.pace.get(provider)
        if known is not None:
            self.pace[provider] = known + (seconds - known) / 5
            return
        self.pace[provider] = seconds
        if len(self.pace) > MAX_BREAKERS:
            self.pace.popitem(last=False)

    def snapshot(self, name: str) -> ProviderHealth:
        """What is known of the provider of this name."""
        breakers = [breaker for key, breaker in self.breakers.items() if key[0] == name]
        counts = [breaker.counts() for breaker in breakers]
        states = {breaker.state for breaker, (requests, _) in zip(breakers, counts, strict=True) if requests}
        state: State = "open" if states == {"open"} else "half-open" if states & {"open", "half-open"} else "closed"
        return ProviderHealth(
            provider=name,
            available=states != {"open"},
            state=state,
            in_flight=sum(breaker.in_flight for breaker in breakers),
            requests=sum(requests for requests, _ in counts),
            failures=sum(failures for _, failures in counts),
            first_event=self.pace.get(name),
        )

    def of_all(self, names: Iterable[str], draining: bool) -> GatewayHealth:
        """What is known of these providers, and of every breaker."""
        providers = MappingProxyType({name: self.snapshot(name) for name in names})
        breakers = tuple(_told(key, breaker) for key, breaker in self.breakers.items() if not breaker.idle())
        return GatewayHealth(providers, breakers, draining)

    def _bound(self) -> None:
        oldest = next(iter(self.breakers))
        if len(self.breakers) > MAX_BREAKERS or self.breakers[oldest].idle():
            if not self.breakers[oldest].in_flight and len(self.breakers) > 1:
                del self.breakers[oldest]


def shortened(model: str) -> str:
    """A long *model* within `LONGEST_MODEL` characters, distinct from every other."""
    digest = hashlib.blake2b(model.encode(errors="replace"), digest_size=16).hexdigest()
    return f"{model[: LONGEST_MODEL - len(digest) - 1]}~{digest}"


def _told(key: Key, breaker: Breaker) -> BreakerHealth:
    requests, failures = breaker.counts()
    return BreakerHealth(
        provider=key[0],
        model=key[2],
        state=breaker.state,
        in_flight=breaker.in_flight,
        requests=requests,
        failures=failures,
        retry_after=breaker.retry_after(),
    )
