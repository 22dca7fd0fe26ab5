"""The two-task toy problem of the FairGrad paper (Figure 1, appendix A.1), in float64.

Two losses of a point x = (x1, x2). For x2 > 0 they are logarithms with steep valleys, in which the
descent of their sum gets stuck; for x2 < 0 they are smooth bowls with minima at x1 = 7 and x1 = -7,
between which the Pareto front lies. The second loss has ten times the first one's scale.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

STARTS = ((-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0))
EPSILON = 5e-6
FRONT_END = 7.0
FRONT_POINTS = 2001
FRONT_BRACKET = (-9.0, -8.0)


def toy_starts() -> Tensor:
    """Returns the paper's five starting points, [5, 2] in float64."""
    return torch.tensor(STARTS, dtype=torch.float64)


def toy_losses(x: Tensor) -> Tensor:
    """Computes both losses.

    Two terms depart from the paper's appendix A.1, to agree with the code that the paper
    and its predecessors share: + tanh in the second logarithm and x2 in the small quadratic terms,
    where the appendix prints - tanh and x1.

    Args:
        x: [..., 2].

    Returns:
        [..., 2]
    """
    x1, x2 = x.unbind(-1)
    # relu has no gradient at x2 = 0, nor has clamp since torch 2.14: the start (0, 0) would never
    # move. These have the gradients that clamp had when the paper was written.
    half = torch.tanh(0.5 * x2)
    upper, lower = half.masked_fill(half < 0, 0), (-half).masked_fill(half > 0, 0)
    bend = torch.tanh(x2)
    f1 = (bend - 0.5 * x1 - 3.5).abs().clamp(min=EPSILON).log() + 6
    f2 = (3.5 - bend - 0.5 * x1).abs().clamp(min=EPSILON).log() + 6
    across = 0.01 * (x2 + 8).square() - 20
    q1 = 0.1 * (x1 - 7).square() + across
    q2 = 0.1 * (x1 + 7).square() + across
    return torch.stack((0.1 * (upper * f1 + lower * q1), upper * f2 + lower * q2), -1)


def toy_losses_and_gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    """Computes both losses and their gradients, from one backward for all points.

    Args:
        x: [..., 2].

    Returns:
        Losses [..., 2] and gradients [..., 2, 2], one row per task, both detached.
    """
    # Each point stands twice, and task k's loss is taken of its copy k alone.
    copies = x.detach().unsqueeze(-2).repeat_interleave(2, -2).requires_grad_()
    with torch.enable_grad():
        losses = toy_losses(copies).diagonal(dim1=-2, dim2=-1)
        (gradients,) = torch.autograd.grad(losses.sum(), copies)
    return losses.detach(), gradients


def toy_front(x1: Tensor) -> Tensor:
    """Computes the Pareto front in parameter space, where the gradients are opposite.

    It solves det(∇ℓ1, ∇ℓ2) = 0 for x2 by bisection. The curve bends from x2 = -8.355 at x1 = 0 to
    -8.435 at |x1| = 7; figures in the literature draw it straight.

    Args:
        x1: [...], between -7 and 7, the minima of ℓ2 and ℓ1.

    Returns:
        [..., 2], points on the front.

    Raises:
        ValueError: x1 is beyond the ends of the front.
    """
    x1 = x1.double()
    if (x1.abs() > FRONT_END).any():
        raise ValueError(
            f"the front reaches from x1 = -{FRONT_END:g} to {FRONT_END:g}, got values from"
            f" {x1.min():g} to {x1.max():g}"
        )
    low, high = (torch.full_like(x1, end) for end in FRONT_BRACKET)
    sign_at_low = _determinant(x1, low).sign()
    for _ in range(60):  # of a bracket of length 1: down to float64's resolution
        middle = 0.5 * (low + high)
        below = _determinant(x1, middle).sign() == sign_at_low
        low, high = middle.where(below, low), high.where(below, middle)
    return torch.stack((x1, 0.5 * (low + high)), -1)


def toy_front_gap(losses: Tensor) -> Tensor:
    """Computes the distance of losses to the Pareto front: Euclidean, in loss space (ℓ1, ℓ2).

    The front includes its ends. It stands as a polyline of 2,001 points, so that a point on it has
    a gap below 2e-6. The norm of the shortest convex combination of the gradients would not do as a
    gap: it also vanishes as x2 → 0 from below at |x1| > 6.92, far from the front, where the summed
    loss lingers.

    Args:
        losses: [..., 2].

    Returns:
        [...] in float64.
    """
    corners = _front_losses()
    sides = corners[1:] - corners[:-1]
    offset = losses.double().unsqueeze(-2) - corners[:-1]
    share = ((offset * sides).sum(-1) / sides.square().sum(-1)).clamp(0, 1)
    return torch.linalg.vector_norm(offset - share.unsqueeze(-1) * sides, dim=-1).amin(-1)


@functools.cache
def _front_losses() -> Tensor:
    x1 = torch.linspace(-FRONT_END, FRONT_END, FRONT_POINTS, dtype=torch.float64)
    return toy_losses(toy_front(x1))


def _determinant(x1: Tensor, x2: Tensor) -> Tensor:
    _, gradients = toy_losses_and_gradients(torch.stack((x1, x2), -1))
    return torch.linalg.det(gradients)
