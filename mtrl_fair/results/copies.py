"""Copies of runs that hold what tables and figures need, and are small enough to be committed."""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtrl_fair.results.runs import SECONDS, RunResults
from mtrl_fair.results.storage import FILES, is_zip, open_runs, write_zip
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

DEFAULT_METRICS = ("charts/steps_per_second", "q/mean/", "reward/")
MAX_RESIDUAL_LINES = 500

Line = dict[str, float | None]
"""A line of `metrics.jsonl`; None: not finite."""


def check_metrics(runs: Sequence[RunResults], prefixes: Sequence[str]) -> None:
    """Raises ValueError unless each prefix adds a metric to the copy of every run."""
    for run in runs:
        names = {key for line in run.run.metrics() for key in line} - {"step"}
        for prefix in prefixes:
            chosen = {name for name in names if name.startswith(prefix)}
            if chosen and chosen <= always_copied(run):
                raise ValueError(f"{prefix}: metrics that begin so are always copied, leave it out")
            if not chosen:
                raise ValueError(
                    f"{prefix}: no metric of {run.path} begins so; it has those of"
                    f" {', '.join(sorted({name.partition('/')[0] + '/' for name in names}))}"
                )


def check_targets(runs: Sequence[RunResults], output: Path) -> list[Path]:
    """Returns the folders of the copies, which are in a zip file if `output` ends with `.zip`.

    Raises:
        RunError: `output` is a zip file that cannot be read.
        ValueError: two runs have one name, or something would be replaced that is no copy of the
            same run.
    """
    for name, number in Counter(run.name for run in runs).items():
        if number > 1:
            raise ValueError(f"{number} of the runs are named {name}: rename one")
    targets = [output / run.name for run in runs]
    for run, target in zip(runs, targets, strict=True):
        if target.resolve() == run.path.resolve():
            raise ValueError(f"{target} would be a copy of itself: choose another output")
    if is_zip(output):
        _check_zip(runs, output)
    else:
        _check_folders(runs, targets)
    return targets


def _check_zip(runs: Sequence[RunResults], output: Path) -> None:
    if output.is_dir():
        raise ValueError(f"{output} is a folder: choose another output")
    if any(parent.is_file() for parent in output.parents):
        raise ValueError(f"{output} is in a file: choose another output")
    stored = {}
    if output.exists():
        stored = {run.path.name: run for run in open_runs(output, runs[0].rules.kind)}
    for run in runs:
        if run.name in stored and not _is_copy(stored[run.name].metadata(), run):
            raise ValueError(
                f"{output / run.name} is there and no copy of {run.path}: choose another output"
            )


def _check_folders(runs: Sequence[RunResults], targets: Sequence[Path]) -> None:
    for run, target in zip(runs, targets, strict=True):
        if (target / "checkpoints").exists():
            raise ValueError(f"{target} is a run, not a copy of one: choose another output")
        if next((path for path in (target, *target.parents) if path.is_file()), None):
            raise ValueError(f"{target} is a file or in one: choose another output")
        if not target.exists() or not any(target.iterdir()):
            continue
        has_metadata = (target / "metadata.json").is_file()
        if not has_metadata or not _is_copy(RunDirectory(target, {}).metadata(), run):
            raise ValueError(
                f"{target} is there and no copy of {run.path}: choose another output, or remove it"
            )


def _is_copy(metadata: Mapping[str, Any], run: RunResults) -> bool:
    """Returns whether metadata is that of a copy of the run, which may have been resumed since."""
    original = without_folders(run.run.metadata())
    copied, expected = (
        {key: value for key, value in found.items() if key != "resumed"}
        for found in (metadata, original)
    )
    return copied == expected


