"""FairGrad and its baselines: fair combination of task gradients, right at every scale."""

from mtrl_fair.combiners.base import Combiner
from mtrl_fair.combiners.by_gramian import GramianCombiner
from mtrl_fair.combiners.by_jacobian import JacobianCombiner
from mtrl_fair.combiners.by_losses import LossCombiner
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
from mtrl_fair.combiners.outputs import Aggregate, CombinerInfo, Differentiated
from mtrl_fair.combiners.registry import COMBINERS, make_combiner
from mtrl_fair.combiners.scale import Scale
from mtrl_fair.errors import LossBoundError, NonFiniteError
from mtrl_fair.gradients.check import check_task_gradients
from mtrl_fair.gradients.per_task import task_gradients, task_losses_and_gradients
from mtrl_fair.gradients.task_parameter import shared_linear
from mtrl_fair.losses import alpha_fair_loss, task_mean
from mtrl_fair.solvers.equation import SOLVERS, check_alpha, fairgrad_residual, fairgrad_weights

__all__ = [
    "COMBINERS",
    "FAMO",
    "IMTLG",
    "MGDA",
    "SOLVERS",
    "Aggregate",
    "CAGrad",
    "Combiner",
    "CombinerInfo",
    "Differentiated",
    "DynamicWeightAverage",
    "FairGrad",
    "GradDrop",
    "GramianCombiner",
    "JacobianCombiner",
    "LinearScalarization",
    "LossBoundError",
    "LossCombiner",
    "MoCo",
    "NashMTL",
    "NonFiniteError",
    "PCGrad",
    "RandomLossWeighting",
    "Scale",
    "ScaleInvariant",
    "UncertaintyWeighting",
    "alpha_fair_loss",
    "check_alpha",
    "check_task_gradients",
    "fairgrad_residual",
    "fairgrad_weights",
    "make_combiner",
    "shared_linear",
    "task_gradients",
    "task_losses_and_gradients",
    "task_mean",
]
