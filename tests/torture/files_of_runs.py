"""The files of training runs and comparisons, and the commands that read them."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from mtrl_fair.runs import write_json
from scripts import archive, evaluate, plot, supervised, table, train
from tests.mtrl_fair.results.written_runs import make_run
from tests.scripts.commands import Result, run_here
from tests.torture.file_mutations import (
    mutate_bytes,
    mutate_json,
    mutate_lines,
    mutate_state,
    mutate_table,
    mutate_zip,
)
from tests.torture.hostile_files import HostileFile

TABLES = ("summary", "tasks", "curves", "levels", "task-levels", "residuals")


def in_turn(*loads: Callable[[], Result]) -> Callable[[], Result]:
    """Returns a function that calls another of the loads each time."""

    turns = itertools.cycle(loads)
    return lambda: next(turns)()


def read_run(folder: Path) -> Iterator[HostileFile]:
    """Yields the files of a run without checkpoints, read for tables, figures and archives."""
    run = Path(make_run(folder, "run", steps=range(1000, 3001, 1000)))
    copies, figure = folder / "copies", folder / "figure.svg"
    tables = [lambda name=name: run_here(table.main, str(run), "--table", name) for name in TABLES]

    def archived(output: Path) -> Result:
        if output.is_dir():
            shutil.rmtree(output)
        output.unlink(missing_ok=True)
        return run_here(archive.main, str(run), "--output", str(output), "--lines", "5")

    copy = [lambda: archived(copies), lambda: archived(folder / "copies.zip")]
    draw = [
        lambda: run_here(plot.main, str(run), "--figure", "weights", "--output", str(figure)),
    ]
    loads = [*tables, *copy] * 4 + draw
    yield HostileFile("config.json, read", run / "config.json", mutate_json, in_turn(*loads), 1500)
    yield HostileFile(
        "metadata.json, read", run / "metadata.json", mutate_json, in_turn(*copy, tables[0]), 800
    )
    yield HostileFile(
        "metrics.jsonl, read", run / "metrics.jsonl", mutate_lines, in_turn(*loads), 1200
    )
    yield HostileFile(
        "evaluations.csv, read", run / "evaluations.csv", mutate_table, in_turn(*loads), 1000
    )


def read_zip(folder: Path) -> Iterator[HostileFile]:
    """Yields a zip file of two runs, read for tables and written anew."""
    for seed, name in enumerate("ab"):
        make_run(folder, name, seed)
    packed, added = folder / "packed.zip", Path(make_run(folder, "added"))
    words = [str(folder / "a"), str(folder / "b"), "--output", str(packed)]
    assert run_here(archive.main, *words).code == 0

    loads = [
        lambda: run_here(table.main, str(packed)),
        lambda: run_here(table.main, str(packed / "a"), "--table", "residuals"),
        lambda: run_here(archive.main, str(packed), "--output", str(folder / "unpacked")),
        lambda: run_here(archive.main, str(added), "--output", str(packed)),
    ]
    yield HostileFile("zip file of runs", packed, mutate_zip, in_turn(*loads), 1200)


def read_comparison(folder: Path) -> Iterator[HostileFile]:
    """Yields the plan and a result of a comparison, both read when it is resumed.

    Nothing is trained: the caller makes every command stop at once.
    """
    comparison = folder / "comparison"
    words = ["toy", "--compare", "ls", "uw", "--seeds", "2", "--epochs", "1", "--single-task"]
    words += ["none", "--run-dir", str(comparison), "--jobs", "1", "--device", "cpu"]
    assert run_here(supervised.main, *words).code == 130
    for name in ("ls-seed0", "uw-seed0"):
        (comparison / name).mkdir()
        write_json(
            comparison / name / "results.json",
            {"epoch": 1, "values": {"first/loss": 0.5, "second/loss": 0.25}},
        )

    def resume() -> Result:
        return run_here(supervised.main, "--resume", str(comparison))

    yield HostileFile("comparison.json", comparison / "comparison.json", mutate_json, resume, 1000)
    yield HostileFile(
        "results.json", comparison / "ls-seed0" / "results.json", mutate_json, resume, 500
    )


def continue_run(folder: Path, finished: Path) -> Iterator[HostileFile]:
    """Yields the files of a run of train.py, evaluated and resumed; training stops at once."""
    place = folder / "trained"

    def again(load: Callable[[], Result], name: str) -> Callable[[], Result]:
        """Each command gets the run as it was, but for the damaged file."""

        def load_copy() -> Result:
            damaged = (place / name).read_bytes()
            shutil.rmtree(place)
            shutil.copytree(finished, place)
            (place / name).write_bytes(damaged)
            return load()

        return load_copy

    def resumed() -> Result:
        return run_here(train.main, "--resume", str(place), "--total-steps", "400")

    def evaluated() -> Result:
        return run_here(evaluate.main, str(place), "--episodes", "1")

    shutil.copytree(finished, place)
    for name, kind, mutate, mutations in (
        ("config.json", "resumed", mutate_json, 400),
        ("metadata.json", "resumed", mutate_json, 40),
        ("metrics.jsonl", "resumed", mutate_lines, 40),
        ("evaluations.csv", "resumed", mutate_table, 40),
        ("checkpoints/latest.pt", "resumed", mutate_bytes, 300),
        ("checkpoints/latest.pt", "saved", mutate_state, 100),
    ):
        load = again(in_turn(resumed, evaluated), name)
        yield HostileFile(f"{name}, {kind}", place / name, mutate, load, mutations)
