"""Policies, small and composable: each takes a `RoutingRequest` and gives a `Target`."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Hashable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from .arguments import check_function, check_plain_function, check_plain_functions, listed, members, refusal
from .errors import RoutingError, Unauthenticated, UnknownModel, UnknownProvider
from .logs import log
from .operations import CONTINUING
from .providers.provider import is_pattern
from .routing.policy import aiming, ask_policy, checked, names_of, naming, naming_as, targets_of
from .routing.rate_limit import RateLimit
from .routing.request import NAMES, AsyncPolicy, Policy, RoutingRequest, as_text
from .routing.target import Target

if TYPE_CHECKING:
    from limits.aio.storage import Storage


__all__ = [
    "authenticated",
    "fallback",
    "first_of",
    "hint",
    "limited",
    "lowest_latency",
    "model_map",
    "per_tenant",
    "sticky",
    "weighted",
]


Key = Callable[[RoutingRequest], Hashable]
Somewhere = Target | str


async def hint(request: RoutingRequest) -> Target:
    """Follows the client's hint, then the model, then the only provider there is. The default policy."""
    return request.default()


def authenticated(policy: Policy) -> AsyncPolicy:
    """Returns *policy* for authenticated users only: 401 unless `request.user` is there and `is_authenticated`.

    The first request that no authentication has seen is logged: a middleware in the wrong order looks to its clients
    like a wrong password.

    :raises Unauthenticated: by the policy, for everybody else.
    """
    checked(policy)
    logged = False

    async def guarded(request: RoutingRequest) -> Target:
        nonlocal logged
        if not getattr(request.user, "is_authenticated", False):
            if not logged and "user" not in request.scope:
                logged = True
                log("no_authentication")
            raise Unauthenticated
        return await ask_policy(policy, request)

    return naming_as(guarded, policy)


def for_models(policy: Policy) -> AsyncPolicy:
    """Returns *policy* for what goes to a model: creating a response, compacting, counting tokens. All other
    operations bring no model, and go where what they name lies, or to the default: `request.default()`.

    Everybody passes with these others: put `authenticated` around it.

    :raises GatewayError: by the policy, as `RoutingRequest.default`.
    """
    checked(policy)

    async def chosen(request: RoutingRequest) -> Target:
        return await ask_policy(policy, request) if request.operation in CONTINUING else request.default()

    return naming_as(chosen, policy)


def model_map(models: Mapping[str, Somewhere]) -> AsyncPolicy:
    """Routes on the model's name: keys are names or patterns (`gpt-*`), exact names first, then patterns in order.

    A value is a Target, or a provider's name, which gets the model as the client wrote it. A model that no key
    matches is a 404. The names are listed at `{prefix}/models`, the patterns are not.

    :raises UnknownModel: by the policy, for a model that no key matches.
    """
    targets = {name: _target(value, "models") for name, value in members("models", models).items()}

    async def mapped(request: RoutingRequest) -> Target:
        model = request.model or ""
        if model in targets:
            return targets[model]
        for pattern, target in targets.items():
            if fnmatchcase(model, pattern):
                return target
        raise UnknownModel

    exact = [name for name in targets if not is_pattern(name)]
    sent = [replace(one, model=name) if one.model is None and name in exact else one for name, one in targets.items()]
    return aiming(naming(mapped, exact), sent)


def weighted(choices: Iterable[tuple[Somewhere, float]], key: Key | None = None) -> AsyncPolicy:
    """Splits requests by weight, deterministically: equal keys always go to the same Target, on every worker.

    *key* is what is split on; by default the tenant, else the user's identity, else the request's `user` or
    `safety_identifier` member, so that a caller stays in one arm.

    :raises ValueError: no choice, a negative weight, or only zeros.
    """
    arms = [_arm(one) for one in listed("choices", choices, ARMS)]
    total = sum(weight for _, weight in arms)
    if any(weight < 0 for _, weight in arms) or not total > 0:
        raise ValueError("choices: give at least one weight above zero and none below.")

    check_plain_functions(key=key)

    async def chosen(request: RoutingRequest) -> Target:
        point = _point((key or caller)(request)) * total
        for target, weight in arms:
            point -= weight
            if point < 0:
                return target
        return next(target for target, weight in reversed(arms) if weight > 0)

    return aiming(chosen, [target for target, _ in arms])


def fallback(*targets: Somewhere) -> AsyncPolicy:
    """Returns a policy for the first target, with the others as its fallbacks.

    :raises ValueError: no target.
    """
    chain = _chain(_targets(targets))

    async def chained(request: RoutingRequest) -> Target:
        return chain

    return aiming(chained, [chain])


def per_tenant(resolver: Callable[[str | None], Any] | Mapping[str, Any]) -> AsyncPolicy:
    """Returns a policy that follows what *resolver* gives for the request's tenant: a Target, a provider's name, or a
    policy.

    *resolver* is a mapping, or a plain or async function of the tenant (None for nobody's). An unknown tenant (None,
    or a missing key) is refused with 403.

    :raises RoutingError: by the policy, with 403 for an unknown tenant.
    """
    if not isinstance(resolver, Mapping):
        check_function("resolver", resolver, "a mapping of tenants, or a function of one")
    look_up = resolver.get if isinstance(resolver, Mapping) else resolver

    async def looked_up(request: RoutingRequest) -> Any:
        found = look_up(request.tenant)  # type: ignore[arg-type]
        return await found if inspect.isawaitable(found) else found

    async def resolved(request: RoutingRequest) -> Target:
        found = await looked_up(request)
        if found is None:
            raise RoutingError("Nothing is set up for this account.", status=403, code="permission_denied")
        return _target(found, "resolver") if isinstance(found, Target | str) else await ask_policy(found, request)

    async def names(request: RoutingRequest) -> Iterable[str]:
        found = await looked_up(request)
        return () if found is None or isinstance(found, Target | str) else await names_of(found, request)

    known = resolver.values() if type(resolver) is dict else ()  # another mapping may be a table, and dear to read
    targets = [_target(one, "resolver") for one in known if isinstance(one, Target | str)]
    targets += [one for policy in known if callable(policy) for one in targets_of(policy)]
    return aiming(naming(resolved, names), targets)


