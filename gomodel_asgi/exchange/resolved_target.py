"""A Target made concrete: which provider, with which key and model, under which deadlines."""

from __future__ import annotations

from collections.abc import Hashable

from msgspec import Struct, field

from ..dialects.base import Dialect
from ..providers.provider import Credential, Provider
from ..routing.request import Target
from ..seams.transport import UpstreamRequest
from ..settings import Retries, Timeouts
from ..wire.redaction import Redactor


class ResolvedTarget(Struct, frozen=True):
    """One Target of a chain, resolved; *dialect* is None where the upstream speaks the Responses API itself."""

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

    @property
    def own_key(self) -> bool:
        """Whether the Target brought its credential itself."""
        return self.target.api_key is not None

    @property
    def secrets(self) -> list[str]:
        """What no observer may see: any header may carry a credential under a name of its own."""
        given = self.target.headers or {}
        return [*self.redactor.secrets, *given.values(), *self.provider.headers.values()]
