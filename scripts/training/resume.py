"""Resuming a run: its settings, what flags may change, its checkpoint, and whether it is over."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from configs import MAY_CHANGE, RUN_KIND, TrainConfig, check_config, read_config, to_dict
from mtrl_fair.runs import RunDirectory, RunError, flatten
from mtrl_fair.runs.checkpoints import LATEST, state_of
from scripts.command_line import parse
from scripts.training.loop import RESUMABLE


def open_run(folder: str, flags: Sequence[str]) -> tuple[RunDirectory, TrainConfig]:
    """Returns the run to continue and its settings, with what the flags change.

    Raises:
        RunError, ValueError: there is no such run, it is of another version, or a flag would make
            it another run.
    """
    run = RunDirectory.open(folder, RUN_KIND)
    saved = read_config(run)
    wanted = parse(saved, flags)
    old, new = flatten(to_dict(saved)), flatten(to_dict(wanted))
    for key in sorted((old.keys() | new.keys()) - MAY_CHANGE):
        if old.get(key) != new.get(key):
            raise RunError(
                f"{key} is {old.get(key)} in {folder}, and a resumed run keeps it: leave the flag"
                " out, or start a new run"
            )
    if wanted.run_dir is not None:
        raise RunError(f"--resume continues in {folder}: leave --run-dir out")
    if wanted.total_steps < saved.total_steps:
        raise RunError(
            f"--total-steps {wanted.total_steps} is less than the run's {saved.total_steps}: it can"
            " only be raised"
        )
    check_config(wanted)
    return run, dataclasses.replace(wanted, resume=folder)


def lock_and_load(run: RunDirectory) -> dict[str, Any] | None:
    """Locks a run and returns its latest state, which no other process changes from here on.

    It is None for a run that ended before its first step: it begins again. A run with metrics but
    without a checkpoint is a copy, or has lost the file.

    Raises:
        RunError: another process has the lock, or see `RunDirectory.load_checkpoint`.
    """
    run.lock()
    metrics = run.path / "metrics.jsonl"
    has_metrics = metrics.exists() and metrics.stat().st_size > 0  # it is made empty at the start
    if not has_metrics and not run.checkpoint_path(LATEST).exists():
        return None
    try:
        state = run.load_checkpoint(LATEST, RESUMABLE)
        with state_of(run.checkpoint_path(LATEST)):
            numbers = {key: state["loop"][key] for key in ("evaluated_step", "best_success")}
            if wrong := [key for key, value in numbers.items() if type(value) not in (int, float)]:
                raise ValueError(f"{wrong[0]} is {numbers[wrong[0]]!r}, expected a number")
        return state
    except RunError:
        run.unlock()
        raise


def say_finished(run: RunDirectory, config: TrainConfig, state: dict[str, Any]) -> str | None:
    """Returns a line that says that a run is finished, and what would continue it; None if it is
    not: it has not reached its end, or was stopped before the evaluation there."""
    step, best = state["step"], state["loop"]["best_success"]
    if not config.is_finished(step, best, state["loop"]["evaluated_step"]):
        return None
    ways = {
        "total_steps": "raise --total-steps",
        "stop_at_success": "give --stop-at-success None or more than that",
    }
    to_do = " and ".join(ways[limit] for limit in config.limits_reached(step, best))
    return (
        f"{run.path} is finished: {step} of {config.total_steps} steps, best mean success"
        f" {best:.3f}. To continue it, {to_do}."
    )
