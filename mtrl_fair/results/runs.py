"""One run read back: its settings and its evaluations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
from jaxtyping import Float

from mtrl_fair.results.rules import SettingRules
from mtrl_fair.results.storage import open_runs
from mtrl_fair.runs import RunDirectory, flatten

SECONDS = "charts/seconds"
"""The metric that says when an evaluation was."""
SETTINGS: dict[str, tuple[type, ...]] = {
    "tasks": (list, tuple),
    "seed": (int,),
    "eval_every": (int,),
    "combiner": (str,),
    "combining.critic": (str, NoneType),
    "combining.actor": (str, NoneType),
}
"""The types of the settings that groups, notes and tables compute with."""


@dataclass(frozen=True)
class RunResults:
    """One run's evaluations: E of them, of K tasks."""

    run: RunDirectory
    rules: SettingRules
    settings: dict[str, Any]
    """The configuration under dotted keys, with today's defaults for settings it does not have."""
    tasks: tuple[str, ...]
    steps: Float[np.ndarray, "evaluation"]
    seconds: Float[np.ndarray, "evaluation"]
    success: Float[np.ndarray, "evaluation task"]

    @property
    def path(self) -> Path:
        """Returns the folder of the run, which may be one in a zip file."""
        return Path(str(self.run.path))

    @property
    def name(self) -> str:
        """Returns the name of the run's folder."""
        return self.path.resolve().name

    @property
    def commits(self) -> tuple[str, ...]:
        """Returns the versions of the program that started and resumed the run."""
        metadata = self.run.metadata()
        parts = [metadata, *metadata.get("resumed", [])]
        return tuple(dict.fromkeys((part.get("commit") or "unknown")[:7] for part in parts))

    def combiner(self, network: str) -> str:
        """Returns the combiner of the critic, the actor or the temperature."""
        return self.settings.get(f"combining.{network}") or self.settings["combiner"]

    @property
    def mean(self) -> Float[np.ndarray, "evaluation"]:
        """Returns the success rate at each evaluation, averaged over tasks."""
        return self.success.mean(1)


def read_runs(places: Sequence[str | Path], rules: SettingRules) -> list[RunResults]:
    """Reads runs, each from its folder, or all those of a zip file.

    Raises:
        RunError: see `read_run`.
        ValueError: there is no run, one is given twice, or see `read_run`.
    """
    if not places:
        raise ValueError(
            "no runs: give at least one run directory, before flags that take several values"
        )
    opened = [run for place in places for run in open_runs(place, rules.kind)]
    resolved = [Path(str(run.path)).resolve() for run in opened]
    for path, number in Counter(resolved).items():
        if number > 1:
            given = Path(str(opened[resolved.index(path)].path))
            raise ValueError(f"the run {given} was given {number} times: leave {number - 1} out")
    return [_read(run, rules) for run in opened]


def read_run(place: str | Path, rules: SettingRules) -> RunResults:
    """Reads a run's evaluations, without one that is not complete yet.

    Args:
        place: see `open_runs`; a zip file must hold one run only.
        rules: what the run's trainer says about its settings.

    Raises:
        RunError: there is no run, or it is not one of this trainer, or its files are damaged.
        ValueError: it has no evaluation yet, none of this version, which times them, or one that
            cannot be read; or there are several runs.
    """
    runs = open_runs(place, rules.kind)
    if len(runs) > 1:
        names = ", ".join(Path(str(run.path)).name for run in runs)
        raise ValueError(f"{place} holds several runs: name one of {names}")
    return _read(runs[0], rules)


def _read(run: RunDirectory, rules: SettingRules) -> RunResults:
    path = Path(str(run.path))
    settings = {**rules.defaults, **flatten(run.config)}
    try:
        _check_settings(settings)
        tasks = tuple(rules.task_names(settings["tasks"]))
    except ValueError as error:
        raise ValueError(f"{path / 'config.json'} cannot be read ({error}): restore it") from error
    run.metadata()  # refuses a damaged file here, before anything is computed or written
    success: dict[int, dict[str, float]] = {}
    for row in run.evaluations():
        try:
            rate = float(row["success"])
            if not 0 <= rate <= 1:
                raise ValueError(f"success {rate} at step {row['step']}, expected from 0 to 1")
            success.setdefault(int(row["step"]), {})[row["task"]] = rate
        except ValueError as error:
            raise ValueError(
                f"{path / 'evaluations.csv'} is damaged ({error}): restore it"
            ) from error
    complete = [step for step, found in success.items() if found.keys() == set(tasks)]
    if not complete:
        raise ValueError(
            f"{path} has no evaluation yet: wait for its first one, or leave it out if it was"
            " stopped"
        )
    seconds = {
        line["step"]: line[SECONDS] for line in run.metrics() if line.get(SECONDS) is not None
    }
    if missing := [step for step in complete if step not in seconds]:
        raise ValueError(
            f"{path / 'metrics.jsonl'} has no {SECONDS} at step {missing[0]}: expected that of"
            " a run of this version"
        )
    return RunResults(
        run,
        rules,
        settings,
        tasks,
        np.array(complete, float),
        np.array([seconds[step] for step in complete], float),
        np.array([[success[step][task] for task in tasks] for step in complete]),
    )


def _check_settings(settings: dict[str, Any]) -> None:
    """Raises ValueError unless the settings that comparisons compute with have their types.

    Others are only shown: an earlier version may have had settings that this one does not know.
    """
    for key, kinds in SETTINGS.items():
        value = settings.get(key)
        if not isinstance(value, kinds):
            raise ValueError(f"{key} is {value!r}, expected {kinds[0].__name__}")
    if not all(isinstance(task, str) for task in settings["tasks"]):
        raise ValueError(f"tasks is {settings['tasks']!r}, expected names")


def until_step(runs: Sequence[RunResults], step: float | None) -> list[RunResults]:
    """Returns the runs without their evaluations after a step; None: with all of them.

    Raises:
        ValueError: a run has no evaluation until then.
    """
    if step is None:
        return list(runs)
    kept = [run.steps <= step for run in runs]
    for run, left in zip(runs, kept, strict=True):
        if not left.any():
            raise ValueError(
                f"there is no evaluation up to step {step:.0f}, because the first one of {run.path}"
                f" is at step {run.steps[0]:.0f}: choose a later step"
            )
    return [
        replace(run, steps=run.steps[left], seconds=run.seconds[left], success=run.success[left])
        for run, left in zip(runs, kept, strict=True)
    ]
