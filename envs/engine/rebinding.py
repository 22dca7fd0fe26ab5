"""The package's own code with other functions among its globals: copies, nothing is patched."""

from __future__ import annotations

import sys
from functools import cache
from types import CellType, FunctionType
from typing import Any

from envs.engine.functions import namespaces


@cache
def fast_globals(module: str) -> dict[str, Any]:
    """Returns a module's globals with the fast functions under the names of the libraries' own."""
    names = dict(vars(sys.modules[module]))
    return names | {name: fast for name, fast in namespaces()[0].items() if name in names}


def _rebound(attribute: Any) -> Any:
    """The same code with the fast functions among its globals."""
    if isinstance(attribute, property):
        return property(*map(_rebound, (attribute.fget, attribute.fset, attribute.fdel)))
    if isinstance(attribute, staticmethod):
        return staticmethod(_rebound(attribute.__func__))
    if not isinstance(attribute, FunctionType):
        return attribute
    closure = attribute.__closure__ and tuple(
        # A decorated method's closure holds the method. `super()` needs its own cell unchanged.
        CellType(_rebound(cell.cell_contents))
        if isinstance(cell.cell_contents, FunctionType)
        else cell
        for cell in attribute.__closure__
    )
    function = FunctionType(
        attribute.__code__,
        fast_globals(attribute.__module__),
        attribute.__name__,
        attribute.__defaults__,
        closure,
    )
    function.__kwdefaults__ = attribute.__kwdefaults__
    return function


def rebound_members(package_class: type) -> dict[str, Any]:
    """Returns a class's own methods, properties and static methods, calling the fast functions."""
    return {
        name: _rebound(attribute)
        for name, attribute in vars(package_class).items()
        if isinstance(attribute, FunctionType | property | staticmethod)
    }
