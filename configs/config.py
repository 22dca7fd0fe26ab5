"""The settings of a training run.

The text under a field is what `train.py --help` prints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Literal

from agents import ARCHITECTURES, PRECISIONS, SACConfig
from envs.constants import MAX_EPISODE_STEPS, NUM_GOALS
from mtrl_fair import COMBINERS, Scale
from mtrl_fair.checks import check_name, check_threads
from mtrl_fair.results.levels import reaches
from mtrl_fair.runs.settings import flag_name

FAIRGRAD_SETTINGS = {
    "alpha": "alpha",
    "solver": "solver",
    "precondition": "combining.precondition",
}
"""The options that only `FairGrad` has, and the setting of each under its dotted key."""


@dataclass(frozen=True)
class EnvironmentConfig:
    """Settings of Meta-World."""

    reward_version: Literal["v1", "v2"] = "v2"
    """Version of Meta-World's reward function. Rewards of v2 range from 0 to 10."""
    max_episode_steps: int = 500
    """Steps after which an episode is truncated, at most 500."""
    num_goals: int = NUM_GOALS
    """Goals per task: the first ones of the 50 that Meta-World draws. Training and evaluation use
    the same goals."""
    goals_of: Literal["mt10", "mt25", "mt50"] | None = None
    """The benchmark whose goals tasks that are named one by one have. None: those of MT1, which are
    others than the same task's in mt10, and the same positions for several tasks."""
    num_workers: int | None = None
    """Processes that step the tasks. The learner's own process is one of them, unless steps overlap
    updates. None: one per usable core, and at most one per task."""
    stagger: bool = False
    """Whether the first training episodes end at different steps, so that not all tasks reset at
    once."""
    overlap: Literal["auto", "on", "off"] = "auto"
    """Whether the environments step while the agent updates. With on, an update cannot sample the
    newest transition. On a CPU, both need the same cores. auto: on with CUDA, off without. A
    resumed run keeps the value that it began with."""

    def __post_init__(self) -> None:
        for name, value, most in (
            ("num_goals", self.num_goals, NUM_GOALS),
            ("max_episode_steps", self.max_episode_steps, MAX_EPISODE_STEPS),
        ):
            if not 1 <= value <= most:
                raise ValueError(f"{name} is {value}, but Meta-World allows 1 to {most}")
        if self.num_workers is not None and self.num_workers < 1:
            raise ValueError(f"num_workers is {self.num_workers}, expected at least 1 or None")


