"""Trainings of seconds on real Meta-World, and what makes two of them the same."""

import json
from pathlib import Path

import torch

from scripts import train
from tests.scripts.commands import Result, run_here
from tests.scripts.same_states import assert_same_states

TASKS = ("reach-v3", "drawer-close-v3")
FLAGS = (
    "mt10-quickstart",
    *("--tasks", *TASKS),
    *("--total-steps", "240", "--eval-every", "80", "--eval-episodes", "2"),
    *("--learning-starts", "50", "--log-every", "20"),
    *("--environment.max-episode-steps", "60"),
    *("--agent.actor.width", "32", "--agent.critic.width", "32"),
    *("--agent.batch-size", "8", "--agent.replay-capacity", "300"),
)
ONE_PROCESS = ("--environment.num-workers", "1")
"""This process steps all tasks; a run may change it when it is resumed."""


def flags_with(*flags: str) -> list[str]:
    """`FLAGS`, but with these flags and values in place of their own."""
    kept: list[str] = []
    keep = True
    for word in FLAGS:
        if word.startswith("--"):
            keep = word not in flags
        if keep:
            kept.append(word)
    return [*kept, *flags]


def train_here(folder: Path, *flags: str) -> Result:
    return run_here(train.main, *flags_with(*ONE_PROCESS, *flags), "--run-dir", str(folder))


def resume_here(folder: Path, *flags: str) -> Result:
    return run_here(train.main, "--resume", str(folder), *flags)


def load(folder: Path, name: str = "latest") -> dict:
    return torch.load(folder / "checkpoints" / f"{name}.pt", weights_only=True)


def metrics(path: Path) -> list[dict]:
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    seconds = [line.pop("charts/seconds") for line in lines if "charts/seconds" in line]
    assert seconds == sorted(seconds)  # the clock goes on in a run that is resumed
    assert seconds[0] > 0
    for line in lines:
        line.pop("charts/steps_per_second", None)  # a clock's, too
    return lines


def assert_same_run(path: Path, other: Path) -> None:
    """Bit for bit: metrics, evaluations and everything in the checkpoint, replay included."""
    assert metrics(path) == metrics(other)
    evaluations = "evaluations.csv"
    assert (path / evaluations).read_bytes() == (other / evaluations).read_bytes()
    assert min(load(each)["loop"]["seconds"] for each in (path, other)) > 0
    assert_same_states(load(path), load(other))
