"""What one who looks at the console may see."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Literal

from ..arguments import check_flags, refusal


class Everybody(Enum):
    """All tenants, and requests that have none."""

    ALL = "ALL"

    def __repr__(self) -> str:
        return "View.ALL"


All = Literal[Everybody.ALL]


@dataclass(frozen=True, slots=True)
class View:
    """May see the requests of *tenants*: a set of names (None stands for requests without a tenant), or `View.ALL`.

    *detail* shows what upstreams said of their failures in their own words, which may quote a part of a request.
    *explain* lets the policy be asked what it would do with a request of one of these tenants.

    :raises TypeError: *tenants* is neither a set of names nor `View.ALL`, or a flag is neither True nor False.
    """

    tenants: Set[str | None] | All
    detail: bool = False
    explain: bool = False
    ALL: ClassVar[All] = Everybody.ALL

    def __init__(self, tenants: Set[str | None] | All, *, detail: bool = False, explain: bool = False) -> None:
        check_flags(detail=detail, explain=explain)
        if tenants is not Everybody.ALL:
            if not isinstance(tenants, Set) or not all(one is None or isinstance(one, str) for one in tenants):
                raise refusal("tenants", "a set of names, such as {'acme'}, or View.ALL", tenants)
            tenants = frozenset(tenants)
        object.__setattr__(self, "tenants", tenants)
        object.__setattr__(self, "detail", detail)
        object.__setattr__(self, "explain", explain)

    @property
    def is_whole(self) -> bool:
        """Whether it shows everybody's requests."""
        return self.tenants is Everybody.ALL

    @property
    def named(self) -> frozenset[str | None] | None:
        """The tenants, None where it shows all of them."""
        return None if self.tenants is Everybody.ALL else frozenset(self.tenants)

    def shows(self, tenant: str | None) -> bool:
        """Returns whether the requests of *tenant* may be seen."""
        return self.tenants is Everybody.ALL or tenant in self.tenants

    def choices(self, most: int) -> list[str] | None:
        """Returns the tenants to choose from; None where they are more than *most*, or not known here."""
        named = self.named
        if named is None or len(named) > most:
            return None
        return sorted(name for name in named if name is not None)
