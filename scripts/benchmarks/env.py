"""The vector environment next to the package's own: steps, construction, resets; and the learner
next to idle workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Annotated

import tyro
from rich.console import Console
from rich.markdown import Markdown

from configs import PRESETS
from configs.build import build_task_set
from envs import TaskSet
from envs.constants import MAX_EPISODE_STEPS, NUM_GOALS
from envs.tasks import task_names
from mtrl_fair.machine import usable_cores
from mtrl_fair.results.markdown import markdown_table
from scripts.benchmarks.env_parts import (
    FIRST,
    WITH,
    WITHOUT,
    measure_construction,
    measure_costs,
    measure_resets,
    measure_updates,
)
from scripts.benchmarks.measure import (
    Report,
    Rows,
    replace_section,
    split_at_section,
)
from scripts.benchmarks.stepping import (
    ASYNC,
    FIRST_RESETS,
    GOALS_SEEN,
    PHYSICS,
    SYNC,
    label,
    measure_speed,
)

SECTION = "env"
LEARNER = "mt10-small"
"""The preset whose update is timed."""

Flag = Annotated[tyro.conf.UseCounterAction[int], tyro.conf.arg(help_behavior_hint="")]


@dataclass(frozen=True)
class EnvArguments:
    """Steps, construction and resets of environments next to Meta-World's own, and the learner's
    updates next to idle workers."""

    tasks: tuple[str, ...] = ("mt10",)
    """mt10, mt25, mt50, or task names such as reach-v3."""
    mt50: Flag = 0
    """Also step MT50: some minutes and 10 GB more."""
    costs: Flag = 0
    """Measure only the cost of a step of each of the 50 tasks, for envs/costs.py."""
    steps: int = MAX_EPISODE_STEPS
    """Vector steps of a turn: whole episodes of 500, each with the reset that follows it."""
    rounds: int = 5
    """Turns of every candidate at steps, updates and costs; medians over them are shown."""
    constructions: int = 3
    """Turns at construction."""
    resets: int = 10
    """Turns at resets, of every task."""
    updates: int = 30
    """Updates of a turn."""
    num_workers: int | None = None
    """Processes that step the tasks; None: one per usable core, at most one per task."""
    seed: int = 0
    """Of goals, actions and networks."""
    json: Path | None = None
    """Also write the measurements to this file."""
    docs: Path | None = None
    """Also replace the tables of this document, such as docs/environments.md."""

    def __post_init__(self) -> None:
        task_names(_alone(self.tasks))
        for name in ("rounds", "constructions", "resets", "updates", "num_workers"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} is {value}, expected at least 1")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--seed is {self.seed}, expected an integer from 0 to 2**32 - 1")
        if self.steps < 1 or self.steps % MAX_EPISODE_STEPS:
            raise ValueError(
                f"--steps is {self.steps}, expected a multiple of {MAX_EPISODE_STEPS}: whole"
                " episodes with their resets"
            )
        if self.rounds * self.episodes >= NUM_GOALS:
            raise ValueError(
                f"--rounds times the episodes of --steps is {self.rounds * self.episodes}, expected"
                f" less than the {NUM_GOALS} goals: each is reset to for the first time only once"
            )
        if self.costs and (self.mt50 or self.docs is not None):
            raise ValueError("--costs measures nothing else: leave --mt50 and --docs out")
        if self.docs is not None:  # before the minutes that measuring takes
            split_at_section(self.docs, SECTION)

    @property
    def episodes(self) -> int:
        return self.steps // MAX_EPISODE_STEPS


def run(arguments: EnvArguments, console: Console) -> Report:
    """Measures and prints."""
    if arguments.costs:
        return run_costs(arguments, console)
    speed = []
    for tasks in (arguments.tasks, *([("mt50",)] if arguments.mt50 else [])):
        console.print(f"steps of {label(tasks)} …")
        speed.append(
            measure_speed(
                tasks, arguments.seed, arguments.num_workers, arguments.rounds, arguments.steps
            )
        )
    console.print("construction …")
    config = replace(
        PRESETS[LEARNER],
        tasks=arguments.tasks,
        seed=arguments.seed,
        environment=replace(PRESETS[LEARNER].environment, num_workers=arguments.num_workers),
    )
    construction = measure_construction(config, arguments.constructions)
    console.print("resets …")
    task_set = build_task_set(config)
    resets = measure_resets(task_set, arguments.resets)
    console.print("updates …")
    updates = measure_updates(config, task_set, arguments.rounds, arguments.updates)

    ratios = speed_ratios(speed[0])
    if arguments.mt50:
        ratios |= {f"mt50_{name}": ratio for name, ratio in speed_ratios(speed[1]).items()}
    ratios |= other_ratios(construction, resets, updates)
    text = f"{conditions(arguments)}\n\n{describe(speed, construction, resets, updates, ratios)}"
    console.print(Markdown(text))
    if arguments.docs is not None:
        replace_section(arguments.docs, SECTION, text)
    return Report(
        [*(row for rows in speed for row in rows), *construction, *resets, *updates], ratios
    )


def run_costs(arguments: EnvArguments, console: Console) -> Report:
    """Measures the 50 tasks and prints the lines of `envs.costs.STEP_COSTS`."""
    task_set = TaskSet.make("mt50", arguments.seed)
    rows = measure_costs(task_set, arguments.rounds, arguments.steps, arguments.seed)
    for row in rows:
        console.print(f'    "{row["task"]}": {row["microseconds"]:.1f},', highlight=False)
    return Report(rows, {})


def speed_ratios(rows: Rows) -> dict[str, float]:
    """Of a training's start, where every reset is a goal's first; `_warm`: once goals are seen."""
    at = {row["engine"]: row["env_steps_per_second"] for row in rows}
    return {
        f"{name}{ending}": at[ours] / at[other]
        for ours, ending in ((FIRST_RESETS, ""), (GOALS_SEEN, "_warm"))
        for name, other in (("vs_async", ASYNC), ("vs_sync", SYNC), ("share_of_physics", PHYSICS))
    }


def other_ratios(construction: Rows, resets: Rows, updates: Rows) -> dict[str, float]:
    """All larger is better; `update_with_idle_workers` is 1 where they cost nothing."""
    seconds = {row["environments"]: row["seconds"] for row in construction}
    milliseconds = {row["workers"]: row["milliseconds"] for row in updates}
    faster = [row["vs_package"] for row in resets]
    return {
        "construction_vs_package": seconds[ASYNC] / seconds[FIRST],
        "reset_vs_package": median(faster),
        "reset_vs_package_worst": min(faster),
        "update_with_idle_workers": milliseconds[WITHOUT] / milliseconds[WITH],
    }


def conditions(arguments: EnvArguments) -> str:
    """What the numbers hold for, in a sentence."""
    workers = min(arguments.num_workers or usable_cores(), len(task_names(_alone(arguments.tasks))))
    packages = ", ".join(f"{name} {version(name)}" for name in ("metaworld", "mujoco", "gymnasium"))
    return (
        f"{workers} process{'es' * (workers > 1)}, this one included, on {usable_cores()} cores;"
        " medians of"
        f" {arguments.rounds} turns of {arguments.steps} vector steps, {arguments.constructions} of"
        f" construction, {arguments.resets} of resets per task and {arguments.rounds} of"
        f" {arguments.updates} updates; {packages}."
    )


def describe(
    speed: Sequence[Rows],
    construction: Rows,
    resets: Rows,
    updates: Rows,
    ratios: dict[str, float],
) -> str:
    """The tables in Markdown."""
    construction_cells = [[row["environments"], f"{row['seconds']:.1f}"] for row in construction]
    update_cells = [[row["workers"], f"{row['milliseconds']:.1f}"] for row in updates]
    reset_cells = [
        [
            row["task"],
            f"{row['package_milliseconds']:.2f}",
            f"{row['milliseconds']:.3f}",
            f"{row['vs_package']:.0f}",
        ]
        for row in resets
    ]
    ratio_cells = [[f"`{name}`", f"{ratio:.3g}"] for name, ratio in ratios.items()]
    return "\n\n".join(
        [
            markdown_table(
                ["engine", "tasks", "env-steps/s", "× async", "× sync", "of physics"],
                [cells for rows in speed for cells in _speed_cells(rows)],
            ),
            markdown_table([f"construction, {construction[0]['tasks']}", "s"], construction_cells),
            markdown_table(["reset to a goal seen before", "package, ms", "ms", "×"], reset_cells),
            markdown_table([f"update, {LEARNER}, {updates[0]['tasks']}", "ms"], update_cells),
            markdown_table(["ratio", ""], ratio_cells),
        ]
    )


def _speed_cells(rows: Rows) -> list[list[str]]:
    at = {row["engine"]: row["env_steps_per_second"] for row in rows}
    return [
        [
            name,
            rows[0]["tasks"],
            f"{speed:,.0f}",
            *(f"{speed / at[other]:.2f}" for other in (ASYNC, SYNC, PHYSICS)),
        ]
        for name, speed in at.items()
    ]


def _alone(tasks: Sequence[str]) -> str | Sequence[str]:
    return tasks[0] if len(tasks) == 1 else tasks
