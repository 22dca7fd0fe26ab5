"""The flags of `supervised.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mtrl_fair import Scale


@dataclass(frozen=True)
class Arguments:
    """Train one method, or compare several, next to networks trained on one task each. Where a flag
    is left out, the benchmark's published value holds."""

    combiner: str = "fairgrad"
    """How task gradients become one direction; any method of docs/combiners.md."""
    compare: tuple[str, ...] = ()
    """Methods to compare instead, by name, separated by blanks."""
    seeds: int = 1
    """Trainings per method, with the seeds SEED, SEED + 1, …"""
    seed: int = 0
    """The first seed."""
    alpha: float = 2.0
    """Fairness exponent (fairgrad)."""
    alphas: tuple[float, ...] = ()
    """Also train fairgrad with each of these exponents (the paper's Table 5: 1 2 5 10)."""
    alpha_fair: float | None = None
    """Exponent of the α-fair loss transformation, such as 0.5. With --compare, every method is
    trained with it and without it."""
    solver: str = "newton"
    """Solver of the fairness equation (fairgrad): newton, sgd, least_squares."""
    scale: Scale | None = None
    """Length of the combined direction; None: as published, "tasks" for fairgrad and "none" for
    the others."""
    max_norm: float | None = None
    """The combined direction is clipped to this norm; inf: not at all; None: the benchmark's."""
    weighted_heads: bool = False
    """Whether heads follow the gradient of the weighted loss instead of their own task's."""
    single_task: Literal["train", "published", "none"] | None = None
    """Where the baseline of Δm% comes from; None: published numbers where there are any, else one
    network per task and seed is trained."""
    data: Path | None = None
    """The folder with the benchmark's files; without it, the error says how it must look."""
    epochs: int | None = None
    """None: the benchmark's, as for the next two."""
    batch_size: int | None = None
    """Samples per step, and per batch of an evaluation."""
    learning_rate: float | None = None
    """Adam's, at the start."""
    pooling: Literal["batch", "pixels"] = "batch"
    """Errors of depth and normals (nyuv2, cityscapes): means of batches, averaged, as in papers, or
    over all pixels."""
    run_dir: Path | None = None
    """A new folder for everything; None: runs/BENCHMARK-TIME."""
    resume: Path | None = None
    """Continue in this folder as it was configured; only --data, --device, --jobs and
    --loader-workers may be given."""
    device: str | None = None
    """cpu, cuda, cuda:1, …; None: CUDA if there is one, and what it was when resumed."""
    jobs: int | None = None
    """Trainings at a time; None: one per core on a CPU, one with CUDA, and what it was when
    resumed."""
    threads: int | None = None
    """CPU threads of each training; None: one for small networks, else the cores shared out among
    the trainings that run at a time."""
    loader_workers: int | None = None
    """Processes of each training that load its batches, and as many more during an evaluation."""
