"""Which account at which upstream something belongs to, as a fingerprint that all workers share.

An id is only ever sent to the account that issued it. Without that, a tenant whose own upstream answers with an id of
somebody else's could have a policy carry it to the house's account, where it means another tenant's response.
"""

from __future__ import annotations

from ..history.tenancy import Tenancy
from ..providers.provider import Provider

# Accounts whose fingerprints are kept; about 300 bytes each.
REMEMBERED = 4096

# No provider's name.
NOBODY = "*"


class Accounts:
    """Names accounts. The provider's own credential is one account whatever its key is today, since keys rotate; a key
    that a Target brings is an account of its own."""

    def __init__(self, tenancy: Tenancy) -> None:
        self._tenancy = tenancy
        self._known: dict[tuple[str, str, str | None], str] = {}

    def of(self, provider: Provider, key: str | None) -> str:
        """The account at *provider*; *key* is the Target's own, None for the provider's."""
        place = (provider.name, provider.base_url, key)
        found = self._known.get(place)
        if found is None:
            own = ("house",) if key is None else ("key", key)
            found = self._keep(place, provider.name, provider.base_url, *own)
        return found

    def upstream(self, provider: Provider) -> str:
        """Where *provider* is, by whatever name and with whatever key it is asked: an id is one upstream's."""
        place = (NOBODY, provider.base_url, None)
        found = self._known.get(place)
        return self._keep(place, NOBODY, *map(str, provider.origin), provider.base_path) if found is None else found

    def _keep(self, place: tuple[str, str, str | None], *parts: str) -> str:
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        found = self._known[place] = self._tenancy.fingerprint(*parts)
        return found
