"""Copy what tables and figures need of training runs to a folder small enough to be committed.

python scripts/archive.py RUN [RUN ...] --output FOLDER [--lines N]
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from mtrl_fair.runs import write_json
from scripts.command_line import fail, or_fail
from scripts.run_results import SECONDS, RunResults, read_runs
from scripts.run_weights import averaged, metric_key, parts_of, read_weights, weight_lines


@dataclass(frozen=True)
class Arguments:
    """Copy configuration, versions and evaluations of runs, and averages of other metrics.

    The copies are run directories that plot.py and table.py read; they hold no checkpoint.
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run directories."""
    output: Path
    """The folder that receives one folder per run, under the run's name. A copy that is there is
    replaced."""
    lines: int = 60
    """Parts of the run over which metrics are averaged; 0: leave them out."""
    metrics: tuple[str, ...] = ("charts/steps_per_second", "q/mean/")
    """How the names begin of metrics that are kept beside task weights and gradient norms."""


def main(words: list[str]) -> None:
    """Checks all runs and gathers what is to be written, then writes it."""
    arguments = tyro.cli(Arguments, args=words)
    if arguments.lines < 0:
        fail(f"--lines is {arguments.lines}, expected 0 or more")
    runs = read_runs(arguments.runs)
    targets = or_fail(lambda: check_targets(runs, arguments.output))
    copies = or_fail(
        lambda: [(run, metrics_of(run, arguments.lines, arguments.metrics)) for run in runs]
    )
    for (run, metrics), target in zip(copies, targets, strict=True):
        write_copy(run, metrics, target)
        print(f"written to {target}")


def check_targets(runs: Sequence[RunResults], output: Path) -> list[Path]:
    """The folders of the copies.

    Raises:
        ValueError: two runs have one name, or something that is no copy would be replaced.
    """
    names = [run.path.resolve().name for run in runs]
    for name, number in Counter(names).items():
        if number > 1:
            raise ValueError(f"{number} of the runs are named {name}: rename one")
    targets = [output / name for name in names]
    for target in targets:
        if (target / "checkpoints").exists():
            raise ValueError(f"{target} is a run, not a copy of one: choose another --output")
        if next((path for path in (target, *target.parents) if path.is_file()), None):
            raise ValueError(f"{target} is a file or in one: choose another --output")
    return targets


def metrics_of(run: RunResults, lines: int, others: Sequence[str]) -> list[dict[str, float]]:
    """The times of evaluations, and averages of what the run logged of weights and norms and of
    other metrics, whose names begin like one of these.

    Raises:
        ValueError: weights are wanted and there are none.
    """
    times = zip(run.steps, run.seconds, strict=True)
    metrics: list[dict[str, float]] = [{"step": int(s), SECONDS: float(t)} for s, t in times]
    if lines:
        steps, weights = averaged(*read_weights(run), parts=lines)
        logged = weight_lines(run)
        for index, part in enumerate(parts_of(len(logged), lines)):
            line: dict[str, float] = {"step": int(steps[index])}
            found = [logged[i] for i in part]
            for key in dict.fromkeys(key for entry in found for key in entry):
                if key.startswith(tuple(others)):
                    present = [entry[key] for entry in found if entry.get(key) is not None]
                    if present:
                        line[key] = float(f"{np.mean(present):.4g}")
            for network, kinds in weights.items():
                for kind, values in kinds.items():
                    for task, value in zip(run.tasks, values[index], strict=True):
                        if np.isfinite(value):
                            line[metric_key(kind, task, network)] = float(f"{value:.4g}")
            metrics.append(line)
    return metrics


def write_copy(run: RunResults, metrics: list[dict[str, float]], target: Path) -> None:
    """Writes the copy of a run."""
    target.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "evaluations.csv"):
        shutil.copyfile(run.path / name, target / name)
    write_json(target / "metadata.json", without_folders(run.run.metadata()))
    with (target / "metrics.jsonl").open("w") as file:
        file.writelines(json.dumps(line) + "\n" for line in metrics)


def without_folders(metadata: Any) -> Any:
    """Metadata whose commands have files by their names only, not where they are."""
    if isinstance(metadata, dict):
        return {
            key: [re.sub(r"[^=]*/", "", word) for word in value]
            if key == "command"
            else without_folders(value)
            for key, value in metadata.items()
        }
    return (
        [without_folders(entry) for entry in metadata] if isinstance(metadata, list) else metadata
    )


if __name__ == "__main__":
    main(sys.argv[1:])
