"""Whose a request is where the host says nothing: the id of the scope's user, or a refusal, and never a guess."""

from __future__ import annotations

import uuid
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from gomodel_asgi import policies
from gomodel_asgi.errors import PolicyFailed
from gomodel_asgi.pipeline import tenant_of
from gomodel_asgi.routing.request import identity

from .test_policies import ask


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class ObjectId:
    """Like those of bson and python-ulid: no str, but its class says how it is written."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


class Plain:
    """Its class says nothing: its text is its address."""


class Called(ObjectId):
    def __call__(self) -> str:
        return self.text


class Name(str):
    pass


class Unimplemented:
    is_authenticated = True
    pk = 7

    @property
    def identity(self) -> str:
        raise NotImplementedError


def user(**members: Any) -> Any:
    return SimpleNamespace(is_authenticated=True, **members)


UUID = uuid.UUID("00000000-0000-4000-8000-000000000001")


@pytest.mark.parametrize(
    ("value", "text"),
    [("ada", "ada"), (Name("ada"), "ada"), (7, "7"), (0, "0"), (UUID, str(UUID)), (ObjectId("5f"), "5f")],
)
@pytest.mark.parametrize("name", ["identity", "pk", "username"])
def test_a_name_a_number_and_what_says_how_it_is_written_are_tenants(name: str, value: Any, text: str) -> None:
    assert identity(user(**{name: value})) == text


@pytest.mark.parametrize(
    "value",
    [
        b"ada",
        bytearray(b"ada"),
        1.5,
        True,
        False,
        Plain(),
        Plain,
        len,
        Plain().__repr__,
        lambda: "ada",
        Called("ada"),
        ["a"],
        {},
    ],
)
@pytest.mark.parametrize("name", ["identity", "pk", "username"])
async def test_what_only_looks_like_a_name_is_refused_and_never_written_as_it_looks(name: str, value: Any) -> None:
    with pytest.raises(PolicyFailed) as refused:
        await tenant_of({"type": "http", "user": user(**{name: value})}, None)

    cause = refused.value.__cause__
    assert isinstance(cause, TypeError)
    assert name in str(cause) and type(value).__name__ in str(cause)
    assert "0x" not in str(cause)


def test_what_is_empty_or_not_implemented_is_passed_over() -> None:
    assert identity(Unimplemented()) == "7"
    assert identity(user(identity="", pk=None, username="ada")) == "ada"
    assert identity(user(identity=ObjectId(""), pk=Decimal("2"))) == "2"
    with pytest.raises(LookupError):
        identity(user(identity="", pk=None, username=""))


def test_nobody_is_nobody() -> None:
    for nobody in (None, object(), SimpleNamespace(is_authenticated=False, pk=7)):
        assert identity(nobody) is None


def test_a_weighted_split_never_goes_by_an_address() -> None:
    split = policies.weighted([("a", 1), ("b", 1)])
    arms = {str(ask(split, user=user(identity=Plain().__repr__, pk=7)).provider) for _ in range(40)}

    assert arms == {str(ask(split, user=user(pk=7)).provider)}