def copied_metrics(run: RunResults, parts: int, prefixes: Sequence[str]) -> list[Line]:
    """Returns the lines of `metrics.jsonl` that a copy has.

    These are the times of evaluations; averages, over so many parts of the run, of task weights and
    gradient norms and of the metrics whose names have one of the prefixes; and residuals.

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
            lines += _averaged_metrics(run, prefix, parts)
        lines += _residual_lines(run)
    return lines


def _averaged_metrics(run: RunResults, prefix: str, parts: int) -> list[Line]:
    """Averages the metrics with this prefix over equal parts of the lines that have one of them.

    It leaves out what is always copied. There is no line if no metric is left.
    """
    always = always_copied(run)

    def chosen(line: dict[str, Any]) -> list[str]:
        return [key for key in line if key.startswith(prefix) and key not in always]

    logged = [line for line in run.run.metrics() if chosen(line)]
    lines = []
    for part in parts_of(len(logged), parts):
        found = [logged[index] for index in part]
        keys = dict.fromkeys(key for line in found for key in chosen(line))
        values = {key: [line[key] for line in found if line.get(key) is not None] for key in keys}
        means = {key: float(np.mean(numbers)) for key, numbers in values.items() if numbers}
        lines.append(_line(np.mean([line["step"] for line in found]), means))
    return lines


def always_copied(run: RunResults) -> set[str]:
    """Returns the metrics that every copy has, each averaged or chosen in its own way.

    These are the times of evaluations, task weights, gradient norms and their shares, and
    residuals.
    """
    of_tasks = {
        metric_key(kind, task, network)
        for kind in (*LOGGED, *SHARES)
        for task in run.tasks
        for network in NETWORKS
    }
    return {SECONDS, *of_tasks, *(RESIDUAL_PREFIX + network for network in NETWORKS)}


def _residual_lines(run: RunResults) -> list[Line]:
    """Returns lines with single residuals, evenly chosen if there are many.

    They are not averaged, because averages would lose their median and the infinite ones.
    """
    keys = [RESIDUAL_PREFIX + network for network in NETWORKS if run.combiner(network) in SOLVING]
    logged = [line for line in run.run.metrics() if any(key in line for key in keys)]
    number = min(len(logged), MAX_RESIDUAL_LINES)
    chosen = [logged[round(index)] for index in np.linspace(0, len(logged) - 1, number)]
    return [_line(line["step"], {key: line[key] for key in keys if key in line}) for line in chosen]


def _line(step: float, values: Mapping[str, float | None]) -> Line:
    """Rounds to four digits. Infinite values become None, as runs write them; NaN, where nothing
    was logged, is left out."""
    line: Line = {"step": int(step)}
    for key, value in values.items():
        if value is None or np.isinf(value):
            line[key] = None
        elif not np.isnan(value):
            line[key] = float(f"{value:.4g}")
    return line


def write_copies(copies: Sequence[tuple[RunResults, list[Line]]], output: Path) -> None:
    """Writes copies of runs into a folder, or into a zip file if `output` ends with `.zip`.

    Args:
        copies: each run with its `copied_metrics`.
        output: earlier copies of these runs in it are replaced, nothing else.
    """
    if not is_zip(output):
        for run, metrics in copies:
            _write_copy(run, metrics, output / run.name)
        return
    with tempfile.TemporaryDirectory() as folder:
        written = {}
        for run, metrics in copies:
            target = Path(folder) / run.name
            _write_copy(run, metrics, target)
            written[run.name] = {name: (target / name).read_bytes() for name in FILES}
    write_zip(output, written)


def _write_copy(run: RunResults, metrics: list[Line], target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    write_json(target / "metadata.json", without_folders(run.run.metadata()))
    write_json(target / "config.json", run.run.config)
    evaluations = [row for row in run.run.evaluations() if int(row["step"]) in run.steps]
    RunDirectory(target, run.run.config, run.rules.kind).write_evaluations(evaluations)
    write_text(target / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in metrics))


def without_folders(metadata: Any) -> Any:
    """Returns metadata whose commands name files without the folders of this machine."""
    if isinstance(metadata, dict):
        return {
            key: [re.sub(r"[^=]*/", "", str(word).rstrip("/")) for word in value]
            if key == "command" and isinstance(value, list)
            else without_folders(value)
            for key, value in metadata.items()
        }
    return (
        [without_folders(entry) for entry in metadata] if isinstance(metadata, list) else metadata
    )
