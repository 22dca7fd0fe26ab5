"""Train a multi-task SAC agent on Meta-World.

python scripts/train.py [PRESET] [--flags]    python scripts/train.py --resume RUN
"""

from __future__ import annotations

import dataclasses
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

from rich.console import Console

from configs import PRESETS, TrainConfig, from_dict, to_dict
from envs import WorkerError
from mtrl_fair.runs import RunDirectory, RunError
from scripts.build import (
    build_agent,
    build_envs,
    build_replay,
    build_task_set,
)
from scripts.command_line import fail, or_fail, parse, resolve_device, split_preset
from scripts.loop import LATEST, NonFiniteTrainingError, TrainingLoop
from scripts.report import make_reporter

DEFAULT_PRESET = "mt10-fairgrad"
DESCRIPTION = (
    "Train a multi-task SAC agent on Meta-World. Usage: train.py [PRESET] [--flags]. The preset"
    f" comes first: {', '.join(PRESETS)} (default: {DEFAULT_PRESET})."
)


def main(arguments: list[str]) -> None:
    """Parses, checks everything that can be checked, then trains."""
    preset, flags = or_fail(lambda: split_preset(arguments, list(PRESETS)))
    config = parse(PRESETS[preset or DEFAULT_PRESET], flags, description=DESCRIPTION)
    state = None
    if config.resume is None:
        or_fail(config.check)
        device = or_fail(lambda: resolve_device(config.device))
        stamp = time.strftime("%Y%m%d-%H%M%S")
        path = config.run_dir or f"runs/{preset or DEFAULT_PRESET}-seed{config.seed}-{stamp}"
        run = or_fail(lambda: RunDirectory.create(path, to_dict(config)))
    else:
        folder = config.resume
        if preset is not None:
            fail(f"--resume continues {folder} with its own configuration: leave {preset} out")
        run, config = or_fail(lambda: open_run(folder, flags))
        device = or_fail(lambda: resolve_device(config.device))
        state = or_fail(lambda: run.load_checkpoint(LATEST))
        if state["step"] >= config.total_steps and (
            state["loop"]["evaluated_step"] == state["step"]
        ):
            print(
                f"{run.path} is finished: {state['step']} of {config.total_steps} steps. Raise"
                " --total-steps to continue it."
            )
            return
        or_fail(run.lock)
        run.write_config(to_dict(config))
        run.rewind(state["step"])
    should_stop = stop_on_signal()
    console = Console()
    console.print(f"run directory: {run.path}", highlight=False, soft_wrap=True)
    console.print(
        f"curves: tensorboard --logdir {run.path.parent}", highlight=False, soft_wrap=True
    )

    task_set = build_task_set(config)
    envs = build_envs(config, task_set)
    evaluation_envs = build_envs(config, task_set, evaluation=True)
    agent = build_agent(config, envs.num_envs, device)
    replay = build_replay(config, envs.num_envs, device)
    try:
        with make_reporter(console, config.total_steps, envs.task_names) as reporter:
            loop = TrainingLoop(config, agent, replay, envs, evaluation_envs, run, reporter)
            if state is not None:
                loop.restore(state)
                del state
            finished = loop.run(should_stop)
    except NonFiniteTrainingError as error:
        fail(
            f"{error}. Training stopped; {run.checkpoint_path(LATEST)} holds the last finite state."
            " Lower the learning rates, or clip gradients (--agent.max-grad-norm)",
            code=1,
        )
    except WorkerError as error:
        fail(f"{error}\nContinue from the last checkpoint with --resume {run.path}", code=1)
    finally:
        envs.close()
        evaluation_envs.close()
    if finished:
        print(f"finished. Evaluate it with: python scripts/evaluate.py {run.path}")
    else:
        print(
            f"stopped at step {loop.step}. Continue with:"
            f" python scripts/train.py --resume {run.path}"
        )
        sys.exit(130)


def open_run(folder: str, flags: list[str]) -> tuple[RunDirectory, TrainConfig]:
    """The run to continue and its configuration, with what the flags may change.

    Raises:
        RunError, ValueError: no such run, or a flag that would make it another one.
    """
    run = RunDirectory.open(folder)
    saved = from_dict(TrainConfig, run.config, f"{folder}/config.json")
    wanted = parse(saved, flags)
    wanted = dataclasses.replace(wanted, run_dir=None, resume=None)
    for field in dataclasses.fields(TrainConfig):
        old, new = getattr(saved, field.name), getattr(wanted, field.name)
        if old != new and field.name not in ("total_steps", "device"):
            raise RunError(
                f"{field.name} is {old} in {folder}, and a resumed run keeps it: leave the flag"
                " out, or start a new run"
            )
    if wanted.total_steps < saved.total_steps:
        raise RunError(
            f"--total-steps {wanted.total_steps} is less than the run's {saved.total_steps}: it can"
            " only be raised"
        )
    wanted.check()
    return run, wanted


def stop_on_signal() -> Callable[[], bool]:
    """Makes the first Ctrl-C (or SIGTERM) a request to stop, and the second one an interrupt."""
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    return lambda: bool(received)


if __name__ == "__main__":
    main(sys.argv[1:])
