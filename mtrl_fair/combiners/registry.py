"""Combiners by name, and from the weightings of other libraries."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from mtrl_fair.checks import check_name
from mtrl_fair.combiners.base import Aggregate, Combiner
from mtrl_fair.combiners.by_gramian import GramianCombiner
from mtrl_fair.combiners.methods.cagrad import CAGrad
from mtrl_fair.combiners.methods.dwa import DynamicWeightAverage
from mtrl_fair.combiners.methods.fairgrad import FairGrad
from mtrl_fair.combiners.methods.famo import FAMO
from mtrl_fair.combiners.methods.graddrop import GradDrop
from mtrl_fair.combiners.methods.imtl_g import IMTLG
from mtrl_fair.combiners.methods.ls import LinearScalarization
from mtrl_fair.combiners.methods.mgda import MGDA
from mtrl_fair.combiners.methods.moco import MoCo
from mtrl_fair.combiners.methods.nash_mtl import NashMTL
from mtrl_fair.combiners.methods.pcgrad import PCGrad
from mtrl_fair.combiners.methods.rlw import RandomLossWeighting
from mtrl_fair.combiners.methods.si import ScaleInvariant
from mtrl_fair.combiners.methods.uw import UncertaintyWeighting
from mtrl_fair.gradients.gramian import concatenated, weighted_sum

COMBINERS: dict[str, type[Combiner]] = {
    "ls": LinearScalarization,
    "si": ScaleInvariant,
    "rlw": RandomLossWeighting,
    "dwa": DynamicWeightAverage,
    "uw": UncertaintyWeighting,
    "mgda": MGDA,
    "pcgrad": PCGrad,
    "graddrop": GradDrop,
    "cagrad": CAGrad,
    "imtl_g": IMTLG,
    "moco": MoCo,
    "nash_mtl": NashMTL,
    "famo": FAMO,
    "fairgrad": FairGrad,
}


class GramianWeighting(GramianCombiner):
    """A combiner made of any callable from a Gramian [K, K] to weights [K].

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
    """A combiner made of a callable from task gradients [K, P] to weights [K].

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


def make_combiner(
    method: str | Callable[[Tensor], Tensor], num_tasks: int, **options: Any
) -> Combiner:
    """A combiner by name (see `COMBINERS`), or one that asks a callable for the weights.

    Args:
        method: a name, any callable from a Gramian [K, K] to weights [K], or a weighting of TorchJD
            that asks for the Gramian or for the task gradients [K, P].
        num_tasks: K.
        **options: the combiner's own, such as `alpha` and `solver` of "fairgrad", and those of
            `Combiner`.

    Raises:
        ValueError: an unknown name or option, with the valid ones.
        TypeError: neither a name nor a callable to weights.
    """
    combiner_class: Callable[..., Combiner]
    arguments: tuple[Any, ...]
    if isinstance(method, str):
        check_name("combiner", method, COMBINERS)
        combiner_class, arguments, label = COMBINERS[method], (), method
    elif _is_torchjd(method, "Aggregator"):
        raise TypeError(
            f"{type(method).__name__} returns a direction, and a combiner needs weights: give its"
            " weighting, such as MGDAWeighting() instead of MGDA()"
        )
    elif callable(method):
        wants_matrix = _is_torchjd(method, "_MatrixWeighting", "_Composition")
        combiner_class = MatrixWeighting if wants_matrix else GramianWeighting
        arguments, label = (method,), "a callable"
    else:
        raise TypeError(f"a combiner is a name or a callable, got {type(method).__name__}")
    valid = combiner_options(combiner_class)
    for option in options:
        check_name(f"option of combiner {label}", option, valid)
    return combiner_class(*arguments, num_tasks=num_tasks, **options)


def make_combiner_from_settings(name: str, num_tasks: int, settings: Mapping[str, Any]) -> Combiner:
    """Makes the combiner of a name, given those of a run's settings that are options of it.

    Args:
        name: one of `COMBINERS`.
        num_tasks: K.
        settings: values by option name, those of other combiners included.
    """
    check_name("combiner", name, COMBINERS)
    valid = combiner_options(COMBINERS[name])
    return make_combiner(name, num_tasks, **{k: v for k, v in settings.items() if k in valid})


def combiner_options(combiner_class: Callable[..., Combiner]) -> list[str]:
    """The options that `make_combiner` takes for a class of `COMBINERS`."""
    own = inspect.signature(combiner_class).parameters.values()
    named = [p.name for p in own if p.kind is not inspect.Parameter.VAR_KEYWORD]
    common = list(inspect.signature(Combiner).parameters)
    names = dict.fromkeys((*named, *common))
    return [name for name in names if name not in ("num_tasks", "weighting")]


def _is_torchjd(method: object, *class_names: str) -> bool:
    """Whether it is of one of TorchJD's classes; TorchJD need not be installed."""
    return any(
        base.__name__ in class_names and base.__module__.startswith("torchjd.")
        for base in type(method).__mro__
    )


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
