"""What a training run is made of."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from agents import ARCHITECTURES, PRECISIONS, SACConfig
from envs.constants import MAX_EPISODE_STEPS, NUM_GOALS
from envs.evaluation import check_episodes
from envs.tasks import task_names
from mtrl_fair import COMBINERS, Combiner, FairGrad, Scale, make_combiner
from mtrl_fair.checks import check_name
from mtrl_fair.combiners.registry import combiner_options
from mtrl_fair.results.levels import reaches

FAIRGRAD_SETTINGS = {
    "alpha": "alpha",
    "solver": "solver",
    "precondition": "combining.precondition",
}
"""What `FairGrad` takes besides the options of every combiner, and the setting of each."""

NEEDS_BOUND = ("si", "dwa", "uw", "famo")
"""Combiners that need a lower bound of the losses, which an actor's do not have by themselves."""


@dataclass(frozen=True)
class EnvironmentConfig:
    """Meta-World."""

    reward_version: Literal["v1", "v2"] = "v2"
    """The package's reward function: v2 ranges from 0 to 10."""
    max_episode_steps: int = 500
    """Steps until an episode is truncated, at most 500."""
    num_goals: int = NUM_GOALS
    """Goals per task, the first ones of the package's 50; training and evaluation share them."""
    num_workers: int | None = None
    """Processes that step the tasks, the learner's own included unless steps overlap updates; None:
    one per usable core, at most one per task."""
    stagger: bool = False
    """Spread the ends of the first training episodes, so that not all tasks reset at once."""
    overlap: Literal["auto", "on", "off"] = "auto"
    """Step the environments while the agent updates: on, each update lacks the newest transition,
    which it would otherwise have seen; auto: on with CUDA. On a CPU both want the same cores. A
    resumed run keeps what the run began with."""

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
    """How the combiner computes, for those who compare conventions."""

    scale: Scale = "none"
    """Length of the combined direction: as solved, times the number of tasks, or that of the summed
    gradient."""
    precondition: bool = True
    """False: the sgd and least_squares solvers work on the raw Gramian, as published (fairgrad)."""
    weighted_heads: bool = False
    """Whether heads follow the gradient of the weighted loss instead of their own task's."""
    options: dict[str, float] = field(default_factory=dict)
    """Options that only other methods have, by name: c 0.6 (cagrad), temperature 1 (dwa), …"""
    critic: str | None = None
    """Another combiner for the critic than --combiner."""
    actor: str | None = None
    """Another combiner for the actor than --combiner."""
    actor_min_loss: float = -2000.0
    """Lower bound of the actor's task losses, and of a temperature's where they are combined, for
    si, dwa, uw and famo. A run of si or famo that comes to the bound ends and says so. Discounted
    sums of raw v2 rewards stay below 10 / (1 - discount); normalised ones are that over the
    rewards' deviation, and entropy adds to both."""


