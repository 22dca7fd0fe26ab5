"""The agent's update: against the loop, isolated, and it learns."""

import copy
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from agents import (
    ARCHITECTURES,
    Batch,
    MultiTaskSAC,
    NetworkConfig,
    ReplayBuffer,
    SACConfig,
    Transition,
)
from agents.actor import actor_loss, squashed_sample
from agents.critic import critic_loss, td_target
from agents.flat_parameters import FlatParameters
from agents.networks import Linear
from mtrl_fair import NonFiniteError, fairgrad_weights, make_combiner
from tests.agents.small_agent import ACT, NETWORK, OBS, B, K, make_agent, make_batch


def noise_of(agent: MultiTaskSAC) -> Tensor:
    """The noise that the agent's next draw will give."""
    generator = torch.Generator()
    generator.set_state(agent.generator.get_state())
    return torch.randn(K, B, ACT, generator=generator)


def looped_task_losses(agent: MultiTaskSAC, batch: Batch, which: str) -> Tensor:
    """Losses written out with ordinary calls, for autograd.grad task by task."""
    noise, temperature = noise_of(agent), agent.temperature.log_temperature.exp().unsqueeze(1)
    if which == "critic":
        with torch.no_grad():
            output = agent.actor.network(batch.next_observation)
            mean, log_std = output.chunk(2, -1)
            action, log_prob = squashed_sample(mean, log_std.clamp(-20, 2), noise)
            q = agent.critic.target_network(
                torch.cat([batch.next_observation, action], -1)
            ).squeeze(-1)
            q = q.transpose(0, 1)
            target = td_target(batch.reward, batch.terminated, q, log_prob, temperature, 0.99)
        q = agent.critic.network(torch.cat([batch.observation, batch.action], -1)).squeeze(-1)
        return critic_loss(q.transpose(0, 1), target)
    mean, log_std = agent.actor.network(batch.observation).chunk(2, -1)
    action, log_prob = squashed_sample(mean, log_std.clamp(-20, 2), noise)
    q = agent.critic.network(torch.cat([batch.observation, action], -1)).squeeze(-1).transpose(0, 1)
    return actor_loss(q, log_prob, temperature)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("which", ["critic", "actor"])
def test_gradients_equal_the_loop(architecture, which):
    agent, batch = make_agent(architecture=architecture), make_batch()
    batch.terminated[:, ::3] = 1
    for parameter in agent.critic.target_network.parameters():  # or it would equal the critic
        parameter.data.mul_(1.2)
    agent.temperature.log_temperature.copy_(torch.tensor([0.0, -1.0, 1.0]))
    network = getattr(agent, which).network
    reference = make_agent(architecture=architecture)
    reference.load_state_dict(copy.deepcopy(agent.state_dict()))
    reference_network = getattr(reference, which).network.requires_grad_(True)
    losses = looped_task_losses(reference, batch, which)
    parameters = dict(reference_network.named_parameters())
    rows = [
        torch.autograd.grad(loss, list(parameters.values()), retain_graph=True) for loss in losses
    ]
    jacobian = {
        name: torch.stack(column)
        for name, column in zip(parameters, zip(*rows, strict=True), strict=True)
    }
    heads = network.task_parameter_names()
    shared = torch.cat([jacobian[name].flatten(1) for name in parameters if name not in heads], 1)
    weights = fairgrad_weights((shared @ shared.mT).double(), 2.0).float()

    getattr(agent, f"update_{which}")(batch)
    for name, parameter in network.named_parameters():
        if name in heads:  # the diagonal: each head its own task's gradient, unweighted
            expected = torch.stack([jacobian[name][k, k] for k in range(K)])
        else:
            expected = torch.einsum("k,k...->...", weights, jacobian[name])
        torch.testing.assert_close(parameter.grad, expected, rtol=2e-3, atol=1e-5)


