"""What a policy would do with a request, told without sending anything."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import GatewayError
from .request import Target


@dataclass(frozen=True, slots=True)
class Candidate:
    """One upstream that a request could reach: where, with which model, and *why* it stands where it stands."""

    provider: str
    model: str | None
    url: str
    dialect: str
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the policy would do with a request. *candidates* stand in the order in which they would be asked; *error*
    is what the client would get instead, if the policy refuses."""

    model: str | None
    hint: str | None
    target: Target | None
    candidates: tuple[Candidate, ...] = ()
    error: GatewayError | None = None
