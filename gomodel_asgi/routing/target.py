"""Where a request goes: the `Target` that a policy answers with, and what becomes of it once it is resolved."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from msgspec import Struct, field
from msgspec.structs import force_setattr

from ..arguments import check_instance, listed, members, refusal, texts
from ..dialects.base import Dialect
from ..providers.credential import ApiKey, Credential, check_key
from ..providers.provider import Provider, check_times
from ..seams.transport import UpstreamRequest
from ..settings import Retries, Timeouts
from ..wire.read_only import read_only
from ..wire.redaction import Redactor

RESERVED_PARAMS = ("model", "stream", "background")
NONE: tuple[()] = ()
"""The default of what a Target has several of, known by its identity: a Target is made for each request."""
DECLARATIONS = "declarations, such as {'type': 'mcp', 'server_label': 'crm'}"


class Options(Struct, frozen=True, kw_only=True):
    """The members of a Target that are given by name."""

    model: str | None = None
    api_key: ApiKey | None = None
    headers: Mapping[str, str] | None = None
    params: Mapping[str, Any] | None = None
    tools: Iterable[Mapping[str, Any]] = NONE
    fallbacks: Iterable[Target] = NONE
    timeouts: Timeouts | None = None
    retries: Retries | None = None
    labels: Mapping[str, str] | None = None

    def __repr__(self) -> str:
        return f"Options(model={self.model!r}, fallbacks={self.fallbacks!r}, labels={self.labels!r})"


class Target(Options, frozen=True):
    """Where a request goes: the policy's final answer.

    *provider* is a configured name or a `Provider` built for this request; *model* None sends the client's model.
    *api_key* replaces the provider's own and is used for this Target alone. *headers* go out over the provider's.
    *params* sets top-level members of the body, None removing one. *tools* are declarations of hosted tools that are
    added to the client's, where the gateway runs them; it does not see them. *fallbacks* are tried in order when this
    one fails before anything meaningful has reached the client. Members of *timeouts* and *retries* that are not given
    are inherited. *labels* go to observers and metrics. Mappings are copied: nothing changes a Target once it is made.

    :raises ValueError: *params* names `model`, `stream` or `background`, *tools* holds something else, or *api_key* is
        empty.
    :raises TypeError: a member is of another type; the message names it, and never holds a key.
    """

    provider: str | Provider

    def __post_init__(self) -> None:
        if type(self.provider) is not str and not isinstance(self.provider, Provider):
            raise refusal("provider", "a name or a Provider", self.provider)
        if self.model is not None and not isinstance(self.model, str):
            raise refusal("model", "a name", self.model)
        if self.api_key is not None:
            check_key(self.api_key)
        if self.fallbacks is not NONE:
            self._check_fallbacks(self.fallbacks)
        if self.tools is not NONE:
            self._check_tools(self.tools)
        if self.timeouts is not None or self.retries is not None:
            check_times(self.timeouts, self.retries)
        if self.params is not None:
            force_setattr(self, "params", read_only(self._checked_params(self.params)))
        if self.headers is not None:
            force_setattr(self, "headers", read_only(texts("headers", self.headers)))
        if self.labels is not None:
            force_setattr(self, "labels", read_only(texts("labels", self.labels)))

    def _check_fallbacks(self, fallbacks: Any) -> None:
        """Keeps the *fallbacks* as a tuple.

        :raises TypeError: they are not a list of Targets.
        """
        wanted = "a list of Targets, such as [Target('b')]"
        chain = listed("fallbacks", fallbacks, wanted)
        for one in chain:
            check_instance("fallbacks", one, Target, wanted)
        force_setattr(self, "fallbacks", chain)

    def _check_tools(self, tools: Any) -> None:
        """Keeps the *tools* as a tuple.

        :raises ValueError: one is no declaration.
        """
        force_setattr(self, "tools", listed("tools", tools, f"a list of {DECLARATIONS}"))
        for tool in self.tools:
            if not isinstance(tool, Mapping) or not isinstance(tool.get("type"), str):
                raise ValueError(f"tools: give {DECLARATIONS}.")

    def _checked_params(self, params: Any) -> dict[str, Any]:
        """Returns a copy of the *params*.

        :raises ValueError: one is reserved for the gateway.
        """
        found = members("params", params)
        for name in RESERVED_PARAMS:
            if name in found:
                raise ValueError(f"params: '{name}' cannot be set here; the model is a member of Target.")
        return found

    def __repr__(self) -> str:
        return f"Target({self.provider!r}, model={self.model!r}, fallbacks={self.fallbacks!r}, labels={self.labels!r})"

    def chain(self) -> list[Target]:
        """Returns this Target and its fallbacks, theirs included, in the order in which they are tried."""
        return [self, *(one for fallback in self.fallbacks for one in fallback.chain())]


class ResolvedTarget(Struct, frozen=True):
    """A Target made concrete: which provider, with which key and model, under which deadlines. *dialect* is None where
    the upstream speaks the Responses API itself."""

    target: Target
    provider: Provider
    dialect: Dialect | None
    credential: Credential
    model: str | None
    timeouts: Timeouts
    retries: Retries
    redactor: Redactor
    key: str | None = None
    """The credential that the Target brought itself; None: it is the provider's."""
    forms: dict[Hashable, UpstreamRequest] = field(default_factory=dict)
    """Requests to it, but for body and deadline, by all that they are made of."""

    def __repr__(self) -> str:
        return f"<ResolvedTarget {self.provider!r} model={self.model!r} {self.credential!r}>"

    @property
    def own_key(self) -> bool:
        """Whether the Target brought its credential itself."""
        return self.target.api_key is not None

    @property
    def secrets(self) -> list[str]:
        """What no observer may see: any header may carry a credential under a name of its own."""
        given = self.target.headers or {}
        return [*self.redactor.secrets, *given.values(), *self.provider.headers.values()]
