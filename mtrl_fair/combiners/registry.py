"""Combiners by name, and the options that each of them takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from mtrl_fair.checks import check_name
from mtrl_fair.combiners.base import Combiner
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
from mtrl_fair.combiners.torchjd import weighting_class

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
"""The classes of the methods by name, in the order of the paper's tables."""


def make_combiner(
    method: str | Callable[[Tensor], Tensor], num_tasks: int, **options: Any
) -> Combiner:
    """Makes a combiner by name (see `COMBINERS`), or one that asks a callable for the weights.

    >>> import torch
    >>> from mtrl_fair import make_combiner
    >>> gramian = torch.tensor([[4.0, 0.0], [0.0, 1.0]])
    >>> make_combiner("fairgrad", num_tasks=2, alpha=1.0)(gramian)
    tensor([0.5000, 1.0000])
    >>> make_combiner(lambda gramian: gramian.diagonal().rsqrt(), num_tasks=2)(gramian)
    tensor([0.5000, 1.0000])

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
    elif callable(method):
        combiner_class, arguments, label = weighting_class(method), (method,), "a callable"
    else:
        raise TypeError(f"a combiner is a name or a callable, got {type(method).__name__}")
    valid = combiner_options(combiner_class)
    for option in options:
        check_name(f"option of combiner {label}", option, valid)
    return combiner_class(*arguments, num_tasks=num_tasks, **options)


def make_combiner_from_settings(name: str, num_tasks: int, settings: Mapping[str, Any]) -> Combiner:
    """Makes a combiner by name, given those of a run's settings that are options of it.

    >>> settings = {"alpha": 1.0, "min_loss": 0.5, "scale": "tasks"}
    >>> make_combiner_from_settings("fairgrad", 2, settings)
    FairGrad(alpha=1.0, solver='newton', precondition=True, scale='tasks')

    Args:
        name: one of `COMBINERS`.
        num_tasks: K.
        settings: values by option name, those of other combiners included.

    Raises:
        ValueError: an unknown name, or a value that is not possible.
    """
    check_name("combiner", name, COMBINERS)
    valid = combiner_options(COMBINERS[name])
    return make_combiner(name, num_tasks, **{k: v for k, v in settings.items() if k in valid})


def combiner_options(combiner_class: Callable[..., Combiner]) -> list[str]:
    """Returns the options that `make_combiner` takes for a class of `COMBINERS`.

    >>> combiner_options(COMBINERS["si"])
    ['min_loss', 'scale', 'max_norm', 'weighted_heads']
    """
    named = inspect.signature(combiner_class).parameters.values()
    of_class = [p.name for p in named if p.kind is not inspect.Parameter.VAR_KEYWORD]
    names = dict.fromkeys((*of_class, *inspect.signature(Combiner).parameters))
    return [name for name in names if name not in ("num_tasks", "weighting")]


def combiners_with_option(option: str) -> tuple[str, ...]:
    """Returns the names of `COMBINERS` whose class takes an option.

    >>> combiners_with_option("min_loss")  # those that need a lower bound of the losses
    ('si', 'dwa', 'uw', 'famo')
    """
    return tuple(name for name, kind in COMBINERS.items() if option in combiner_options(kind))
