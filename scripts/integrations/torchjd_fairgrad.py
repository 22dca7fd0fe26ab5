"""FairGrad in TorchJD: in `jac_to_grad` (from the Jacobian) and in `autogram` (from the Gramian).

python scripts/integrations/torchjd_fairgrad.py [--engine autojac | autogram] [--tasks NAME ...]

The critic evaluates the random policy on Meta-World. TorchJD has a FairGrad of its own, on scipy's
least squares; this one is exact whatever the scale of the losses. The other way round, any TorchJD
weighting is a combiner here: `make_combiner(MGDAWeighting(), num_tasks=K)`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torchjd.aggregation import GramianWeightedAggregator, Weighting
from torchjd.autogram import Engine
from torchjd.autojac import backward, jac_to_grad
from torchjd.linalg import PSDMatrix

import mtrl_fair
from scripts.integrations.arguments import Arguments as CommonArguments
from scripts.integrations.arguments import read
from scripts.integrations.policy_evaluation import collect, make_critic, td_losses


@dataclass(frozen=True)
class Arguments(CommonArguments):
    """Evaluate the random policy on several Meta-World tasks with TorchJD and FairGrad."""

    steps: int = 1_000
    """Transitions per task, and updates."""
    engine: Literal["autojac", "autogram"] = "autojac"
    """TorchJD's way to the weights: over the Jacobian, or over the Gramian alone."""


class FairGradWeighting(Weighting[PSDMatrix]):
    """Task weights with A w = w^(-1/alpha) for the Gramian A of the task gradients."""

    def __init__(self, alpha: float = 2.0):
        super().__init__()
        self.combiner = mtrl_fair.FairGrad(alpha)

    def forward(self, gramian: Tensor, /) -> Tensor:
        return self.combiner(gramian)


def train(arguments: Arguments) -> nn.Module:
    """Trains the critic and prints its losses and weights ten times."""
    torch.manual_seed(arguments.seed)
    transitions = collect(arguments.tasks, arguments.steps, arguments.seed, arguments.episode_steps)
    num_tasks = len(arguments.tasks)
    critic = make_critic(num_tasks, arguments.width)
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
    weighting = FairGradWeighting()
    aggregator = GramianWeightedAggregator(weighting)
    engine = Engine(critic, batch_dim=None) if arguments.engine == "autogram" else None
    for step in range(1, arguments.steps + 1):
        losses = td_losses(critic, transitions.sample(arguments.batch_size // num_tasks))
        optimizer.zero_grad()
        if engine is None:
            backward(losses)
            weights = jac_to_grad(critic.parameters(), aggregator)
        else:
            weights = weighting(engine.compute_gramian(losses))
            losses.backward(weights)
        optimizer.step()
        if step % max(1, arguments.steps // 10) == 0:
            print(f"step {step}  losses {losses.tolist()}  weights {weights.tolist()}")
    return critic


if __name__ == "__main__":
    train(read(sys.argv[1:], Arguments(), description=__doc__))
