"""The temperature, SAC's entropy coefficient: its loss and its update."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from agents.checks import check_ranks
from agents.combined_optimizer import (
    Metrics,
    check_learner_state,
    combiner_metrics,
    errors_name,
    guarded_step,
    load_adam_state,
    make_adam,
)
from agents.config import SACConfig
from agents.finite_guard import NonFiniteGuard
from mtrl_fair import Combiner


class Temperature:
    """Learns one temperature per task, or a single one, to keep the entropy near its target.

    Args:
        num_tasks: K.
        combiner: combines the task gradients of a single temperature, as the paper does. The
            gradient of one number has a sign per task. As soon as some tasks are above the target
            entropy and others below, the signs differ and no step helps all tasks: the problem is
            Pareto-stationary. Exact solvers then stand still up to rounding errors, of which Adam
            makes whole steps; only the published SGD moves on purpose. None: the sum.
        config: hyperparameters of the agent.
        guard: is told of numbers that are not finite.
        device: where the temperature lives.
    """

    def __init__(
        self,
        num_tasks: int,
        combiner: Combiner | None,
        config: SACConfig,
        guard: NonFiniteGuard,
        device: torch.device,
    ):
        self.num_tasks = num_tasks
        self.combiner = combiner
        self.target_entropy = config.target_entropy
        self.guard = guard
        size = num_tasks if config.per_task_temperature else 1
        initial = math.log(config.initial_temperature)
        self.log_temperature = torch.full((size,), initial, device=device)
        learned = [self.log_temperature, *(combiner.parameters() if combiner else ())]
        self.adam = make_adam(learned, config.temperature_learning_rate)

    def value(self) -> Float[Tensor, "task 1"]:
        """Returns the temperature, [K, 1], or [1, 1] if all tasks share one."""
        return self.log_temperature.exp().unsqueeze(1)

    def update(self, log_prob: Float[Tensor, "task batch"]) -> Metrics:
        """Takes one step: up where the entropy is below its target, down where it is above.

        Args:
            log_prob: of the actions that the actor's update sampled.
        """
        log_temperature = self.log_temperature.detach().requires_grad_()
        per_task = log_temperature.expand(self.num_tasks)
        losses = temperature_loss(per_task, log_prob, self.target_entropy)
        metrics: Metrics = {}
        if self.combiner is None:
            (gradient,) = torch.autograd.grad(losses.sum(), log_temperature)
        else:
            (rows,) = torch.autograd.grad(losses.sum(), per_task)
            gradient, metrics = self._combine(self.combiner, rows.unsqueeze(1), losses.detach())
        self.log_temperature.grad = gradient
        guarded_step(self.adam, self.guard.record("temperature", losses.detach(), gradient.sum()))
        if not gradient.is_cuda:
            self.guard.check()
        if self.combiner is not None and self.combiner.uses_after_step:
            per_task = self.log_temperature.expand(self.num_tasks)
            self.combiner.after_step(temperature_loss(per_task, log_prob, self.target_entropy))
        return {
            **metrics,
            "losses/temperature": losses.detach().mean(),
            "temperature/{task}": self.value().squeeze(1).expand(self.num_tasks),
        }

    def _combine(
        self, combiner: Combiner, rows: Float[Tensor, "task 1"], losses: Float[Tensor, " task"]
    ) -> tuple[Float[Tensor, " 1"], Metrics]:
        for parameter in combiner.parameters():
            parameter.grad = None  # combine adds to it
        with errors_name("temperature"):
            gradient, info = combiner.combine(rows, losses)
        return gradient, combiner_metrics(info, "temperature", has_task_gradients=True)

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {
            "log_temperature": self.log_temperature.clone(),
            "optimizer": self.adam.state_dict(),
        }
        if self.combiner is not None:
            state["combiner"] = self.combiner.state_dict()
        return state

    def check_state(self, state: dict[str, Any]) -> None:
        """Raises ValueError if a state cannot be loaded."""
        check_learner_state("temperature", self.adam, self.combiner, state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.log_temperature.copy_(state["log_temperature"])
        load_adam_state(self.adam, state["optimizer"])
        if self.combiner is not None:
            self.combiner.load_state_dict(state["combiner"])


def temperature_loss(
    log_temperature: Float[Tensor, " task"],
    log_prob: Float[Tensor, "task batch"],
    target_entropy: float,
) -> Float[Tensor, " task"]:
    """Returns -log temperature (log π + target entropy), linear in log temperature."""
    check_ranks(log_temperature=(log_temperature, 1), log_prob=(log_prob, 2))
    return -log_temperature * (log_prob.mean(-1) + target_entropy)
