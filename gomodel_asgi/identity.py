"""Who a user of the host is, as text: the tenant where the host names none."""

from __future__ import annotations

from typing import Any

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
