"""Combiners by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

from mtrl_fair.combiner import Combiner
from mtrl_fair.fairgrad import FairGrad
from mtrl_fair.linear_scalarization import LinearScalarization
from mtrl_fair.names import check_name
from mtrl_fair.scale import Scale

COMBINERS: dict[str, type[Combiner]] = {
    "ls": LinearScalarization,
    "fairgrad": FairGrad,
}


class GramianWeighting(Combiner):
    """A combiner made of any callable from a Gramian [K, K] to weights [K]."""

    def __init__(
        self,
        gramian_to_weights: Callable[[Tensor], Tensor],
        *,
        num_tasks: int | None = None,
        scale: Scale = "none",
    ):
        super().__init__(num_tasks=num_tasks, scale=scale)
        self.gramian_to_weights = gramian_to_weights

    def solve(self, gramian: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.gramian_to_weights(gramian)
        if not isinstance(weights, Tensor) or weights.shape != gramian.shape[:-1]:
            found = list(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
            raise ValueError(
                f"the weighting returned {found} for a Gramian of shape {list(gramian.shape)}: a"
                " tensor with one weight per task is needed"
            )
        if not weights.is_cuda and weights.isnan().any():
            raise ValueError(f"the weighting returned NaN: {weights.tolist()}")
        return weights, gramian.new_zeros(gramian.shape[:-2])


def make_combiner(
    method: str | Callable[[Tensor], Tensor], num_tasks: int, **options: Any
) -> Combiner:
    """A combiner by name (see `COMBINERS`), or one that asks a callable for the weights.

    Args:
        method: a name, or any callable from a Gramian [K, K] to weights [K].
        num_tasks: K.
        **options: the combiner's own, such as `alpha` and `solver` of "fairgrad".

    Raises:
        ValueError: an unknown name or option, with the valid ones.
    """
    combiner_class: Callable[..., Combiner]
    arguments: tuple[Any, ...]
    if isinstance(method, str):
        check_name("combiner", method, COMBINERS)
        combiner_class, arguments, label = COMBINERS[method], (), method
    elif callable(method):
        combiner_class, arguments, label = GramianWeighting, (method,), "a callable"
    else:
        raise TypeError(f"a combiner is a name or a callable, got {type(method).__name__}")
    valid = [
        name
        for name in inspect.signature(combiner_class).parameters
        if name not in ("num_tasks", "gramian_to_weights")
    ]
    for option in options:
        check_name(f"option of combiner {label}", option, valid)
    return combiner_class(*arguments, num_tasks=num_tasks, **options)
