"""The length of the combined direction: an explicit choice, made differently by published codes."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Scale = Literal["none", "tasks", "norm"]


def scaled_weights(gramian: Tensor, weights: Tensor, scale: Scale) -> Tensor:
    """Weights [..., K] whose direction has the length that `scale` asks for.

    "none": as solved. "tasks": times K (the official supervised FairGrad code). "norm": the norm of
    the summed gradient, so that a change of method changes the direction only.
    """
    if scale == "none":
        return weights
    if scale == "tasks":
        return weights * gramian.shape[-1]
    squared = (weights[..., None, :] @ gramian @ weights[..., None])[..., 0]
    target = gramian.sum((-2, -1))[..., None].clamp(min=0)
    return weights * (target / squared.where(squared > 0, 1)).sqrt()
