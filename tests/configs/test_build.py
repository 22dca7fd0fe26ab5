"""Every preset's parts fit together: an update on its agent, with samples from its replay."""

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch

from agents import Batch, NetworkConfig, SACConfig, Transition
from configs import PRESETS, CombinerConfig, TrainConfig, check_config, from_dict, to_dict
from configs.build import (
    PARTS,
    build_agent,
    build_combiner,
    build_replay,
    overlaps,
    part_seed,
    resolve_overlap,
)
from envs.constants import ACTION_SIZE, OBSERVATION_SIZE
from mtrl_fair import COMBINERS, LossBoundError

K = 2
SEEDS_OF_ONE = [1641411168, 1454127163, 2749604155, 3056722145, 3734005922, 480482724]
"""Of the parts, with --seed 1: as they were first."""


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_s_agent_updates(name):
    config, device = PRESETS[name], torch.device("cpu")
    agent, replay = (build(config, K, device) for build in (build_agent, build_replay))
    generator = np.random.default_rng(0)
    for _ in range(3):
        observation, following = generator.normal(size=(2, K, OBSERVATION_SIZE)).astype(np.float32)
        action, reward = agent.act(observation), generator.uniform(0, 10, K)
        assert action.shape == (K, ACTION_SIZE)
        replay.add(Transition(observation, action, reward, np.zeros(K, bool), following))
    metrics = agent.update(replay.sample(4))
    assert all(value.isfinite().all() for value in metrics.values())
    fair = config.combiner == "fairgrad"
    weights = metrics["fairness/weight/{task}/critic"]
    assert torch.equal(weights, torch.ones(K)) != fair
    assert agent.temperature.log_temperature.shape == (
        (K,) if config.agent.per_task_temperature else (1,)
    )


def batch_of(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(K, 4, *shape, generator=generator)

    observation, following = randn(OBSERVATION_SIZE), randn(OBSERVATION_SIZE)
    action = randn(ACTION_SIZE).tanh()
    return Batch(observation, action, 10 * randn().sigmoid(), torch.zeros(K, 4), following)


def small(combiner: str, **options) -> TrainConfig:
    network = NetworkConfig(width=16, depth=2)
    agent = SACConfig(actor=network, critic=network)
    return TrainConfig(combiner=combiner, agent=agent, combining=CombinerConfig(**options))


@pytest.mark.parametrize("name", COMBINERS)
def test_every_combiner_trains_both_networks_and_continues_from_its_state(name):
    config, device = small(name), torch.device("cpu")
    agent = build_agent(config, K, device)
    parameters = [
        p.clone() for p in (*agent.actor.network.parameters(), *agent.critic.network.parameters())
    ]
    for seed in range(3):
        metrics = agent.update(batch_of(seed))
        assert all(value.isfinite().all() for value in metrics.values())
    moved = [
        not torch.equal(old, new)
        for old, new in zip(
            parameters,
            (*agent.actor.network.parameters(), *agent.critic.network.parameters()),
            strict=True,
        )
    ]
    assert all(moved)
    again = build_agent(config, K, device)
    again.load_state_dict(copy.deepcopy(agent.state_dict()))
    for seed in range(3, 6):
        expected, actual = agent.update(batch_of(seed)), again.update(batch_of(seed))
        assert all(torch.equal(expected[key], actual[key]) for key in expected)


def test_each_network_may_have_a_combiner_of_its_own():
    for options, expected in [
        ({}, ["pcgrad", "pcgrad"]),
        ({"critic": "fairgrad"}, ["fairgrad", "pcgrad"]),
        ({"actor": "famo"}, ["pcgrad", "famo"]),
    ]:
        agent = build_agent(small("pcgrad", **options), K, torch.device("cpu"))
        kinds = [type(agent.critic.combiner), type(agent.actor.combiner)]
        assert kinds == [COMBINERS[name] for name in expected]


def test_fairgrad_gets_every_option_it_has():
    options = {
        "precondition": False,
        "scale": "tasks",
    }
    config = dataclasses.replace(
        small("ls", critic="fairgrad", **options), alpha=0.5, solver="newton"
    )
    combiner = build_agent(config, K, torch.device("cpu")).critic.combiner
    found = [getattr(combiner, name) for name in ("alpha", "solver", "precondition", "scale")]
    assert found == [0.5, "newton", False, "tasks"]


def test_other_methods_get_the_options_they_have():
    config = small("cagrad", actor="dwa", options={"c": 0.6, "temperature": 1.5})
    check_config(config)
    assert build_combiner(config, K, "critic").c == 0.6
    assert build_combiner(config, K, "actor").temperature == 1.5
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config))), "here") == config


