"""FairGrad and its baselines: fair combination of task gradients, right at every scale."""

from mtrl_fair.combiner import Combiner, CombinerInfo
from mtrl_fair.fairgrad import FairGrad
from mtrl_fair.linear_scalarization import LinearScalarization
from mtrl_fair.registry import COMBINERS, make_combiner
from mtrl_fair.scale import Scale
from mtrl_fair.solver import (
    SOLVERS,
    NonFiniteError,
    check_alpha,
    fairgrad_residual,
    fairgrad_weights,
)
from mtrl_fair.task_gradients import (
    shared_product,
    task_gradients,
    task_losses_and_gradients,
)
from mtrl_fair.task_mean import task_mean

__all__ = [
    "COMBINERS",
    "SOLVERS",
    "Combiner",
    "CombinerInfo",
    "FairGrad",
    "LinearScalarization",
    "NonFiniteError",
    "Scale",
    "check_alpha",
    "fairgrad_residual",
    "fairgrad_weights",
    "make_combiner",
    "shared_product",
    "task_gradients",
    "task_losses_and_gradients",
    "task_mean",
]
