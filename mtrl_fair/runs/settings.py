"""Settings of a dataclass as plain data for JSON and back, and as names of flags."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Mapping
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mtrl_fair.checks import check_name

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


def flag_name(key: str) -> str:
    """Returns the flag of a setting, whose key may be dotted.

    >>> flag_name("agent.batch_size")
    '--agent.batch-size'
    """
    return "--" + key.replace("_", "-")


def to_dict(config: DataclassInstance, without: Collection[str] = ()) -> dict[str, Any]:
    """Returns the settings as nested plain data for JSON, with lists for tuples.

    Args:
        without: fields to leave out, such as those that concern a command and not its run.
    """
    values = dataclasses.asdict(config, dict_factory=_with_lists)
    return {key: value for key, value in values.items() if key not in without}


def from_dict(cls: type[Config], values: Mapping[str, Any], where: str, prefix: str = "") -> Config:
    """Makes a configuration from what `to_dict` returned; settings that are absent get defaults.

    Args:
        where: whose values they are, for messages: a file.
        prefix: what a message puts before a key.

    Raises:
        ValueError: a key that the class does not have, a value of another type, or a setting
            without a default that is absent.
    """
    hints = get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise ValueError(_unknown_setting(str(key), prefix, hints, where))
    for field in dataclasses.fields(cls):
        has_default = not (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if field.name not in values and not has_default:
            raise ValueError(f"{where} lacks the setting {prefix}{field.name}: restore the file")
    return cls(
        **{key: _read(prefix + key, value, hints[key], where) for key, value in values.items()}
    )


def _with_lists(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in items}


def _unknown_setting(key: str, prefix: str, valid: Collection[str], where: str) -> str:
    nearest = difflib.get_close_matches(key, valid, n=3, cutoff=0.5)
    hint = f" (near to it: {', '.join(prefix + name for name in nearest)})" if nearest else ""
    return (
        f"{where} has the setting {prefix + key!r}, which this version of mtrl-fair does not"
        f" have{hint}: an earlier version wrote the file; use the commit that the run's"
        " metadata.json names, or start a new run"
    )


def _read(key: str, value: Any, hint: Any, where: str) -> Any:
    """Returns a JSON value as the field's type, or raises ValueError if it is of another."""
    is_config = dataclasses.is_dataclass(hint)
    if is_config and isinstance(value, Mapping):
        return from_dict(hint, value, where, f"{key}.")
    if get_origin(hint) is Literal:
        check_name(f"{key} in {where}", value, get_args(hint))
    elif is_config or not _fits(value, hint):
        raise ValueError(
            f"{key} in {where} is {value!r}, expected {_describe(hint)}: restore the file"
        )
    return tuple(value) if isinstance(value, list) else value


def _fits(value: Any, hint: Any) -> bool:
    """Returns whether a JSON value is of a type; an int is a float too, but a bool is no int."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if kind is Literal:
        return value in parts
    if kind is tuple:
        return isinstance(value, list | tuple) and all(_fits(entry, parts[0]) for entry in value)
    if kind is dict:
        return isinstance(value, dict) and all(_fits(entry, parts[1]) for entry in value.values())
    return type(value) is hint or (hint is float and type(value) is int)


def _describe(hint: Any) -> str:
    kind, parts = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return " or ".join(map(_describe, parts))
    if kind is Literal:
        return " or ".join(map(repr, parts))
    if kind is tuple:
        return f"a list of {_describe(parts[0])}"
    if kind is dict:
        return "numbers by name"
    if hint is NoneType:
        return "null"
    return "an object with settings" if dataclasses.is_dataclass(hint) else str(hint.__name__)
