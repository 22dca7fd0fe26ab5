"""The command line that the integrations share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from envs.tasks import task_names
from mtrl_fair.runs.settings import flag_name
from scripts.command_line import bad_input_is_one_line, parse

AnyArguments = TypeVar("AnyArguments", bound="Arguments")


@dataclass(frozen=True)
class Arguments:
    """Train one network for several Meta-World tasks."""

    tasks: tuple[str, ...] = ("reach-v3", "drawer-close-v3", "window-close-v3")
    """Names of Meta-World tasks."""
    steps: int = 100_000
    """Vector steps; in each, every task advances by one transition."""
    seed: int = 0
    """Of networks, replay, actions and goals."""
    batch_size: int = 384
    """Transitions per update, over all tasks."""
    width: int = 256
    """Units per hidden layer."""
    episode_steps: int = 500
    """Steps until an episode is truncated, at most Meta-World's 500."""

    def check(self) -> None:
        """Raises ValueError on values that no run can have, unknown task names included."""
        task_names(self.tasks)
        for name in ("steps", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{flag_name(name)} is {getattr(self, name)}, expected at least 1")
        if not 1 <= self.episode_steps <= 500:
            raise ValueError(f"--episode-steps is {self.episode_steps}, expected 1 to 500")
        if self.batch_size < len(self.tasks):
            raise ValueError(
                f"--batch-size is {self.batch_size}, expected at least 1 for each of"
                f" {len(self.tasks)} tasks"
            )
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--seed is {self.seed}, expected 0 to 2**32 - 1")


@dataclass(frozen=True)
class AgentArguments(Arguments):
    """Train one agent for several Meta-World tasks."""

    learning_starts: int = 1_000
    """Vector steps of random actions before the first update."""

    def check(self) -> None:
        """As for all, and that training can start."""
        super().check()
        if self.learning_starts < 0:
            raise ValueError(f"--learning-starts is {self.learning_starts}, expected at least 0")


def read(words: list[str], default: AnyArguments, description: str | None) -> AnyArguments:
    """`default` with what a command line changes; bad values end the program with one line."""
    arguments = parse(default, words, description=description)
    with bad_input_is_one_line():
        arguments.check()
    return arguments
