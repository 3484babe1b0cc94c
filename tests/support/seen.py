"""An observer that remembers, and the requests that give it something to remember."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from gomodel_asgi import Gateway, MemoryStore, Provider
from gomodel_asgi.observers import Ended, Record
from gomodel_asgi.testing import FakeProvider

KEY = "sk-canary-house-key"

Kind = TypeVar("Kind", bound=Record)


class Seen:
    """Keeps every record."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def __call__(self, record: Record) -> None:
        self.records.append(record)

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [record for record in self.records if isinstance(record, kind)]

    @property
    def ended(self) -> Ended:
        """The one record with which the only exchange ended."""
        (record,) = self.of(Ended)
        return record

    @property
    def kinds(self) -> list[str]:
        return [type(record).__name__ for record in self.records]


def gateway_of(provider: FakeProvider, *observers: Any, **options: Any) -> Gateway:
    """A gateway in front of *provider*."""
    options.setdefault("providers", [native(provider)])
    return Gateway(observers=observers, **options)


def native(provider: FakeProvider, name: str = "fake", **options: Any) -> Provider:
    return Provider(name, provider.base_url, api_key=options.pop("api_key", KEY), **options)


def texts(records: Iterable[Record]) -> str:
    """Everything that could ever be written of *records*."""
    return "\n".join(repr(record) + repr(getattr(record, "raw_usage", "")) for record in records)


def kept(store: MemoryStore) -> str:
    """Everything that lies in *store*, as far as it is text."""
    shares = store._shares.by_owner.values()
    entries = [*store._lasting.values(), *(one for share in shares for one in share.entries.values())]
    assert len(entries) == store._entries
    values = [entry.value for entry in entries]
    return "\n".join(one.decode("utf-8", "replace") if isinstance(one, bytes) else repr(one) for one in values)
