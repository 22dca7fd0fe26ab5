"""The alpha-fair transformation of losses (paper section 6)."""

from __future__ import annotations

import math
from numbers import Real

from torch import Tensor


def alpha_fair_loss(losses: Tensor, alpha: float, present: Tensor | None = None) -> Tensor:
    """ℓ^(1 - alpha) / (1 - alpha), and log ℓ at alpha = 1: its gradient is g / ℓ^alpha (eq. 5).

    Any combiner can take it in place of the losses: with alpha = 0.5 these are the paper's Fair-LS,
    Fair-RLW, Fair-DWA, Fair-UW, Fair-MGDA, Fair-PCGrad and Fair-CAGrad.

    Args:
        losses: positive, any shape.
        alpha: any finite number, below 1 in the paper. Beyond 1 the result is negative.
        present: of the losses' shape (bool), as `task_mean` returns it; the other losses stay as
            they are.

    Raises:
        ValueError: an alpha that is not finite; a loss that is not positive (on CPU; elsewhere it
            becomes NaN or infinite).
    """
    if not isinstance(alpha, Real) or not math.isfinite(alpha):
        raise ValueError(f"alpha is {alpha!r}, expected a finite number")
    if present is not None:
        transformed = alpha_fair_loss(losses.where(present, 1), alpha)
        return transformed.where(present, losses)
    if not losses.is_cuda and not (losses > 0).all():
        wrong = (~(losses > 0)).nonzero().flatten().tolist()
        raise ValueError(
            f"alpha_fair_loss needs positive losses, but got {losses.detach().flatten()[wrong[0]]}"
            f" at index {wrong[0]}: add a constant, or give `present` if that task is absent"
        )
    if alpha == 1:
        return losses.log()
    return losses ** (1 - alpha) / (1 - alpha)
