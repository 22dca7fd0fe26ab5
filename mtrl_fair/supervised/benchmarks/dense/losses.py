"""Losses of pixel-wise tasks, which ignore pixels without ground truth.

They are pure functions of tensors. A batch without any valid pixel has loss 0 and gradient 0.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

UNDEFINED = -1
"""The label of pixels without a class."""


def segmentation_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Computes the negative log-likelihood of the softmax, the mean over valid pixels.

    Args:
        logits: [B, C, H, W].
        labels: [B, H, W] (int64), -1 where undefined.

    Returns:
        []
    """
    assert logits.ndim == 4, f"logits have shape {list(logits.shape)}, expected [B, C, H, W]"
    total = F.cross_entropy(logits, labels, ignore_index=UNDEFINED, reduction="sum")
    return total / valid_labels(labels).sum().clamp(min=1)


def depth_loss(prediction: Tensor, depth: Tensor) -> Tensor:
    """Computes the absolute error in the unit of the depth, the mean over valid pixels.

    Args:
        prediction: [B, 1, H, W].
        depth: [B, 1, H, W], 0 where undefined.

    Returns:
        []
    """
    _check_same_shape(prediction, depth)
    return _mean((prediction - depth).abs(), valid_depth(depth))


def normal_loss(prediction: Tensor, normals: Tensor) -> Tensor:
    """Computes 1 - cos(angle between prediction and ground truth), the mean over valid pixels.

    Args:
        prediction: [B, 3, H, W], of unit length.
        normals: [B, 3, H, W], of unit length, 0 where undefined.

    Returns:
        []
    """
    _check_same_shape(prediction, normals)
    return _mean(1 - (prediction * normals).sum(1), valid_normals(normals))


def valid_labels(labels: Tensor) -> Tensor:
    """Returns which pixels of labels [B, H, W] have a class, [B, H, W] (bool)."""
    assert labels.ndim == 3, f"labels have shape {list(labels.shape)}, expected [B, H, W]"
    return labels != UNDEFINED


def valid_depth(depth: Tensor) -> Tensor:
    """Returns which pixels of depth [B, 1, H, W] have a known depth, [B, 1, H, W] (bool)."""
    _check_channels(depth, 1)
    return depth != 0


def valid_normals(normals: Tensor) -> Tensor:
    """Returns which pixels of normals [B, 3, H, W] have one, [B, H, W] (bool).

    A pixel has a normal if any component is not 0. The literature asks for a *sum* of components
    that is not 0, which also leaves out the few defined normals whose components cancel.
    """
    _check_channels(normals, 3)
    return (normals != 0).any(1)


def _mean(errors: Tensor, valid: Tensor) -> Tensor:
    return errors.where(valid, 0).sum() / valid.sum().clamp(min=1)


def _check_same_shape(prediction: Tensor, target: Tensor) -> None:
    assert prediction.shape == target.shape, (
        f"the prediction has shape {list(prediction.shape)}, the ground truth {list(target.shape)}"
    )


def _check_channels(target: Tensor, channels: int) -> None:
    assert target.ndim == 4, f"got shape {list(target.shape)}, expected [B, {channels}, H, W]"
    assert target.shape[1] == channels, f"got {target.shape[1]} channels, expected {channels}"
