"""Solvers of FairGrad's equation: their time and their error, next to what others use."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import rich.box
import scipy.optimize
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from mtrl_fair import SOLVERS, fairgrad_residual, fairgrad_weights
from mtrl_fair.checks import check_threads
from mtrl_fair.results.markdown import markdown_table
from scripts.benchmarks.measure import (
    Report,
    median_times,
    replace_section,
    split_at_section,
)

NUM_TASKS = (2, 10, 40, 50)
ALPHAS = (1.0, 2.0, 5.0)
DECADES = 2.0
PUBLISHED_LEAST_SQUARES = "scipy, published"
PUBLISHED_SGD = "autograd SGD"
TORCHJD = "TorchJD FairGrad"
CONFLICTS = {"mild": (-0.3, 0.0), "medium": (-0.6, -0.3), "strong": (-0.95, -0.6)}
BALANCED = "balanced"
GRAMIANS_PER_CONFLICT = 500
CONFLICT_DECADES = 4.0
GRADIENT_NORMS = (1e-6, 1e-3, 1.0, 1e3, 1e6)
SPEED_SECTION = "solver speed"
SCALE_SECTION = "gradient scale"
SGD_SECTION = "sgd accuracy"


@dataclass(frozen=True)
class SolverArguments:
    """Time and residual of the solvers of equation 4, and how accurate "sgd" is."""

    gramians: int = 10
    """Gramians per number of tasks and alpha; medians over them are shown."""
    repeats: int = 5
    """Turns of every solver on every Gramian."""
    threads: int = 1
    """CPU threads; a second one only adds noise to matrices this small."""
    json: Path | None = None
    """Also write the measurements to this file."""
    docs: Path | None = None
    """Also replace the tables of this document, such as docs/solvers.md."""

    def __post_init__(self) -> None:
        check_threads(self.threads)
        for name in ("gramians", "repeats", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} is {getattr(self, name)}, expected at least 1")
        if self.docs is not None:  # before the minutes that measuring takes
            for section in (SPEED_SECTION, SCALE_SECTION, SGD_SECTION):
                split_at_section(self.docs, section)


def run(arguments: SolverArguments, console: Console) -> Report:
    """Measures and prints."""
    torch.set_num_threads(arguments.threads)
    speed = [
        row
        for num_tasks in NUM_TASKS
        for alpha in ALPHAS
        for row in measure_speed(num_tasks, alpha, arguments.gramians, arguments.repeats)
    ]
    console.print(_table(*_speed_cells(speed), title="Time per solve, on the CPU"))
    scales = [measure_scale(norm, arguments.gramians) for norm in GRADIENT_NORMS]
    console.print(_table(*_scale_cells(scales), title="Median residual, K = 10, α = 2"))
    accuracy = [measure_sgd(*case) for case in sgd_cases()]
    console.print(_table(*_sgd_cells(accuracy), title="Direction of sgd against the exact one"))
    ratios = speed_ratios(speed)
    for name, value in ratios.items():
        console.print(f"{name:34} {value:5.1f}")
    if arguments.docs is not None:
        replace_section(arguments.docs, SPEED_SECTION, markdown_table(*_speed_cells(speed)))
        replace_section(arguments.docs, SCALE_SECTION, markdown_table(*_scale_cells(scales)))
        replace_section(arguments.docs, SGD_SECTION, markdown_table(*_sgd_cells(accuracy)))
    return Report([*speed, *scales, *accuracy], ratios)


def measure_speed(
    num_tasks: int, alpha: float, gramians: int, repeats: int
) -> list[dict[str, Any]]:
    """One row per solver: medians over Gramians of norms that differ by up to two decades."""
    times, residuals = defaultdict(list), defaultdict(list)
    for seed in range(gramians):
        rows = task_gradients(num_tasks, 10 * num_tasks, DECADES, seed)
        gramian = rows @ rows.mT / rows.shape[1]
        candidates = _candidates(gramian, alpha)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # least_squares says where it fails; the table does too
            for name, seconds in median_times(candidates, repeats).items():
                times[name].append(seconds)
                weights = candidates[name]()
                residuals[name].append(float(fairgrad_residual(gramian, weights, alpha)))
    reference = median(times[PUBLISHED_LEAST_SQUARES])
    autograd = median(times[PUBLISHED_SGD])
    return [
        {
            "num_tasks": num_tasks,
            "alpha": alpha,
            "solver": name,
            "milliseconds": 1e3 * median(values),
            "vs_least_squares": reference / median(values),
            "vs_autograd_sgd": autograd / median(values),
            "median_residual": median(residuals[name]),
            "largest_residual": max(residuals[name]),
        }
        for name, values in times.items()
    ]


def speed_ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """At K = 10 and alpha = 2. The peers are scipy's and torch's solvers run as published."""
    at = {row["solver"]: row for row in rows if (row["num_tasks"], row["alpha"]) == (10, 2.0)}
    ratios = {}
    for solver in ("newton", "sgd"):
        ratios[f"{solver}_vs_least_squares"] = at[solver]["vs_least_squares"]
        ratios[f"{solver}_vs_autograd_sgd"] = at[solver]["vs_autograd_sgd"]
        ratios[f"{solver}_vs_own_least_squares"] = (
            at["least_squares"]["milliseconds"] / at[solver]["milliseconds"]
        )
    return ratios


def measure_scale(gradient_norm: float, gramians: int) -> dict[str, Any]:
    """The median residual that each solver leaves for gradients of about the given norm."""
    residuals = defaultdict(list)
    for seed in range(gramians):
        rows = task_gradients(10, 100, DECADES, seed)
        rows = rows * (gradient_norm / rows.shape[1] ** 0.5)
        gramian = rows @ rows.mT
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in measure_speed
            for name, candidate in _candidates(gramian, 2.0).items():
                residuals[name].append(float(fairgrad_residual(gramian, candidate(), 2.0)))
    medians = {name: median(values) for name, values in residuals.items()}
    return {"gradient_norm": gradient_norm, "median_residuals": medians}


def sgd_cases() -> list[tuple[int, float, str]]:
    """Numbers of tasks, alphas and degrees of conflict."""
    return [
        (k, alpha, name)
        for k in (2, 5, 10, 50)
        for alpha in ALPHAS
        for name in (*CONFLICTS, BALANCED)
    ]


def measure_sgd(num_tasks: int, alpha: float, conflict: str) -> dict[str, Any]:
    """The cosine between the directions of "sgd" and "newton", for norms over four decades."""
    if conflict == BALANCED:
        rows = balanced_gradients(num_tasks)
    else:
        rows = opposed_gradients(num_tasks, *CONFLICTS[conflict])
    directions: list[Tensor] = []
    for solver in ("sgd", "newton"):
        weights = fairgrad_weights(rows @ rows.mT, alpha, solver)
        directions.append((weights.unsqueeze(-2) @ rows).squeeze(-2))
    cosines = torch.cosine_similarity(directions[0], directions[1], dim=-1)
    return {
        "num_tasks": num_tasks,
        "alpha": alpha,
        "conflict": conflict,
        "worst_cosine": float(cosines.min()),
        "median_cosine": float(cosines.median()),
    }


def task_gradients(num_tasks: int, size: int, decades: float, seed: int) -> Tensor:
    """Random gradients [K, size] whose norms differ by up to the given decades."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(num_tasks, size, dtype=torch.float64, generator=generator)
    spread = torch.rand(num_tasks, 1, dtype=torch.float64, generator=generator) - 0.5
    return rows * 10 ** (decades * spread)


