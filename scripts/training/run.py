"""One training: makes the parts from settings, runs the loop, and says why a run cannot go on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from rich.console import Console

from configs import TrainConfig, to_dict, unused_settings
from configs.build import build_agent, build_envs, build_replay, build_task_set
from envs import TaskSet, WorkerError
from envs.constants import NO_SUCCESS_WITH_V1
from mtrl_fair import LossBoundError, NonFiniteError
from mtrl_fair.errors import WriteError
from mtrl_fair.runs import RunDirectory
from mtrl_fair.runs.checkpoints import LAST_FINITE, LATEST, state_of
from scripts.command_line import bad_input_is_one_line, fail, python
from scripts.training.display import make_reporter
from scripts.training.loop import TrainingLoop


def train_run(
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
    try:
        with contextlib.ExitStack() as stack:
            stack.callback(run.unlock)
            task_set = build_task_set(config)
            for note in notes(config, task_set.names):
                console.print(f"note: {note}")
            loop = make_loop(config, run, task_set, device, console, stack)
            with bad_input_is_one_line():
                if state is not None:
                    with state_of(run.checkpoint_path(LATEST), WorkerError):
                        loop.load_state_dict(state)
                if config.resume is not None:
                    run.continue_from(loop.step, to_dict(config))
            finished = loop.run(should_stop)
            if finished and loop.step < config.total_steps:
                console.print(
                    f"mean success {loop.best_success:.3f} reaches --stop-at-success"
                    f" {config.stop_at_success:g}"
                )
            return finished
    except NonFiniteError as error:
        names = ", ".join(task_set.names[task] for task in error.tasks) or "all tasks together"
        fail(divergence(error.what, names, config, run, loop.step, device), code=1)
    except WriteError as error:
        fail(
            f"{error}. Training stopped; continue with --resume {run.path} from the last checkpoint"
            " that could be written",
            code=1,
        )
    except LossBoundError as error:
        fail(f"{error} (--combining.actor-min-loss) in a new run; step {loop.step + 1}", code=1)
    except WorkerError as error:
        fail(f"{error}\nContinue from the last checkpoint with --resume {run.path}", code=1)


def make_loop(
    config: TrainConfig,
    run: RunDirectory,
    task_set: TaskSet,
    device: torch.device,
    console: Console,
    stack: contextlib.ExitStack,
) -> TrainingLoop:
    """Makes a run's parts; the stack closes environments and display."""
    envs = stack.enter_context(contextlib.closing(build_envs(config, task_set, device)))
    evaluation_envs = stack.enter_context(
        contextlib.closing(build_envs(config, task_set, device, evaluation=True))
    )
    agent = build_agent(config, envs.num_envs, device)
    replay = build_replay(config, envs.num_envs, device)
    reporter = stack.enter_context(make_reporter(console, config.total_steps, envs.task_names))
    return TrainingLoop(config, agent, replay, envs, evaluation_envs, run, reporter)


def notes(config: TrainConfig, task_names: Sequence[str]) -> list[str]:
    """Returns what a user should know about these settings before the run."""
    found = []
    if config.learning_starts >= config.total_steps:
        found.append(
            f"there will be no update, because the run ends at step {config.total_steps} and"
            f" learning starts at {config.learning_starts} (--learning-starts)"
        )
    hopeless = [name for name in task_names if name in NO_SUCCESS_WITH_V1]
    if config.environment.reward_version == "v1" and hopeless:
        share = 1 - len(hopeless) / len(task_names)
        found.append(
            "with the v1 reward, Meta-World never reports success in"
            f" {', '.join(hopeless)}: the mean success can reach {share:.2g} at most"
            " (--environment.reward-version v2 has no such task)"
        )
    if sgd_is_inexact(config, len(task_names)):
        found.append(
            "FairGrad's sgd solver is inexact for more than 10 tasks, alpha above 2 (1 with raw"
            " rewards), and as published (fairness/residual says how much); --solver newton is"
            " exact"
        )
    return found


def sgd_is_inexact(config: TrainConfig, num_tasks: int) -> bool:
    """Returns whether FairGrad's weights are those of 20 SGD steps where these do not suffice."""
    used = "fairgrad" in config.combiners() and config.solver == "sgd"
    largest_alpha = 2 if config.agent.normalize_reward else 1
    exact = num_tasks <= 10 and config.alpha <= largest_alpha and config.combining.precondition
    return used and not exact


def divergence(
    what: str, names: str, config: TrainConfig, run: RunDirectory, step: int, device: torch.device
) -> str:
    """Returns a line for a value that is not finite: whose, when, and how to avoid it.

    Args:
        what: the value.
        names: its tasks.
        config: the run's settings.
        run: where its checkpoints are.
        step: the loop's.
        device: the agent's.
    """
    when = f"at step {step + 1}"
    if device.type == "cuda":  # where values are looked at only when metrics are logged
        when = f"in the {config.log_every} steps before {step + 1}"
    has_bound = "combining.actor_min_loss" not in unused_settings(config)
    bound = ", a lower --combining.actor-min-loss" if has_bound else ""
    last = run.checkpoint_path(LAST_FINITE)
    finite = f", {last} the last finite one" if last.exists() else ""  # the disk may be full
    return (
        f"the {what} of {names} is not finite {when}. Training stopped."
        f" {run.checkpoint_path(LATEST)} holds the last evaluation's state{finite}."
        " Start a new run with lower"
        " learning rates (--agent.critic-learning-rate) or a gradient clip"
        f" (--agent.max-grad-norm){bound}"
    )
