"""What a policy sees: a read-only view of one request, whose body is parsed only if the policy touches it, the
configured providers, and who a user is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct
from starlette.datastructures import Headers, State
from starlette.types import Scope

from ..arguments import check_instance, listed
from ..errors import InvalidRequest, UnknownModel, UnknownProvider
from ..operations import ROWS, Operation
from ..providers.provider import Provider
from ..seams.health import ProviderHealth
from ..wire.json_body import Envelope
from ..wire.read_only import read_only
from .target import Target

if TYPE_CHECKING:
    from ..schema import ResponsesRequest


Policy = Callable[["RoutingRequest"], "Target | Awaitable[Target]"]
"""Decides where a request goes. A plain function runs in a worker thread, a coroutine function on the loop."""
AsyncPolicy = Callable[["RoutingRequest"], Coroutine[Any, Any, "Target"]]
"""A policy that can be awaited, whatever the host wrote."""


class PreviousResponse(Protocol):
    """The stored record of an earlier response: which provider and model answered it."""

    @property
    def provider(self) -> str:
        """The name of the provider that answered."""

    @property
    def model(self) -> str | None:
        """The model that was asked upstream, None where the request named none."""


class RoutingRequest(Struct, kw_only=True, eq=False, dict=True, frozen=True):
    """One request as a policy sees it. Read-only: assigning a member raises AttributeError, changing a value TypeError,
    and nothing of what is sent is read from it. `scope`, `state`, `app` and `user` are the host's own.

    *operation* is what is requested; *model* the client's model without its hint prefix; *provider* the hint as
    written, whichever source it came from; *tenant* what the gateway's `tenant` callable returned; *previous* the
    record of the response that `previous_response_id` or the path names, if it is ours; *connection* the WebSocket
    connection's state, None over HTTP.
    """

    operation: Operation
    envelope: Envelope
    provider: str | None
    model: str | None
    registry: Registry
    scope: Scope
    tenant: str | None
    response_id: str | None = None
    item_id: str | None = None
    previous: PreviousResponse | None = None
    connection: object | None = None
    health_of: Callable[[str | Provider, str | None], ProviderHealth] | None = None

    def __repr__(self) -> str:
        return f"<RoutingRequest {self.operation} model={self.model!r} provider={self.provider!r}>"

    @property
    def stream(self) -> bool:
        """Whether the client asked for a stream."""
        return self.envelope.stream

    @cached_property
    def body(self) -> Mapping[str, Any]:
        """The client's JSON, parsed at the first touch: without a string `provider`, `model` as written. Its dicts and
        lists are read-only to any depth; `copy.deepcopy` gives plain ones.

        :raises InvalidRequest: it holds a number that no parser can hold.
        """
        return read_only(dict(self.envelope.body))  # type: ignore[no-any-return]

    @cached_property
    def payload(self) -> ResponsesRequest:
        """The body as a pydantic model, read at the first touch.

        :raises InvalidRequest: a member has the wrong type; `param` is its path.
        """
        from pydantic import ValidationError

        from ..schema import ResponsesRequest

        try:
            return ResponsesRequest.model_validate(dict(self.body))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            raise InvalidRequest(first["msg"], param=_path(first["loc"], self.body), code="invalid_type") from None

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The body's `metadata`, empty where there is none."""
        value = self.body.get("metadata")
        return value if isinstance(value, dict) else {}

    @property
    def previous_response_id(self) -> str | None:
        """The response that this one continues, or that the path names."""
        return self.response_id or self.envelope.text("previous_response_id")

    @cached_property
    def headers(self) -> Headers:
        """The client's request headers."""
        return Headers(raw=list(self.scope.get("headers", ())))

    @property
    def app(self) -> Any:
        """The host application, if it put itself into the scope."""
        return self.scope.get("app")

    @property
    def user(self) -> Any:
        """What the host's authentication put into the scope; None where it put nothing."""
        return self.scope.get("user")

    @cached_property
    def state(self) -> State:
        """The host's `request.state`."""
        return State(self.scope.get("state", {}))

    @property
    def providers(self) -> Mapping[str, Provider]:
        """The configured providers by name."""
        return self.registry.by_name

    def health(self, provider: str | Provider) -> ProviderHealth:
        """Returns how *provider* is doing for this tenant: its breakers, what is under way, recent failures.

        :raises KeyError: no such provider is configured.
        """
        if self.health_of is None:
            raise KeyError(provider)
        return self.health_of(provider, self.tenant)

    def default(self) -> Target:
        """Returns the Target that the hint policy would give, so that a policy handles its own cases and leaves the
        rest.

        :raises UnknownProvider: the hint names no configured provider.
        :raises UnknownModel: no provider serves the model.
        :raises InvalidRequest: there is neither hint nor model and more than one provider; or an unknown id.
        """
        row = ROWS[self.operation]
        if row.path_names is not None:
            return Target(self._owner())
        if self.provider is not None:
            return Target(self._hinted(self.provider))
        if self.operation == "conversation_create":
            return Target(next(iter(self.providers)))
        if row.continues and self._stays():
            return Target(self.previous.provider)  # type: ignore[union-attr]
        return Target(self._by_model())

    def _stays(self) -> bool:
        """Returns whether the provider of the previous response goes on: unless another one claims the model by
        name."""
        if self.previous is None or self.previous.provider not in self.providers:
            return False
        if self.model is None or self.model == self.previous.model:
            return True
        claimed = self.registry.serving(self.model)
        return claimed is None or self.registry.by_name[self.previous.provider].serves(self.model)

    def _hinted(self, hint: str) -> str:
        """Returns the name of the provider that *hint* names.

        :raises UnknownProvider: there is none.
        """
        provider = self.registry.find(hint)
        if provider is None:
            message = f"There is no provider '{_shown(hint)}' here; leave 'provider' out or name another."
            raise UnknownProvider(message, advice=f"configured are {self._names()}")
        return provider.name

    def _by_model(self) -> str:
        """Returns the name of the provider that serves the model, or of the only one.

        :raises InvalidRequest: there are several, and no model is named.
        :raises UnknownModel: none of them serves it.
        """
        only = self.registry.only
        if self.model is None:
            if only is None:
                message = f"Name a 'model'; {self._offered()}."
                raise InvalidRequest(message, param="model", code="missing_required_parameter")
            return only.name
        found = self.registry.serving(self.model) or only
        if found is None:
            raise UnknownModel(
                f"No provider here is known to serve the model '{_shown(self.model)}'; {self._offered()}, and the"
                " member 'provider' of the body names a provider.",
                advice=f"{self._names()} are configured: give one models=..., or let the policy choose",
            )
        return found.name

    def _offered(self) -> str:
        """Returns where the client finds the models. The names of providers may be those of other tenants."""
        root = self.scope.get("root_path", "").rstrip("/")
        below: str = self.scope.get("path", "").removeprefix(root)
        row = ROWS[self.operation]
        own = row.path if row.path.startswith("/") else ROWS["connect"].path  # of what a WebSocket carries
        prefix, found, _ = below.rpartition("/" + own.split("/")[1])
        where = f"GET {_shown(root + prefix)}/models" if found else "GET /models below the API's prefix"
        return f"{where} lists what is offered"

    def _names(self) -> str:
        return ", ".join(self.providers)

    def _owner(self) -> str:
        """Returns the name of the provider that answered before, that the hint names, or of the only one.

        :raises InvalidRequest: there are several, and none is known to have answered.
        """
        if self.previous is not None and self.previous.provider in self.providers:
            return self.previous.provider
        if self.provider is not None:
            return self._hinted(self.provider)
        only = self.registry.only
        if only is None:
            raise InvalidRequest(
                "No such response is known here.", status=404, code="response_not_found", param="response_id"
            )
        return only.name