def opposed_gradients(num_tasks: int, low: float, high: float) -> Tensor:
    """Gradients [N, K, size]; each second one has a cosine from low to high with the one before."""
    generator = torch.Generator().manual_seed(0)
    shape = (GRAMIANS_PER_CONFLICT, num_tasks, 20 * num_tasks + 100)
    rows = torch.randn(shape, dtype=torch.float64, generator=generator)
    rows /= rows.norm(dim=-1, keepdim=True)
    pairs = num_tasks // 2
    along, across = rows[:, 0 : 2 * pairs : 2], rows[:, 1 : 2 * pairs : 2]
    across = across - (along * across).sum(-1, keepdim=True) * along
    across /= across.norm(dim=-1, keepdim=True)
    drawn = torch.rand(along.shape[:2], dtype=torch.float64, generator=generator).unsqueeze(-1)
    cosine = low + (high - low) * drawn
    rows[:, 1 : 2 * pairs : 2] = cosine * along + (1 - cosine**2).sqrt() * across
    spread = torch.rand(shape[:2], dtype=torch.float64, generator=generator).unsqueeze(-1) - 0.5
    return rows * 10 ** (CONFLICT_DECADES * spread)


def balanced_gradients(num_tasks: int) -> Tensor:
    """Gradients [N, K, K] whose pairwise cosines are all -0.9 / (K - 1)."""
    generator = torch.Generator().manual_seed(0)
    cosine = -0.9 / (num_tasks - 1)
    eye = torch.eye(num_tasks, dtype=torch.float64)
    rows = torch.linalg.cholesky(cosine + (1 - cosine) * eye)
    shape = (GRAMIANS_PER_CONFLICT, num_tasks, 1)
    spread = torch.rand(shape, dtype=torch.float64, generator=generator) - 0.5
    return rows * 10 ** (CONFLICT_DECADES * spread)


