"""FairGrad in TorchRL: its SAC loss without reduction, its replay buffer and target update.

python scripts/integrations/torchrl_sac.py [--tasks NAME ...] [--steps N] [--seed N]

What TorchRL calls alpha is the temperature.
"""

from __future__ import annotations

import contextlib
import sys

import numpy as np
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.modules import (
    MLP,
    NormalParamExtractor,
    ProbabilisticActor,
    TanhNormal,
    ValueOperator,
)
from torchrl.objectives import SACLoss, SoftUpdate, ValueEstimators

import mtrl_fair
from envs import make_vec
from envs.constants import ACTION_SIZE, OBSERVATION_SIZE
from scripts.integrations.arguments import AgentArguments, read

DISCOUNT = 0.99
LEARNING_RATE = 3e-4
TARGET_RATE = 0.005
REPLAY_CAPACITY = 1_000_000


def make_loss(num_tasks: int, width: int) -> tuple[ProbabilisticActor, SACLoss]:
    """The actor, and the loss, which holds both networks and keeps one entry per sample."""
    size, hidden = OBSERVATION_SIZE + num_tasks, [width, width]
    policy = nn.Sequential(
        MLP(size, 2 * ACTION_SIZE, num_cells=hidden, activation_class=nn.ReLU),
        NormalParamExtractor(),
    )
    actor = ProbabilisticActor(
        TensorDictModule(policy, in_keys=["observation"], out_keys=["loc", "scale"]),
        in_keys=["loc", "scale"],
        distribution_class=TanhNormal,
        return_log_prob=True,
    )
    critic = ValueOperator(
        MLP(size + ACTION_SIZE, 1, num_cells=hidden, activation_class=nn.ReLU),
        in_keys=["observation", "action"],
    )
    loss = SACLoss(
        actor,
        critic,
        loss_function="l2",
        target_entropy=-ACTION_SIZE,
        reduction="none",
        scalar_output_mode="exclude",
    )
    loss.make_value_estimator(ValueEstimators.TD0, gamma=DISCOUNT)
    return actor, loss


def train(arguments: AgentArguments) -> SACLoss:
    """Trains on every task at once and prints losses and weights whenever all episodes end."""
    torch.manual_seed(arguments.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    envs = make_vec(arguments.tasks, seed=arguments.seed, max_episode_steps=arguments.episode_steps)
    num_tasks = envs.num_envs
    task_ids = torch.arange(num_tasks)

    actor, loss = make_loss(num_tasks, arguments.width)
    loss.to(device)
    critic_parameters = list(loss.qvalue_network_params.values(True, True))
    actor_parameters = list(loss.actor_network_params.values(True, True))
    critic_combiner = mtrl_fair.make_combiner("fairgrad", num_tasks=num_tasks, alpha=2.0)
    actor_combiner = mtrl_fair.make_combiner("fairgrad", num_tasks=num_tasks, alpha=2.0)
    optimizer = torch.optim.Adam(loss.parameters(), lr=LEARNING_RATE)
    update_target = SoftUpdate(loss, tau=TARGET_RATE)
    storage = LazyTensorStorage(REPLAY_CAPACITY)
    replay = TensorDictReplayBuffer(storage=storage, batch_size=arguments.batch_size)

    with contextlib.closing(envs):
        envs.action_space.seed(arguments.seed)
        observation = with_task_id(envs.reset(seed=arguments.seed)[0])
        for step in range(1, arguments.steps + 1):
            if step <= arguments.learning_starts:
                action = torch.as_tensor(envs.action_space.sample())
            else:
                with torch.no_grad():
                    state = TensorDict({"observation": observation}, [num_tasks], device=device)
                    action = actor(state)["action"].cpu()
            upcoming, reward, terminated, truncated, _ = envs.step(action.numpy())
            # Where an episode ended, `upcoming` is the next one's first observation already.
            ended = terminated | truncated
            last = np.where(ended[:, None], envs.final_observation, upcoming)
            outcome = {
                "observation": with_task_id(last),
                "reward": torch.as_tensor(reward, dtype=torch.float32).unsqueeze(1),
                "terminated": torch.as_tensor(terminated).unsqueeze(1),
                "done": torch.as_tensor(ended).unsqueeze(1),
            }
            transition = {"observation": observation, "action": action, "task": task_ids}
            replay.extend(TensorDict({**transition, "next": outcome}, [num_tasks]))
            observation = with_task_id(upcoming)
            if step <= arguments.learning_starts:
                continue

            batch = replay.sample().to(device)
            losses = loss(batch)
            critic_losses, _ = mtrl_fair.task_mean(losses["loss_qvalue"], batch["task"], num_tasks)
            actor_losses, _ = mtrl_fair.task_mean(losses["loss_actor"], batch["task"], num_tasks)
            optimizer.zero_grad()
            critic_info = critic_combiner.backward(critic_losses, critic_parameters)
            actor_info = actor_combiner.backward(actor_losses, actor_parameters)
            losses["loss_alpha"].mean().backward()
            optimizer.step()
            update_target.step()

            if ended.all():
                print(f"step {step}  {describe('critic', critic_losses, critic_info.weights)}")
                print(f"step {step}  {describe('actor', actor_losses, actor_info.weights)}")
    return loss


def with_task_id(observation: np.ndarray) -> Tensor:
    """[task, obs] with the one-hot task id appended."""
    return torch.cat([torch.as_tensor(observation), torch.eye(len(observation))], dim=1)


def describe(network: str, losses: Tensor, weights: Tensor) -> str:
    """Task losses and weights in one line."""
    return f"{network} losses {losses.numpy(force=True)}  weights {weights.numpy(force=True)}"


if __name__ == "__main__":
    train(read(sys.argv[1:], AgentArguments(), description=__doc__))
