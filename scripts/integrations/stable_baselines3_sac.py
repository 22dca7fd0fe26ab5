"""FairGrad in Stable-Baselines3: its SAC, with a loss per task in `train`.

python scripts/integrations/stable_baselines3_sac.py [--tasks NAME ...] [--steps N] [--seed N]
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any, SupportsFloat

import gymnasium
import metaworld
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.utils import polyak_update
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

import mtrl_fair
from scripts.integrations.arguments import AgentArguments, read

COMBINERS = ("critic_combiner", "actor_combiner")


class FairGradSAC(SAC):
    """SAC for several tasks; observations end with a one-hot task id of `num_tasks` entries.

    Critic and actor follow the combination of their task gradients. Everything else is
    Stable-Baselines3's, the entropy coefficient included. `save` keeps the combiners' states.

    Args:
        num_tasks: the number of tasks, which must be given.
        combiner: a name that `mtrl_fair.make_combiner` takes.
        combiner_options: its keyword arguments.

    Raises:
        ValueError: no number of tasks, or a combiner that needs more than a call of `backward`.
    """

    def __init__(
        self,
        *args: Any,
        num_tasks: int | None = None,
        combiner: str = "fairgrad",
        combiner_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        self.num_tasks = num_tasks
        self.combiner = combiner
        self.combiner_options = dict(combiner_options or {})
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()
        if self.num_tasks is None:  # `load` sets it between __init__ and here
            raise ValueError(
                "num_tasks is missing: the length of the observations' one-hot task id"
            )
        self.critic_combiner, self.actor_combiner = (
            mtrl_fair.make_combiner(
                self.combiner, num_tasks=self.num_tasks, **self.combiner_options
            )
            for _ in range(2)
        )
        if self.critic_combiner.uses_after_step or [*self.critic_combiner.parameters()]:
            raise ValueError(
                f"combiner is {self.combiner!r}, which needs a second forward pass or an optimiser"
                " of its own, and `train` has neither: choose another one"
            )

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """As SAC's, which puts one mean over all samples where this has one per task."""
        assert self.replay_buffer is not None
        assert self.num_tasks is not None
        self.policy.set_training_mode(True)
        optimizers = [self.actor.optimizer, self.critic.optimizer, self.ent_coef_optimizer]
        self._update_learning_rate([optimizer for optimizer in optimizers if optimizer is not None])
        for step in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            task_ids = batch.observations[:, -self.num_tasks :].argmax(1)
            if self.use_sde:
                self.actor.reset_noise()
            action, log_prob = self.actor.action_log_prob(batch.observations)
            temperature = self._update_temperature(log_prob.detach())

            q = torch.cat(self.critic(batch.observations, batch.actions), dim=1)
            errors = 0.5 * (q - self._td_target(batch, temperature)).square().sum(1)
            losses, _ = mtrl_fair.task_mean(errors, task_ids, self.num_tasks)
            self.critic.optimizer.zero_grad()
            info = self.critic_combiner.backward(losses, self.critic.parameters())
            self.critic.optimizer.step()
            self._record("critic", losses, info.weights)

            q = torch.cat(self.critic(batch.observations, action), dim=1).amin(1)
            losses, _ = mtrl_fair.task_mean(temperature * log_prob - q, task_ids, self.num_tasks)
            self.actor.optimizer.zero_grad()
            info = self.actor_combiner.backward(losses, self.actor.parameters())
            self.actor.optimizer.step()
            self._record("actor", losses, info.weights)

            self.logger.record("train/ent_coef", temperature.item())
            if step % self.target_update_interval == 0:
                polyak_update(self.critic.parameters(), self.critic_target.parameters(), self.tau)
                polyak_update(self.batch_norm_stats, self.batch_norm_stats_target, 1.0)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _update_temperature(self, log_prob: Tensor) -> Tensor:
        """One step of the entropy coefficient if it is learned; its value before that step."""
        if self.ent_coef_optimizer is None or self.log_ent_coef is None:
            return self.ent_coef_tensor
        assert isinstance(self.target_entropy, float)
        temperature = self.log_ent_coef.detach().exp()
        self.ent_coef_optimizer.zero_grad()
        (-self.log_ent_coef * (log_prob + self.target_entropy)).mean().backward()
        self.ent_coef_optimizer.step()
        return temperature

    @torch.no_grad()
    def _td_target(self, batch: ReplayBufferSamples, temperature: Tensor) -> Tensor:
        """[batch, 1]; `dones` is 0 where the time limit ended the episode."""
        action, log_prob = self.actor.action_log_prob(batch.next_observations)
        q = torch.cat(self.critic_target(batch.next_observations, action), dim=1).amin(1)
        value = (q - temperature * log_prob).unsqueeze(1)
        discount = self.gamma if batch.discounts is None else batch.discounts
        return batch.rewards + discount * (1 - batch.dones) * value

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), *COMBINERS]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        """Adds the combiners to the modules whose states `save` keeps: `load` makes new ones."""
        modules, variables = super()._get_torch_save_params()
        return [*modules, *COMBINERS], variables

    def _record(self, network: str, losses: Tensor, weights: Tensor) -> None:
        self.logger.record(f"train/{network}_loss", losses.mean().item())
        for task, weight in enumerate(weights.tolist()):
            self.logger.record(f"train/{network}_weight_{task}", weight)


class AnySuccess(gymnasium.Wrapper):
    """Tells Stable-Baselines3 whether an episode has succeeded so far.

    It logs `rollout/success_rate` from the `is_success` of an episode's last info, which
    Meta-World does not have. A task counts as solved if any step succeeded.
    """

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self.is_success = False
        return super().reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        self.is_success |= bool(info["success"])
        return observation, reward, terminated, truncated, info | {"is_success": self.is_success}


def make_env(arguments: AgentArguments, task: int) -> gymnasium.Env:
    """Meta-World's own environment of one task, with its one-hot wrapper."""
    env = metaworld.make_mt_envs(
        arguments.tasks[task],
        seed=arguments.seed + task,  # one seed for all would tie the tasks' goals together
        use_one_hot=True,
        env_id=task,
        num_tasks=len(arguments.tasks),
        max_episode_steps=arguments.episode_steps,
    )
    assert isinstance(env, gymnasium.Env)  # a benchmark's name would give a vector environment
    return AnySuccess(env)


def train(arguments: AgentArguments, algorithm: type[SAC] = FairGradSAC) -> SAC:
    """Trains; Stable-Baselines3 counts the transitions of all tasks."""
    num_tasks = len(arguments.tasks)
    extra: dict[str, Any] = {"num_tasks": num_tasks} if algorithm is FairGradSAC else {}
    model = algorithm(
        "MlpPolicy",
        DummyVecEnv([partial(make_env, arguments, task) for task in range(num_tasks)]),
        learning_starts=arguments.learning_starts * num_tasks,
        batch_size=arguments.batch_size,
        policy_kwargs={"net_arch": [arguments.width, arguments.width]},
        seed=arguments.seed,
        verbose=1,
        **extra,
    )
    return model.learn(arguments.steps * num_tasks, log_interval=num_tasks)


if __name__ == "__main__":
    train(read(sys.argv[1:], AgentArguments(), description=__doc__))
