"""Runs that differ in their seed only, as one group; and the labels of groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mtrl_fair.results.runs import RunResults


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
        """Makes a group of runs.

        Raises:
            ValueError: two runs have one seed, or there is no step at which all were evaluated.
        """
        seeds = Counter(run.settings["seed"] for run in runs)
        for seed in (seed for seed, number in seeds.items() if number > 1):
            same = [str(run.path) for run in runs if run.settings["seed"] == seed]
            raise ValueError(
                f"{' and '.join(same)} count as runs of {label} and have the same seed {seed}:"
                " leave one out, or tell them apart with labels"
            )
        steps = runs[0].steps
        for run in runs[1:]:
            steps = np.intersect1d(steps, run.steps)
        if len(steps) == 0:
            raise ValueError(
                f"the runs of {label} were never evaluated at the same step: tell them apart with"
                " labels"
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
        """Interpolates success after so many minutes between the evaluations before and after."""
        return np.stack(
            [
                np.transpose(
                    [np.interp(minutes, run.seconds / 60, success) for success in run.success.T]
                )
                for run in self.runs
            ]
        )


def group_runs(runs: Sequence[RunResults], labels: Sequence[str] = ()) -> list[RunGroup]:
    """Puts runs with one label into one group.

    Without labels, runs that agree in all settings but those that may differ
    (`SettingRules.may_differ`) are one group, named for the settings in which groups differ.

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
    return [RunGroup.of(label, group) for label, group in members.items()]


def check_labels(runs: Sequence[RunResults], labels: Sequence[str]) -> None:
    """Raises ValueError unless there is one label per run, which is not empty, or none."""
    if labels and len(labels) != len(runs):
        raise ValueError(
            f"{len(labels)} labels were given for {len(runs)} runs: give one per run, the same one"
            " for runs that differ in their seed"
        )
    if not all(label.strip() for label in labels):
        raise ValueError("a label is empty: give every run a name")


def label_runs(runs: Sequence[RunResults], labels: Sequence[str] = ()) -> Sequence[str]:
    """Returns the labels given, or names each run for the settings in which not all runs agree.

    Raises:
        ValueError: see `check_labels`.
    """
    check_labels(runs, labels)
    return labels or _labels(runs)


def _labels(runs: Sequence[RunResults]) -> list[str]:
    """Names each run for the settings in which not all agree, or else for its combiner."""
    keys = sorted({key for run in runs for key in run.settings.keys() - set(run.rules.may_differ)})
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
            # A setting of one combiner tells nothing about a run that does not use it.
            needed = run.rules.needs_combiner.get(key)
            if value is not None and (needed is None or needed in used):
                words.append(f"{name}{value}")
        return " ".join(words) or str(run.settings.get("combiner"))

    return [describe(run) for run in runs]
