"""FairGrad in mixed precision: the weights come from the losses before the scaler multiplies them.

python scripts/integrations/amp.py [--dtype float16 | bfloat16] [--tasks NAME ...] [--steps N]

FairGrad is not scale-equivariant: c times the gradients give c^((1 - alpha) / (1 + alpha)) times
the direction, so that scaling first and unscaling after would shrink every step by a factor that
changes with the scale. The price: in float16, task gradients are computed without the scale's
protection, and where a task's loss falls below some 1e-4 they round towards zero. bfloat16 has no
such limit. The critic evaluates the random policy on Meta-World.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

import mtrl_fair
from scripts.integrations.arguments import Arguments as CommonArguments
from scripts.integrations.arguments import read
from scripts.integrations.policy_evaluation import Transitions, collect, make_critic, td_losses


@dataclass(frozen=True)
class Arguments(CommonArguments):
    """Evaluate the random policy on several Meta-World tasks in mixed precision with FairGrad."""

    steps: int = 1_000
    """Transitions per task, and updates."""
    dtype: Literal["float16", "bfloat16"] = "float16"
    """What autocast computes in."""


def update(
    critic: nn.Module,
    batch: Transitions,
    combiner: mtrl_fair.Combiner,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    dtype: torch.dtype,
) -> Tensor:
    """One step in mixed precision; returns the task losses."""
    with torch.autocast(batch.reward.device.type, dtype=dtype):
        losses = td_losses(critic, batch)
    loss = combiner.scalarize(losses, critic.parameters())
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    return losses.detach()


def train(arguments: Arguments) -> nn.Module:
    """Trains the critic and prints its losses and the scale ten times."""
    torch.manual_seed(arguments.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    transitions = collect(arguments.tasks, arguments.steps, arguments.seed, arguments.episode_steps)
    transitions = Transitions(*(field.to(device) for field in transitions))
    num_tasks = len(arguments.tasks)
    critic = make_critic(num_tasks, arguments.width).to(device)
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
    combiner = mtrl_fair.make_combiner("fairgrad", num_tasks=num_tasks, alpha=2.0)
    scaler = torch.amp.GradScaler(device.type)
    dtype = getattr(torch, arguments.dtype)
    for step in range(1, arguments.steps + 1):
        batch = transitions.sample(arguments.batch_size // num_tasks)
        losses = update(critic, batch, combiner, optimizer, scaler, dtype)
        if step % max(1, arguments.steps // 10) == 0:
            print(f"step {step}  losses {losses.tolist()}  scale {scaler.get_scale():g}")
    return critic


if __name__ == "__main__":
    train(read(sys.argv[1:], Arguments(), description=__doc__))
