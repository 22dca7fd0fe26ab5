"""Multi-task soft actor-critic whose tasks meet in a combiner."""

from __future__ import annotations

import copy
import itertools
from typing import Any, NoReturn

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from agents.combined_optimizer import CombinedOptimizer, describe, guarded_step, make_adam, naming
from agents.config import PRECISIONS, SACConfig
from agents.finite_guard import FiniteGuard
from agents.flat_parameters import FlatParameters
from agents.losses import actor_loss, critic_loss, td_target, temperature_loss
from agents.networks import TaskNetwork
from agents.policy import split_policy_output, squashed_sample
from agents.replay import Batch
from mtrl_fair import Combiner, NonFiniteError
from mtrl_fair.checks import check_name
from mtrl_fair.runs.checkpoints import restore_generator

Metrics = dict[str, Tensor]
"""Detached scalars [], or [K] under keys with the placeholder {task}."""


class MultiTaskSAC:
    """A policy and twin critics for K tasks in the [task, batch, …] layout.

    The critic's task losses (both Q functions jointly) and the actor's each go through a combiner
    of their own: shared parameters follow the combined direction, heads their own task's gradient.

    Args:
        observation_size: length of one observation.
        action_size: length of one action, in [-1, 1].
        num_tasks: K.
        critic_combiner, actor_combiner: how task gradients become one direction.
        temperature_combiner: only with `config.combine_temperature`.
        architecture: "multi_head", "task_encoded", "one_hot" or "none", see `TaskNetwork`.
        config: hyperparameters.
        precision: what the networks compute in during updates, "fp32" or "bf16". Parameters,
            optimisers, losses, Gramians and actions are in float32 either way.
        seed: of the initial parameters and of the policy's noise.
        device: where everything lives.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        num_tasks: int,
        critic_combiner: Combiner,
        actor_combiner: Combiner,
        temperature_combiner: Combiner | None = None,
        *,
        architecture: str = "multi_head",
        config: SACConfig = SACConfig(),
        precision: str = "fp32",
        seed: int = 0,
        device: torch.device | str = "cpu",
    ):
        if config.combine_temperature != (temperature_combiner is not None):
            raise ValueError(
                "temperature_combiner must be given if and only if combine_temperature is true"
            )
        check_name("precision", precision, PRECISIONS)
        self.config = config
        self.dtype = PRECISIONS[precision]
        self.device = torch.empty(0, device=device).device  # "cuda" with its index
        self.num_tasks = num_tasks
        self.loads = 0
        self.action_size = action_size
        self.critic_combiner = critic_combiner.to(device)
        self.actor_combiner = actor_combiner.to(device)
        self.temperature_combiner = temperature_combiner and temperature_combiner.to(device)
        with torch.random.fork_rng(devices=[]):  # leaves the caller's global generator alone
            torch.manual_seed(seed)
            common: dict[str, Any] = {
                "num_tasks": num_tasks,
                "architecture": architecture,
                "task_embedding_size": config.task_embedding_size,
            }
            self.actor = TaskNetwork(
                observation_size, 2 * action_size, config=config.actor, **common
            ).to(device)
            self.critic = TaskNetwork(
                observation_size + action_size, 1, config=config.critic, stack=(2,), **common
            ).to(device)
            # Else the noise would be drawn from the same numbers as the parameters.
            noise_seed = int(torch.randint(2**62, ()))
        self.generator = torch.Generator(device).manual_seed(noise_seed)
        self.guard = FiniteGuard(("critic", "actor", "temperature"), num_tasks, self.device)
        # Gradients are taken with respect to leaves made for each step; the modules themselves stay
        # frozen, which also keeps the critic still in the actor step.
        self.actor.requires_grad_(False)
        self.critic.requires_grad_(False)
        self.actor_optimizer, self.critic_optimizer = (
            CombinedOptimizer(label, network, combiner, rate, config.max_grad_norm, self.guard)
            for label, network, combiner, rate in (
                ("actor", self.actor, self.actor_combiner, config.actor_learning_rate),
                ("critic", self.critic, self.critic_combiner, config.critic_learning_rate),
            )
        )
        self.target_critic = copy.deepcopy(self.critic)
        self.target_parameters = FlatParameters(self.target_critic)
        self.average_actor: TaskNetwork | None = None
        if config.policy_average_rate is not None:
            self.average_actor = copy.deepcopy(self.actor)
            self.average_parameters = FlatParameters(self.average_actor)
        # The sum of the weights that an average which began as zero would have given to policies.
        self.average_weight = torch.zeros((), dtype=torch.float64, device=device)
        # Critic and actor take turns in one buffer for their task gradients.
        optimizers = (self.actor_optimizer, self.critic_optimizer)
        size = max(optimizer.buffer_size(num_tasks) for optimizer in optimizers)
        self.task_gradients = torch.empty(size, dtype=self.dtype, device=device)
        num_temperatures = num_tasks if config.per_task_temperature else 1
        self.log_temperature = torch.full(
            (num_temperatures,), float(np.log(config.initial_temperature)), device=device
        )
        self.temperature_optimizer = make_adam(
            [
                self.log_temperature,
                *(self.temperature_combiner.parameters() if self.temperature_combiner else ()),
            ],
            config.temperature_learning_rate,
        )

    @torch.no_grad()
    def act(
        self, observation: Float[np.ndarray, "task obs"], *, deterministic: bool = False
    ) -> Float[np.ndarray, "task act"]:
        """One action per task: a sample, or the tanh of the mean (of the averaged policy, if there
        is one).

        Raises:
            NonFiniteError: the policy's output is not finite.
        """
        features = torch.as_tensor(observation, dtype=torch.float32, device=self.device)
        actor = self.average_actor if deterministic and self.average_actor else self.actor
        mean, log_std = self._policy(actor(features.unsqueeze(1)))
        if deterministic:
            action = torch.tanh(mean)
        else:
            action, _ = squashed_sample(mean, log_std, self._noise(1))
        on_host: np.ndarray = action.squeeze(1).cpu().numpy()  # where the environment needs it
        if not np.isfinite(on_host).all():
            raise NonFiniteError("action", np.flatnonzero(~np.isfinite(on_host).all(1)).tolist())
        return on_host

    def update(self, batch: Batch) -> Metrics:
        """One step of critic, actor, temperature, target networks and averaged policy.

        Raises:
            NonFiniteError: a task's loss or gradient is not finite. On CUDA only `check` raises.
        """
        critic_metrics = self.update_critic(batch)
        actor_metrics, log_prob = self.update_actor(batch)
        temperature_metrics = self.update_temperature(log_prob)
        self.update_target()
        self.update_average()
        return critic_metrics | actor_metrics | temperature_metrics

    @property
    def capturable(self) -> bool:
        """Whether an update can be captured in a CUDA graph: nothing waits for the device."""
        return all(combiner.capturable for combiner in self._combiners())

    def generators(self) -> list[torch.Generator]:
        """All that updates draw random numbers from."""
        own = [combiner.generators(self.device) for combiner in self._combiners()]
        return [self.generator, *itertools.chain(*own)]

    def check(self) -> None:
        """Waits for the device and raises NonFiniteError if a step of critic, actor or temperature
        since the last check was not finite. None of the three has changed since; a combiner's own
        state may have taken it in. On the CPU every update checks itself."""
        self.guard.check()

    def update_critic(self, batch: Batch) -> Metrics:
        with torch.no_grad():
            mean, log_std = self._policy(self.actor(batch.next_observation, self.dtype))
            noise = self._noise(batch.reward.shape[1])
            next_action, next_log_prob = squashed_sample(mean, log_std, noise)
            target = td_target(
                batch.reward,
                batch.terminated,
                self._q(self.target_critic, batch.next_observation, next_action),
                next_log_prob,
                self._temperature(),
                self.config.discount,
            )

        def task_losses(parameters: dict[str, Tensor], data: Any) -> tuple[Tensor, Metrics]:
            observation, action, target = data
            q = self._q(self.critic, observation, action, parameters)
            return critic_loss(q, target), {"q/mean/{task}": q.mean((1, 2))}

        return self.critic_optimizer.step(
            task_losses, (batch.observation, batch.action, target), self.task_gradients
        )

    def update_actor(self, batch: Batch) -> tuple[Metrics, Float[Tensor, "task batch"]]:
        """Also returns the log probabilities, which the temperature's loss needs."""
        temperature = self._temperature()
        noise = self._noise(batch.reward.shape[1])

        def task_losses(parameters: dict[str, Tensor], data: Any) -> tuple[Tensor, Metrics]:
            observation, noise = data
            output = functional_call(self.actor, parameters, (observation, self.dtype))
            action, log_prob = squashed_sample(*self._policy(output), noise)
            q = self._q(self.critic, observation, action)
            return actor_loss(q, log_prob, temperature), {"log_prob": log_prob}

        metrics = self.actor_optimizer.step(
            task_losses, (batch.observation, noise), self.task_gradients
        )
        log_prob = metrics.pop("log_prob")
        metrics["policy/entropy/{task}"] = -log_prob.mean(-1)
        return metrics, log_prob

    def update_temperature(self, log_prob: Float[Tensor, "task batch"]) -> Metrics:
        log_temperature = self.log_temperature.detach().requires_grad_()
        per_task = log_temperature.expand(self.num_tasks)
        metrics: Metrics = {}
        losses = temperature_loss(per_task, log_prob, self.config.target_entropy)
        if self.temperature_combiner is None:
            (gradient,) = torch.autograd.grad(losses.sum(), log_temperature)
        else:
            for parameter in self.temperature_combiner.parameters():
                parameter.grad = None  # combine adds to it
            (rows,) = torch.autograd.grad(losses.sum(), per_task)
            with naming("temperature"):
                gradient, info = self.temperature_combiner.combine(
                    rows.unsqueeze(1), losses.detach()
                )
            metrics = describe(info, "temperature", saw_gradients=True)
        self.log_temperature.grad = gradient
        found_inf = self.guard.see("temperature", losses.detach(), gradient.sum())
        guarded_step(self.temperature_optimizer, found_inf)
        if not gradient.is_cuda:
            self.guard.check()
        if self.temperature_combiner is not None and self.temperature_combiner.uses_after_step:
            per_task = self.log_temperature.expand(self.num_tasks)
            self.temperature_combiner.after_step(
                temperature_loss(per_task, log_prob, self.config.target_entropy)
            )
        return {
            **metrics,
            "losses/temperature": losses.detach().mean(),
            "temperature/{task}": self._temperature().squeeze(1).expand(self.num_tasks),
        }

    @torch.no_grad()
    def update_target(self) -> None:
        """Moves the target critic towards the critic by the share `target_rate`."""
        critic = self.critic_optimizer.parameters.vector
        self.target_parameters.vector.lerp_(critic, self.config.target_rate)

    @torch.no_grad()
    def update_average(self) -> None:
        """Moves the averaged policy, if there is one, towards the policy by the share
        `policy_average_rate`, corrected for its start as Adam's averages are: the policy before the
        first update has no share in it."""
        if (rate := self.config.policy_average_rate) is not None:
            actor, average = self.actor_optimizer.parameters.vector, self.average_parameters.vector
            self.average_weight.mul_(1 - rate).add_(rate)
            average.add_((actor - average) * (rate / self.average_weight).to(actor.dtype))

    def state_dict(self) -> dict[str, Any]:
        """Everything that acting and updating depend on."""
        state = {name: part.state_dict() for name, part in self._parts().items()}
        state["log_temperature"] = self.log_temperature.clone()
        state["average_weight"] = self.average_weight.clone()
        state["generator"] = self.generator.get_state()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a state.

        Raises:
            ValueError: it is of another version of this class, or of other combiners.
        """
        for name, part in self._parts().items():
            if isinstance(part, torch.optim.Optimizer):
                saved, own = (
                    sum(len(group["params"]) for group in groups)
                    for groups in (state[name]["param_groups"], part.param_groups)
                )
                if saved != own:
                    raise ValueError(
                        f"the saved {name} holds {saved} parameters, this one {own}: the state is"
                        " from another version of the program (a run's metadata.json names its"
                        " commit) or from other combiners"
                    )
        self.loads += 1  # optimisers and some combiners have other memory now
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
            if isinstance(part, torch.optim.Optimizer):  # the state may come from another device
                for group in part.param_groups:
                    group["capturable"] = self.log_temperature.is_cuda
        self.log_temperature.copy_(state["log_temperature"])
        self.average_weight.copy_(state["average_weight"])
        restore_generator(self.generator, state["generator"])

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError(
            "an agent's parameters share memory that copies would not share: make another agent,"
            " and load this one's state_dict() into it"
        )

    def _combiners(self) -> list[Combiner]:
        optimizers = (self.critic_optimizer, self.actor_optimizer)
        of_networks = [optimizer.combiner for optimizer in optimizers]
        return of_networks + ([self.temperature_combiner] if self.temperature_combiner else [])

    def _parts(self) -> dict[str, Any]:
        parts: dict[str, Any] = {
            "actor": self.actor,
            "critic": self.critic,
            "target_critic": self.target_critic,
            "actor_optimizer": self.actor_optimizer.adam,
            "critic_optimizer": self.critic_optimizer.adam,
            "temperature_optimizer": self.temperature_optimizer,
            "actor_combiner": self.actor_combiner,
            "critic_combiner": self.critic_combiner,
        }
        if self.average_actor is not None:
            parts["average_actor"] = self.average_actor
        if self.temperature_combiner is not None:
            parts["temperature_combiner"] = self.temperature_combiner
        return parts

    def _policy(self, output: Tensor) -> tuple[Tensor, Tensor]:
        return split_policy_output(output, self.config.log_std_min, self.config.log_std_max)

    def _q(
        self,
        critic: TaskNetwork,
        observation: Tensor,
        action: Tensor,
        parameters: dict[str, Tensor] | None = None,
    ) -> Float[Tensor, "task twin batch"]:
        inputs = torch.cat([observation, action], dim=-1), self.dtype
        q = functional_call(critic, parameters, inputs) if parameters else critic(*inputs)
        return q.squeeze(-1).movedim(0, 1)

    def _temperature(self) -> Float[Tensor, "task 1"]:
        return self.log_temperature.exp().unsqueeze(1)

    def _noise(self, batch_size: int) -> Float[Tensor, "task batch act"]:
        return torch.randn(
            self.num_tasks,
            batch_size,
            self.action_size,
            generator=self.generator,
            device=self.device,
        )