@dataclass(frozen=True)
class CombinerConfig:
    """Settings of the combiners, for comparisons of conventions."""

    scale: Scale = "none"
    """Length of the combined direction. none: as the combiner computes it; tasks: that times the
    number of tasks; norm: the length of the summed gradient."""
    precondition: bool = True
    """Whether the solvers sgd and least_squares work on the preconditioned Gramian (fairgrad).
    False: on the raw one, as published."""
    weighted_heads: bool = False
    """Whether each head follows its gradient times its task's weight. False: each head follows its
    own task's gradient."""
    options: dict[str, float] = field(default_factory=dict)
    """Options of other combiners as names and values: c 0.6 (cagrad), temperature 1 (dwa), …"""
    critic: str | None = None
    """Combiner of the critic. None: that of --combiner."""
    actor: str | None = None
    """Combiner of the actor. None: that of --combiner."""
    actor_min_loss: float = -2000.0
    """Lower bound of the actor's task losses, and of the temperature's if they are combined. The
    combiners si, dwa, uw and famo need it, and a run of si or famo ends with a message when a loss
    reaches it. With raw v2 rewards, a discounted return stays below 10 / (1 - discount). With
    normalised rewards, it stays below that divided by the rewards' standard deviation. Entropy adds
    to both."""


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a training run.

    One step is one vector step: every task advances by one transition.
    """

    seed: int = 0
    """Seed of goals, networks, exploration, sampling, and combiners that draw random numbers."""
    total_steps: int = 2_000_000
    """Vector steps of the run."""
    stop_at_success: float | None = None
    """End the run early, after the first evaluation with at least this mean success. If a resumed
    run had already reached it, it is evaluated once more and then ends."""
    eval_every: int = 10_000
    """Vector steps between evaluations. A checkpoint is written after each."""
    eval_episodes: int = 50
    """Evaluation episodes per task, each with another goal."""
    learning_starts: int = 4_000
    """Vector steps with random actions before the first update."""
    updates_per_step: float = 1.0
    """Updates per vector step, once learning has started. 0.25: one update every fourth step."""
    log_every: int = 500
    """Vector steps between two lines of training metrics."""
    tasks: tuple[str, ...] = ("mt10",)
    """mt10, mt25, mt50, or names of tasks such as reach-v3. Named tasks have other goals than in a
    benchmark: see environment.goals-of."""
    architecture: str = "multi_head"
    """How the networks know the task: multi_head, task_encoded, one_hot or none."""
    combiner: str = "fairgrad"
    """How task gradients become one direction: fairgrad, ls (their sum), or another name of
    docs/combiners.md."""
    alpha: float = 1.0
    """Fairness exponent (fairgrad). 0: the sum of the gradients; 1: proportional fairness;
    2: minimum potential delay."""
    solver: str = "sgd"
    """Solver of the fairness equation (fairgrad): sgd (20 steps), newton (exact), least_squares."""
    run_dir: str | None = None
    """New folder of the run. None: runs/PRESET-seedN-TIME."""
    resume: str | None = None
    """Continue the run in this folder with its settings. Only --total-steps, --stop-at-success,
    --device, --cuda-graph, --threads and --environment.num-workers may be given, too."""
    device: str = "auto"
    """Device of the learner: auto (CUDA if there is one), cpu, cuda, cuda:1, …"""
    precision: str = "fp32"
    """Precision of the networks during updates: fp32 or bf16. Parameters, optimisers, losses and
    Gramians are float32 in both. bf16 is faster where the hardware supports it, and slow where it
    does not."""
    cuda_graph: Literal["auto", "off"] = "auto"
    """Whether sampling and update run as one captured graph with CUDA. auto: if the combiner never
    waits for the device (docs/performance.md)."""
    threads: int | None = None
    """CPU threads of the learner. Small networks gain little from a second thread. While another
    program keeps a core busy, several threads are many times slower than one. None: one per usable
    core."""
    combining: CombinerConfig = field(default_factory=CombinerConfig)
    """Settings of the combiners."""
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    """Settings of Meta-World."""
    agent: SACConfig = field(default_factory=SACConfig)
    """Hyperparameters of the agent."""

    def limits_reached(self, step: int, best_success: float) -> list[str]:
        """Returns which settings end the run at a step; an empty list while the run goes on.

        Args:
            step: the run's present step.
            best_success: the best mean success of its evaluations so far.
        """
        level = self.stop_at_success
        reached = {
            "total_steps": step >= self.total_steps,
            "stop_at_success": level is not None and reaches(best_success, level),
        }
        return [name for name, is_reached in reached.items() if is_reached]

    def is_finished(self, step: int, best_success: float, evaluated_step: int) -> bool:
        """Returns whether a run has reached its end and was evaluated there."""
        return bool(self.limits_reached(step, best_success)) and evaluated_step == step

    def combiner_of(self, network: str) -> str:
        """Returns the name of the combiner of "critic", "actor" or "temperature"."""
        chosen = {"critic": self.combining.critic, "actor": self.combining.actor}
        return chosen.get(network) or self.combiner

    def combined_networks(self) -> tuple[str, ...]:
        """Returns what has a combiner: "critic", "actor" and, if its losses are combined,
        "temperature"."""
        return ("critic", "actor", *(("temperature",) if self.agent.combine_temperature else ()))

    def combiners(self) -> set[str]:
        """Returns the names of all combiners of the run."""
        return {self.combiner_of(network) for network in self.combined_networks()}

    def fairgrad_options(self) -> dict[str, Any]:
        """Returns the values of `FAIRGRAD_SETTINGS` by the names that `FairGrad` has for them."""
        return {option: attrgetter(key)(self) for option, key in FAIRGRAD_SETTINGS.items()}

    def check_fields(self) -> None:
        """Raises ValueError on the first field whose value is wrong by itself.

        It is no part of the constructor, because `tyro` would frame the message.
        """
        for name in ("total_steps", "eval_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{flag_name(name)} is {getattr(self, name)}, expected at least 1 vector step"
                )
        if self.learning_starts < 1:
            raise ValueError(
                f"--learning-starts is {self.learning_starts}, expected at least 1: updates need"
                " transitions"
            )
        if not (math.isfinite(self.updates_per_step) and self.updates_per_step > 0):
            raise ValueError(
                f"--updates-per-step is {self.updates_per_step}, expected a positive number"
            )
        if self.stop_at_success is not None and not 0 < self.stop_at_success <= 1:
            raise ValueError(
                f"--stop-at-success is {self.stop_at_success}, expected a mean success rate above 0"
                " and at most 1, or None"
            )
        check_threads(self.threads)
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--seed is {self.seed}, expected an integer from 0 to 2**32 - 1")
        check_name("architecture", self.architecture, ARCHITECTURES)
        check_name("precision", self.precision, PRECISIONS)
        for name in (self.combiner, *sorted(self.combiners())):
            check_name("combiner", name, COMBINERS)
