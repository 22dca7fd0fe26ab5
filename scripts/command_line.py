"""What the scripts share: names and flags, errors as one line with exit code 2, signals."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

import torch
import tyro

from mtrl_fair.checks import check_name
from mtrl_fair.errors import WriteError
from mtrl_fair.machine import usable_cores
from mtrl_fair.runs import RunError
from mtrl_fair.signals import STOP_SIGNALS

Arguments = TypeVar("Arguments")


BORDERS = " ─│╭╮╰╯├┤"
"""What tyro draws around an error."""
LONGEST_ERROR = 1500
"""Characters of an error line of which nothing is left out."""


def fail(message: str, code: int = 2) -> NoReturn:
    """Ends the program with one line on standard error."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


def print_notes(notes: Sequence[str]) -> None:
    """Prints what the user should know on standard error, where no table or file is."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


@contextmanager
def bad_input_is_one_line() -> Iterator[None]:
    """Turns bad input that is reported within into one line and exit code 2.

    It stands around the checks of a command, not around its work, where a ValueError is a fault of
    the program and its traceback is needed.
    """
    try:
        yield
    except (RunError, ValueError) as error:
        fail(one_line(str(error)))


def one_line(message: str) -> str:
    """Returns a message that a terminal shows on one line: what a damaged file holds may be long,
    or have line ends and control characters.

    >>> one_line("unknown task 'a\\nb'")
    "unknown task 'a\\\\nb'"
    """
    if len(message) > LONGEST_ERROR:
        half = LONGEST_ERROR // 2
        message = f"{message[:half]} […] {message[-half:]}"
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in message)


def split_name(
    kind: str, arguments: Sequence[str], names: Sequence[str]
) -> tuple[str | None, list[str]]:
    """Takes the name of a preset or benchmark, the first argument that is no flag, out of the
    arguments.

    It may also come after flags, where only its exactness tells it from a flag's value.
    """
    rest = list(arguments)
    if rest and not rest[0].startswith("-"):
        check_name(kind, rest[0], names)
        return rest[0], rest[1:]
    for index in range(1, len(rest)):
        before = rest[index - 1]
        if rest[index] in names and ("=" in before or not before.startswith("--")):
            return rest[index], rest[:index] + rest[index + 1 :]
    return None, rest


def parse(
    default: Arguments, arguments: Sequence[str], description: str | None = None
) -> Arguments:
    """Reads flags with `tyro`, whose defaults are the values of `default`."""
    with bad_input_is_one_line(), tyro_errors_are_one_line():
        check_given_once(arguments)
        return tyro.cli(
            type(default),
            default=default,
            args=list(arguments),
            description=description,
            config=(tyro.conf.FlagConversionOff,),
        )


def parse_class(kind: type[Arguments], arguments: Sequence[str]) -> Arguments:
    """Reads flags and other arguments with `tyro`, for a command without presets."""
    with bad_input_is_one_line(), tyro_errors_are_one_line():
        check_given_once(arguments)
        return tyro.cli(kind, args=list(arguments))


@contextmanager
def tyro_errors_are_one_line() -> Iterator[None]:
    """Turns the box in which tyro prints an error into one line, as of all other bad input."""
    box = io.StringIO()
    try:
        with redirect_stderr(box):
            yield
        sys.stderr.write(box.getvalue())  # a warning, of Python or of a library
    except SystemExit as exit:
        if exit.code == 0:  # of --help
            raise
        # The first line is a title; at the end it names the program's --help, and with it folders.
        told = box.getvalue().partition("For full helptext")[0]
        lines = [line.strip(BORDERS) for line in told.splitlines() if line.strip(BORDERS + "-")]
        words = " ".join(lines[1:] or lines).split()
        fail(one_line(f"{' '.join(words)}; --help shows all flags"))


def check_given_once(arguments: Sequence[str]) -> None:
    """Raises ValueError for a flag that stands there twice: tyro would keep its last values only,
    without a word."""
    flags = [word.split("=")[0].replace("_", "-") for word in arguments if word.startswith("--")]
    for flag in flags:
        if (times := flags.count(flag)) > 1:
            raise ValueError(
                f"{flag} is given {times} times, but only the last would count: give it once, with"
                " all of its values"
            )


def check_use(flag: str, value: object, choice: str, chosen: str, uses: Sequence[str]) -> None:
    """Raises ValueError if a flag was given with a choice that has no use for it."""
    if value is not None and chosen not in uses:
        raise ValueError(
            f"{flag} is {value}, but {choice} {chosen} has no use for it: choose {choice}"
            f" {' or '.join(uses)}, or leave it out"
        )


def check_output(flag: str, path: Path) -> None:
    """Raises ValueError unless a file can be written there."""
    if "\0" in str(path):
        raise ValueError(
            f"{flag} {path} has a null character, which no name can have: leave it out"
        )
    if not path.parent.is_dir():
        raise ValueError(f"{flag} {path}: there is no folder {path.parent}, make it first")
    if path.is_dir():
        raise ValueError(f"{flag} {path} is a folder: give a file name")


@contextmanager
def writing(flag: str, path: Path) -> Iterator[None]:
    """Ends the program with one line if what is written within cannot be."""
    try:
        yield
    except WriteError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{flag} {path} cannot be written ({error.strerror or error}): choose another place")


def python(script: str = "") -> str:
    """Returns a command that runs a script of ours with this interpreter, for the user's folder."""
    words = [Path(sys.executable), *([Path(__file__).with_name(script)] if script else [])]
    here = Path.cwd()
    return " ".join(
        str(word.relative_to(here) if word.is_relative_to(here) else word) for word in words
    )


def resolve_device(name: str) -> torch.device:
    """Returns the device of a name; "auto" is CUDA where there is one.

    Raises:
        ValueError: no such device here.
    """
    present = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if name == "auto":
        return torch.device("cuda:0" if len(present) > 1 else "cpu")
    canonical = "cuda:0" if name == "cuda" else name
    if canonical not in present:
        raise ValueError(f"the device {name!r} is not there: choose auto or {', '.join(present)}")
    return torch.device(canonical)


def use_threads(number: int | None) -> None:
    """Makes torch compute with this many CPU threads; None: at most one per usable core."""
    torch.set_num_threads(number or min(torch.get_num_threads(), usable_cores()))


def stop_on_signal() -> Callable[[], bool]:
    """Makes each of `STOP_SIGNALS` a request to stop, and a Ctrl-C after one an interrupt.

    Other signals that come again stay a request: some programs, such as `timeout`, send two. In a
    thread nothing is changed, because Python lets only the main thread have handlers.
    """
    received: list[int] = []
    terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def handle(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)
        if number == getattr(signal, "SIGHUP", None):
            # What is printed next would raise an error, before the checkpoint is saved.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for descriptor in terminals:
                os.dup2(nowhere, descriptor)
            os.close(nowhere)

    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            # `nohup` ignores SIGHUP for a program that is to go on without its terminal. A shell
            # ignores SIGINT for one in the background, but whoever sends it there means it.
            if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, handle)
    return lambda: bool(received)
