"""The gateway: everything configured and owned, in one object; itself an ASGI app."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from . import policies
from .composition import caching, check, check_observer, enforcing, guarding, host_files, observing, registered
from .emulation.answer import GatewayState
from .emulation.background import Background
from .exchange.job import Setup
from .exchange.reply import Reply
from .explanation import Explanation, explained
from .logs import log
from .observers import STORE, Observer, Trace
from .pipeline import Inbound, TenantOf, answer, call_host, job_of, routed, tenant_of
from .providers.provider import Provider
from .resilience.concurrency import Allowance, ConcurrencyLimits
from .resilience.health import Health
from .resilience.retry import RetryBudget
from .routing.policy import checked
from .routing.request import AsyncPolicy, Policy, RoutingRequest
from .routing.target import Target
from .seams.health import GatewayHealth
from .server.drain import InFlight
from .server.handler import EndpointResponse, Handler, inbound_of
from .server.models import Discovery, ModelsOf, list_models
from .server.paths import CREATE, Route, base_of, match, route_of
from .settings import Limits, Retries, Timeouts
from .stores import MemoryStore, Store
from .threads import awaitable
from .transport import DefaultTransport, Transport, attach
from .transport.slots import ConnectionLimit, of_process
from .upstream.stream import followed

if TYPE_CHECKING:
    from .cache import ResponseCache
    from .cache.lookup import Cache
    from .guards import Guard
    from .ledger import Ledger
    from .quotas import Quota, Quotas
    from .quotas.enforcement import Enforcement
    from .tools import FileSource, Tool


__all__ = ["EXPOSED", "Gateway", "GatewayHealth"]

EXPOSED = (
    "without a policy everybody who can reach it uses the providers' keys. Give policy=policies.authenticated(...),"
    " or public=True where everybody may, or where those who call have been let in before."
)

P = TypeVar("P")


def given(name: str, part: P | None) -> P:
    """Returns *part* of a gateway, which its argument *name* gives.

    :raises RuntimeError: the gateway was given none.
    """
    if part is None:
        raise RuntimeError(f"This gateway has no {name}: give Gateway({name}=...).")
    return part


class Gateway:
    """Serves `{prefix}/responses` and below, and `{prefix}/models`, with *providers*, as *policy* decides.

    *prefix* has no slash at its end; `""` is allowed. *tenant* returns whose request an ASGI scope is (default: the
    authenticated user's id); a plain function runs on the loop and must not block. *store* keeps what must be
    remembered of responses. *transport* reaches the upstreams; by default the fast one on asyncio, httpx on trio.
    *stamp* puts `"provider"` into response objects. *expose_timing* adds `Server-Timing` to replies. *models* gives
    what `{prefix}/models` lists for a request, once the policy has let it in: names, or mappings with an `id` and more
    members; by default what providers and policy name in full, and what upstreams list themselves, of providers that
    have `discover`. *tenant_required* answers 401 to callers without a tenant, before the policy runs.
    *public*: everybody may call, or callers have been let in before; without it, a gateway that has keys and no policy
    warns in the log (`gomodel_asgi.gateway`) when it starts.
    *tools* are hosted tools that the host's own functions run (see `gomodel_asgi.tools`). *files* gives the bytes of
    files that a request names by id or URL, for upstreams that cannot read them: a plain or async function of a
    `tools.FileReference` and the `RoutingRequest`, which returns bytes, a `tools.File`, or None where there is none.
    *ledger* keeps a row of every exchange (see `gomodel_asgi.ledger`).
    *quotas* bound what requests may use (see `gomodel_asgi.quotas`).
    *cache* answers the same request again from the store (see `gomodel_asgi.cache`).
    *guards* are functions of the host's that see requests and replies, and may refuse or change them (see
    `gomodel_asgi.guards`), in the order in which they run.

    :raises ValueError: no provider, two of one name, a malformed prefix, or two tools of one kind or label; quotas
        with counters of this process alone beside a store that several share; a cache without a store; two guards of
        one name.
    :raises TypeError: an argument is of another type, *policy* is no function, or *tools* or *guards* hold
        something else.
    """

    _announced = False

    def __init__(
        self,
        *,
        providers: Iterable[Provider],
        policy: Policy | None = None,
        prefix: str = "/v1",
        tenant: TenantOf | None = None,
        store: Store | None = None,
        transport: Transport | None = None,
        timeouts: Timeouts = Timeouts(),  # noqa: B008  frozen
        limits: Limits = Limits(),  # noqa: B008  frozen
        retries: Retries = Retries(),  # noqa: B008  frozen
        observers: Iterable[Observer] = (),
        stamp: bool = True,
        expose_timing: bool = False,
        models: ModelsOf | None = None,
        tenant_required: bool = False,
        public: bool = False,
        tools: Iterable[Tool] = (),
        files: FileSource | None = None,
        ledger: Ledger | None = None,
        quotas: Quotas | None = None,
        cache: ResponseCache | None = None,
        guards: Iterable[Guard] = (),
    ) -> None:
        check(locals())
        self.prefix = prefix
        self.public = public
        self.tenant = tenant
        self.store: Store = MemoryStore() if store is None else store
        self.expose_timing = expose_timing
        self.models = models
        self.in_flight = InFlight()
        self.abandoned = Allowance()  # what clients have left running
        self._ledger = ledger
        transport = DefaultTransport() if transport is None else transport
        self.state = state = GatewayState(self.store, limits=limits, transport=transport, tools=tools)
        state.admission.has_tenants = tenant is not None
        fan_out, registry = observing(observers), registered(providers)
        self._enforcement = state.background.spending = enforcing(
            quotas, self.store, state.records, total=timeouts.total, observers=fan_out,
            providers=registry.by_name.values(), quotas_of=self._quotas_of,
        )  # fmt: skip
        self._cache = caching(cache, state.records, state.quotas, state.tasks)
        guarded = guarding(guards, fan_out, state.tasks)
        state.recorder.keeps_all |= guarded is not None and guarded.divides
        self.setup = Setup(
            registry=registry, ask=self._asking(policy), transport=transport, timeouts=timeouts, limits=limits,
            retries=retries, stamp=stamp, observers=fan_out, health=Health(on_change=fan_out.breaker_changed),
            budget=RetryBudget(), concurrency=ConcurrencyLimits(limits), state=state, tenant_required=tenant_required,
            files=host_files(files), ledger=ledger, quotas=self._enforcement, guards=guarded, cache=self._cache,
            observed=bool(fan_out) or expose_timing or ledger is not None or quotas is not None,
        )  # fmt: skip
        if ledger is not None:
            ledger.attach(fan_out, None if quotas is None else quotas.price)
        self.discovery = Discovery(registry.by_name.values())
        self.connections = of_process() if limits.connections is None else ConnectionLimit(limits.connections)
        attach(transport, self.connections, fan_out)
        if state.circuit is not None:
            state.circuit.on_change = partial(fan_out.breaker_changed, STORE, None)

    def __repr__(self) -> str:
        return f"<Gateway prefix={self.prefix!r} providers={list(self.setup.registry.by_name)}>"

    # Whom it lets in...

    @property
    def exposed(self) -> bool:
        """Whether everybody may use a key of its providers, without `public=True`."""
        guarded = self.public or self.setup.tenant_required or not self.hinted
        providers = self.setup.registry.by_name.values()
        return not guarded and any(one.api_key is not None or one.carried for one in providers)

    @property
    def hinted(self) -> bool:
        """Whether it has no policy, and follows the client's hint."""
        return self.setup.ask in (self._first, policies.hint)

    def announce(self) -> None:
        """Warns, once, that the gateway is `exposed`, where it is."""
        if self.exposed and not self._announced:
            self._announced = True
            log("gateway_exposed", gateway=repr(self), why=EXPOSED)

    def _asking(self, policy: Policy | None) -> AsyncPolicy:
        if policy is None or policy is policies.hint:
            return self._first
        return awaitable(checked(policy))

    async def _first(self, request: RoutingRequest) -> Target:
        """The policy where there is none, for the first request: later ones have `policies.hint`."""
        self.announce()
        if self.setup.ask == self._first:  # later requests pay nothing
            self.setup = replace(self.setup, ask=policies.hint)
        return request.default()

    # The ways in...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The gateway as an ASGI app, for mounting: foreign paths get a 404 in OpenAI's form."""
        if scope["type"] == "lifespan":
            return await self._lifespan(receive, send)
        route = match(scope, self.prefix)
        if scope["type"] == "websocket":
            if route is CREATE:
                return await self.converse(scope, receive, send)
            from .server.websocket.upgrade import nowhere, refuse

            return await refuse(nowhere(base_of(scope, self.prefix)), scope, send)
        route = route or Route({}, base=base_of(scope, self.prefix))
        trace = self.trace(scope) if self.setup.observed else None
        await Handler(self, self.setup, trace, route, scope, receive).serve(send)

    async def converse(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a WebSocket connection whose path is that of the responses."""
        from .server.websocket.connection import Connection

        await Connection(self, scope, receive, send).serve()

    def list_models(
        self, setup: Setup, inbound: Inbound, tenant: str | None, name: str | None
    ) -> Coroutine[Any, Any, Reply]:
        """Returns the list of models, or the one called *name*, for a request that runs on *setup*.

        :raises GatewayError: it is refused, or there is no such model.
        """
        return list_models(setup, inbound, tenant, name, self.models, self.discovery)

    def serve(self, route: Route, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Answer a request whose path is *route*."""
        trace = self.trace(scope) if self.setup.observed else None
        return Handler(self, self.setup, trace, route, scope, receive).serve(send)

    async def endpoint(self, request: Request) -> Response:
        """Answer *request* from inside the host's own route, whatever its path: a path that ends like one of ours
        is that operation's (a GET of `…/models` the models'), any other creates a response."""
        scope = request.scope
        handler = Handler(self, self.setup, self.trace(scope), route_of(scope), scope, request.receive)
        return EndpointResponse(handler, await handler.prepared())

    # From the host's own code...

    async def respond(
        self, body: bytes | str | Mapping[str, Any], *, scope: Scope | None = None, tenant: str | None = None
    ) -> Reply:
        """Create a response from the host's own code, by the same routing, without HTTP.

        *body* is JSON, or a mapping. Without *scope* the policy sees no headers, no user and an empty state.

        :raises GatewayError: it failed; `status` and `payload` say how.
        """
        self.in_flight.check_open()
        trace = self.trace(scope)
        answering = self._respond(body, scope, tenant, trace)
        return await (answering if trace is None else followed(answering, trace))

    async def _respond(
        self, body: bytes | str | Mapping[str, Any], scope: Scope | None, tenant: str | None, trace: Trace | None
    ) -> Reply:
        tenant = await self._whose(scope, tenant)
        if trace is not None:
            trace.know(operation="create", tenant=tenant)
        inbound = await inbound_of(body, scope, self.setup.limits)
        if trace is not None:
            inbound.trace = trace
            trace.know(request_id=inbound.request_id)
        return await answer(self.setup, inbound, tenant)

    def trace(self, scope: Scope | None = None) -> Trace | None:
        """A trace for one exchange, whose request has this *scope*, where anybody wants to know of it."""
        return self.setup.trace("", scope)

    async def explain(
        self, body: bytes | str | Mapping[str, Any], *, scope: Scope | None = None, tenant: str | None = None
    ) -> Explanation:
        """What the policy would do with *body*; nothing is sent.

        :raises GatewayError: the body is malformed, or the policy failed to answer at all.
        :raises LookupError: the policy named an unknown provider, or added a tool that nobody here runs.
        """
        tenant = await self._whose(scope, tenant)
        return await explained(self.setup, await inbound_of(body, scope, self.setup.limits), tenant, self.state.places)

    async def _whose(self, scope: Scope | None, tenant: str | None) -> str | None:
        """Returns the *tenant* that the host names, else that of *scope*."""
        return await tenant_of(scope, self.tenant) if tenant is None and scope is not None else tenant

    # Life...

    def health(self) -> GatewayHealth:
        """How each configured provider is doing, by name, and every breaker: as of now, and never changed after."""
        return self.setup.health.of_all(self.setup.registry.by_name, draining=self.in_flight.draining)

    def observe(self, observer: Observer) -> None:
        """Call *observer* too, as those given at construction: with the records of requests to come.

        :raises TypeError: *observer* is no function of a record.
        """
        check_observer("observer", observer)
        self.setup.observers.add(observer)
        self.setup = replace(self.setup, observed=True)

    def reload(self, *, providers: Iterable[Provider] | None = None, policy: Policy | None = None) -> None:
        """Replace providers or policy for requests to come; those under way end on the old ones.

        :raises ValueError: as at construction; nothing has changed then.
        :raises TypeError: as at construction; nothing has changed then.
        """
        registry = self.setup.registry if providers is None else registered(providers)
        ask = self.setup.ask if policy is None else self._asking(policy)
        self.setup = replace(self.setup, registry=registry, ask=ask, candidates={})
        self.discovery.configure(registry.by_name.values())

    async def forget(self, tenant: str | None) -> int:
        """Forget everything that is stored of *tenant*, on every worker at once; what the store can enumerate is
        deleted: how many records.

        :raises StoreUnavailable: the store does not answer. Call it again.
        """
        if self._ledger is not None:
            await self._ledger.forget(tenant)
        cached = 0 if self._cache is None else await self._cache.forget(tenant)
        return cached + await self.state.forget(tenant)

    @property
    def cache(self) -> Cache:
        """The cache at work; `forget` empties it of one tenant's answers.

        :raises RuntimeError: the gateway was given none.
        """
        return given("cache", self._cache)

    @property
    def quotas(self) -> Enforcement:
        """The quotas at work; `left` returns what is left of them.

        :raises RuntimeError: the gateway was given none.
        """
        return given("quotas", self._enforcement)

    async def _quotas_of(self, scope: Scope | None, tenant: str | None) -> tuple[str | None, tuple[Quota, ...]]:
        """Returns the tenant, and the quotas that the host's rules give a request of *tenant*, or of *scope*."""
        tenant = await self._whose(scope, tenant)
        job = job_of(self.setup, await inbound_of(b"{}", scope, self.setup.limits), tenant)
        return tenant, await call_host(job, self.quotas.rules, tuple)

    @property
    def ledger(self) -> Ledger:
        """The ledger: what has been spent, rows and sums.

        :raises RuntimeError: the gateway was given none.
        """
        return given("ledger", self._ledger)

    @property
    def background(self) -> Background:
        """The work behind `background: true`; set its `enqueue` to give that work to a task queue of your own."""
        return self.state.background

    async def run_background(self, ticket: str, *, scope: Scope | None = None) -> bool:
        """Work on the background response that *ticket* names, in a worker of the host's task queue: whether there was
        anything left to do. The policy runs here, with *scope* (default: an empty one) and the ticket's tenant.

        :raises ValueError: it is no ticket.
        :raises GatewayError: the policy refused, or the store does not answer; the response stays queued.
        """
        found = await self.state.background.opened(ticket)
        if found is None:
            return False
        tenant, id, body = found
        job = job_of(self.setup, await inbound_of(body, scope, self.setup.limits), tenant)
        await self.state.background.work(job, await routed(job), id)
        return True

    async def drain(self) -> None:
        """Refuse new requests with 503, give those under way `timeouts.drain` seconds, then end them in band."""
        await self.in_flight.drain(self.setup.timeouts.drain)
        if self._enforcement is not None:
            await self._enforcement.flush()

    async def aclose(self) -> None:
        """Close what this event loop has open. The gateway can be used again; it opens what it needs."""
        await self.discovery.aclose()
        await self.state.aclose()
        if self._enforcement is not None:
            await self._enforcement.aclose()
        await self.setup.transport.aclose()
        if self._ledger is not None:
            await self._ledger.aclose()
        await self.setup.observers.aclose()

    async def __aenter__(self) -> Self:
        if self._ledger is not None:
            self._ledger.check()
        self.announce()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.announce()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.aclose()
                return await send({"type": "lifespan.shutdown.complete"})