def _shown(text: str) -> str:
    """Returns *text* as it may stand in a message: short and printable."""
    return "".join(char if char.isprintable() else "?" for char in text[:80])


def _path(location: tuple[int | str, ...], value: Any) -> str:
    """Returns `("input", 3, "content")` as `input[3].content`. What does not lead into *value*, the body, is no part of
    it: a branch of a union that pydantic tried; but for the last part, below an object: a member that is missing."""
    path = ""
    for number, part in enumerate(location):
        if isinstance(value, list) and isinstance(part, int) and part < len(value):
            path, value = f"{path}[{part}]", value[part]
        elif isinstance(value, Mapping) and (part in value or number == len(location) - 1):
            path, value = f"{path}.{part}" if path else str(part), value.get(part)
    return path


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Registry:
    """The configured providers, found by name or else by type (the first of it), and the *only* one where there is just
    one. Read-only: policies see it.

    :raises TypeError: they are not a list of Provider objects.
    :raises ValueError: there are none, or two of one name.
    """

    by_name: Mapping[str, Provider]
    by_type: Mapping[str, Provider]
    only: Provider | None

    def __init__(self, providers: Iterable[Provider]) -> None:
        by_name: dict[str, Provider] = {}
        by_type: dict[str, Provider] = {}
        for provider in listed("providers", providers, "a list of Provider objects"):
            check_instance("providers", provider, Provider, "Provider objects")
            if provider.name in by_name:
                raise ValueError(f"providers: the name '{provider.name}' is given twice.")
            by_name[provider.name] = provider
            by_type.setdefault(provider.type or provider.name, provider)
        if not by_name:
            raise ValueError("providers: give at least one.")
        object.__setattr__(self, "by_name", MappingProxyType(by_name))
        object.__setattr__(self, "by_type", MappingProxyType(by_type))
        object.__setattr__(self, "only", next(iter(by_name.values())) if len(by_name) == 1 else None)

    def find(self, hint: str) -> Provider | None:
        """Returns the provider that *hint* names."""
        return self.by_name.get(hint) or self.by_type.get(hint)

    def serving(self, model: str) -> Provider | None:
        """Returns the first provider whose patterns match *model*."""
        return next((one for one in self.by_name.values() if one.serves(model)), None)