def test_updates_touch_only_what_they_should():
    agent, batch = make_agent(), make_batch()

    def snapshot() -> dict[str, Tensor]:
        parts = {
            "actor": agent.actor.network,
            "critic": agent.critic.network,
            "target": agent.critic.target_network,
        }
        flat = {name: torch.cat([p.flatten() for p in m.parameters()]) for name, m in parts.items()}
        return flat | {"temperature": agent.temperature.log_temperature.clone()}

    def changed(update) -> set[str]:
        before = snapshot()
        update()
        return {name for name, value in snapshot().items() if not torch.equal(value, before[name])}

    assert changed(lambda: agent.update_critic(batch)) == {"critic"}
    assert changed(lambda: agent.update_actor(batch)) == {"actor"}
    assert changed(lambda: agent.update_temperature(torch.randn(K, B))) == {"temperature"}
    assert changed(agent.update_target) == {"target"}
    assert changed(lambda: agent.act(np.zeros((K, OBS), np.float32))) == set()


def test_target_network_moves_by_its_rate():
    agent = make_agent()
    for parameter in agent.critic.network.parameters():
        parameter.data.add_(1.0)
    before = [p.clone() for p in agent.critic.target_network.parameters()]
    agent.update_target()
    for old, new in zip(before, agent.critic.target_network.parameters(), strict=True):
        torch.testing.assert_close(new - old, torch.full_like(old, 0.005), rtol=1e-3, atol=1e-6)


def test_trunk_and_each_head_are_clipped_separately():
    config = SACConfig(actor=NETWORK, critic=NETWORK, max_grad_norm=1e-3)
    agent, batch = make_agent(combiner="ls", config=config), make_batch()
    agent.update_critic(batch)
    names = agent.critic.network.task_parameter_names()
    parameters = dict(agent.critic.network.named_parameters())
    trunk = torch.cat([p.grad.flatten() for name, p in parameters.items() if name not in names])
    heads = torch.cat([parameters[name].grad.flatten(1) for name in names], 1)
    torch.testing.assert_close(trunk.norm(), torch.tensor(1e-3))
    torch.testing.assert_close(heads.norm(dim=1), torch.full((K,), 1e-3))


def test_temperature_per_task_or_single():
    single = SACConfig(actor=NETWORK, critic=NETWORK, per_task_temperature=False)
    log_prob = torch.tensor([[10.0], [-10.0], [0.0]]).expand(K, B)
    agent = make_agent()
    agent.update_temperature(log_prob)  # entropy -10, 10, 0 against the target of -4
    assert (agent.temperature.log_temperature > 0).tolist() == [True, False, False]
    agent = make_agent(config=single)
    agent.update_temperature(log_prob)
    assert agent.temperature.log_temperature.shape == (1,)
    assert agent.temperature.log_temperature < 0  # the mean entropy is 0


def test_a_combined_temperature_follows_the_combiner():
    config = SACConfig(
        actor=NETWORK, critic=NETWORK, per_task_temperature=False, combine_temperature=True
    )
    agent = make_agent(config=config)
    log_prob = torch.tensor([[1.0], [2.0], [3.0]]).expand(K, B)
    metrics = agent.update_temperature(log_prob)
    rows = -(log_prob.mean(1, keepdim=True) - 4.0)
    weights = fairgrad_weights((rows @ rows.mT).double(), 2.0).float()
    torch.testing.assert_close(
        agent.temperature.log_temperature.grad, weights @ rows, rtol=1e-4, atol=1e-6
    )
    logged = metrics["fairness/weight/{task}/temperature"]
    torch.testing.assert_close(logged, weights, rtol=1e-4, atol=1e-6)
    with pytest.raises(NonFiniteError, match="the temperature loss of task 1 is not finite"):
        agent.update_temperature(log_prob.where(torch.arange(K)[:, None] != 1, float("nan")))
    with pytest.raises(ValueError, match="if and only if"):
        MultiTaskSAC(OBS, ACT, K, *[make_combiner("ls", K)] * 2, config=config)


def test_act_is_deterministic_or_a_sample_in_range():
    agent, observation = make_agent(), np.ones((K, OBS), np.float32)
    first = agent.act(observation, deterministic=True)
    assert first.shape == (K, ACT)
    np.testing.assert_array_equal(first, agent.act(observation, deterministic=True))
    samples = np.stack([agent.act(observation) for _ in range(50)])
    assert samples.std(0).min() > 0.1
    assert abs(samples).max() <= 1


def test_metrics_stay_tensors_without_a_graph():
    metrics = make_agent().update(make_batch())
    for key, value in metrics.items():
        assert isinstance(value, Tensor), key
        assert not value.requires_grad, key
        assert value.shape == ((K,) if "{task}" in key else ()), key


