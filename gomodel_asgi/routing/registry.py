"""The configured providers, and what a hint or a model says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..arguments import check_instance, listed
from ..providers.provider import Provider


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Registry:
    """The configured providers, found by name or else by type (the first of it), and the *only* one where there is just
    one. Read-only: policies see it."""

    by_name: Mapping[str, Provider]
    by_type: Mapping[str, Provider]
    only: Provider | None

    def __init__(self, providers: Iterable[Provider]) -> None:
        """Lists *providers* by name and by type.

        :raises TypeError: they are not a list of Provider objects.
        :raises ValueError: there are none, or two of one name.
        """
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
        """The provider that *hint* names."""
        return self.by_name.get(hint) or self.by_type.get(hint)

    def serving(self, model: str) -> Provider | None:
        """The first provider whose patterns match *model*."""
        return next((one for one in self.by_name.values() if one.serves(model)), None)


def split_model(model: str | None, hint: str | None, registry: Registry) -> tuple[str | None, str | None]:
    """Hint and bare model. A prefix `name/model` is a hint only where there is no explicit one and the name is known;
    with an explicit hint, one prefix that equals it exactly is taken off."""
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