@dataclass(frozen=True)
class TrainConfig:
    """A training run. One step is one vector step: every task advances by one transition."""

    seed: int = 0
    """Of goals, networks, exploration, sampling and combiners that draw numbers."""
    total_steps: int = 2_000_000
    """Length of the run in vector steps."""
    stop_at_success: float | None = None
    """End the run earlier, once an evaluation has had at least this mean success. A run that had it
    before it was resumed evaluates once more where it is and ends."""
    eval_every: int = 10_000
    """Vector steps between evaluations, each followed by a checkpoint."""
    eval_episodes: int = 50
    """Evaluation episodes per task, one per goal."""
    learning_starts: int = 4_000
    """Vector steps with random actions before the first update."""
    updates_per_step: float = 1.0
    """Updates per vector step once learning has begun; 0.25: one update every fourth step."""
    log_every: int = 500
    """Vector steps between two lines of training metrics."""
    tasks: tuple[str, ...] = ("mt10",)
    """mt10, mt25, mt50, or one or more task names such as reach-v3."""
    architecture: str = "multi_head"
    """How the networks know the task: multi_head, task_encoded, one_hot or none."""
    combiner: str = "fairgrad"
    """How task gradients become one direction: fairgrad, ls (their sum), or any other method of
    docs/combiners.md."""
    alpha: float = 1.0
    """Fairness exponent (fairgrad): 0 sum, 1 proportional fairness, 2 minimum potential delay."""
    solver: str = "sgd"
    """Solver of the fairness equation (fairgrad): sgd (20 steps), newton (exact), least_squares."""
    run_dir: str | None = None
    """The run's new folder; None: runs/PRESET-seedN-TIME."""
    resume: str | None = None
    """Continue the run in this folder, as it was configured; only --total-steps,
    --stop-at-success, --device, --cuda-graph, --threads and --environment.num-workers may
    change."""
    device: str = "auto"
    """auto (CUDA if there is one), cpu, cuda, cuda:1, …"""
    precision: str = "fp32"
    """fp32, or bf16: networks compute updates in bfloat16, while parameters, optimisers, losses and
    Gramians stay in float32. Faster where the hardware has it, slow where not."""
    cuda_graph: Literal["auto", "off"] = "auto"
    """With CUDA, whether sampling and update run as one captured graph; auto: where the combiner
    never waits for the device (docs/performance.md)."""
    threads: int | None = None
    """CPU threads of the learner; None: one per usable core. Small networks gain little from a
    second one, and several threads are many times slower than one while another program keeps a
    core busy."""
    combining: CombinerConfig = field(default_factory=CombinerConfig)
    """Options of the combiner."""
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    """Options of Meta-World."""
    agent: SACConfig = field(default_factory=SACConfig)
    """Hyperparameters of the agent."""

    def is_over(self, step: int, best_success: float) -> bool:
        """Whether a run ends at this step, given the best mean success that it has had."""
        return step >= self.total_steps or self.is_successful(best_success)

    def is_successful(self, best_success: float) -> bool:
        """Whether this mean success ends a run."""
        return self.stop_at_success is not None and reaches(best_success, self.stop_at_success)

    def combiner_of(self, network: str) -> str:
        """The combiner of "critic", "actor" or "temperature", by name."""
        own = {"critic": self.combining.critic, "actor": self.combining.actor}
        return own.get(network) or self.combiner

    def combiners(self) -> set[str]:
        """The names of all combiners of the run."""
        networks = ["critic", "actor", *(["temperature"] if self.agent.combine_temperature else [])]
        return {self.combiner_of(network) for network in networks}

    def has_bounded_losses(self) -> bool:
        """Whether `combining.actor_min_loss` is of use to a combiner of the run."""
        networks = ["actor", *(["temperature"] if self.agent.combine_temperature else [])]
        return any(self.combiner_of(network) in NEEDS_BOUND for network in networks)

    def fairgrad_options(self) -> dict[str, Any]:
        """The values of `FAIRGRAD_SETTINGS` by the names that `FairGrad` has for them."""
        return {option: attrgetter(key)(self) for option, key in FAIRGRAD_SETTINGS.items()}

    def method_options(self, combiner: str) -> dict[str, float]:
        """Those of `combining.options` that a combiner has."""
        own = own_options(combiner)
        return {name: value for name, value in self.combining.options.items() if name in own}

    def idle(self) -> dict[str, str]:
        """Settings under dotted keys that have no effect in this run, and what gives them one."""
        fairgrad = "fairgrad" in self.combiners()
        conditions = [
            (
                "combiner",
                not (self.combining.critic and self.combining.actor)
                or self.agent.combine_temperature,
                "--combining.critic None or --combining.actor None",
            ),
            ("combining.precondition", self.solver != "newton", "--solver sgd or least_squares"),
            (
                "combining.actor_min_loss",
                self.has_bounded_losses(),
                f"one of {', '.join(NEEDS_BOUND)} as the combiner of the actor or the temperature",
            ),
            (
                "combining.weighted_heads",
                self.architecture == "multi_head",
                "--architecture multi_head",
            ),
            (
                "agent.task_embedding_size",
                self.architecture == "task_encoded",
                "--architecture task_encoded",
            ),
            (
                "agent.reward_rate",
                self.agent.normalize_reward,
                "--agent.normalize-reward True",
            ),
            # Last, because without FairGrad what a setting of it needs besides says nothing.
            *((key, fairgrad, "--combiner fairgrad") for key in FAIRGRAD_SETTINGS.values()),
        ]
        return {key: needed for key, acts, needed in conditions if not acts}

    def check(self, preset: TrainConfig | None = None) -> None:
        """Raises ValueError on the first value that cannot be meant.

        Args:
            preset: what the user began with; a setting that differs from it must have an effect.
        """
        for name in ("total_steps", "eval_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{_flag(name)} is {getattr(self, name)}, expected at least 1 vector step"
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
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"--threads is {self.threads}, expected at least 1 or None")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--seed is {self.seed}, expected an integer from 0 to 2**32 - 1")
        names = task_names(self.tasks[0] if len(self.tasks) == 1 else self.tasks)
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"--tasks names {', '.join(repeated)} more than once: name each once")
        check_name("architecture", self.architecture, ARCHITECTURES)
        check_name("precision", self.precision, PRECISIONS)
        for name in (self.combiner, *self.combiners()):
            check_name("combiner", name, COMBINERS)
        if "graddrop" in self.combiners() and self.combining.weighted_heads:
            raise ValueError(
                "--combining.weighted-heads is true, but graddrop has no weights for heads"
            )
        FairGrad(num_tasks=len(names), **self.fairgrad_options())
        valid = [option for name in sorted(self.combiners()) for option in own_options(name)]
        for option in self.combining.options:
            check_name(f"option of {' and '.join(sorted(self.combiners()))}", option, valid)
        for name in self.combiners():
            make_combiner(name, num_tasks=len(names), **self.method_options(name))
        for key, needed in self.idle().items() if preset is not None else ():
            value = attrgetter(key)(self)
            if value != attrgetter(key)(preset):
                raise ValueError(
                    f"{_flag(key)} is {value}, but it only has an effect with {needed}: choose"
                    " that, or leave it out"
                )
        check_episodes(self.eval_episodes, self.environment.num_goals)