@pytest.mark.parametrize("layer_norm", [False, True])
def test_every_weight_writes_its_task_gradients_where_they_are_kept(layer_norm, monkeypatch):
    """A gradient that is first made elsewhere would cost as much as its product."""
    network = NetworkConfig(width=16, depth=2, layer_norm=layer_norm)
    agent = make_agent(config=SACConfig(actor=network, critic=network))
    module = sys.modules["mtrl_fair.gradients.per_task"]  # hidden by the function of that name
    settled, seen = module._finish_slot, []

    def settle(slot, gradient):
        seen.append((tuple(slot.tensor.shape), slot.written, gradient is None))
        return settled(slot, gradient)

    monkeypatch.setattr(module, "_finish_slot", settle)
    agent.update(make_batch())
    direct = [shape for shape, written, alone in seen if written and alone]
    linear = [
        (K, *module.weight.shape)
        for network in (agent.critic.network, agent.actor.network)
        for module in network.trunk
        if isinstance(module, Linear)
    ]
    assert len(linear) == 4
    assert set(linear) <= set(direct)
    assert len(direct) == 2 * len(linear)  # their biases, too


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_network_s_parameters_are_views_of_one_vector(architecture):
    network = make_agent(architecture=architecture).critic.network
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    flat = FlatParameters(network)
    heads = network.task_parameter_names()
    assert set(flat.heads) == heads
    assert set(flat.shared) == set(before) - heads
    assert flat.vector.numel() == sum(value.numel() for value in before.values())
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, before[name])
    flat.vector.fill_(2.0)
    flat.vector.grad.copy_(torch.arange(flat.vector.numel()))
    parts = {**flat.shared, **flat.heads}
    for name, parameter in network.named_parameters():
        assert (parameter == 2).all()
        assert (parts[name] == 2).all()
        assert parameter.grad.shape == parameter.shape
    shared = torch.cat([network.get_parameter(name).grad.flatten() for name in flat.shared])
    assert torch.equal(shared, torch.arange(flat.num_shared).float())


@pytest.mark.slow
@pytest.mark.parametrize("combiner", ["fairgrad", "ls"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_learns_two_opposite_identity_tasks(combiner, precision):
    """Observation in [-1, 1], one-step episodes; task 0 wants action = observation, task 1 its
    negative. A policy that confuses tasks earns -4/3 on average, a perfect one 0."""
    network = NetworkConfig(width=32, depth=2)
    config = SACConfig(
        actor=network,
        critic=network,
        actor_learning_rate=3e-3,
        critic_learning_rate=3e-3,
        temperature_learning_rate=3e-3,
        initial_temperature=0.1,
        target_entropy=-1.0,
        target_rate=0.05,
    )
    sizes = {"num_tasks": 2, "observation_size": 1, "action_size": 1}
    agent = make_agent(combiner, config=config, precision=precision, **sizes)
    replay = ReplayBuffer(2, 10_000, 1, 1)
    generator = np.random.default_rng(0)
    sign = np.array([[1.0], [-1.0]])

    def observe() -> np.ndarray:
        return generator.uniform(-1, 1, (2, 1)).astype(np.float32)

    for step in range(250):
        observation = observe()
        action = agent.act(observation)
        reward = -((action - sign * observation) ** 2).sum(1)
        replay.add(Transition(observation, action, reward, np.ones(2, bool), observe()))
        if step >= 50:
            agent.update(replay.sample(32))
    rewards = []
    for _ in range(200):
        observation = observe()
        action = agent.act(observation, deterministic=True)
        rewards.append(-((action - sign * observation) ** 2).sum(1))
    assert np.mean(rewards, axis=0).min() > -0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"discount": 1.5}, "discount is 1.5"),
        ({"target_rate": 0.0}, "target_rate is 0.0"),
        ({"policy_average_rate": 0.0}, "policy_average_rate is 0.0"),
        ({"reward_rate": 0.0}, "reward_rate is 0.0"),
        ({"actor_learning_rate": -1.0}, "actor_learning_rate is -1.0"),
        ({"log_std_min": 3.0}, "log_std_min is 3.0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm is 0.0"),
        ({"combine_temperature": True}, "needs a single temperature"),
    ],
)
def test_impossible_hyperparameters_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SACConfig(**options)
