"""Structs as bytes and back, for values that outlive the code that wrote them.

    1 byte of schema version, then the struct as msgpack

A reader never trusts what it finds. A record of a newer schema (another worker is being upgraded) and a damaged one
both read as absent: the request is answered as if nothing were stored, and never by a guess. A member added with a
default needs no new version, since older readers skip what they do not know; raise it where an older reader would
misunderstand, and lower it never.
"""

from __future__ import annotations

import logging
from typing import Generic, TypeVar

import msgspec

from ..seams.store import Record

logger = logging.getLogger("gomodel_asgi.stores")

S = TypeVar("S", bound=msgspec.Struct)


class Codec(Generic[S]):
    """Encodes structs of *type* as version *schema* (1 to 255), and decodes that and older ones."""

    def __init__(self, type: type[S], *, schema: int = 1) -> None:
        self._name = type.__name__
        self._schema = schema
        self._mark = bytes([schema])
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(type).decode
        self._warned: set[int] = set()

    def encode(self, struct: S) -> bytes:
        return self._mark + self._encode(struct)

    def decode(self, record: Record | None) -> S | None:
        """The struct in *record*; None where there is none, or none that can be read."""
        if record is None:
            return None
        schema = record.value[0] if record.value else 0
        if 1 <= schema <= self._schema:
            try:
                return self._decode(memoryview(record.value)[1:])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass
        self._warn(schema)
        return None

    def _warn(self, schema: int) -> None:
        """Once per version, since after a rollback every request may meet such a record."""
        if schema not in self._warned:
            self._warned.add(schema)
            why = f"has the newer schema {schema}" if schema > self._schema else "is damaged"
            logger.warning("A stored %s %s and reads as absent.", self._name, why)