def own_options(combiner: str) -> list[str]:
    """The options that only this method has, and that no setting of its own stands for."""
    common = {*combiner_options(Combiner), *FAIRGRAD_SETTINGS, "seed", "min_loss"}
    return [name for name in combiner_options(COMBINERS[combiner]) if name not in common]


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Nested plain data for JSON, without what concerns only the command (`run_dir`, `resume`)."""
    values = dataclasses.asdict(config) | {"tasks": list(config.tasks)}
    return {key: value for key, value in values.items() if key not in ("run_dir", "resume")}


def _check_type(key: str, value: Any, hint: Any, where: str) -> None:
    if get_origin(hint) is Literal:
        check_name(f"{key} in {where}", value, get_args(hint))
    if get_origin(hint) is dict:
        if not isinstance(value, dict) or not all(type(v) in (int, float) for v in value.values()):
            raise ValueError(f"{key} in {where} is {value!r}, expected numbers by name")
        return
    allowed = tuple(kind for kind in (get_args(hint) or (hint,)) if isinstance(kind, type))
    if float in allowed:
        allowed += (int,)
    plain = all(kind in (int, float, str, bool, type(None)) for kind in allowed)
    wrong = not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed)
    if allowed and plain and not isinstance(value, list) and wrong:
        names = " or ".join(kind.__name__ for kind in allowed)
        raise ValueError(f"{key} in {where} is {value!r}, expected {names}: restore the file")


Config = TypeVar("Config")


def from_dict(cls: type[Config], values: Mapping[str, Any], where: str) -> Config:
    """The inverse of `to_dict`.

    Raises:
        ValueError: a key that the configuration does not have; `where` says whose it is.
    """
    hints = get_type_hints(cls)
    arguments = {}
    for key, value in values.items():
        check_name(f"setting in {where}", key, hints)
        _check_type(key, value, hints[key], where)
        if dataclasses.is_dataclass(hints[key]):
            value = from_dict(hints[key], value, where)
        arguments[key] = tuple(value) if isinstance(value, list) else value
    return cls(**arguments)
