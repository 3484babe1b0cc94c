"""What the source says of itself: every public name has a docstring, and whatever raises says so."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from gomodel_asgi import errors

ROOT = Path(__file__).parents[1] / "gomodel_asgi"
FILES = sorted(ROOT.rglob("*.py"))
DJANGOS = frozenset({"Meta", "Migration"})
"""Classes that Django looks for under these names, and whose meaning it defines."""
ABSTRACT = "NotImplementedError"
"""What a method raises that a class below has to define."""
MAKING = frozenset({"__new__", "__init__", "__post_init__"})
"""What makes an object: the docstring of its class speaks of these."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
Named = Function | ast.ClassDef


def definitions(body: list[ast.stmt], prefix: str = "", public: bool = True) -> Iterator[tuple[str, Named, bool]]:
    """The functions and classes of a module with their whole names, and whether they are public."""
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            yield from definitions(node.body + node.orelse, prefix, public)
        if isinstance(node, Named):
            seen = public and not node.name.startswith("_") and node.name not in DJANGOS
            yield f"{prefix}{node.name}", node, seen
            if isinstance(node, ast.ClassDef):
                yield from definitions(node.body, f"{prefix}{node.name}.", seen)


def kind_of(name: str) -> type[BaseException] | None:
    kind = getattr(errors, name, None) or getattr(builtins, name, None)
    return kind if isinstance(kind, type) and issubclass(kind, BaseException) else None


def is_one_of(raised: str, names: Iterable[str]) -> bool:
    """Whether *raised* is one of these classes of exceptions, or of a class below one."""
    kind = kind_of(raised)
    kinds = [one for name in names if (one := kind_of(name)) is not None]
    return bool({raised, "BaseException"} & set(names)) or (kind is not None and issubclass(kind, tuple(kinds)))


def is_caught(raised: str, handlers: Iterable[ast.ExceptHandler]) -> bool:
    return is_one_of(raised, {name for handler in handlers for name in names_in(handler.type)})


def names_in(node: ast.expr | None) -> set[str]:
    return {"BaseException"} if node is None else {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def raised_by(node: ast.AST, handlers: tuple[ast.ExceptHandler, ...] = ()) -> Iterator[str]:
    """What *node* raises itself and does not catch: the name of the class, "" where another function makes it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Named | ast.Lambda):
            continue
        around = (*handlers, *node.handlers) if isinstance(node, ast.Try) and child in node.body else handlers
        if isinstance(child, ast.Raise) and child.exc is not None:
            made = child.exc.func if isinstance(child.exc, ast.Call) else child.exc
            name = made.attr if isinstance(made, ast.Attribute) else getattr(made, "id", "")
            name = name if name[:1].isupper() else ""
            if name != ABSTRACT and not is_caught(name, around):
                yield name
        yield from raised_by(child, around)


def unsaid(node: Named) -> set[str]:
    """What *node* raises, and no docstring says: its own, or of a constructor that of the class."""
    if isinstance(node, ast.ClassDef):
        return {
            name for one in node.body if isinstance(one, Function) and one.name in MAKING for name in _unsaid(one, node)
        }
    return set() if node.name in MAKING else _unsaid(node)


def _unsaid(node: Function, *around: ast.ClassDef) -> set[str]:
    text = " ".join(ast.get_docstring(one) or "" for one in (node, *around))
    said = set(re.findall(r":raises (\w+):", text))
    return {name or "another" for name in raised_by(node) if not (is_one_of(name, said) if name else said)}


@pytest.fixture(scope="module")
def source() -> list[tuple[str, Named, bool]]:
    """All functions and classes of the package, each behind the path of its file."""
    return [
        (f"{path.relative_to(ROOT)} {name}", node, public)
        for path in FILES
        for name, node, public in definitions(ast.parse(path.read_text()).body)
    ]


def test_every_public_function_method_and_class_has_a_docstring(source: list[tuple[str, Named, bool]]) -> None:
    assert [name for name, node, public in source if public and not ast.get_docstring(node)] == []


def test_a_function_that_raises_says_what_and_when(source: list[tuple[str, Named, bool]]) -> None:
    assert {name: missing for name, node, _ in source if (missing := unsaid(node))} == {}


SAMPLE = '''
def silent(): raise ValueError("x")
def wrong():
    """It.

    :raises TypeError: it is.
    """
    raise ValueError("x")
def made(): raise unknown()
def caught():
    try:
        raise ValueError("x")
    except Exception:
        raise
def inner():
    def other(): raise ValueError("x")
class A:
    def method(self): raise ValueError
class B:
    """It.

    :raises ValueError: it is.
    """
    def __init__(self): raise ValueError
class C:
    def __init__(self): raise ValueError
'''


def test_the_rules_see_what_is_raised_and_not_what_is_caught() -> None:
    found = {name: unsaid(node) for name, node, _ in definitions(ast.parse(SAMPLE).body)}
    assert {name: names for name, names in found.items() if names} == {
        "silent": {"ValueError"},
        "wrong": {"ValueError"},
        "made": {"another"},
        "A.method": {"ValueError"},
        "C": {"ValueError"},
    }
