"""The settings of one supervised training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtrl_fair.checks import check_name, check_threads
from mtrl_fair.combiners.base import Combiner
from mtrl_fair.combiners.registry import COMBINERS, make_combiner_from_settings
from mtrl_fair.combiners.scale import Scale
from mtrl_fair.runs import settings
from mtrl_fair.runs.settings import flag_name, to_dict
from mtrl_fair.solvers.equation import SOLVERS, check_alpha
from mtrl_fair.supervised.benchmark import Benchmark
from mtrl_fair.supervised.registry import make_benchmark

__all__ = ["MAY_CHANGE", "SupervisedConfig", "from_dict", "to_dict"]

MAY_CHANGE = frozenset({"data", "device", "threads", "loader_workers"})
"""Settings that a resumed training may change: it may be moved, after which rounding may differ."""


@dataclass(frozen=True)
class SupervisedConfig:
    """The settings of one training: a benchmark, a method, a seed.

    Equal settings give equal numbers on the CPU.
    """

    benchmark: str
    data: str | None = None
    """The folder of the benchmark's files."""
    task: str | None = None
    """Train on this task alone, for the single-task baseline; None: on all."""
    seed: int = 0
    """Seed of initialisation, order, augmentation, and a combiner that draws random numbers."""
    combiner: str = "fairgrad"
    alpha: float = 2.0
    """Fairness exponent (fairgrad)."""
    solver: str = "newton"
    """Solver of the fairness equation (fairgrad)."""
    alpha_fair: float | None = None
    """Exponent of the α-fair loss transformation (paper section 6); None: plain losses."""
    scale: Scale = "none"
    max_norm: float | None = None
    weighted_heads: bool = False
    epochs: int = 1
    batch_size: int = 1
    learning_rate: float = 1e-3
    pooling: str = "batch"
    """How nyuv2 and cityscapes average errors of depth and normals: within batches and then over
    batches, as papers do ("batch"), or over all pixels ("pixels")."""
    threads: int = 1
    loader_workers: int = 0
    device: str = "cpu"

    def check(self) -> None:
        """Raises ValueError on the first value that is wrong."""
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{flag_name(name)} is {getattr(self, name)}, expected at least 1")
        check_threads(self.threads)
        if self.loader_workers < 0:
            raise ValueError(f"--loader-workers is {self.loader_workers}, expected at least 0")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"--seed is {self.seed}, expected an integer from 0 to 2**31 - 1")
        for name in ("learning_rate", "max_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{flag_name(name)} is {value}, expected a positive number")
        if self.alpha_fair is not None and not -math.inf < self.alpha_fair < 1:
            raise ValueError(
                f"--alpha-fair is {self.alpha_fair}, expected a number below 1, such as 0.5"
            )
        check_name("combiner", self.combiner, COMBINERS)
        check_name("solver", self.solver, SOLVERS)
        check_alpha(self.alpha)
        if self.combiner == "graddrop" and self.weighted_heads:
            raise ValueError("--weighted-heads is true, but graddrop has no weights for heads")

    def make_benchmark(self) -> Benchmark:
        """Makes the benchmark on its data.

        Raises:
            DataError, ValueError: see `make_benchmark`.
        """
        folder = None if self.data is None else Path(self.data)
        return make_benchmark(self.benchmark, folder, self.pooling)

    def make_combiner(
        self, num_tasks: int, steps_per_epoch: int = 1, min_loss: float = 0.0
    ) -> Combiner:
        """Makes the combiner from the settings that it takes.

        Args:
            num_tasks: K.
            steps_per_epoch: the period of methods that look at epochs (dwa).
            min_loss: a bound that no loss reaches (si, dwa, uw, famo).
        """
        options = {
            "scale": self.scale,
            "max_norm": self.max_norm,
            "weighted_heads": self.weighted_heads,
            "alpha": self.alpha,
            "solver": self.solver,
            "seed": self.seed,
            "steps_per_epoch": steps_per_epoch,
            "min_loss": min_loss,
        }
        return make_combiner_from_settings(self.combiner, num_tasks, options)


def from_dict(values: Mapping[str, Any], where: str) -> SupervisedConfig:
    """Makes a configuration from what `to_dict` returned, and checks it.

    Raises:
        ValueError: a key that the configuration does not have, a value of another type, or one
            that `SupervisedConfig.check` refuses; `where` says whose it is.
    """
    config = settings.from_dict(SupervisedConfig, values, where)
    config.check()
    return config
