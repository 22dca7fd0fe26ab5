"""Vector steps per second of the whole training loop, and where the time goes.

The loop is `scripts.training.loop.TrainingLoop` with all that a run gives it. Evaluations,
checkpoints and the start with random actions are left out. Logging happens at least once in the
timed steps, and counts as often per step as in a real run. Episodes are staggered, so that resets
come at an even rate; most are first resets to a goal, which a long run has few of. The replay holds
the benchmark's few transitions, and sampling from a full one takes longer: on one CPU, for
`mt10-fairgrad`, 0.8 ms instead of 0.2 ms.

With CUDA, only the timed steps as a whole wait for the device. Parts are the host's time: kernels
that one part has queued count where the host next waits for them, most often in "act", and
"environment" is what is left of the step once the update that overlaps it is queued.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median_low
from typing import Any

import torch
from rich.console import Console
from rich.markdown import Markdown

from agents.cuda_graph import GraphedUpdate
from configs import PRESETS, RUN_KIND, TrainConfig, check_config, to_dict
from configs.build import build_agent, build_envs, build_replay, build_task_set, overlaps
from mtrl_fair.checks import check_name, check_threads
from mtrl_fair.machine import usable_cores
from mtrl_fair.results.markdown import markdown_table
from mtrl_fair.runs import RunDirectory
from scripts.benchmarks.measure import (
    Report,
    Rows,
    replace_section,
    split_at_section,
)
from scripts.benchmarks.stepping import label
from scripts.command_line import resolve_device
from scripts.training.allocator import keep_freed_memory
from scripts.training.display import PlainReporter
from scripts.training.loop import TrainingLoop

SECTION = "train"

LOGGING, REST = "logging", "rest of the loop"
TIMED = (
    ("agent", "act", "act"),
    ("envs", "step_async", "environment"),
    ("envs", "step_wait", "environment"),
    ("replay", "add", "storing"),
    ("replay", "sample", "sampling"),
    ("loop", "update", "update"),
    ("reporter", "advance", REST),
    ("reporter", "metrics", LOGGING),
)
"""The loop or an attribute of it, a method, and the part of the time that a call of it belongs to.
A method that another one calls counts for its own part only."""
LOG_ENDS = "reporter.metrics"
"""What the loop does between the timed call before this one and this one is logging, too: metrics
leave the device and go to the files."""
PARTS = (*(part for part in dict.fromkeys(part for *_, part in TIMED) if part != REST), REST)

RANDOM_STEPS = 200
"""Before the first update; not timed."""
WARM_UP_STEPS = 20
"""With updates, at the start of every turn; not timed."""


@dataclass(frozen=True)
class TrainArguments:
    """Vector steps per second of the whole training loop without its evaluations, and what part of
    the time acting, environments, replay, updates and logging take."""

    presets: tuple[str, ...] = ("mt10-fairgrad", "mt10-small")
    """The runs to time, by the names that train.py knows."""
    steps: int = 200
    """Vector steps of a turn, with the updates that the preset makes in them, at least one."""
    rounds: int = 3
    """Turns of every preset; the one of median speed is shown."""
    tasks: tuple[str, ...] | None = None
    """mt10, mt25, mt50, or task names such as reach-v3; None: those of the preset."""
    device: str = "auto"
    """auto (CUDA if there is one), cpu, cuda, cuda:1, …"""
    threads: int | None = None
    """CPU threads of the learner; None: as train.py runs the preset."""
    seed: int = 0
    """Of goals, networks, exploration and sampling."""
    json: Path | None = None
    """Also write the measurements to this file."""
    docs: Path | None = None
    """Also replace the tables of this document."""

    def __post_init__(self) -> None:
        check_threads(self.threads)
        for name in ("steps", "rounds", "threads"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"--{name} is {value}, expected at least 1")
        if not self.presets or len(set(self.presets)) < len(self.presets):
            raise ValueError(
                f"--presets is {' '.join(self.presets)!r}, expected one or more, each once"
            )
        for preset in self.presets:
            check_name("preset", preset, PRESETS)
            check_config(self.config(preset))
            rate = PRESETS[preset].updates_per_step
            if self.steps * rate < 1:
                raise ValueError(
                    f"--steps is {self.steps}, expected at least {math.ceil(1 / rate)}: {preset}"
                    f" makes {rate:g} updates per step"
                )
        resolve_device(self.device)
        if self.docs is not None:  # before the minutes that measuring takes
            split_at_section(self.docs, SECTION)

    def config(self, preset: str) -> TrainConfig:
        """The preset with updates from early on, no evaluation and a log in every turn."""
        config = PRESETS[preset]
        beyond = RANDOM_STEPS + self.rounds * (WARM_UP_STEPS + self.steps) + 1
        return replace(
            config,
            seed=self.seed,
            total_steps=beyond,
            eval_every=beyond,
            learning_starts=RANDOM_STEPS,
            log_every=min(config.log_every, self.steps),
            tasks=config.tasks if self.tasks is None else self.tasks,
            device=self.device,
            threads=config.threads if self.threads is None else self.threads,
            environment=replace(config.environment, stagger=True),
        )


def run(arguments: TrainArguments, console: Console) -> Report:
    """Measures and prints."""
    keep_freed_memory()  # as train.py does
    device = resolve_device(arguments.device)
    rows = measure_loops(arguments, device, console)
    text = f"{conditions(arguments, device)}\n\n{describe(rows)}"
    console.print(Markdown(text))
    if arguments.docs is not None:
        replace_section(arguments.docs, SECTION, text)
    return Report(rows, share_ratios(rows))


def measure_loops(arguments: TrainArguments, device: torch.device, console: Console) -> Rows:
    """A row per preset; in each round all presets take a turn."""
    turns: dict[str, list[dict[str, float]]] = {preset: [] for preset in arguments.presets}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        loops = {}
        for preset in arguments.presets:
            console.print(f"the parts of {preset} …")
            loops[preset] = TimedLoop(
                open_loop(stack, arguments.config(preset), device, folder / preset),
                PRESETS[preset].log_every,
            )
        for number in range(1, arguments.rounds + 1):
            for preset, loop in loops.items():
                console.print(f"round {number}: {preset} …")
                turns[preset].append(loop.turn(arguments.steps))
    return [
        describe_turns(preset, arguments.config(preset), device, turns[preset])
        for preset in arguments.presets
    ]


def open_loop(
    stack: contextlib.ExitStack, config: TrainConfig, device: torch.device, folder: Path
) -> TrainingLoop:
    """A run as train.py makes it where the output is no terminal, closed with the stack."""
    task_set = build_task_set(config)
    envs, evaluation_envs = (
        stack.enter_context(
            contextlib.closing(build_envs(config, task_set, device, evaluation=evaluation))
        )
        for evaluation in (False, True)
    )
    return TrainingLoop(
        config,
        build_agent(config, envs.num_envs, device),
        build_replay(config, envs.num_envs, device),
        envs,
        evaluation_envs,
        RunDirectory.create(folder, to_dict(config), RUN_KIND),
        PlainReporter(Console(file=io.StringIO()), config.total_steps),
    )


class PartClock:
    """Gives every moment since `start` to one part: that of the innermost timed call, or `REST`."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.calls: Counter[str] = Counter()
        self.part = REST
        self.since = time.perf_counter()

    def switch(self, part: str) -> None:
        """The time until now is that of the part so far, and from now on of this one."""
        now = time.perf_counter()
        self.seconds[self.part] += now - self.since
        self.part, self.since = part, now

    def timed(self, method: Callable[..., Any], name: str, part: str) -> Callable[..., Any]:
        """The method, whose calls count and whose time is the part's."""

        @functools.wraps(method)
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls[name] += 1
            before = self.part
            if name == LOG_ENDS:
                self.part = part
            self.switch(part)
            try:
                return method(*arguments, **options)
            finally:
                self.switch(before)

        return call


