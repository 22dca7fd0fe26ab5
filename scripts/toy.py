"""The toy problem of the FairGrad paper (Figure 1): trajectories to the Pareto front.

python scripts/toy.py [--alphas 0 1 2 10] [--output DIR]
python scripts/toy.py --combiner NAME

Gradient descent with directions of norm 1 at most follows the combined direction. The paper takes
Adam (--optimizer adam), which scales each coordinate by itself and so turns the directions: from
(-8.5, 7.5) and (-7.5, -0.5) larger alphas then end with a larger first loss.
"""

from __future__ import annotations

import math
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from rich.console import Console

from mtrl_fair import check_alpha
from mtrl_fair.results.figure_files import save_figure
from scripts.command_line import bad_input_is_one_line, parse_class, writing
from scripts.toy_figures.descent import (
    Method,
    combiner_method,
    descend,
    fairgrad_method,
    make_optimizer,
)
from scripts.toy_figures.drawing import draw_loss_space, draw_parameter_space
from scripts.toy_figures.tables import result_table

ALPHAS = (0.0, 1.0, 2.0, 10.0)


@dataclass(frozen=True)
class Arguments:
    """Descend from the paper's five starts until the Pareto front is reached, draw the trajectories
    in loss space and in parameter space, and print where they end.

    A trajectory has reached the front, and stops, when its losses are within 1e-5 of it.
    """

    alphas: tuple[float, ...] = ALPHAS
    """FairGrad's fairness exponents, one panel each; 0 is the sum of the losses."""
    combiner: str | None = None
    """Another method by its name, in place of the alphas."""
    min_loss: float | None = None
    """With --combiner si, dwa, uw or famo, which need a lower bound of the losses: -21 will do."""
    optimizer: str = "sgd"
    """sgd: gradient descent with directions of norm 1 at most; adam: as in the paper, slower."""
    steps: int | None = None
    """Steps at most; None: 16,000 with sgd and 40,000 with adam."""
    learning_rate: float | None = None
    """The optimiser's; None: 0.02 for sgd and 0.001 for adam."""
    seed: int = 0
    """For combiners that draw random numbers."""
    output: Path = Path("toy")
    """A folder for the figures, made if it is not there."""


def main(words: list[str]) -> None:
    """Checks, descends, draws, prints."""
    arguments = parse_class(Arguments, words)
    torch.set_num_threads(1)  # for tensors this small, more would wait for each other
    with bad_input_is_one_line():
        if not 0 <= arguments.seed < 2**32:
            raise ValueError(f"--seed is {arguments.seed}, expected from 0 to 2**32 - 1")
        torch.manual_seed(arguments.seed)
        methods = make_methods(arguments)
        optimizer = make_optimizer(arguments.optimizer, arguments.steps, arguments.learning_rate)
        make_output(arguments.output)
        # Here, because only a step tells whether a method can deal with negative losses.
        trajectories = descend(methods, optimizer)
    Console().print(result_table(methods, trajectories))
    prefix = f"toy_{arguments.combiner}" if arguments.combiner else "toy"
    for space, draw in {"loss": draw_loss_space, "parameter": draw_parameter_space}.items():
        figure = draw(methods, trajectories)
        for ending in ("png", "svg"):
            path = arguments.output / f"{prefix}_{space}_space.{ending}"
            with writing("--output", path):
                save_figure(figure, path, dpi=200)
            print(f"written to {path}")
        plt.close(figure)


def make_methods(arguments: Arguments) -> list[Method]:
    """Returns one method per alpha, or the one that is named.

    Raises:
        ValueError: flags contradict each other, or a value is wrong.
    """
    if arguments.combiner is not None:
        if arguments.alphas != ALPHAS:
            raise ValueError("--alphas belongs to FairGrad: leave it or --combiner out")
        if arguments.min_loss is not None and not math.isfinite(arguments.min_loss):
            raise ValueError(f"--min-loss is {arguments.min_loss}, expected a finite number")
        return [combiner_method(arguments.combiner, arguments.min_loss)]
    if arguments.min_loss is not None:
        raise ValueError("--min-loss belongs to a combiner: name it with --combiner")
    if not arguments.alphas:
        raise ValueError("--alphas is empty: give at least one fairness exponent")
    for alpha in arguments.alphas:
        check_alpha(alpha)
    return [fairgrad_method(alpha) for alpha in arguments.alphas]


def make_output(path: Path) -> None:
    """Makes the folder, or raises ValueError if it cannot be made or written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ValueError(
            f"--output {path}: {error.strerror}: give a folder that can be written"
        ) from error


if __name__ == "__main__":
    main(sys.argv[1:])
