"""Loads a file thousands of times, each time damaged anew, and counts what came of it."""

from __future__ import annotations

import contextlib
import resource
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import NoReturn

import matplotlib.pyplot as plt

from scripts.command_line import bad_input_is_one_line
from tests.scripts.commands import Result, run_here
from tests.torture.file_mutations import OUTSIDE, Mutation

SEED = 20_261_201
"""Decides every mutation."""
SECONDS = 60
"""A load that takes longer is a fault."""
MEMORY = 1 << 30
"""A load may take so many bytes of address space beyond what the process has."""
STOPPED = 130
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class HostileFile:
    """A file, how it is damaged, and the command or loader that must bear it."""

    name: str
    path: Path
    mutate: Mutation
    load: Callable[[], Result]
    mutations: int


@dataclass
class Tally:
    """What came of the mutations of one file."""

    refused: int = 0
    loaded: int = 0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    first: dict[str, int] = field(default_factory=dict)
    """The number of the first mutation with a fault."""


def checked(load: Callable[[], object]) -> Result:
    """Calls a loader as commands do: what it refuses is one line and exit code 2."""

    def main(words: list[str]) -> None:
        with bad_input_is_one_line():
            load()

    return run_here(main)


def load_damaged(file: HostileFile, sandbox: Path) -> Tally:
    """Loads every mutation of a file; `sandbox` is the folder beside which nothing may appear."""
    tally = Tally()
    content = file.path.read_bytes()
    around = set(sandbox.parent.iterdir())
    undamaged = file.load()
    assert undamaged.code in (0, STOPPED), undamaged.errors
    started = time.monotonic()
    for number in range(file.mutations):
        damaged = file.mutate(content, Random(f"{SEED}/{file.name}/{number}"))
        file.path.write_bytes(damaged)
        result, fault = None, None
        try:
            with bounded(), warnings.catch_warnings():
                warnings.simplefilter("error")
                warnings.filterwarnings("ignore", "the goal cache", RuntimeWarning)
                # Such a file is loaded, and its warning is numpy's.
                warnings.filterwarnings("ignore", "Reading `.npy` or `.npz` file", UserWarning)
                result = file.load()
            fault = fault_of(result)
        except Exception as error:
            fault = describe(error)
        plt.close("all")
        if set(sandbox.parent.iterdir()) != around or OUTSIDE.exists():
            fault = "something was written outside of the folder"
        if fault is not None:
            tally.faults[fault] += 1
            tally.first.setdefault(fault, number)
        elif result is not None and result.code in (0, STOPPED):
            tally.loaded += 1
        else:
            tally.refused += 1
    file.path.write_bytes(content)
    tally.seconds = time.monotonic() - started
    return tally


def fault_of(result: Result) -> str | None:
    """Returns what is wrong with how a command ended, or None."""
    if result.code in (0, STOPPED):
        return None
    lines = [line for line in result.errors.splitlines() if not line.startswith("note: ")]
    if len(lines) == 1 and lines[0].startswith("error: ") and len(lines[0]) < 3000:
        return None
    return f"exit code {result.code} with {len(lines)} lines: {lines[-1:]}"[:300]


def describe(error: BaseException) -> str:
    """Returns an error with the line of ours that it passed last."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(str(ROOT))]
    last = ours[-1] if ours else frames[-1]
    place = f"{last.filename.removeprefix(f'{ROOT}/')}:{last.lineno}"
    return f"{type(error).__name__} at {place}: {str(error)[:100]}"


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Ends what takes too long or too much memory with an error."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise TimeoutError(f"it took more than {SECONDS} s")

    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    handler = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


def peak_memory() -> float:
    """Returns the most memory that this process has held so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
