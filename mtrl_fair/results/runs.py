"""What training runs left behind, read back: evaluations, and runs that differ in their seed."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from configs import FAIRGRAD_SETTINGS, TrainConfig, to_dict
from envs.tasks import task_names
from mtrl_fair.runs import MAY_CHANGE, RunDirectory, flatten
from scripts.command_line import fail, or_fail

SECONDS = "charts/seconds"
"""The metric that says when an evaluation was."""

MAY_DIFFER = MAY_CHANGE | {"seed", "eval_every", "log_every"}
"""Settings in which runs of one group may differ."""


@dataclass(frozen=True)
class RunResults:
    """One run's evaluations: E of them, of K tasks."""

    run: RunDirectory
    settings: dict[str, Any]
    """The configuration under dotted keys, with today's defaults for settings it does not have."""
    tasks: tuple[str, ...]
    steps: Float[np.ndarray, "evaluation"]
    seconds: Float[np.ndarray, "evaluation"]
    success: Float[np.ndarray, "evaluation task"]

    @property
    def path(self) -> Path:
        return self.run.path

    @property
    def commits(self) -> tuple[str, ...]:
        """The versions of the program that it ran with, from its start and its resumes."""
        metadata = self.run.metadata()
        parts = [metadata, *metadata.get("resumed", [])]
        return tuple(dict.fromkeys((part.get("commit") or "unknown")[:7] for part in parts))

    def combiner(self, network: str) -> str:
        """The combiner of the critic, the actor or the temperature."""
        return self.settings.get(f"combining.{network}") or self.settings["combiner"]

    @property
    def mean(self) -> Float[np.ndarray, "evaluation"]:
        return self.success.mean(1)


@dataclass(frozen=True)
class RunGroup:
    """Runs that differ in their seed, read at the evaluations that all of them have."""

    label: str
    runs: tuple[RunResults, ...]
    steps: Float[np.ndarray, "evaluation"]
    minutes: Float[np.ndarray, "evaluation"]
    """Averaged over runs."""
    success: Float[np.ndarray, "run evaluation task"]

    @classmethod
    def of(cls, label: str, runs: Sequence[RunResults]) -> RunGroup:
        """Raises ValueError if two have one seed, or none of their evaluations is of one step."""
        seeds = Counter(run.settings["seed"] for run in runs)
        for seed in (seed for seed, number in seeds.items() if number > 1):
            same = [str(run.path) for run in runs if run.settings["seed"] == seed]
            raise ValueError(
                f"{' and '.join(same)} count as runs of {label} and have the same seed {seed}:"
                " leave one out, or tell them apart with --labels"
            )
        steps = runs[0].steps
        for run in runs[1:]:
            steps = np.intersect1d(steps, run.steps)
        if len(steps) == 0:
            raise ValueError(
                f"the runs of {label} were never evaluated at the same step: tell them apart with"
                " --labels"
            )
        rows = [np.isin(run.steps, steps) for run in runs]
        return cls(
            label,
            tuple(runs),
            steps,
            np.mean([run.seconds[row] / 60 for run, row in zip(runs, rows, strict=True)], 0),
            np.stack([run.success[row] for run, row in zip(runs, rows, strict=True)]),
        )

    def success_at(self, minutes: Float[np.ndarray, " time"]) -> Float[np.ndarray, "run time task"]:
        """Success after so many minutes, between the evaluations before and after."""
        return np.stack(
            [
                np.transpose(
                    [np.interp(minutes, run.seconds / 60, success) for success in run.success.T]
                )
                for run in self.runs
            ]
        )


def read_runs(folders: Sequence[str]) -> list[RunResults]:
    """The runs that a command names; it ends with one line if there is none or one is bad."""
    if not folders:
        fail("no runs: give at least one run directory, before flags that take several values")
    for folder, number in Counter(str(Path(folder).resolve()) for folder in folders).items():
        if number > 1:
            fail(f"the run {folder} was given {number} times: leave {number - 1} out")
    return or_fail(lambda: [read_run(folder) for folder in folders])


def read_run(folder: str) -> RunResults:
    """A run's evaluations, without one that is not complete yet.

    Raises:
        RunError: there is no run, or it is not one of train.py.
        ValueError: it has no evaluation yet, none of this version, which times them, or one that
            cannot be read.
    """
    run = RunDirectory.open(folder)
    settings = flatten(to_dict(TrainConfig())) | flatten(run.config)
    names = settings["tasks"]
    tasks = tuple(task_names(names[0] if len(names) == 1 else names))
    success: dict[int, dict[str, float]] = {}
    for row in run.evaluations():
        try:
            rate = float(row["success"])
            if not 0 <= rate <= 1:
                raise ValueError(f"success {rate} at step {row['step']}, expected from 0 to 1")
            success.setdefault(int(row["step"]), {})[row["task"]] = rate
        except ValueError as error:
            raise ValueError(
                f"{run.path / 'evaluations.csv'} is damaged ({error}): restore it"
            ) from error
    complete = [step for step, found in success.items() if found.keys() == set(tasks)]
    if not complete:
        raise ValueError(
            f"{folder} has no evaluation yet: wait for its first one, or leave it out if it was"
            " stopped"
        )
    seconds = {line["step"]: line[SECONDS] for line in run.metrics() if SECONDS in line}
    if missing := [step for step in complete if step not in seconds]:
        raise ValueError(
            f"{run.path / 'metrics.jsonl'} has no {SECONDS} at step {missing[0]}: expected that of"
            " a run of this version"
        )
    return RunResults(
        run,
        settings,
        tasks,
        np.array(complete, float),
        np.array([seconds[step] for step in complete], float),
        np.array([[success[step][task] for task in tasks] for step in complete]),
    )