def _candidates(gramian: Tensor, alpha: float) -> dict[str, Callable[[], Tensor]]:
    candidates: dict[str, Callable[[], Tensor]] = {
        solver: partial(fairgrad_weights, gramian, alpha, solver) for solver in SOLVERS
    }
    candidates[PUBLISHED_LEAST_SQUARES] = partial(published_least_squares, gramian, alpha)
    candidates[PUBLISHED_SGD] = partial(published_sgd, gramian, alpha)
    if find_spec("torchjd"):
        from torchjd.aggregation import FairGradWeighting

        candidates[TORCHJD] = partial(FairGradWeighting(alpha), gramian)
    return candidates


def published_least_squares(gramian: Tensor, alpha: float) -> Tensor:
    """The FairGrad paper's section 4: scipy's defaults on the raw equation, from 1/K."""
    matrix = gramian.numpy()
    start = np.full(len(matrix), 1.0 / len(matrix))
    result = scipy.optimize.least_squares(
        lambda x: matrix @ x - x ** (-1.0 / alpha), start, bounds=(0.0, np.inf)
    )
    return torch.from_numpy(result.x)


def published_sgd(gramian: Tensor, alpha: float) -> Tensor:
    """The paper's section 5.4 through autograd and torch.optim: 20 steps, the best iterate."""
    epsilon = 1e-8
    weights = torch.full_like(gramian[0], 1.0 / len(gramian)).requires_grad_()
    optimizer = torch.optim.SGD([weights], lr=0.1, momentum=0.5)
    best, least = weights.detach().clone(), float("inf")
    for step in range(21):
        optimizer.zero_grad()
        wanted = (weights + epsilon) ** (-1.0 / alpha)
        objective = (gramian @ weights - wanted).square().sum()
        if objective.item() < least:
            best, least = weights.detach().clone(), objective.item()
        if step < 20:
            objective.backward()
            torch.nn.utils.clip_grad_norm_([weights], 1.0)
            optimizer.step()
            weights.data.clamp_(min=epsilon)
    return best


def _speed_cells(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    header = ["solver", "K", "α", "ms", "×scipy", "×autograd", "residual", "largest"]
    return header, [
        [
            row["solver"],
            str(row["num_tasks"]),
            f"{row['alpha']:g}",
            f"{row['milliseconds']:.2f}",
            f"{row['vs_least_squares']:.1f}",
            f"{row['vs_autograd_sgd']:.1f}",
            f"{row['median_residual']:.0e}",
            f"{row['largest_residual']:.0e}",
        ]
        for row in rows
    ]


def _scale_cells(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    header = ["solver", *(f"‖g‖ ≈ {row['gradient_norm']:g}" for row in rows)]
    return header, [
        [solver, *(f"{row['median_residuals'][solver]:.0e}" for row in rows)]
        for solver in rows[0]["median_residuals"]
    ]


def _sgd_cells(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    by_case: dict[tuple[int, float], dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        by_case[row["num_tasks"], row["alpha"]][row["conflict"]] = row
    header = ["K", "α", *(f"{name}, {low:g}" for name, (low, _) in CONFLICTS.items()), BALANCED]
    return header, [
        [
            str(num_tasks),
            f"{alpha:g}",
            *(f"{row['worst_cosine']:.3f} ({row['median_cosine']:.4f})" for row in case.values()),
        ]
        for (num_tasks, alpha), case in by_case.items()
    ]


def _table(header: list[str], rows: list[list[str]], title: str) -> Table:
    table = Table(title=title, box=rich.box.SIMPLE, pad_edge=False)
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    for cells in rows:
        table.add_row(*cells)
    return table
