"""The agent's update: against the loop, isolated, deterministic, and it learns."""

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
    networks,
)
from agents.flat_parameters import FlatParameters
from agents.losses import actor_loss, critic_loss, td_target
from agents.policy import squashed_sample
from mtrl_fair import NonFiniteError, fairgrad_weights, make_combiner, shared_linear

K, B, OBS, ACT = 3, 8, 5, 2
NETWORK = NetworkConfig(width=16, depth=2, layer_norm=True)
CONFIG = SACConfig(actor=NETWORK, critic=NETWORK, batch_size=B, max_grad_norm=None)


def make_agent(
    combiner: str = "fairgrad",
    architecture: str = "multi_head",
    config: SACConfig = CONFIG,
    seed: int = 0,
    precision: str = "fp32",
    **sizes: int,
) -> MultiTaskSAC:
    tasks = sizes.get("num_tasks", K)
    return MultiTaskSAC(
        sizes.get("observation_size", OBS),
        sizes.get("action_size", ACT),
        tasks,
        make_combiner(combiner, num_tasks=tasks),
        make_combiner(combiner, num_tasks=tasks),
        make_combiner(combiner, num_tasks=tasks) if config.combine_temperature else None,
        architecture=architecture,
        config=config,
        precision=precision,
        seed=seed,
    )