class TimedLoop:
    """A training loop that runs a turn at a time and says where the time went.

    Args:
        loop: not yet run; learning starts after `RANDOM_STEPS`.
        log_every: vector steps between two logs of a real run.
    """

    def __init__(self, loop: TrainingLoop, log_every: int):
        self.loop = loop
        self.log_every = log_every
        self.clock = PartClock()
        graphed = isinstance(loop.update, GraphedUpdate)  # samples without calling the replay
        self.timed = [row for row in TIMED if not (graphed and row[2] == "sampling")]
        for owner, method, part in self.timed:
            target = loop if owner == "loop" else getattr(loop, owner)
            name = f"{owner}.{method}"
            setattr(target, method, self.clock.timed(getattr(target, method), name, part))

    def turn(self, steps: int) -> dict[str, float]:
        """Milliseconds per vector step of each part; their sum is that of the whole loop.

        Raises:
            RuntimeError: the loop did not call a method of `TIMED`, so the parts are not true.
        """
        first = max(self.loop.step, RANDOM_STEPS) + WARM_UP_STEPS

        def should_stop() -> bool:
            if self.loop.step == first:
                self._synchronize()
                self.clock.start()
            elif self.loop.step == first + steps:
                self._synchronize()
                self.clock.switch(REST)
            return self.loop.step == first + steps

        with torch_threads(self.loop.config.threads):
            self.loop.run(should_stop)
        for owner, method, _ in self.timed:
            if not self.clock.calls[f"{owner}.{method}"]:
                raise RuntimeError(
                    f"the training loop did not call {owner}.{method}: mend the table TIMED"
                )
        seconds = {part: value / steps for part, value in self.clock.seconds.items()}
        a_log = self.clock.seconds[LOGGING] / self.clock.calls[LOG_ENDS]
        seconds[LOGGING] = a_log / self.log_every
        return {part: 1e3 * value for part, value in seconds.items()}

    def _synchronize(self) -> None:
        if self.loop.agent.device.type == "cuda":
            torch.cuda.synchronize(self.loop.agent.device)


