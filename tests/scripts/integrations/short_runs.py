"""The integrations on two tasks for a few steps, and transitions collected once."""

import ast
import functools
import runpy
import sys
from pathlib import Path

import torch
from torch import nn

from envs import TaskSet
from scripts.integrations import sac_single_file
from scripts.integrations.arguments import AgentArguments
from scripts.integrations.policy_evaluation import Transitions, collect, make_critic

FOLDER = Path(sac_single_file.__file__).parent
TASKS = ("reach-v3", "drawer-close-v3")
ARGUMENTS = AgentArguments(
    tasks=TASKS, steps=130, learning_starts=100, episode_steps=50, batch_size=64, width=16
)
ALPHA = 2.0

make_task_set = functools.cache(TaskSet.make)
collect_once = functools.cache(collect)


def transitions() -> Transitions:
    return collect_once(TASKS, ARGUMENTS.steps, ARGUMENTS.seed, ARGUMENTS.episode_steps)


def batch(batch_per_task: int = 32) -> Transitions:
    torch.manual_seed(0)
    return transitions().sample(batch_per_task)


def make_critic_of_seed(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return make_critic(len(TASKS), 16)


def run_script(monkeypatch, name: str, *words: str) -> None:
    flags = [
        *("--tasks", *TASKS, "--steps", "130"),
        *("--episode-steps", "50", "--batch-size", "64", "--width", "16"),
    ]
    monkeypatch.setattr(sys, "argv", [name, *flags, *words])
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")


def printed_losses(capsys) -> tuple[float, float]:
    """The sums of the task losses in the first and in the last line."""
    lines = capsys.readouterr().out.splitlines()
    sums = [sum(ast.literal_eval(line.split("losses ")[1].split("  ")[0])) for line in lines]
    return sums[0], sums[-1]