def split_model(model: str | None, hint: str | None, registry: Registry) -> tuple[str | None, str | None]:
    """Returns the hint and the bare model. A prefix `name/model` is a hint only where there is no explicit one and the
    name is known; with an explicit hint, one prefix that equals it exactly is taken off."""
    if model is None or "/" not in model:
        return hint, model
    prefix, rest = model.split("/", 1)
    if hint is None:
        return (prefix, rest) if rest and registry.find(prefix) is not None else (None, model)
    return hint, rest if prefix == hint and rest else model


# Who a user of the host is, as text: the tenant where the host names none.


NAMES = ("identity", "pk", "username")

# Their text is how they look, and not whose they are.
NAMELESS = (bool, float, bytes, bytearray)


def identity(user: Any) -> str | None:
    """`identity`, `pk` or `username` of an authenticated *user*, the first that is there and not empty; None where
    nobody is logged in.

    :raises LookupError: somebody is, and has none of them.
    :raises TypeError: the first that is there does not name anybody: `as_text`.
    """
    if user is None or not getattr(user, "is_authenticated", False):
        return None
    for name in NAMES:
        try:
            value = getattr(user, name, None)
        except NotImplementedError:
            continue
        if value is not None and (text := as_text(value, name)):
            return text
    raise LookupError("The user has no identity, pk or username to tell tenants apart by: give Gateway(tenant=...).")


def as_text(value: Any, name: str) -> str:
    """The user's *value* of this *name* as text: of a str, an int, or anything whose class says itself how it is
    written (UUID, ObjectId, ULID).

    :raises TypeError: it is anything else. A method that was meant to be a property, say, would be written with its
        address in this process: another tenant on each worker, and after each restart.
    """
    kind: Any = type(value)
    says = isinstance(value, (str, int)) or kind.__str__ is not object.__str__
    if not says or isinstance(value, NAMELESS) or callable(value):
        what = f"The user's {name} is a {kind.__name__}"
        raise TypeError(f"{what}, which does not tell tenants apart: give Gateway(tenant=...).")
    return str(value)
