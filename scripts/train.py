"""Train a multi-task SAC agent on Meta-World.

python scripts/train.py [PRESET] [--flags]    python scripts/train.py --resume RUN
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console

from configs import PRESETS, TrainConfig, from_dict, to_dict
from configs.build import build_agent, build_envs, build_replay, build_task_set, settle_overlap
from envs import WorkerError
from mtrl_fair import LossBoundError, NonFiniteError
from mtrl_fair.runs import MAY_CHANGE, RunDirectory, RunError, flatten
from scripts.command_line import (
    fail,
    or_fail,
    parse,
    python,
    resolve_device,
    split_name,
    stop_on_signal,
    use_threads,
)
from scripts.training.allocator import keep_freed_memory
from scripts.training.display import make_reporter
from scripts.training.loop import LAST_FINITE, LATEST, RESUMABLE, TrainingLoop, is_finished

DEFAULT_PRESET = "mt10-fairgrad"
DESCRIPTION = (
    "Train a multi-task SAC agent on Meta-World. Usage: train.py [PRESET] [--flags]. The preset"
    f" comes first: {', '.join(PRESETS)} (default: {DEFAULT_PRESET})."
)


def main(arguments: list[str]) -> None:
    """Checks everything that can be checked, then trains."""
    preset, flags = or_fail(lambda: split_name("preset", arguments, list(PRESETS)))
    default = PRESETS[preset or DEFAULT_PRESET]
    config = parse(default, flags, description=DESCRIPTION)
    if config.resume is not None and preset is not None:
        fail(f"--resume continues {config.resume} as it was configured: leave {preset} out")
    if config.resume is not None:
        folder = config.resume
        run, config = or_fail(lambda: open_run(folder, flags))
    else:
        or_fail(lambda: config.check(default))
    device = or_fail(lambda: resolve_device(config.device))
    keep_freed_memory()
    should_stop = stop_on_signal()
    use_threads(config.threads)
    if config.resume is not None:
        state = or_fail(lambda: lock_and_load(run))
        step, progress = state["step"], state["loop"]
        best = progress["best_success"]
        evaluated_step = progress["evaluated_step"]
        if is_finished(config, step=step, evaluated_step=evaluated_step, best_success=best):
            limits = ["raise --total-steps"] * (step >= config.total_steps)
            if config.is_successful(best):
                limits.append("give --stop-at-success None or more than that")
            print(
                f"{run.path} is finished: {step} of {config.total_steps} steps, best mean success"
                f" {best:.3f}. To continue it, {' and '.join(limits)}."
            )
            run.unlock()
            return
    else:
        state = None
        config = settle_overlap(config, device)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        path = config.run_dir or f"runs/{preset or DEFAULT_PRESET}-seed{config.seed}-{stamp}"
        run = or_fail(lambda: RunDirectory.create(path, to_dict(config)))

    finished = train(config, run, state, device, should_stop)
    if finished:
        print(f"finished. Evaluate it with: {python('evaluate.py')} {run.path}")
    else:
        print(f"stopped. Continue with: {python('train.py')} --resume {run.path}")
        sys.exit(130)


def train(
    config: TrainConfig,
    run: RunDirectory,
    state: dict[str, Any] | None,
    device: torch.device,
    should_stop: Callable[[], bool],
) -> bool:
    """Makes the parts and trains, from a checkpoint's state if there is one.

    Returns whether the end was reached; a run that cannot go on ends the program with one line.
    """
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"run directory: {run.path}")
    console.print(f"curves: {python()} -m tensorboard.main --logdir {run.path.parent}")
    if config.learning_starts >= config.total_steps:
        console.print(
            f"note: there will be no update, because the run ends at step {config.total_steps} and"
            f" learning starts at {config.learning_starts} (--learning-starts)"
        )
    try:
        with contextlib.ExitStack() as stack:
            task_set = build_task_set(config)
            if sgd_is_inexact(config, len(task_set.names)):
                console.print(
                    "note: FairGrad's sgd solver is inexact for more than 10 tasks, alpha above 2"
                    " (1 with raw rewards), and as published (fairness/residual says how much);"
                    " --solver newton is exact"
                )
            envs = stack.enter_context(contextlib.closing(build_envs(config, task_set, device)))
            evaluation_envs = stack.enter_context(
                contextlib.closing(build_envs(config, task_set, device, evaluation=True))
            )
            agent = build_agent(config, envs.num_envs, device)
            replay = build_replay(config, envs.num_envs, device)
            reporter = stack.enter_context(
                make_reporter(console, config.total_steps, envs.task_names)
            )
            loop = TrainingLoop(config, agent, replay, envs, evaluation_envs, run, reporter)
            if state is not None:
                saved = state
                or_fail(lambda: loop.load_state_dict(saved))
                or_fail(lambda: run.continue_from(loop.step, to_dict(config)))
            finished = loop.run(should_stop)
            if finished and loop.step < config.total_steps:
                console.print(
                    f"mean success {loop.best_success:.3f} reaches --stop-at-success"
                    f" {config.stop_at_success:g}"
                )
            return finished
    except NonFiniteError as error:
        names = ", ".join(task_set.names[task] for task in error.tasks) or "all tasks together"
        when = f"at step {loop.step + 1}"
        if device.type == "cuda":
            when = f"in the {config.log_every} steps before {loop.step + 1}"
        bound = ", a lower --combining.actor-min-loss" if config.has_bounded_losses() else ""
        fail(
            f"the {error.what} of {names} is not finite {when}. Training stopped."
            f" {run.checkpoint_path(LATEST)} holds the last evaluation's state,"
            f" {run.checkpoint_path(LAST_FINITE)} the last finite one. Start a new run with lower"
            " learning rates (--agent.critic-learning-rate) or a gradient clip"
            f" (--agent.max-grad-norm){bound}",
            code=1,
        )
    except LossBoundError as error:
        fail(f"{error} (--combining.actor-min-loss) in a new run; step {loop.step + 1}", code=1)
    except WorkerError as error:
        fail(f"{error}\nContinue from the last checkpoint with --resume {run.path}", code=1)


def lock_and_load(run: RunDirectory) -> dict[str, Any]:
    """The latest state, of a run that no other process changes from here on.

    Raises:
        RunError: another process has the lock, or see `RunDirectory.load_checkpoint`.
    """
    run.lock()
    try:
        return run.load_checkpoint(LATEST, RESUMABLE)
    except RunError:
        run.unlock()
        raise


def sgd_is_inexact(config: TrainConfig, num_tasks: int) -> bool:
    """Whether FairGrad's weights are those of 20 SGD steps where these do not suffice."""
    used = "fairgrad" in config.combiners() and config.solver == "sgd"
    largest_alpha = 2 if config.agent.normalize_reward else 1
    exact = num_tasks <= 10 and config.alpha <= largest_alpha and config.combining.precondition
    return used and not exact


def open_run(folder: str, flags: list[str]) -> tuple[RunDirectory, TrainConfig]:
    """The run to continue and its configuration, with what the flags may change.

    Raises:
        RunError, ValueError: no such run, or a flag that would make it another one.
    """
    run = RunDirectory.open(folder)
    saved = from_dict(TrainConfig, run.config, f"{folder}/config.json")
    wanted = parse(saved, flags)
    old, new = flatten(to_dict(saved)), flatten(to_dict(wanted))
    for key in (old.keys() | new.keys()) - MAY_CHANGE:
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
    wanted.check()
    return run, dataclasses.replace(wanted, resume=folder)


if __name__ == "__main__":
    main(sys.argv[1:])
