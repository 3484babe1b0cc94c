"""What each API of a fake provider is made of: paths, keys, answers, and its own way of writing errors."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from .model import EPOCH, Model
from .plan import Plan
from .received import ReceivedRequest
from .wire import Failure, Wire

PREFIX = r"(?:/(?!(?:responses|conversations|chat|completions|messages|models)(?:/|$))[^/]+)*"
"""Any path before an API's own, such as `/v1` or `/openai/deployments/large`. No part of it may be the API's own: a
base URL that holds the path already is a mistake, and leads nowhere."""


def path_pattern(own: str) -> re.Pattern[str]:
    """Returns a pattern for the path *own* below any prefix."""
    return re.compile(PREFIX + own)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a fake provider is: see `FakeProvider`."""

    name: str
    models: tuple[str, ...] = ()
    strict: bool = False
    template: bool = False

    @property
    def listed(self) -> tuple[str, ...]:
        """The models in the list of models."""
        return self.models or ("fake-model",)

    def has(self, name: object) -> bool:
        """Returns whether the provider has the model; one that names no models has them all."""
        return not self.models or name in self.models


class Api(ABC):
    """One API, served from memory."""

    root = "/v1"
    """What base URLs of this API end with."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.made = 0
        """Answers of the model so far, which number each other."""

    @abstractmethod
    def wire(self, request: ReceivedRequest, request_id: str) -> Wire:
        """Returns what writes the errors and events of the reply to this request."""

    @abstractmethod
    def answer(self, request: ReceivedRequest, model: Model) -> Plan:
        """Returns the reply; *model* gives the answer where the operation has one.

        :raises Refused: there is no such operation, or it cannot be done.
        """

    def key(self, request: ReceivedRequest) -> str:
        """Returns the key that the request carries, empty where it carries none."""
        bearer = (request.header("authorization") or "").removeprefix("Bearer ")
        return bearer or request.header("api-key") or request.header("x-api-key") or ""

    def wrong_key(self, given: str) -> Refused:
        """Returns the refusal of a key that is not the provider's; quotes it, as some providers do."""
        return Refused(401, f"Incorrect API key provided: {given}.", code="invalid_api_key")


def no_such_path(request: ReceivedRequest) -> Refused:
    """Returns the refusal of a path that the API does not have."""
    return Refused(404, f"Invalid URL ({request.method} {request.path})")


def require_method(method: str, request: ReceivedRequest) -> None:
    """Checks the method of a request.

    :raises Refused: the request has another; 405.
    """
    if request.method != method:
        raise Refused(405, f"Not allowed to {request.method} on {request.path}.")


def object_of(request: ReceivedRequest, *, optional: bool = False) -> dict[str, Any]:
    """Returns the JSON object in the body; *optional* makes one of an empty body.

    :raises Refused: it is none.
    """
    if optional and not request.body:
        return {}
    try:
        body = request.json()
    except ValueError as exc:
        raise Refused(400, "We could not parse the JSON body of your request.") from exc
    if not isinstance(body, dict):
        raise Refused(400, "The body of the request must be a JSON object.")
    return body


def openai_models(settings: Settings, request: ReceivedRequest, id: str | None) -> Mapping[str, Any]:
    """Returns the list of models as the OpenAI APIs write it, or the model *id*.

    :raises Refused: there is no such model.
    """
    require_method("GET", request)
    models = [{"id": name, "object": "model", "created": EPOCH, "owned_by": settings.name} for name in settings.listed]
    if id is None:
        return {"object": "list", "data": models}
    check_model(settings, id)
    return {**models[0], "id": id}


def page_asked(request: ReceivedRequest, size_name: str, usual: int, most: int) -> tuple[int, dict[str, str]]:
    """Returns how many entries of a list a request asks for, by the member *size_name* of its query, and the query.

    :raises Refused: that is no number from 1 on; more than *most* are *most*.
    """
    query = {name: values[-1] for name, values in parse_qs(request.query.decode("latin-1")).items()}
    size = query.get(size_name, str(usual))
    if not size.isascii() or not size.isdigit() or int(size) < 1:
        raise Refused(400, f"{size_name}: give a number from 1 on.")
    return min(int(size), most), query


def check_model(settings: Settings, name: object) -> None:
    """Checks that the provider has the model *name*, as the OpenAI APIs do.

    :raises Refused: 404.
    """
    if settings.has(name):
        return
    message = f"The model `{name}` does not exist or you do not have access to it."
    raise Refused(404, message, type="invalid_request_error", code="model_not_found")


class Refused(Exception):
    """The request is answered with an error, in the form of the API that refuses it."""

    def __init__(
        self, status: int, message: str, *, type: str | None = None, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.failure = Failure(status=status, message=message, type=type, code=code, param=param)


# Rules are functions that yield what is wrong with a request, in the order in which the API looks for it.


Problems = Iterator[Refused]


def refuse(problems: Problems) -> None:
    """:raises Refused: there is a problem: the first one."""
    for problem in problems:
        raise problem


def invalid(message: str, param: str | None = None, code: str | None = None) -> Refused:
    """Returns the refusal of an invalid request."""
    return Refused(400, message, code=code, param=param)


def missing(path: str, param: str | None = None) -> Refused:
    """Returns the refusal of a request without the member *path*, as the OpenAI APIs word it."""
    return invalid(f"Missing required parameter: '{path}'.", param or path, "missing_required_parameter")


def unknown(value: Mapping[str, Any], known: Container[str], path: str = "") -> Problems:
    """Yields the members of *value* that are not *known*, as the OpenAI APIs word it."""
    for name in value:
        if name not in known:
            yield invalid(f"Unknown parameter: '{path}{name}'.", path + name, "unknown_parameter")
