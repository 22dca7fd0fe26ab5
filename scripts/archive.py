"""Copy what tables and figures need of training runs to a folder small enough to be committed.

python scripts/archive.py RUN [RUN ...] --output FOLDER [--lines N] [--metrics PREFIX ...]
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from mtrl_fair.results.runs import SECONDS, RunResults, read_runs
from mtrl_fair.results.weights import (
    LOGGED,
    NETWORKS,
    RESIDUAL_PREFIX,
    SHARES,
    SOLVING,
    averaged,
    metric_key,
    parts_of,
    read_weights,
)
from mtrl_fair.runs import RunDirectory, write_json, write_text
from scripts.command_line import fail, or_fail, writing

DEFAULT_METRICS = ("charts/steps_per_second", "q/mean/", "reward/")
MAX_RESIDUAL_LINES = 500

Line = dict[str, float | None]
"""Of `metrics.jsonl`; None: not finite."""


@dataclass(frozen=True)
class Arguments:
    """Copy configuration, versions and evaluations of runs, averages of task weights and other
    metrics, and residuals.

    The copies are run directories that plot.py and table.py read; they hold no checkpoint.
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run directories."""
    output: Path
    """The folder that receives one folder per run, under the run's name. An earlier copy of the
    same run is replaced, nothing else."""
    lines: int = 60
    """Parts of the run over which metrics are averaged; 0: no metrics but the times of
    evaluations."""
    metrics: tuple[str, ...] | None = None
    """How the names begin of metrics that are kept beside task weights, gradient norms and
    residuals; none: charts/steps_per_second, q/mean/ and reward/."""


def main(words: list[str]) -> None:
    """Checks all runs and gathers what is to be written, then writes it."""
    arguments = tyro.cli(Arguments, args=words)
    if arguments.lines < 0:
        fail(f"--lines is {arguments.lines}, expected 0 or more")
    if arguments.metrics is not None and not arguments.lines:
        fail("--metrics has no effect with --lines 0, which leaves metrics out: drop one of them")
    runs = read_runs(arguments.runs)
    or_fail(lambda: check_metrics(runs, arguments.metrics or ()))
    prefixes = DEFAULT_METRICS if arguments.metrics is None else arguments.metrics
    targets = or_fail(lambda: check_targets(runs, arguments.output))
    copies = or_fail(lambda: [(run, metrics_of(run, arguments.lines, prefixes)) for run in runs])
    for (run, metrics), target in zip(copies, targets, strict=True):
        with writing("--output", target):
            write_copy(run, metrics, target)
        print(f"written to {target}")


def check_metrics(runs: Sequence[RunResults], prefixes: Sequence[str]) -> None:
    """Raises ValueError if a run has no metric whose name begins so, or all are kept anyway."""
    for run in runs:
        names = {key for line in run.run.metrics() for key in line} - {"step"}
        for prefix in prefixes:
            chosen = {name for name in names if name.startswith(prefix)}
            if chosen and chosen <= kept_anyway(run):
                raise ValueError(f"--metrics {prefix}: what begins so is kept anyway, leave it out")
            if not chosen:
                raise ValueError(
                    f"--metrics {prefix}: no metric of {run.path} begins so; it has those of"
                    f" {', '.join(sorted({name.partition('/')[0] + '/' for name in names}))}"
                )


def check_targets(runs: Sequence[RunResults], output: Path) -> list[Path]:
    """The folders of the copies.

    Raises:
        ValueError: two runs have one name, or something would be replaced that is no copy of the
            same run.
    """
    names = [run.path.resolve().name for run in runs]
    for name, number in Counter(names).items():
        if number > 1:
            raise ValueError(f"{number} of the runs are named {name}: rename one")
    targets = [output / name for name in names]
    for run, target in zip(runs, targets, strict=True):
        if target.resolve() == run.path.resolve():
            raise ValueError(f"{target} would be a copy of itself: choose another --output")
        if (target / "checkpoints").exists():
            raise ValueError(f"{target} is a run, not a copy of one: choose another --output")
        if next((path for path in (target, *target.parents) if path.is_file()), None):
            raise ValueError(f"{target} is a file or in one: choose another --output")
        if target.exists() and any(target.iterdir()) and not is_copy(target, run):
            raise ValueError(
                f"{target} is there and no copy of {run.path}: choose another --output, or remove"
                " it"
            )
    return targets


def is_copy(target: Path, run: RunResults) -> bool:
    """Whether a folder's metadata says that it is an earlier copy of a run."""
    if not (target / "metadata.json").is_file():
        return False
    copied, original = (
        {key: value for key, value in metadata.items() if key != "resumed"}
        for metadata in (
            RunDirectory(target, {}).metadata(),
            without_folders(run.run.metadata()),
        )
    )
    return copied == original


