"""What training runs left behind, read back: evaluations and training metrics, by method."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mtrl_fair.runs import EVALUATION_COLUMNS, MAY_CHANGE, RunDirectory, flatten

NOT_A_METHOD = MAY_CHANGE | {"seed", "eval_every", "log_every", "threads"}
"""Settings in which runs of one method may differ."""


@dataclass(frozen=True)
class RunResults:
    """One run's evaluations: E of them, of K tasks."""

    path: Path
    settings: dict[str, Any]
    """The configuration under dotted keys."""
    tasks: tuple[str, ...]
    steps: Float[np.ndarray, "evaluation"]
    seconds: Float[np.ndarray, "evaluation"]
    success: Float[np.ndarray, "evaluation task"]

    @property
    def mean(self) -> Float[np.ndarray, "evaluation"]:
        return self.success.mean(1)

    def reaches(self, level: float) -> float | None:
        """The first evaluated step whose mean success is at least `level`."""
        reached = np.flatnonzero(self.mean >= level)
        return float(self.steps[reached[0]]) if len(reached) else None


@dataclass(frozen=True)
class Method:
    """Runs that differ in their seed."""

    label: str
    runs: tuple[RunResults, ...]

    def common_steps(self) -> Float[np.ndarray, "evaluation"]:
        """The steps at which every run was evaluated."""
        steps = self.runs[0].steps
        for run in self.runs[1:]:
            steps = np.intersect1d(steps, run.steps)
        return steps

    def success_at(
        self, steps: Float[np.ndarray, "evaluation"]
    ) -> Float[np.ndarray, "run evaluation task"]:
        """Success of every run at steps at which all were evaluated."""
        return np.stack([run.success[np.isin(run.steps, steps)] for run in self.runs])

    def minutes_at(self, steps: Float[np.ndarray, "evaluation"]) -> Float[np.ndarray, "evaluation"]:
        """Minutes until these steps, averaged over runs."""
        return np.mean([run.seconds[np.isin(run.steps, steps)] / 60 for run in self.runs], 0)


def read_run(folder: str) -> RunResults:
    """A run's evaluations.

    Raises:
        RunError: there is no run.
        ValueError: it has no evaluation yet, or is from a version that did not time them.
    """
    run = RunDirectory.open(folder)
    path = run.path / "evaluations.csv"
    rows: list[dict[str, str]] = []
    if path.exists():
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError(f"{folder} has no evaluation yet: wait for its first one")
    if missing := [name for name in EVALUATION_COLUMNS if name not in rows[0]]:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}: expected the file of a training run of"
            " this version"
        )
    tasks = tuple(dict.fromkeys(row["task"] for row in rows))
    table = np.array(
        [[float(row[name]) for name in ("step", "seconds", "success")] for row in rows]
    )
    table = table[: len(table) // len(tasks) * len(tasks)]  # the last may be half written
    steps, seconds, success = table.reshape(-1, len(tasks), 3).transpose(2, 0, 1)
    return RunResults(run.path, flatten(run.config), tasks, steps[:, 0], seconds[:, 0], success)


def group_runs(runs: Sequence[RunResults], labels: Sequence[str] = ()) -> list[Method]:
    """Runs with one label are one method; without labels, runs that differ in their seed only,
    named for the settings in which methods differ.

    Raises:
        ValueError: the number of labels is not that of the runs, or tasks differ.
    """
    if labels and len(labels) != len(runs):
        raise ValueError(
            f"{len(labels)} labels were given for {len(runs)} runs: give one per run, the same one"
            " for runs of one method"
        )
    for run in runs:
        if run.tasks != runs[0].tasks:
            raise ValueError(
                f"{run.path} has the tasks {', '.join(run.tasks)}, but {runs[0].path} has"
                f" {', '.join(runs[0].tasks)}: compare runs of the same tasks"
            )
    groups: dict[str, list[RunResults]] = {}
    for run, label in zip(runs, labels or _labels(runs), strict=True):
        groups.setdefault(label, []).append(run)
    return [Method(label, tuple(members)) for label, members in groups.items()]


def read_metrics(folder: str | Path, prefix: str) -> list[dict[str, float]]:
    """The lines of `metrics.jsonl` with keys that begin with the prefix: those keys and `step`.

    Raises:
        ValueError: there is no such line.
    """
    path = Path(folder) / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    found = []
    for line in lines:
        entry = json.loads(line)
        kept = {
            key: value
            for key, value in entry.items()
            if key.startswith(prefix) and value is not None  # None: it was not finite
        }
        if kept:
            found.append({"step": entry["step"]} | kept)
    if not found:
        raise ValueError(f"{path} has no {prefix} metrics: expected those of a training run")
    return found


def _labels(runs: Sequence[RunResults]) -> list[str]:
    """For each run, the settings in which not all agree, or their common combiner."""
    keys = sorted({key for run in runs for key in run.settings} - NOT_A_METHOD)
    differing = [key for key in keys if len({str(run.settings.get(key)) for run in runs}) > 1]
    if not differing:
        return [str(run.settings.get("combiner", "all runs")) for run in runs]
    differing.sort(key=lambda key: key != "combiner")  # first, and without its name
    return [
        " ".join(
            ("" if key == "combiner" else f"{key.rpartition('.')[2]}=") + str(run.settings.get(key))
            for key in differing
        )
        for run in runs
    ]
