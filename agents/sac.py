"""Multi-task soft actor-critic (Haarnoja et al. 2018) whose tasks meet in a combiner."""

from __future__ import annotations

import itertools
from typing import Any, NoReturn

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from agents.actor import Actor
from agents.combined_optimizer import Metrics
from agents.config import PRECISIONS, SACConfig
from agents.critic import Critic
from agents.finite_guard import NonFiniteGuard
from agents.networks import make_networks
from agents.replay import Batch
from agents.temperature import Temperature
from mtrl_fair import Combiner
from mtrl_fair.checks import check_name
from mtrl_fair.runs.checkpoints import restore_generator


class MultiTaskSAC:
    """Trains a policy and twin critics for K tasks, in the [task, batch, …] layout.

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

    Raises:
        ValueError: an unknown name, or a temperature combiner that does not fit `config`.
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
        self.device = torch.empty(0, device=device).device  # "cuda" with its index
        self.num_tasks = num_tasks
        self.action_size = action_size
        self.state_version = 0
        """Changes when a state is loaded: optimisers and some combiners have other memory then."""
        with torch.random.fork_rng(devices=[]):  # leaves the caller's global generator alone
            torch.manual_seed(seed)
            policy, twins = make_networks(
                observation_size, action_size, num_tasks, architecture, config
            )
            # Else the noise would be drawn from the same numbers as the parameters.
            noise_seed = int(torch.randint(2**62, ()))
        self.generator = torch.Generator(device).manual_seed(noise_seed)
        guard = NonFiniteGuard(("critic", "actor", "temperature"), num_tasks, self.device)
        if temperature_combiner is not None:
            temperature_combiner = temperature_combiner.to(device)
        dtype = PRECISIONS[precision]
        self.critic = Critic(twins.to(device), critic_combiner.to(device), config, guard, dtype)
        self.actor = Actor(policy.to(device), actor_combiner.to(device), config, guard, dtype)
        self.temperature = Temperature(num_tasks, temperature_combiner, config, guard, self.device)
        self.guard = guard
        # Critic and actor take turns in one buffer for their task gradients.
        optimizers = (self.critic.optimizer, self.actor.optimizer)
        size = max(optimizer.buffer_size(num_tasks) for optimizer in optimizers)
        self.task_gradients = torch.empty(size, dtype=dtype, device=device)

    @torch.no_grad()
    def act(
        self, observation: Float[np.ndarray, "task obs"], *, deterministic: bool = False
    ) -> Float[np.ndarray, "task act"]:
        """Returns one action per task: a sample, or the tanh of the mean, of the averaged policy if
        there is one.

        Raises:
            NonFiniteError: the policy's output is not finite.
        """
        features = torch.as_tensor(observation, dtype=torch.float32, device=self.device)
        return self.actor.act(features, None if deterministic else self._noise(1))

    def update(self, batch: Batch) -> Metrics:
        """Takes one step of critic, actor, temperature, target network and averaged policy.

        Raises:
            NonFiniteError: a task's loss or gradient is not finite. On CUDA only `check` raises.
        """
        critic_metrics = self.update_critic(batch)
        actor_metrics, log_prob = self.update_actor(batch)
        temperature_metrics = self.update_temperature(log_prob)
        self.update_target()
        self.update_average()
        return critic_metrics | actor_metrics | temperature_metrics

    def update_critic(self, batch: Batch) -> Metrics:
        """Takes one step of the critic."""
        with torch.no_grad():
            # Before the actor's noise, from the same generator: another order, other numbers.
            noise = self._noise(batch.reward.shape[1])
            next_action, next_log_prob = self.actor.sample(batch.next_observation, noise)
        return self.critic.update(
            batch, next_action, next_log_prob, self.temperature.value(), self.task_gradients
        )

    def update_actor(self, batch: Batch) -> tuple[Metrics, Float[Tensor, "task batch"]]:
        """Takes one step of the actor and returns its log probabilities, too, which
        `update_temperature` needs."""
        noise = self._noise(batch.reward.shape[1])
        return self.actor.update(
            batch.observation, noise, self.critic, self.temperature.value(), self.task_gradients
        )

    def update_temperature(self, log_prob: Float[Tensor, "task batch"]) -> Metrics:
        return self.temperature.update(log_prob)

    def update_target(self) -> None:
        self.critic.update_target()

    def update_average(self) -> None:
        self.actor.update_average()

    def check(self) -> None:
        """Waits for the device and raises NonFiniteError if a step of critic, actor or temperature
        since the last check was not finite. None of the three has changed since; a combiner's own
        state may have taken it in. On the CPU every update checks itself."""
        self.guard.check()

    @property
    def capturable(self) -> bool:
        """Whether an update can be captured in a CUDA graph: nothing waits for the device."""
        return all(combiner.capturable for combiner in self._combiners())

    def generators(self) -> list[torch.Generator]:
        """Returns all that updates draw random numbers from."""
        drawn = [combiner.generators(self.device) for combiner in self._combiners()]
        return [self.generator, *itertools.chain(*drawn)]

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that acting and updating depend on."""
        state = {name: part.state_dict() for name, part in self._learners().items()}
        return state | {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a state.

        Raises:
            ValueError: it is of another version of this class, or of other combiners. Nothing has
                changed then.
        """
        for name, part in self._learners().items():
            part.check_state(state.get(name, {}))
        self.state_version += 1
        for name, part in self._learners().items():
            part.load_state_dict(state[name])
        restore_generator(self.generator, state["generator"])

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError(
            "an agent's parameters share memory that copies would not share: make another agent,"
            " and load this one's state_dict() into it"
        )

    def _learners(self) -> dict[str, Critic | Actor | Temperature]:
        return {"critic": self.critic, "actor": self.actor, "temperature": self.temperature}

    def _combiners(self) -> list[Combiner]:
        found = [learner.combiner for learner in self._learners().values()]
        return [combiner for combiner in found if combiner is not None]

    def _noise(self, batch_size: int) -> Float[Tensor, "task batch act"]:
        shape = (self.num_tasks, batch_size, self.action_size)
        return torch.randn(shape, generator=self.generator, device=self.device)