@contextlib.contextmanager
def torch_threads(number: int | None) -> Iterator[None]:
    """As many CPU threads, and as before afterwards; None: as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if number is None else number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def describe_turns(
    preset: str,
    config: TrainConfig,
    device: torch.device,
    turns: Sequence[Mapping[str, float]],
) -> dict[str, Any]:
    """The turn of median speed whose parts sum to its whole, and all turns."""
    wholes = [sum(turn.values()) for turn in turns]
    whole = median_low(wholes)
    milliseconds = dict(turns[wholes.index(whole)])
    speed = 1e3 / whole
    total_steps = PRESETS[preset].total_steps
    return {
        "measurement": "train",
        "preset": preset,
        "tasks": label(config.tasks),
        "device": device.type,
        "threads": torch.get_num_threads() if config.threads is None else config.threads,
        "overlap": overlaps(config, device),
        "steps_per_second": speed,
        "total_steps": total_steps,
        "hours": total_steps / speed / 3600,
        "milliseconds": milliseconds,
        "shares": {part: value / whole for part, value in milliseconds.items()},
        "per_round": [1e3 / value for value in wholes],
        "milliseconds_per_round": list(turns),
    }


def share_ratios(rows: Rows) -> dict[str, float]:
    """Of the two parts that are the work itself: what they leave to 1 is overhead."""
    return {
        f"share_of_{part}_{row['preset'].replace('-', '_')}": row["shares"][part]
        for row in rows
        for part in ("update", "environment")
    }


def conditions(arguments: TrainArguments, device: torch.device) -> str:
    """What the numbers hold for, in a sentence."""
    cores = f"{usable_cores()} CPU cores"
    where = f"{torch.cuda.get_device_name(device)}, {cores}" if device.type == "cuda" else cores
    return (
        f"{where}; of {arguments.rounds} turns of {arguments.steps} vector steps with updates, the"
        " one of median speed; hours are those of all its steps at this speed, evaluations"
        f" left out; torch {torch.__version__}."
    )


def describe(rows: Rows) -> str:
    """The tables in Markdown."""
    speed_cells = [
        [
            row["preset"],
            row["tasks"],
            str(row["threads"]),
            f"{row['steps_per_second']:.2f}",
            f"{row['total_steps']:,}",
            f"{row['hours']:.2f}",
        ]
        for row in rows
    ]
    part_cells = [
        [part, *(f"{row['milliseconds'][part]:.3f} ({row['shares'][part]:.1%})" for row in rows)]
        for part in PARTS
    ]
    whole = ["whole", *(f"{sum(row['milliseconds'].values()):.3f}" for row in rows)]
    return "\n\n".join(
        [
            markdown_table(
                ["preset", "tasks", "threads", "vector steps/s", "total steps", "hours"],
                speed_cells,
            ),
            markdown_table(
                ["ms per vector step", *(row["preset"] for row in rows)], [*part_cells, whole]
            ),
        ]
    )