def make_batch(seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(K, B, *shape, generator=generator)

    scale = torch.tensor([1.0, 10.0, 100.0]).unsqueeze(1)
    return Batch(randn(OBS), randn(ACT).tanh(), scale * randn(), torch.zeros(K, B), randn(OBS))


def noise_of(agent: MultiTaskSAC) -> Tensor:
    """The noise that the agent's next draw will give."""
    generator = torch.Generator()
    generator.set_state(agent.generator.get_state())
    return torch.randn(K, B, ACT, generator=generator)


def looped_task_losses(agent: MultiTaskSAC, batch: Batch, which: str) -> Tensor:
    """Losses written out with ordinary calls, for autograd.grad task by task."""
    noise, temperature = noise_of(agent), agent.log_temperature.exp().unsqueeze(1)
    if which == "critic":
        with torch.no_grad():
            output = agent.actor(batch.next_observation)
            mean, log_std = output.chunk(2, -1)
            action, log_prob = squashed_sample(mean, log_std.clamp(-20, 2), noise)
            q = agent.target_critic(torch.cat([batch.next_observation, action], -1)).squeeze(-1)
            q = q.transpose(0, 1)
            target = td_target(batch.reward, batch.terminated, q, log_prob, temperature, 0.99)
        q = agent.critic(torch.cat([batch.observation, batch.action], -1)).squeeze(-1)
        return critic_loss(q.transpose(0, 1), target)
    mean, log_std = agent.actor(batch.observation).chunk(2, -1)
    action, log_prob = squashed_sample(mean, log_std.clamp(-20, 2), noise)
    q = agent.critic(torch.cat([batch.observation, action], -1)).squeeze(-1).transpose(0, 1)
    return actor_loss(q, log_prob, temperature)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("which", ["critic", "actor"])
def test_gradients_equal_the_loop(architecture, which):
    agent, batch = make_agent(architecture=architecture), make_batch()
    batch.terminated[:, ::3] = 1
    for parameter in agent.target_critic.parameters():  # or it would equal the critic
        parameter.data.mul_(1.2)
    agent.log_temperature.copy_(torch.tensor([0.0, -1.0, 1.0]))
    network = getattr(agent, which)
    reference = make_agent(architecture=architecture)
    reference.load_state_dict(copy.deepcopy(agent.state_dict()))
    reference_network = getattr(reference, which).requires_grad_(True)
    losses = looped_task_losses(reference, batch, which)
    parameters = dict(reference_network.named_parameters())
    rows = [
        torch.autograd.grad(loss, list(parameters.values()), retain_graph=True) for loss in losses
    ]
    jacobian = {
        name: torch.stack(column)
        for name, column in zip(parameters, zip(*rows, strict=True), strict=True)
    }
    own = network.task_parameter_names()
    shared = torch.cat([jacobian[name].flatten(1) for name in parameters if name not in own], 1)
    weights = fairgrad_weights((shared @ shared.mT).double(), 2.0).float()

    getattr(agent, f"update_{which}")(batch)
    for name, parameter in network.named_parameters():
        if name in own:  # the diagonal: each head its own task's gradient, unweighted
            expected = torch.stack([jacobian[name][k, k] for k in range(K)])
        else:
            expected = torch.einsum("k,k...->...", weights, jacobian[name])
        torch.testing.assert_close(parameter.grad, expected, rtol=2e-3, atol=1e-5)


def test_updates_touch_only_what_they_should():
    agent, batch = make_agent(), make_batch()

    def snapshot() -> dict[str, Tensor]:
        parts = {"actor": agent.actor, "critic": agent.critic, "target": agent.target_critic}
        flat = {name: torch.cat([p.flatten() for p in m.parameters()]) for name, m in parts.items()}
        return flat | {"temperature": agent.log_temperature.clone()}

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
    for parameter in agent.critic.parameters():
        parameter.data.add_(1.0)
    before = [p.clone() for p in agent.target_critic.parameters()]
    agent.update_target()
    for old, new in zip(before, agent.target_critic.parameters(), strict=True):
        torch.testing.assert_close(new - old, torch.full_like(old, 0.005), rtol=1e-3, atol=1e-6)


def test_trunk_and_each_head_are_clipped_apart():
    config = SACConfig(actor=NETWORK, critic=NETWORK, max_grad_norm=1e-3)
    agent, batch = make_agent(combiner="ls", config=config), make_batch()
    agent.update_critic(batch)
    own = agent.critic.task_parameter_names()
    parameters = dict(agent.critic.named_parameters())
    trunk = torch.cat([p.grad.flatten() for name, p in parameters.items() if name not in own])
    heads = torch.cat([parameters[name].grad.flatten(1) for name in own], 1)
    torch.testing.assert_close(trunk.norm(), torch.tensor(1e-3))
    torch.testing.assert_close(heads.norm(dim=1), torch.full((K,), 1e-3))


def test_temperature_per_task_or_single():
    single = SACConfig(actor=NETWORK, critic=NETWORK, per_task_temperature=False)
    log_prob = torch.tensor([[10.0], [-10.0], [0.0]]).expand(K, B)
    agent = make_agent()
    agent.update_temperature(log_prob)  # entropy -10, 10, 0 against the target of -4
    assert (agent.log_temperature > 0).tolist() == [True, False, False]
    agent = make_agent(config=single)
    agent.update_temperature(log_prob)
    assert agent.log_temperature.shape == (1,)
    assert agent.log_temperature < 0  # the mean entropy is 0


def test_a_combined_temperature_follows_the_combiner():
    config = SACConfig(
        actor=NETWORK, critic=NETWORK, per_task_temperature=False, combine_temperature=True
    )
    agent = make_agent(config=config)
    log_prob = torch.tensor([[1.0], [2.0], [3.0]]).expand(K, B)
    agent.update_temperature(log_prob)
    rows = -(log_prob.mean(1, keepdim=True) - 4.0)
    weights = fairgrad_weights((rows @ rows.mT).double(), 2.0).float()
    torch.testing.assert_close(agent.log_temperature.grad, weights @ rows, rtol=1e-4, atol=1e-6)
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


@pytest.mark.parametrize("combiner", ["fairgrad", "ls"])
def test_the_same_seed_twice_is_bit_identical(combiner):
    def parameters_after_updates(seed: int) -> list[Tensor]:
        agent = make_agent(combiner, seed=seed)
        for step in range(5):
            agent.update(make_batch(step))
        return list(agent.actor.parameters())

    first, again, other = (parameters_after_updates(seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_making_an_agent_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    make_agent()
    assert torch.equal(torch.rand(1), expected)


def test_state_round_trip_continues_bit_for_bit():
    agent, restored = make_agent(), make_agent(seed=7)
    agent.update(make_batch())
    restored.load_state_dict(copy.deepcopy(agent.state_dict()))
    observation = np.ones((K, OBS), np.float32)
    for step in range(3):
        metrics, restored_metrics = (a.update(make_batch(step)) for a in (agent, restored))
        for key in metrics:
            assert torch.equal(metrics[key], restored_metrics[key]), key
        np.testing.assert_array_equal(agent.act(observation), restored.act(observation))


def test_a_non_finite_loss_names_the_task_and_changes_nothing():
    agent, batch = make_agent(), make_batch()
    batch.reward[1, 0] = float("inf")
    before = [parameter.clone() for parameter in agent.critic.parameters()]
    with pytest.raises(NonFiniteError, match="critic loss of task 1 is not finite"):
        agent.update(batch)
    assert all(torch.equal(a, b) for a, b in zip(before, agent.critic.parameters(), strict=True))


def test_a_non_finite_head_gradient_is_caught():
    agent, batch = make_agent(combiner="ls"), make_batch()
    # A head of zeros shields the trunk from a huge error; only the head's own gradient shows it.
    agent.critic.head.weight.data.zero_()
    agent.critic.trunk[-2].weight.data.fill_(1e10)
    batch.reward[2] = 1e18
    with pytest.raises(NonFiniteError, match="critic gradient of task 2"):
        agent.update(batch)


def test_an_action_that_is_not_finite_names_the_task():
    agent = make_agent()
    agent.actor.head.bias.data[1] = float("nan")
    with pytest.raises(NonFiniteError, match="action of task 1"):
        agent.act(np.zeros((K, OBS), np.float32))


@pytest.mark.parametrize("which", ["critic", "actor"])
def test_off_the_cpu_a_step_that_is_not_finite_changes_nothing_until_it_is_reported(
    which, monkeypatch
):
    agent, batch = make_agent(), make_batch()
    agent.update(batch)
    # The branches of a device where looking would make the host wait, on real values.
    monkeypatch.setattr(Tensor, "is_cuda", property(lambda self: True))

    def learned() -> list[Tensor]:
        optimizers = (agent.actor_optimizer.adam, agent.critic_optimizer.adam)
        states = [*optimizers, agent.temperature_optimizer]
        moments = [
            part for adam in states for state in adam.state.values() for part in state.values()
        ]
        networks = [agent.actor, agent.critic]
        parameters = [p for network in networks for p in network.parameters()]
        return [tensor.clone() for tensor in (*parameters, agent.log_temperature, *moments)]

    bad = make_batch(1)
    if which == "critic":
        bad.reward[1, 0] = float("nan")
    else:  # reaches the actor's loss only
        bad.observation[1, 0, 0] = float("nan")
    before = learned()
    if which == "critic":
        agent.update(bad)
    else:
        _, log_prob = agent.update_actor(bad)
        agent.update_temperature(log_prob)
    agent.update(batch)  # nor does a good one that comes before the report
    worse = make_batch(2)
    worse.reward[2, 0] = float("nan")
    agent.update(worse)  # the report is of the first
    assert all(torch.equal(a, b) for a, b in zip(before, learned(), strict=True))
    with pytest.raises(NonFiniteError, match=f"{which} gradient of task 1 is not finite"):
        agent.check()
    agent.check()
    agent.update(batch)
    assert not any(torch.equal(a, b) for a, b in zip(before[:4], learned()[:4], strict=True))


@pytest.mark.parametrize(
    ("combiner", "message"),
    [("fairgrad", "gradient of task 1 is not finite"), ("ls", "gradient is not finite")],
)
def test_off_the_cpu_a_gradient_that_overflows_is_reported(combiner, message, monkeypatch):
    """The task is named where its gradient was looked at."""
    agent, batch = make_agent(combiner, architecture="one_hot"), make_batch()
    batch.reward[1] = 4e18  # the loss is still finite, the square of its gradient not
    monkeypatch.setattr(Tensor, "is_cuda", property(lambda self: True))
    metrics = agent.update_critic(batch)
    assert metrics["losses/critic/{task}"].isfinite().all()
    with pytest.raises(NonFiniteError, match=f"the critic {message}"):
        agent.check()


def test_a_temperature_step_that_is_not_finite_is_not_taken():
    agent, log_prob = make_agent(), torch.zeros(K, B)
    log_prob[2, 0] = float("inf")
    with pytest.raises(NonFiniteError, match="temperature gradient of task 2 is not finite"):
        agent.update_temperature(log_prob)
    assert (agent.log_temperature == 0).all()


def test_a_state_of_another_device_leaves_the_optimisers_to_this_one():
    agent = make_agent()
    state = copy.deepcopy(agent.state_dict())
    for name in ("actor_optimizer", "critic_optimizer", "temperature_optimizer"):
        state[name]["param_groups"][0]["capturable"] = True  # as CUDA graphs need it
    agent.load_state_dict(state)
    for adam in (agent.actor_optimizer.adam, agent.temperature_optimizer):
        assert not adam.param_groups[0]["capturable"]
    agent.update(make_batch())


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_all_products_of_an_update_are_in_its_precision_and_actions_in_float32(
    precision, dtype, monkeypatch
):
    agent, seen = make_agent(precision=precision), []

    def watched(x, weight, bias):
        seen.append(x.dtype)
        return shared_linear(x, weight, bias)

    monkeypatch.setattr(networks, "shared_linear", watched)
    agent.update(make_batch())
    assert seen == [dtype] * 5 * NETWORK.depth  # two networks for targets, and for losses three
    seen.clear()
    agent.act(np.zeros((K, OBS), np.float32))
    assert seen == [torch.float32] * NETWORK.depth


def test_a_state_of_another_version_is_refused_and_changes_nothing():
    agent, state = make_agent(), make_agent(seed=1).state_dict()
    before = [parameter.clone() for parameter in agent.actor.parameters()]
    state["critic_optimizer"]["param_groups"][0]["params"] = [0, 1, 2]
    with pytest.raises(
        ValueError, match="critic_optimizer holds 3 parameters, this one 1: the state"
    ):
        agent.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(before, agent.actor.parameters(), strict=True))


@pytest.mark.gpu
def test_state_moves_between_devices():
    agent = make_agent()
    agent.update(make_batch())
    on_gpu = MultiTaskSAC(
        OBS, ACT, K, *(make_combiner("fairgrad", K) for _ in range(2)), config=CONFIG, device="cuda"
    )
    on_gpu.load_state_dict(agent.state_dict())
    on_gpu.update(Batch(*(part.cuda() for part in make_batch())))
    agent.load_state_dict(on_gpu.state_dict())
    agent.update(make_batch())


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
    module = sys.modules["mtrl_fair.task_gradients"]  # hidden by the function of that name
    settled, seen = module._settle, []

    def settle(slot, gradient):
        seen.append((tuple(slot.tensor.shape), slot.written, gradient is None))
        return settled(slot, gradient)

    monkeypatch.setattr(module, "_settle", settle)
    agent.update(make_batch())
    direct = [shape for shape, written, alone in seen if written and alone]
    linear = [
        (K, *module.weight.shape)
        for network in (agent.critic, agent.actor)
        for module in network.trunk
        if hasattr(module, "weight") and module.weight.shape[-2] > 1
    ]
    assert len(linear) == 4
    assert set(linear) <= set(direct)
    assert len(direct) == 2 * len(linear)  # their biases, too


def test_an_agent_is_not_copied():
    with pytest.raises(TypeError, match=r"load this one's state_dict"):
        copy.deepcopy(make_agent())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_network_s_parameters_are_views_of_one_vector(architecture):
    network = make_agent(architecture=architecture).critic
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    flat = FlatParameters(network)
    own = network.task_parameter_names()
    assert set(flat.own) == own
    assert set(flat.shared) == set(before) - own
    assert flat.vector.numel() == sum(value.numel() for value in before.values())
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, before[name])
    flat.vector.fill_(2.0)
    flat.vector.grad.copy_(torch.arange(flat.vector.numel()))
    parts = {**flat.shared, **flat.own}
    for name, parameter in network.named_parameters():
        assert (parameter == 2).all()
        assert (parts[name] == 2).all()
        assert parameter.grad.shape == parameter.shape
    shared = torch.cat([network.get_parameter(name).grad.flatten() for name in flat.shared])
    assert torch.equal(shared, torch.arange(flat.num_shared).float())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("which", ["critic", "actor"])
def test_bf16_gradients_are_close_to_fp32_ones(which, architecture):
    """Within 10 % of each task's gradient norm; every other number of the update is float32."""
    network = NetworkConfig(width=64, depth=3)
    config = SACConfig(actor=network, critic=network, max_grad_norm=None)
    agents = [
        make_agent(architecture=architecture, config=config, precision=precision)
        for precision in ("fp32", "bf16")
    ]
    parts = zip(*(make_batch(seed) for seed in range(16)), strict=True)
    batch = Batch(*(torch.cat(part, 1) for part in parts))
    seen = []
    for agent in agents:
        metrics = getattr(agent, f"update_{which}")(batch)
        size = getattr(agent, f"{which}_optimizer").parameters.num_shared
        seen.append(agent.task_gradients[: K * size].view(K, size).clone())
        metrics = metrics[0] if which == "actor" else metrics
        assert all(v.dtype == torch.float32 for key, v in metrics.items() if "conflicts" not in key)
        for state in getattr(agent, f"{which}_optimizer").adam.state.values():
            assert all(part.dtype == torch.float32 for part in state.values())
    exact, rounded = seen
    errors = (rounded - exact).norm(dim=1) / exact.norm(dim=1)
    assert (errors > 1e-4).all()  # it really computes in bfloat16
    assert (errors < 0.1).all(), errors


@pytest.mark.parametrize("combiner", ["fairgrad", "ls"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_learns_two_opposite_identity_tasks(combiner, precision):
    """Observation in [-1, 1], one-step episodes; task 0 wants action = observation, task 1 its
    negative. A policy that confuses tasks earns -4/3 on average, a perfect one 0."""
    network = NetworkConfig(width=64, depth=2)
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

    for step in range(700):
        observation = observe()
        action = agent.act(observation)
        reward = -((action - sign * observation) ** 2).sum(1)
        replay.add(Transition(observation, action, reward, np.ones(2, bool), observe()))
        if step >= 50:
            agent.update(replay.sample(64))
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
        ({"actor_learning_rate": -1.0}, "actor_learning_rate is -1.0"),
        ({"log_std_min": 3.0}, "log_std_min is 3.0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm is 0.0"),
        ({"combine_temperature": True}, "needs a single temperature"),
    ],
)
def test_impossible_hyperparameters_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SACConfig(**options)
