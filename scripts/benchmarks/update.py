"""One update of multi-task SAC: every combiner, its floor, and the way others take.

The floor is the time of the matrix products alone. The reference is the same agent with one
`autograd.grad` call per task on the retained graph and the published SGD solver through autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markdown import Markdown
from torch import Tensor

from agents import PRECISIONS
from configs import PRESETS, TrainConfig
from configs.build import build_agent
from mtrl_fair import COMBINERS
from mtrl_fair.checks import check_threads
from mtrl_fair.combiners.outputs import Differentiated
from mtrl_fair.combiners.torchjd import GramianWeighting
from mtrl_fair.results.markdown import markdown_table
from mtrl_fair.runs.settings import flag_name
from scripts.benchmarks.floor import flops, make_floor, update_products
from scripts.benchmarks.learner import make_update
from scripts.benchmarks.measure import (
    Report,
    Rows,
    median_times,
    replace_section,
    split_at_section,
)
from scripts.benchmarks.solver import published_sgd
from scripts.command_line import resolve_device
from scripts.training.allocator import keep_freed_memory

SECTION = "update"
PRESET = "mt10-fairgrad"
"""The reference shape: multi-head, 3×400, 128 samples per task."""
FLOOR, REFERENCE = "products alone", "K backwards"
MT10, MT50 = 10, 50


@dataclass(frozen=True)
class UpdateArguments:
    """Milliseconds of one update of multi-task SAC, sampling included, for ten tasks: all combiners
    in fp32, ls and fairgrad in bf16, next to the bare matrix products and to one backward per task;
    and fairgrad for fifty tasks."""

    rounds: int = 15
    """Turns of every candidate; medians over them are shown."""
    device: str = "auto"
    """auto (CUDA if there is one), cpu, cuda, cuda:1, …"""
    threads: int | None = None
    """CPU threads; None: one per core."""
    width: int = 400
    """Units per hidden layer."""
    batch_size: int = 128
    """Samples per task."""
    json: Path | None = None
    """Also write the measurements to this file."""
    docs: Path | None = None
    """Also replace the tables of this document, such as docs/performance.md."""

    def __post_init__(self) -> None:
        check_threads(self.threads)
        for name in ("rounds", "threads", "width", "batch_size"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{flag_name(name)} is {value}, expected at least 1")
        resolve_device(self.device)
        if self.docs is not None:  # before the minutes that measuring takes
            split_at_section(self.docs, SECTION)

    def config(self) -> TrainConfig:
        """The reference shape."""
        config = PRESETS[PRESET]
        networks = {
            name: replace(getattr(config.agent, name), width=self.width)
            for name in ("actor", "critic")
        }
        agent = replace(config.agent, batch_size=self.batch_size, **networks)
        return replace(config, agent=agent)


class LoopedFairGrad(GramianWeighting):
    """FairGrad as it is often written: K `autograd.grad` calls, and the solver through autograd."""

    def __init__(self, num_tasks: int, alpha: float):
        super().__init__(
            torch.enable_grad()(lambda a: published_sgd(a, alpha)), num_tasks=num_tasks
        )

    def differentiate(
        self,
        task_loss_fn: Callable[..., Any],
        parameters: Mapping[str, Tensor],
        batch: Any,
        task_parameters: Mapping[str, Tensor] | None = None,
        *,
        has_aux: bool = False,
        out: Tensor | None = None,
    ) -> Differentiated:
        heads = task_parameters or {}
        leaves = {
            name: tensor.detach().requires_grad_()
            for name, tensor in {**parameters, **heads}.items()
        }
        with torch.enable_grad():
            losses, aux = task_loss_fn(leaves, batch)
        rows = [
            torch.autograd.grad(loss, list(leaves.values()), retain_graph=True) for loss in losses
        ]
        columns = dict(zip(leaves, zip(*rows, strict=True), strict=True))
        gradients = {name: torch.stack(columns[name]) for name in parameters}
        head_gradients = {
            name: torch.stack([row[k] for k, row in enumerate(columns[name])]) for name in heads
        }
        direction, info = self.combine(gradients, losses.detach())
        return Differentiated((losses.detach(), aux), direction, head_gradients, info)


def run(arguments: UpdateArguments, console: Console) -> Report:
    """Measures and prints."""
    keep_freed_memory()  # as train.py does
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    device = resolve_device(arguments.device)
    rows = measure_updates(arguments, device, console)
    ratios = update_ratios(rows)
    text = f"{conditions(arguments, device)}\n\n{describe(rows, ratios)}"
    console.print(Markdown(text))
    if arguments.docs is not None:
        replace_section(arguments.docs, SECTION, text)
    return Report(rows, ratios)


def measure_updates(arguments: UpdateArguments, device: torch.device, console: Console) -> Rows:
    """A row per candidate; in each round all take a turn."""
    rows: Rows = []
    functions: list[Callable[[], object]] = []
    for precision, dtype in PRECISIONS.items():
        products = update_products(arguments.config(), MT10)
        functions.append(make_floor(products, dtype, device))
        rows.append(
            {
                "update": FLOOR,
                "num_tasks": MT10,
                "precision": precision,
                "gigaflop": flops(products) / 1e9,
            }
        )
    for combiner, num_tasks, precision in (
        *((combiner, MT10, "fp32") for combiner in COMBINERS),
        *((combiner, MT10, "bf16") for combiner in ("ls", "fairgrad")),
        (REFERENCE, MT10, "fp32"),
        ("fairgrad", MT50, "fp32"),
    ):
        console.print(f"making {combiner}, {num_tasks} tasks, {precision} …")
        config = replace(
            arguments.config(),
            combiner="fairgrad" if combiner == REFERENCE else combiner,
            precision=precision,
        )
        agent = build_agent(config, num_tasks, device)
        if combiner == REFERENCE:
            for optimizer in (agent.critic.optimizer, agent.actor.optimizer):
                optimizer.combiner = LoopedFairGrad(num_tasks, config.alpha)
        functions.append(make_update(config, agent))
        rows.append(
            {
                "update": combiner,
                "num_tasks": num_tasks,
                "precision": precision,
                "task_gradients_megabytes": agent.task_gradients.nbytes / 1e6,
            }
        )
    candidates = {
        str(index): _synchronised(function, device) for index, function in enumerate(functions)
    }
    console.print(f"timing {arguments.rounds} turns …")
    times = median_times(candidates, arguments.rounds, seconds=0.0)
    for row, seconds in zip(rows, times.values(), strict=True):
        row["milliseconds"] = 1e3 * seconds
        row["per_second"] = 1 / seconds
        row["microseconds_per_sample"] = 1e6 * seconds / (row["num_tasks"] * arguments.batch_size)
    return rows


def update_ratios(rows: Rows) -> dict[str, float]:
    """Larger is better, except the two costs `fairgrad_vs_ls` and `mt50_vs_mt10_per_sample`."""
    at = {(row["update"], row["num_tasks"], row["precision"]): row["milliseconds"] for row in rows}
    fairgrad, ls = at["fairgrad", MT10, "fp32"], at["ls", MT10, "fp32"]
    return {
        "fairgrad_vs_ls": fairgrad / ls,
        "ls_share_of_floor": at[FLOOR, MT10, "fp32"] / ls,
        "vs_reference": at[REFERENCE, MT10, "fp32"] / fairgrad,
        "bf16_vs_fp32": fairgrad / at["fairgrad", MT10, "bf16"],
        "bf16_vs_fp32_ls": ls / at["ls", MT10, "bf16"],
        "ls_share_of_floor_bf16": at[FLOOR, MT10, "bf16"] / at["ls", MT10, "bf16"],
        "mt50_vs_mt10_per_sample": at["fairgrad", MT50, "fp32"] / fairgrad * MT10 / MT50,
    }


def conditions(arguments: UpdateArguments, device: torch.device) -> str:
    """What the numbers hold for, in a sentence."""
    where = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, threads: {torch.get_num_threads()}"
    )
    config = arguments.config()
    return (
        f"{where}; multi-head, 3×{arguments.width}, {arguments.batch_size} samples per task,"
        f" FairGrad with α = {config.alpha:g} and the {config.solver} solver;"
        f" medians of {arguments.rounds} turns;"
        f" torch {torch.__version__}."
    )


def describe(rows: Rows, ratios: dict[str, float]) -> str:
    """The tables in Markdown."""
    summed = next(row["milliseconds"] for row in rows if row["update"] == "ls")
    cells = [
        [
            row["update"],
            str(row["num_tasks"]),
            row["precision"],
            f"{row['milliseconds']:.1f}",
            f"{row['per_second']:.1f}",
            f"{row['milliseconds'] / summed:.2f}",
            f"{row['microseconds_per_sample']:.1f}",
            f"{row.get('task_gradients_megabytes', 0):.0f}",
        ]
        for row in rows
    ]
    header = ["update", "tasks", "precision", "ms", "per s", "× ls", "µs/sample", "MB"]
    return "\n\n".join(
        [
            markdown_table(header, cells),
            markdown_table(["ratio", ""], [[f"`{k}`", f"{v:.3g}"] for k, v in ratios.items()]),
        ]
    )


def _synchronised(function: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """The function, which returns only when the device has finished."""
    if device.type != "cuda":
        return function

    def run() -> None:
        function()
        torch.cuda.synchronize(device)

    return run