def metrics_of(run: RunResults, parts: int, prefixes: Sequence[str]) -> list[Line]:
    """Lines for `metrics.jsonl`: the times of evaluations, averages over so many parts of the run
    of its task weights and gradient norms, and of other metrics by the beginnings of their names,
    and residuals.

    Raises:
        ValueError: parts are wanted and there are no weights.
    """
    times = zip(run.steps, run.seconds, strict=True)
    lines: list[Line] = [{"step": int(s), SECONDS: float(t)} for s, t in times]
    if parts:
        steps, weights = averaged(*read_weights(run), parts=parts)
        for index, step in enumerate(steps):
            values = {
                metric_key(kind, task, network): found[index, k]
                for network, kinds in weights.items()
                for kind, found in kinds.items()
                for k, task in enumerate(run.tasks)
            }
            lines.append(_line(step, values))
        for prefix in prefixes:
            lines += averaged_metrics(run, prefix, parts)
        lines += residuals_of(run)
    return lines


def averaged_metrics(run: RunResults, prefix: str, parts: int) -> list[Line]:
    """Arithmetic means of the metrics whose names begin so and that are not kept anyway, over equal
    parts of the lines that have one of them; no line if there is none."""
    kept = kept_anyway(run)

    def chosen(line: dict[str, Any]) -> list[str]:
        return [key for key in line if key.startswith(prefix) and key not in kept]

    logged = [line for line in run.run.metrics() if chosen(line)]
    lines = []
    for part in parts_of(len(logged), parts):
        found = [logged[index] for index in part]
        keys = dict.fromkeys(key for line in found for key in chosen(line))
        values = {key: [line[key] for line in found if line.get(key) is not None] for key in keys}
        means = {key: float(np.mean(numbers)) for key, numbers in values.items() if numbers}
        lines.append(_line(np.mean([line["step"] for line in found]), means))
    return lines


def kept_anyway(run: RunResults) -> set[str]:
    """The metrics that a copy has in its own way: the times of evaluations, task weights, gradient
    norms and their shares, and residuals."""
    of_tasks = {
        metric_key(kind, task, network)
        for kind in (*LOGGED, *SHARES)
        for task in run.tasks
        for network in NETWORKS
    }
    return {SECONDS, *of_tasks, *(RESIDUAL_PREFIX + network for network in NETWORKS)}


def residuals_of(run: RunResults) -> list[Line]:
    """Lines with residuals of the networks that have them, evenly chosen if they are many: averages
    would lose the median and the infinite ones."""
    keys = [RESIDUAL_PREFIX + network for network in NETWORKS if run.combiner(network) in SOLVING]
    logged = [line for line in run.run.metrics() if any(key in line for key in keys)]
    number = min(len(logged), MAX_RESIDUAL_LINES)
    chosen = [logged[round(index)] for index in np.linspace(0, len(logged) - 1, number)]
    return [_line(line["step"], {key: line[key] for key in keys if key in line}) for line in chosen]


def _line(step: float, values: Mapping[str, float | None]) -> Line:
    """Infinite values are None, as runs write them; NaN, where nothing was logged, is left out."""
    line: Line = {"step": int(step)}
    for key, value in values.items():
        if value is None or np.isinf(value):
            line[key] = None
        elif not np.isnan(value):
            line[key] = float(f"{value:.4g}")
    return line


def write_copy(run: RunResults, metrics: list[Line], target: Path) -> None:
    """Writes the copy of a run."""
    target.mkdir(parents=True, exist_ok=True)
    write_json(target / "metadata.json", without_folders(run.run.metadata()))
    write_json(target / "config.json", run.run.config)
    evaluations = [row for row in run.run.evaluations() if int(row["step"]) in run.steps]
    RunDirectory(target, run.run.config).write_evaluations(evaluations)
    write_text(target / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in metrics))


def without_folders(metadata: Any) -> Any:
    """Metadata whose commands have files by their names only, not where they are."""
    if isinstance(metadata, dict):
        return {
            key: [re.sub(r"[^=]*/", "", word.rstrip("/")) for word in value]
            if key == "command"
            else without_folders(value)
            for key, value in metadata.items()
        }
    return (
        [without_folders(entry) for entry in metadata] if isinstance(metadata, list) else metadata
    )


if __name__ == "__main__":
    main(sys.argv[1:])
