"""Combiners made of a callable to weights, and the recognition of TorchJD's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from mtrl_fair.combiners.base import Combiner
from mtrl_fair.combiners.by_gramian import GramianCombiner
from mtrl_fair.combiners.outputs import Aggregate
from mtrl_fair.gradients.gramian import concatenated, weighted_sum


class GramianWeighting(GramianCombiner):
    """Asks any callable from a Gramian [K, K] to weights [K].

    Tasks without a gradient get weight 0 whatever it returns for them.
    """

    capturable = False  # not known of the callable

    def __init__(self, weighting: Callable[[Tensor], Tensor], **options: Any):
        super().__init__(**options)
        self.weighting = weighting

    def solve(self, gramian: Tensor) -> tuple[Tensor, Tensor]:
        weights = _check_weights(self.weighting(gramian), gramian)
        return weights, gramian.new_zeros(gramian.shape[:-2])


class MatrixWeighting(Combiner):
    """Asks a callable from task gradients [K, P] to weights [K].

    Of this kind are those weightings of TorchJD that ask for the matrix instead of its Gramian.
    """

    capturable = False  # not known of the callable

    def __init__(self, weighting: Callable[[Tensor], Tensor], **options: Any):
        super().__init__(**options)
        self.weighting = weighting

    def aggregate(
        self, rows: dict[str, Tensor], gramian: Tensor, task_losses: Tensor, present: Tensor
    ) -> Aggregate:
        weights = _check_weights(self.weighting(concatenated(rows)), gramian).where(present, 0)
        return Aggregate(weighted_sum(weights, rows), weights, weights.new_zeros(()))


def weighting_class(
    weighting: Callable[[Tensor], Tensor],
) -> type[GramianWeighting] | type[MatrixWeighting]:
    """Returns the class that asks a callable for what it expects.

    Any callable is asked with the Gramian, but TorchJD's weightings by their kind. TorchJD need not
    be installed. What of it is not known is refused: a [K, P] matrix and a [K, K] Gramian look
    alike to most of its code, so the wrong one would give wrong weights without an error.

    Raises:
        TypeError: one of TorchJD's aggregators, or an object of another kind that is not known.
    """
    names = [kind.__name__ for kind in type(weighting).__mro__ if _is_of_torchjd(kind)]
    if not names or "_GramianWeighting" in names:
        return GramianWeighting
    if "_MatrixWeighting" in names or "_Composition" in names:  # the function is given the matrix
        return MatrixWeighting
    if "CRMOGMWeighting" in names:  # smooths the weights of another
        return weighting_class(weighting.weighting)  # type: ignore[attr-defined]
    name = type(weighting).__name__
    if "Aggregator" in names:
        raise TypeError(
            f"{name} returns a direction, and a combiner needs weights: give its weighting, such as"
            " MGDAWeighting() instead of MGDA()"
        )
    raise TypeError(
        f"whether TorchJD's {name} asks for the Gramian or for the task gradients is not known: if"
        " it returns weights for a Gramian, give lambda gramian: weighting(gramian)"
    )


def _is_of_torchjd(kind: type) -> bool:
    return kind.__module__.startswith("torchjd.")


def _check_weights(weights: Any, gramian: Tensor) -> Tensor:
    if not isinstance(weights, Tensor) or weights.shape != gramian.shape[:-1]:
        found = list(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
        raise ValueError(
            f"the weighting returned {found} for {gramian.shape[-1]} tasks: a tensor with one"
            " weight per task is needed"
        )
    counted = weights.where(gramian.diagonal(dim1=-2, dim2=-1) > 0, 0)
    if not weights.is_cuda and not counted.isfinite().all():
        raise ValueError(f"the weighting returned what is not finite: {weights.tolist()}")
    return weights