def test_what_a_method_learns_itself_is_learnt():
    agent = build_agent(small("uw"), K, torch.device("cpu"))
    agent.update(batch_of(0))
    for combiner in (agent.critic.combiner, agent.actor.combiner):
        # Adam's first step has the size of the learning rate.
        assert float(combiner.log_variances.detach().abs().max()) == pytest.approx(3e-4, rel=1e-3)
    agent = build_agent(small("famo"), K, torch.device("cpu"))
    agent.update(batch_of(0))
    for combiner in (agent.critic.combiner, agent.actor.combiner):
        assert float(combiner.logits.abs().max()) == pytest.approx(0.025, rel=0.1)


def test_no_two_generators_of_a_run_or_of_two_runs_draw_the_same_numbers():
    drawn = set()
    for seed in range(3):
        config = dataclasses.replace(small("rlw"), seed=seed)
        agent, replay = (
            build(config, K, torch.device("cpu")) for build in (build_agent, build_replay)
        )
        generators = [*agent.generators(), replay.generator]
        assert len(generators) == 4
        # The parameters began with the numbers of the agent's seed.
        generators.append(torch.Generator().manual_seed(part_seed(config, "agent")))
        drawn |= {float(torch.rand((), generator=generator)) for generator in generators}
        # The environments' first row draws its goals from the latter.
        exploration = np.random.default_rng(part_seed(config, "exploration"))
        drawn |= {exploration.random(), np.random.default_rng([seed, 0]).random()}
    assert len(drawn) == 21


def test_a_seed_s_run_stays_what_it_is():
    config = dataclasses.replace(small("rlw"), seed=1)
    assert [part_seed(config, part) for part in PARTS] == SEEDS_OF_ONE


def test_a_loss_below_its_bound_says_which_setting_mends_it():
    agent = build_agent(small("si", actor_min_loss=0.0), K, torch.device("cpu"))
    with pytest.raises(LossBoundError, match="si needs losses above min_loss = 0, but task"):
        agent.update(batch_of(0))


@pytest.mark.parametrize("name", ["dwa", "uw"])
def test_weights_stay_bounded_while_an_actor_s_losses_cross_zero(name):
    combiner = build_combiner(small(name), K, "actor")
    assert build_combiner(small(name), K, "critic").min_loss == 0
    adam = torch.optim.Adam([*combiner.parameters(), torch.nn.Parameter(torch.ones(1))], lr=0.1)
    for step in range(1000):
        losses = torch.linspace(30, -300, K) * (step - 200) / 800 + torch.linspace(9, -8, K)
        weights = combiner.combine(torch.eye(K), losses)[1].weights
        # Beside the bound of -2,000 the losses differ little: so do the weights.
        assert (weights.max() < 1.5 * weights.min()) & (weights.min() > 0)
        adam.step()
        adam.zero_grad()


@pytest.mark.parametrize("weighted", [False, True])
def test_heads_are_weighted_on_request(weighted):
    agent = build_agent(small("fairgrad", weighted_heads=weighted), K, torch.device("cpu"))
    metrics = agent.update_critic(batch_of(0))
    norms = metrics["fairness/head_gradient_norm/{task}/critic"]
    plain = build_agent(small("fairgrad"), K, torch.device("cpu"))
    expected = plain.update_critic(batch_of(0))["fairness/head_gradient_norm/{task}/critic"]
    weights = metrics["fairness/weight/{task}/critic"]
    torch.testing.assert_close(norms, weights * expected if weighted else expected)


@pytest.mark.parametrize(("device", "settled"), [("cpu", "off"), ("cuda", "on")])
def test_a_run_keeps_on_another_device_what_auto_meant(device, settled):
    config = resolve_overlap(TrainConfig(), torch.device(device))
    assert config.environment.overlap == settled
    for other in ("cpu", "cuda"):
        assert overlaps(config, torch.device(other)) is (settled == "on")
