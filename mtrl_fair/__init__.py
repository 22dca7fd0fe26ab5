"""FairGrad and its baselines: fair combination of task gradients, right at every scale."""

from mtrl_fair.alpha_fair_loss import alpha_fair_loss
from mtrl_fair.combiner import Combiner, CombinerInfo
from mtrl_fair.gramian_combiner import GramianCombiner
from mtrl_fair.jacobian_combiner import JacobianCombiner
from mtrl_fair.loss_combiner import LossBoundError, LossCombiner
from mtrl_fair.methods.cagrad import CAGrad
from mtrl_fair.methods.dwa import DynamicWeightAverage
from mtrl_fair.methods.fairgrad import FairGrad
from mtrl_fair.methods.famo import FAMO
from mtrl_fair.methods.graddrop import GradDrop
from mtrl_fair.methods.imtl_g import IMTLG
from mtrl_fair.methods.ls import LinearScalarization
from mtrl_fair.methods.mgda import MGDA
from mtrl_fair.methods.moco import MoCo
from mtrl_fair.methods.nash_mtl import NashMTL
from mtrl_fair.methods.pcgrad import PCGrad
from mtrl_fair.methods.rlw import RandomLossWeighting
from mtrl_fair.methods.si import ScaleInvariant
from mtrl_fair.methods.uw import UncertaintyWeighting
from mtrl_fair.non_finite import NonFiniteError
from mtrl_fair.registry import COMBINERS, make_combiner
from mtrl_fair.scale import Scale
from mtrl_fair.solver import (
    SOLVERS,
    check_alpha,
    fairgrad_residual,
    fairgrad_weights,
)
from mtrl_fair.task_gradients import task_gradients, task_losses_and_gradients
from mtrl_fair.task_mean import task_mean
from mtrl_fair.task_parameter import shared_linear, task_copies

__all__ = [
    "COMBINERS",
    "FAMO",
    "IMTLG",
    "MGDA",
    "SOLVERS",
    "CAGrad",
    "Combiner",
    "CombinerInfo",
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
    "fairgrad_residual",
    "fairgrad_weights",
    "make_combiner",
    "shared_linear",
    "task_copies",
    "task_gradients",
    "task_losses_and_gradients",
    "task_mean",
]
