"""What the scripts share: presets on the command line, and errors as one line with exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

import torch
import tyro

from mtrl_fair.names import check_name
from mtrl_fair.runs import RunError

Arguments = TypeVar("Arguments")


def fail(message: str, code: int = 2) -> NoReturn:
    """Ends the program with one line on standard error."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


def or_fail(function: Callable[[], Arguments]) -> Arguments:
    """Calls a function; bad input that it reports becomes one line and exit code 2."""
    try:
        return function()
    except (RunError, ValueError) as error:
        fail(str(error))


def split_preset(arguments: Sequence[str], presets: Sequence[str]) -> tuple[str | None, list[str]]:
    """Takes the preset, the first argument that is no flag, out of the arguments.

    A preset may also come after flags, where only its exact name tells it from a flag's value.
    """
    rest = list(arguments)
    if rest and not rest[0].startswith("-"):
        check_name("preset", rest[0], presets)
        return rest[0], rest[1:]
    for index in range(1, len(rest)):
        before = rest[index - 1]
        if rest[index] in presets and ("=" in before or not before.startswith("-")):
            return rest[index], rest[:index] + rest[index + 1 :]
    return None, rest


def parse(
    default: Arguments, arguments: Sequence[str], description: str | None = None
) -> Arguments:
    """`tyro` on the values of `default`."""
    return or_fail(
        lambda: tyro.cli(
            type(default),
            default=default,
            args=list(arguments),
            description=description,
            config=(tyro.conf.FlagConversionOff,),
        )
    )


def check_output(flag: str, path: Path) -> None:
    """Raises ValueError unless a file can be written there."""
    if not path.parent.is_dir():
        raise ValueError(f"{flag} {path}: there is no folder {path.parent}, make it first")
    if path.is_dir():
        raise ValueError(f"{flag} {path} is a folder: give a file name")


def python(script: str = "") -> str:
    """This interpreter, and a script of ours, as a command for the folder the user is in."""
    words = [Path(sys.executable), *([Path(__file__).with_name(script)] if script else [])]
    here = Path.cwd()
    return " ".join(
        str(word.relative_to(here) if word.is_relative_to(here) else word) for word in words
    )


def resolve_device(name: str) -> torch.device:
    """The device that a name stands for; "auto" is CUDA where there is one.

    Raises:
        ValueError: no such device here.
    """
    present = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if name == "auto":
        return torch.device(present[-1] if len(present) == 1 else "cuda:0")
    canonical = "cuda:0" if name == "cuda" else name
    if canonical not in present:
        raise ValueError(f"the device {name!r} is not there: choose auto or {', '.join(present)}")
    return torch.device(canonical)