def up_to(runs: Sequence[RunResults], step: float | None) -> list[RunResults]:
    """Runs without their evaluations after a step, if there is one. Raises ValueError if that
    leaves a run none."""
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


def group_runs(runs: Sequence[RunResults], labels: Sequence[str] = ()) -> list[RunGroup]:
    """Runs with one label are one group; without labels, runs that agree in all settings but
    `MAY_DIFFER`, named for the settings in which groups differ.

    Raises:
        ValueError: tasks differ, or see `check_labels` and `RunGroup.of`.
    """
    names = label_runs(runs, labels)
    for run in runs:
        if run.tasks != runs[0].tasks:
            raise ValueError(
                f"{run.path} has the tasks {', '.join(run.tasks)}, but {runs[0].path} has"
                f" {', '.join(runs[0].tasks)}: compare runs of the same tasks"
            )
    members: dict[str, list[RunResults]] = {}
    for run, label in zip(runs, names, strict=True):
        members.setdefault(label, []).append(run)
    for label, group in members.items():
        _note_commits(label, group)
    return [RunGroup.of(label, group) for label, group in members.items()]


def _note_commits(label: str, runs: Sequence[RunResults]) -> None:
    """Says on standard error that a group's runs are of several versions of the program."""
    commits = sorted({commit for run in runs for commit in run.commits})
    if len(commits) > 1:
        print(f"note: the runs of {label} are of commits {', '.join(commits)}", file=sys.stderr)


def note_chosen_ends(runs: Sequence[RunResults]) -> None:
    """Says on standard error that runs could end at an evaluation for its success."""
    stopping = [str(run.path) for run in runs if run.settings["stop_at_success"] is not None]
    if stopping:
        print(
            f"note: {', '.join(stopping)} ran with --stop-at-success: a success at which a run ends"
            " is a high one; compare such runs by levels (--table levels, --figure levels)",
            file=sys.stderr,
        )


def note_unequal_intervals(runs: Sequence[RunResults]) -> None:
    """Says on standard error that some runs had more chances to reach a level."""
    intervals = sorted({run.settings["eval_every"] for run in runs})
    if len(intervals) > 1:
        print(
            f"note: the runs were evaluated every {', '.join(map(str, intervals))} steps: those"
            " evaluated more often tend to reach a level earlier and to have a higher best",
            file=sys.stderr,
        )


def check_labels(runs: Sequence[RunResults], labels: Sequence[str]) -> None:
    """Raises ValueError unless there is one label per run, which is not empty, or none."""
    if labels and len(labels) != len(runs):
        raise ValueError(
            f"{len(labels)} labels were given for {len(runs)} runs: give one per run, the same one"
            " for runs that differ in their seed"
        )
    if not all(label.strip() for label in labels):
        raise ValueError("--labels has an empty one: give every run a name")


def label_runs(runs: Sequence[RunResults], labels: Sequence[str] = ()) -> Sequence[str]:
    """The labels given, or for each run the settings in which not all agree.

    Raises:
        ValueError: see `check_labels`.
    """
    check_labels(runs, labels)
    return labels or _labels(runs)


def _labels(runs: Sequence[RunResults]) -> list[str]:
    """For each run, the settings in which not all agree, or else its combiner."""
    keys = sorted({key for run in runs for key in run.settings} - MAY_DIFFER)
    differing = [key for key in keys if len({str(run.settings.get(key)) for run in runs}) > 1]
    differing.sort(key=lambda key: key != "combiner")  # first, and without its name
    last = Counter(key.rpartition(".")[2] for key in differing)

    def describe(run: RunResults) -> str:
        temperature = ["temperature"] if run.settings["agent.combine_temperature"] else []
        used = {run.combiner(network) for network in ("critic", "actor", *temperature)}
        words = []
        for key in differing:
            short = key.rpartition(".")[2]
            name = "" if key == "combiner" else f"{short if last[short] == 1 else key}="
            value = run.settings.get(key)
            if value is not None and ("fairgrad" in used or key not in FAIRGRAD_SETTINGS.values()):
                words.append(f"{name}{value}")
        return " ".join(words) or str(run.settings.get("combiner"))

    return [describe(run) for run in runs]
