"""The configured providers, and what a hint or a model says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from ..providers.provider import Provider


class Registry:
    """The configured providers, found by name or else by type (the first of it)."""

    def __init__(self, providers: Iterable[Provider]) -> None:
        self.by_name: dict[str, Provider] = {}
        self.by_type: dict[str, Provider] = {}
        for provider in providers:
            if provider.name in self.by_name:
                raise ValueError(f"providers: the name '{provider.name}' is given twice.")
            self.by_name[provider.name] = provider
            self.by_type.setdefault(provider.type or provider.name, provider)
        if not self.by_name:
            raise ValueError("providers: give at least one.")
        self.view: Mapping[str, Provider] = MappingProxyType(self.by_name)
        self.only = next(iter(self.by_name.values())) if len(self.by_name) == 1 else None
        """The provider, where there is just one."""

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
