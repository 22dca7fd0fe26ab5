"""Descends on the toy problem from the paper's starts: methods, optimisers, trajectories."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from rich.progress import track
from torch import Tensor

from mtrl_fair import Combiner, fairgrad_weights, make_combiner
from mtrl_fair.checks import check_name
from mtrl_fair.supervised.benchmarks.two_losses.problem import (
    STARTS,
    toy_front_gap,
    toy_losses,
    toy_losses_and_gradients,
    toy_starts,
)

FRONT_TOLERANCE = 1e-5  # ten times either optimiser's jitter on the front at alpha = 10
NEAR_MAX_MIN = 10.0
CONCEPTS = {0.0: "sum of the losses", 1.0: "proportional", 2.0: "minimum potential delay"}


class Method(NamedTuple):
    """A rule for the direction of descent, for all starts at once."""

    name: str
    title: str
    directions: Callable[[Tensor, Tensor, Tensor], Tensor]
    """Maps losses [start, 2], gradients [start, 2, 2] and whether a start has not reached the front
    [start] (bool) to directions [start, 2], which are 0 where it has."""
    combiners: tuple[Combiner, ...] = ()
    """One per start, for methods that keep state."""


class Trajectories(NamedTuple):
    """The points that a descent passed through, up to the front."""

    steps: list[int]
    """[record], the steps that were recorded."""
    points: Tensor
    """[record, method, start, 2]"""
    losses: Tensor
    """[record, method, start, 2]"""
    reached: Tensor
    """[method, start], the step at which the front was reached, or -1 if it was not."""


def fairgrad_method(alpha: float) -> Method:
    """Makes FairGrad with the exact solver, batched over the starts."""

    def directions(losses: Tensor, gradients: Tensor, moving: Tensor) -> Tensor:
        # On the front the equation has no solution, and looking for it takes long.
        jacobians = gradients[moving]
        weights = fairgrad_weights(jacobians @ jacobians.mT, alpha)
        found = torch.zeros_like(losses)
        found[moving] = (weights.unsqueeze(-2) @ jacobians).squeeze(-2)
        return found

    concept = CONCEPTS.get(alpha, "near max-min" if alpha >= NEAR_MAX_MIN else "")
    return Method(f"alpha = {alpha:g}", rf"$\alpha = {alpha:g}$" + f"\n{concept}", directions)


def combiner_method(name: str, min_loss: float | None = None) -> Method:
    """Makes any combiner, once for every start, because combiners may keep state.

    Raises:
        ValueError: there is no such combiner, or it has no option `min_loss`.
    """
    options = {} if min_loss is None else {"min_loss": min_loss}
    combiners = tuple(make_combiner(name, num_tasks=2, **options) for _ in STARTS)

    def directions(losses: Tensor, gradients: Tensor, moving: Tensor) -> Tensor:
        found = torch.zeros_like(losses)
        for start in moving.nonzero().flatten().tolist():
            found[start], _ = combiners[start].combine(gradients[start], losses[start])
        return found

    return Method(name, name, directions, combiners)


class Optimizer(NamedTuple):
    """An optimiser of torch, and how long and how fast it descends."""

    make: Callable[..., torch.optim.Optimizer]
    learning_rate: float
    steps: int
    """The largest number of steps; every trajectory that reaches the front at all needs fewer."""
    max_norm: float
    """Directions with a larger norm are shortened to this norm."""
    record_every: int
    """Steps between two records; only there is it checked whether the front was reached."""


OPTIMIZERS = {
    "sgd": Optimizer(torch.optim.SGD, 2e-2, 16_000, 1.0, 10),
    "adam": Optimizer(torch.optim.Adam, 1e-3, 40_000, float("inf"), 50),
}


def make_optimizer(name: str, steps: int | None, learning_rate: float | None) -> Optimizer:
    """Returns the optimiser of a name, with the given numbers in place of its defaults.

    Raises:
        ValueError: the name is unknown, or a number is wrong.
    """
    check_name("optimizer", name, OPTIMIZERS)
    optimizer = OPTIMIZERS[name]
    if steps is not None:
        optimizer = optimizer._replace(steps=steps)
    if learning_rate is not None:
        optimizer = optimizer._replace(learning_rate=learning_rate)
    if optimizer.steps < 1:
        raise ValueError(f"--steps is {optimizer.steps}, expected at least 1")
    if not 0 < optimizer.learning_rate < float("inf"):
        raise ValueError(
            f"--learning-rate is {optimizer.learning_rate}, expected a positive number"
        )
    return optimizer


def descend(methods: Sequence[Method], optimizer: Optimizer) -> Trajectories:
    """Descends from every start with every method, until all have reached the front.

    Both optimisers treat every coordinate by itself, so one optimiser of all trajectories gives the
    same steps as one for each.

    Raises:
        ValueError: a method cannot deal with the losses.
    """
    x = toy_starts().repeat(len(methods), 1, 1)
    states = [p for method in methods for c in method.combiners for p in c.parameters()]
    stepper = optimizer.make([x, *states], lr=optimizer.learning_rate, fused=True)
    reached = torch.full(x.shape[:-1], -1)
    recorded, points = [0], [x.clone()]
    for begin in track(
        range(0, optimizer.steps, optimizer.record_every),
        "descending",
        transient=True,
        disable=not sys.stdout.isatty(),
    ):
        moving = reached < 0
        end = min(begin + optimizer.record_every, optimizer.steps)
        losses = take_steps(methods, x, moving, stepper, optimizer.max_norm, end - begin)
        recorded.append(end)
        points.append(x.where(moving.unsqueeze(-1), points[-1]))
        reached = reached.where(~moving | (toy_front_gap(losses) > FRONT_TOLERANCE), end)
        if (reached >= 0).all():
            break
    path = torch.stack(points)
    return Trajectories(recorded, path, toy_losses(path), reached)


def take_steps(
    methods: Sequence[Method],
    x: Tensor,
    moving: Tensor,
    stepper: torch.optim.Optimizer,
    max_norm: float,
    number: int,
) -> Tensor:
    """Makes some steps: moves x [method, start, 2] in place where `moving` [method, start] (bool).

    Elsewhere x may drift with the optimiser's momentum.

    Returns:
        The losses of x, [method, start, 2].
    """
    losses, gradients = toy_losses_and_gradients(x)
    has_moving = [rows.any() for rows in moving]
    for _ in range(number):
        stepper.zero_grad()
        directions = torch.zeros_like(x)
        for i, method in enumerate(methods):
            if has_moving[i]:
                directions[i] = method.directions(losses[i], gradients[i], moving[i])
        norms = torch.linalg.vector_norm(directions, dim=-1, keepdim=True)
        x.grad = directions * (max_norm / norms).clamp(max=1)
        stepper.step()
        losses, gradients = toy_losses_and_gradients(x)
        for i, method in enumerate(methods):
            show_new_losses(method, losses[i], moving[i])
    return losses


def show_new_losses(method: Method, losses: Tensor, moving: Tensor) -> None:
    """Shows the combiners the losses [start, 2] after the step, which FAMO learns from."""
    if method.combiners:
        for start in moving.nonzero().flatten().tolist():
            method.combiners[start].after_step(losses[start])
