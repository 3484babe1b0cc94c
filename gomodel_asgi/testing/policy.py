"""Asks a policy where a request would go, without HTTP: the request is made, the policy called, its answer checked."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import anyio
from starlette.datastructures import State
from starlette.types import Scope

from ..operations import Operation
from ..providers.provider import Provider
from ..resilience.health import Health
from ..routing.request import Policy, PreviousResponse, Registry, RoutingRequest, split_model
from ..routing.target import Target
from ..server.paths import agreed, split_query
from ..settings import Timeouts
from ..threads import call
from ..wire.json_body import Envelope
from .plan import HeaderList, encoded
from .received import backend

if TYPE_CHECKING:

    class Decision(Target, frozen=True):
        """The policy's Target; inside an event loop, the awaitable that gives it."""

        def __await__(self) -> Generator[Any, None, Target]: ...


def run_policy(
    policy: Policy,
    body: Mapping[str, Any] | bytes | str = b"{}",
    *,
    user: object = None,
    tenant: str | None = None,
    headers: HeaderList = (),
    providers: Iterable[Provider | str] | None = None,
    state: Mapping[str, Any] | State | None = None,
    scope: Scope | None = None,
    operation: Operation = "create",
    response_id: str | None = None,
    previous: PreviousResponse | None = None,
) -> Decision:
    """Returns the Target that *policy* gives for a request.

    *body* is JSON, or what to write as JSON; *headers* are the client's; *user* and *state* are what the host's
    middlewares would have put into *scope*, which may hold more. *providers* are the configured ones; a string stands
    for a provider of that name. Without any there is one, `"fake"`, and the Target may name what it likes.

    A plain test gets the Target; inside an event loop the call is awaited: `target = await run_policy(…)`. A plain
    policy runs in a worker thread, as it does in the gateway.

    :raises RoutingError: and whatever else the policy raises, as it is.
    :raises InvalidRequest: the gateway would refuse the request before the policy saw it.
    :raises TypeError: the policy answered something else than a Target.
    :raises LookupError: the Target or one of its fallbacks names no configured provider.
    :raises TimeoutError: the policy took longer than the gateway would wait by default.
    """
    registry = Registry(_provider(each) for each in (("fake",) if providers is None else providers))
    whole_scope = scope_of(headers, user, state, scope)
    envelope = Envelope.parse(body if isinstance(body, bytes) else _json(body))
    hint = agreed(envelope.hint, whole_scope["headers"], split_query(whole_scope["query_string"])[1])
    provider, model = split_model(envelope.model, hint, registry)
    request = RoutingRequest(
        operation=operation,
        envelope=envelope,
        provider=provider,
        model=model,
        registry=registry,
        scope=whole_scope,
        tenant=tenant,
        response_id=response_id,
        previous=previous,
        health_of=partial(_health, Health(), registry),
    )
    known = None if providers is None else registry
    decided = _decide(policy, request, known) if backend() else anyio.run(_decide, policy, request, known)
    return cast("Decision", decided)


async def _decide(policy: Policy, request: RoutingRequest, known: Registry | None) -> Target:
    """Returns the Target that *policy* answers.

    :raises TypeError: it answered something else.
    :raises LookupError: it named an unknown provider.
    """
    with anyio.fail_after(Timeouts().policy):
        target = await call(policy, request)
    if not isinstance(target, Target):
        raise TypeError(f"The policy must answer a Target; it answered {type(target).__name__}.")
    for each in target.chain():
        if known is not None and isinstance(each.provider, str) and each.provider not in known.by_name:
            raise LookupError(f"The policy named the provider '{each.provider}', which is not configured.")
    return target


def scope_of(
    headers: HeaderList, user: object, state: Mapping[str, Any] | State | None, scope: Scope | None
) -> dict[str, Any]:
    """Returns the ASGI scope of a request that the host's middlewares have seen."""
    whole: dict[str, Any] = {"type": "http", "method": "POST", "path": "/v1/responses", "query_string": b""}
    whole |= {"headers": [], "state": {}, **(scope or {})}
    whole["headers"] = [*whole["headers"], *encoded(headers)]
    if user is not None:
        whole["user"] = user
    if state is not None:
        whole["state"] = dict(state._state if isinstance(state, State) else state)
    return whole


def _provider(provider: Provider | str) -> Provider:
    return Provider(provider, "http://127.0.0.1:9/v1") if isinstance(provider, str) else provider


def _json(body: Mapping[str, Any] | str) -> bytes:
    return body.encode() if isinstance(body, str) else json.dumps(dict(body)).encode()


def _health(health: Health, registry: Registry, provider: Provider | str, tenant: str | None) -> Any:
    """Returns the health of *provider* as *tenant* sees it.

    :raises KeyError: it is unknown.
    """
    name = provider if isinstance(provider, str) else provider.name
    if isinstance(provider, str) and name not in registry.by_name:
        raise KeyError(name)
    return health.seen_by(tenant, name)