def first_of(*policies: Policy) -> AsyncPolicy:
    """Returns a policy of several: `UnknownModel` and `UnknownProvider` pass the request on to the next one.

    :raises ValueError: no policy.
    """
    if not policies:
        raise ValueError("policies: give at least one.")
    *firsts, last = [checked(policy, "policies") for policy in policies]

    async def tried(request: RoutingRequest) -> Target:
        for policy in firsts:
            try:
                return await ask_policy(policy, request)
            except (UnknownModel, UnknownProvider):
                continue
        return await ask_policy(last, request)

    return naming_as(tried, *policies)


MAX_STUCK = 10_000  # keys remembered by one sticky policy: about 2 MB, and far more sessions than one worker serves


def sticky(policy: Policy, key: Key) -> AsyncPolicy:
    """Returns *policy*, asked once for each key: later requests of the key get the same Target while it is configured.

    Remembered in this process, for the 10,000 keys that were used last.
    """
    checked(policy)
    check_plain_function("key", key)
    stuck: dict[Hashable, Target] = {}

    async def remembered(request: RoutingRequest) -> Target:
        name = key(request)
        target = stuck.pop(name, None)
        if target is None or (isinstance(target.provider, str) and target.provider not in request.providers):
            target = await ask_policy(policy, request)
        stuck[name] = target
        if len(stuck) > MAX_STUCK:
            del stuck[next(iter(stuck))]
        return target

    return naming_as(remembered, policy)


def lowest_latency(*targets: Somewhere) -> AsyncPolicy:
    """Returns a policy for the healthy target with the lowest recent time to its first event, the others as fallbacks.

    Targets that were not measured yet come first, so that each is measured.

    :raises ValueError: no target.
    """
    known = _targets(targets)

    async def fastest(request: RoutingRequest) -> Target:
        def rank(target: Target) -> tuple[bool, float]:
            health = request.health(target.provider)
            return not health.available, health.first_event or 0.0

        return _chain(sorted(known, key=rank))

    return aiming(fastest, known)


def limited(policy: Policy, rate: str, *, key: Key | None = None, storage: Storage | None = None) -> AsyncPolicy:
    """Returns *policy*, asked at most at *rate* (`"60/minute"`, as the library `limits` writes it) for each key; other
    requests are refused. For policies that are dear: what requests may use, `gomodel_asgi.quotas` bound behind them.

    All requests count that ask the policy, those too that only look at a response; refused ones do not. *key* is what
    is counted by, within the tenant; by default the caller. The window moves. *storage* is one of `limits.aio.storage`
    that can move windows; by default each process counts in its own memory.

    :raises ImportError: the extra `limits` is not installed.
    :raises ValueError: *rate* is none.
    :raises RateLimited: by the policy, when the rate is reached.
    :raises QuotaUnavailable: by the policy, when *storage* does not answer.
    """
    checked(policy)
    check_plain_functions(key=key)
    rate_limit = RateLimit(rate, storage)

    async def bounded(request: RoutingRequest) -> Target:
        await rate_limit.hit((request.tenant, (key or caller)(request)))
        return await ask_policy(policy, request)

    return naming_as(bounded, policy)


def caller(request: RoutingRequest) -> Hashable:
    """Returns who calls, as far as it is known: the tenant, the user, or what the body says."""
    if request.tenant is not None:
        return request.tenant
    for name in NAMES:
        try:
            value = getattr(request.user, name, None)
            if value is not None:
                return as_text(value, name)
        except (NotImplementedError, TypeError):  # TypeError: one that is written differently on each worker
            continue
    envelope = request.envelope
    return envelope.text("safety_identifier") or envelope.text("user") or ""


ARMS = "a list of pairs of a Target and its weight"


def _arm(choice: Any) -> tuple[Target, float]:
    """Returns the Target and the weight of *choice*.

    :raises TypeError: it is no pair of a Target and a number.
    """
    try:
        where, weight = listed("choices", choice, ARMS)
        return _target(where, "choices"), float(weight)
    except ValueError:
        raise refusal("choices", ARMS, choice) from None


def _point(key: Hashable) -> float:
    """Returns *key* as a number in [0, 1): the same on every worker, unlike `hash`."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def _chain(targets: Iterable[Target]) -> Target:
    """Returns the first of *targets*, with the others as its fallbacks."""
    first, *others = targets
    return replace(first, fallbacks=(*first.fallbacks, *others))


def _targets(given: Iterable[Somewhere]) -> list[Target]:
    """Returns what is *given* as Targets.

    :raises ValueError: nothing is.
    """
    if not given:
        raise ValueError("targets: give at least one.")
    return [_target(one, "targets") for one in given]


def _target(where: Somewhere, name: str) -> Target:
    """Returns *where* as a Target.

    :raises TypeError: it is neither a Target nor the name of a provider.
    """
    if not isinstance(where, Target | str):
        raise refusal(name, "a Target or a provider's name", where)
    return Target(where) if isinstance(where, str) else where
