"""A list of the host's plain functions as an MCP server: schemas from annotations, calls in this process.

A parameter that is annotated `tools.Call` is filled in and not shown. What a model sends is checked by pydantic against
the annotations; what is wrong with it goes to the model, which can mend it.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pydantic

from ...arguments import is_coroutine_function
from ...threads import call as called
from ...tools import Call, Function, Image, ToolError
from .seams import Json, Listed, Opening, Outcome, Session, Visit, failed

LOOSE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Plain:
    """One function: *listed* is what a model sees of it.

    :raises TypeError: a parameter cannot be described to a model; it and its function are named.
    """

    def __init__(self, label: str, function: Function) -> None:
        self.function = function
        where = f"mcp: {label}.{function.name}"
        hints = _hints(function.call, where)
        parameters = inspect.signature(function.call).parameters.values()
        self.injected = [one.name for one in parameters if _is_call(hints.get(one.name))]
        shown = [one for one in parameters if one.name not in self.injected]
        fields: dict[str, Any] = {one.name: _field(one, hints, where) for one in shown}
        self.names = list(fields)
        config = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=False)
        try:
            self.model = pydantic.create_model(function.name, __config__=config, **_prefixed(fields))
            schema = self.model.model_json_schema(by_alias=True)
        except (pydantic.errors.PydanticUserError, pydantic.errors.PydanticSchemaGenerationError) as error:
            first = str(error).partition("\n")[0]
            raise TypeError(f"{where}: a parameter cannot be described as JSON Schema: {first}") from None
        schema.pop("title", None)
        self.listed = Listed(
            function.name, {"properties": {}, **schema}, function.description, function.read_only, function.approval
        )

    def read(self, arguments: Json) -> Json:
        """Returns the function's own arguments.

        :raises ToolError: they do not fit; the message says where, for the model.
        """
        try:
            read = self.model.model_validate(arguments)
        except pydantic.ValidationError as error:
            found = error.errors(include_url=False, include_input=False, include_context=False)
            lines = [f"{'.'.join(map(str, one['loc'])) or 'arguments'}: {one['msg']}" for one in found[:10]]
            raise ToolError("The arguments do not fit:\n" + "\n".join(lines)) from None
        return {name: getattr(read, _inner(name)) for name in self.names if _inner(name) in read.model_fields_set}


class FunctionSource:
    """The *functions* of the server *label*."""

    def __init__(self, label: str, functions: Sequence[Function]) -> None:
        self.plain = {function.name: Plain(label, function) for function in functions}

    async def admit(self, visit: Visit) -> Opening:
        """There is nothing to open."""
        session: Session = FunctionSession(self.plain)
        return lambda deadline: nullcontext(session)

    def place(self, visit: Visit) -> str | None:
        """They are listed each time: what the host demands of them may change, and it costs nothing."""
        return None


class FunctionSession:
    """See `seams.Session`."""

    def __init__(self, plain: dict[str, Plain]) -> None:
        self.plain = plain

    async def list_tools(self) -> Sequence[Listed]:
        """See `seams.Session`."""
        return [one.listed for one in self.plain.values()]

    async def call_tool(self, name: str, arguments: Json, call: Call) -> Outcome:
        """See `seams.Session`. A `ToolError` of the host's is an outcome: its text is meant for the model."""
        plain = self.plain[name]
        try:
            given = plain.read(arguments) | dict.fromkeys(plain.injected, call)
            result = await called(_bound(plain.function.call, given))
        except ToolError as error:
            return Outcome(str(error), error=failed(str(error)))
        return outcome_of(result)


def outcome_of(result: Any) -> Outcome:
    """Returns what a function gave back: text as it is, an image as such, all else as JSON.

    :raises TypeError: it cannot be written as JSON.
    """
    if isinstance(result, str):
        return Outcome(result)
    if isinstance(result, Image):
        return Outcome(f"An image ({result.format}).", (result,))
    if result is None:
        return Outcome("Done; there is nothing to return.")
    try:
        return Outcome(pydantic.TypeAdapter(Any).dump_json(result).decode())
    except ValueError:
        message = f"the function returned {type(result).__name__}, which cannot be written as JSON; return text or data"
        raise TypeError(message) from None


def _bound(function: Any, given: Json) -> Any:
    """*function* with its arguments, still known as one that is awaited or one for a thread."""
    if is_coroutine_function(function):

        async def run() -> Any:
            return await function(**given)

        return run
    return lambda: function(**given)


def _hints(function: Any, where: str) -> dict[str, Any]:
    """Returns the annotations of *function*, resolved.

    :raises TypeError: one names what cannot be found.
    """
    while isinstance(function, functools.partial):
        function = function.func
    target = function if inspect.isroutine(function) else type(function).__call__
    try:
        return typing.get_type_hints(target, include_extras=True)
    except NameError as error:
        raise TypeError(f"{where}: an annotation names what cannot be found: {error}") from None


def _is_call(annotation: Any) -> bool:
    return annotation is Call or Call in typing.get_args(annotation)


def _field(parameter: inspect.Parameter, hints: dict[str, Any], where: str) -> Any:
    """Returns the type of *parameter* and its default, as pydantic takes them.

    :raises TypeError: it cannot be given by name, or has no annotation.
    """
    if parameter.kind in LOOSE or parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
        raise TypeError(f"{where}: {parameter} cannot be given by name; models give arguments by name.")
    if parameter.name not in hints:
        raise TypeError(f"{where}: annotate the parameter {parameter.name!r}, so that a model knows what to give.")
    default = ... if parameter.default is inspect.Parameter.empty else parameter.default
    return hints[parameter.name], default


def _inner(name: str) -> str:
    return f"argument_{name}"


def _prefixed(fields: dict[str, Any]) -> dict[str, Any]:
    """*fields* under names that cannot clash with pydantic's own, and under their own as aliases."""
    made = {}
    for name, (kind, default) in fields.items():
        made[_inner(name)] = (kind, pydantic.Field(default, alias=name))
    return made
