"""How the upstreams are doing: breakers, what is under way, recent times.

A breaker belongs to one provider, model and credential, so that one tenant's bad key or one broken model never shuts
out others; those who share a credential share it, and `circuit_breaker.py` keeps them apart.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice

from ..providers.provider import Provider
from ..seams.health import BreakerHealth, GatewayHealth, ProviderHealth, State
from ..wire.read_only import read_only
from .circuit_breaker import Breaker, Tally

MAX_BREAKERS = 10_000  # one is about 700 bytes; beyond this the one unused for longest is dropped
MAX_TENANTS = 40_000  # that all breakers know together, about 350 bytes each; beyond this breakers are dropped as well
MOST_SEEN = 100  # breakers of a provider, those used last, by which its state is judged: models are the clients' words
LONGEST_MODEL = 256  # characters kept of a model's name, which clients write: a longer one is known by its hash

Key = tuple[str, str, str | None, str]
OnChange = Callable[[str, str | None, State, State], object]


class Health:
    """The breakers of a gateway, bounded in number, and the pace of its providers. *on_change* is called with the
    provider and model of one whose state for everybody has changed, as it was and as it is.

    Looking changes nothing, and so may be done from another thread, where it may raise RuntimeError: look again then.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, on_change: OnChange | None = None) -> None:
        self.clock = clock
        self.on_change = on_change
        self.breakers: OrderedDict[Key, Breaker] = OrderedDict()
        self.tallies: dict[str, Tally] = {}
        self.pace: OrderedDict[str, float] = OrderedDict()
        self.tenants = 0
        """How many the breakers know, each counted where it is known."""

    def breaker(self, provider: Provider, model: str | None, credential: str) -> Breaker:
        """Returns the breaker of this provider, model and credential (its fingerprint, never the key)."""
        if model is not None and len(model) > LONGEST_MODEL:
            model = shortened(model)
        key = (provider.name, provider.base_url, model, credential)
        breaker = self.breakers.get(key)
        if breaker is None:
            return self._new(key)
        self.breakers.move_to_end(key)
        breaker.tally.breakers.move_to_end(key)
        return breaker

    def first_event(self, provider: str, seconds: float) -> None:
        """Counts what a request to *provider* took to its first event: a fifth of the weight to the newest."""
        known = self.pace.get(provider)
        if known is not None:
            self.pace[provider] = known + (seconds - known) / 5
            return
        self.pace[provider] = seconds
        if len(self.pace) > MAX_BREAKERS:
            self.pace.popitem(last=False)

    def snapshot(self, name: str) -> ProviderHealth:
        """Returns what is known of the provider of this name, as everybody sees it."""
        return self._snapshot(name, Breaker.state)

    def seen_by(self, tenant: str | None, name: str) -> ProviderHealth:
        """The same as *tenant* sees it, which may be shut out where others are not."""
        return self._snapshot(name, lambda breaker, now: breaker.state_for(tenant, now))

    def of_all(self, names: Iterable[str], draining: bool) -> GatewayHealth:
        """Returns what is known of these providers, and of every breaker."""
        now = self.clock()
        providers = {name: self.snapshot(name) for name in names}
        known = tuple(self.breakers.items())
        breakers = tuple(_breaker_health(key, breaker, now) for key, breaker in known if not breaker.seems_idle(now))
        return GatewayHealth(
            available=not draining and any(one.available for one in providers.values()),
            draining=draining,
            in_flight=sum(one.in_flight for one in breakers),
            providers=read_only(providers),
            breakers=breakers,
        )

    def _snapshot(self, name: str, state_of: Callable[[Breaker, float], State]) -> ProviderHealth:
        now, tally = self.clock(), self.tallies.get(name)
        if tally is None:
            return ProviderHealth(name, True, "closed", 0, 0, 0, 0.0, self.pace.get(name))
        latest = islice(reversed(tally.breakers.values()), MOST_SEEN)
        states = {state_of(breaker, now) for breaker in latest if breaker.counts(now)[0]}
        state: State = "open" if states == {"open"} else "half-open" if states & {"open", "half-open"} else "closed"
        requests, failures, _ = tally.counts(now)
        return ProviderHealth(
            provider=name,
            available=states != {"open"},
            state=state,
            in_flight=tally.in_flight,
            requests=requests,
            failures=failures,
            failure_rate=failures / requests if requests else 0.0,
            first_event=self.pace.get(name),
        )

    # Bounds...

    def _new(self, key: Key) -> Breaker:
        self._make_room()
        now = self.clock()
        tally = self.tallies.get(key[0])
        if tally is None:
            tally = self.tallies[key[0]] = Tally(now)
        on_change = None if self.on_change is None else partial(self.on_change, key[0], key[2])
        breaker = self.breakers[key] = tally.breakers[key] = Breaker(self.clock, tally, self._remember, on_change)
        return breaker

    def _make_room(self) -> None:
        while len(self.breakers) >= MAX_BREAKERS:
            self._drop_oldest()
        for _ in range(2):  # so that those that know nothing any more go faster than new ones come
            if self.breakers and next(iter(self.breakers.values())).is_idle(self.clock()):
                self._drop_oldest()

    def _remember(self, more: int) -> None:
        self.tenants += more
        while self.tenants > MAX_TENANTS:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Forgets the breaker unused for longest, whatever it knows: its requests under way end as they would."""
        key, breaker = self.breakers.popitem(last=False)
        self.tenants -= breaker.known
        breaker.remember = _forgotten
        del breaker.tally.breakers[key]
        if not breaker.tally.breakers:
            del self.tallies[key[0]]


def shortened(model: str) -> str:
    """Returns a long *model* within `LONGEST_MODEL` characters, distinct from every other."""
    digest = hashlib.blake2b(model.encode(errors="replace"), digest_size=16).hexdigest()
    return f"{model[: LONGEST_MODEL - len(digest) - 1]}~{digest}"


def _forgotten(more: int) -> None:
    """What a breaker that was dropped learns is nobody's concern."""


def _breaker_health(key: Key, breaker: Breaker, now: float) -> BreakerHealth:
    requests, failures, _ = breaker.counts(now)
    return BreakerHealth(
        provider=key[0],
        model=key[2],
        state=breaker.state(now),
        in_flight=breaker.in_flight,
        requests=requests,
        failures=failures,
        retry_after=breaker.wait(now),
        shut_out=breaker.shut_out(now),
    )
