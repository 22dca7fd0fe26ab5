"""What decides an agent's numbers: its seed and its state."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from agents import (
    Batch,
    MultiTaskSAC,
)
from mtrl_fair import make_combiner
from tests.agents.small_agent import ACT, CONFIG, OBS, K, make_agent, make_batch


@pytest.mark.parametrize("combiner", ["fairgrad", "ls"])
def test_the_same_seed_twice_is_bit_identical(combiner):
    def parameters_after_updates(seed: int) -> list[Tensor]:
        agent = make_agent(combiner, seed=seed)
        for step in range(5):
            agent.update(make_batch(step))
        return list(agent.actor.network.parameters())

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


def test_the_averaged_policy_acts_in_evaluations():
    agent = make_agent(config=dataclasses.replace(CONFIG, policy_average_rate=0.3))
    plain = make_agent()
    observation = np.ones((K, OBS), np.float32)
    policies = []
    for step in range(4):
        for learner in (agent, plain):
            learner.update(make_batch(step))
        policies.append([parameter.clone() for parameter in agent.actor.network.parameters()])
        if step == 1:  # its state is saved, too
            saved = copy.deepcopy(agent.state_dict())
            agent = make_agent(config=agent.config)
            agent.load_state_dict(saved)
    weights = 0.7 ** np.arange(3, -1, -1)
    weights /= weights.sum()  # the newest weighs most, and the initial policy nothing
    expected = [
        sum(weight * parameter for weight, parameter in zip(weights, versions, strict=True))
        for versions in zip(*policies, strict=True)
    ]
    for mean, new, same in zip(
        expected, agent.actor.network.parameters(), plain.actor.network.parameters(), strict=True
    ):
        assert torch.equal(new, same)  # training does not see the average
        assert not torch.equal(new, mean)
    np.testing.assert_array_equal(agent.act(observation), plain.act(observation))

    for parameter, mean in zip(plain.actor.network.parameters(), expected, strict=True):
        parameter.copy_(mean)
    np.testing.assert_allclose(
        agent.act(observation, deterministic=True),
        plain.act(observation, deterministic=True),
        rtol=1e-5,
    )

    restored = make_agent(config=agent.config, seed=3)
    restored.load_state_dict(copy.deepcopy(agent.state_dict()))
    for learner in (agent, restored):
        learner.update(make_batch(9))
    actions = [learner.act(observation, deterministic=True) for learner in (agent, restored)]
    np.testing.assert_array_equal(*actions)


def test_a_state_of_another_device_leaves_the_optimisers_to_this_one():
    agent = make_agent()
    state = copy.deepcopy(agent.state_dict())
    for learner in ("actor", "critic", "temperature"):
        state[learner]["optimizer"]["param_groups"][0]["capturable"] = True  # as CUDA graphs need
    agent.load_state_dict(state)
    for adam in (agent.actor.optimizer.adam, agent.critic.optimizer.adam, agent.temperature.adam):
        assert not adam.param_groups[0]["capturable"]
    agent.update(make_batch())


@pytest.mark.parametrize("learner", ["actor", "critic", "temperature"])
def test_a_state_of_another_version_is_refused_and_changes_nothing(learner):
    agent, state = make_agent(), make_agent(seed=1).state_dict()
    before = copy.deepcopy(agent.state_dict())
    state[learner]["optimizer"]["param_groups"][0]["params"] = [0, 1, 2]
    with pytest.raises(
        ValueError, match=f"optimiser of the {learner} holds 3 parameters, this one 1: the state"
    ):
        agent.load_state_dict(state)
    for name, value in before["actor"]["network"].items():
        assert torch.equal(value, agent.actor.network.state_dict()[name])
    assert torch.equal(before["generator"], agent.generator.get_state())


def test_a_state_of_another_layout_is_refused():
    state = make_agent().state_dict()
    for learner in ("actor", "critic", "temperature"):
        broken = {name: part for name, part in state.items() if name != learner}
        with pytest.raises(ValueError, match=f"the saved {learner} has no optimiser: the state is"):
            make_agent().load_state_dict(broken)


@pytest.mark.parametrize(("ours", "theirs"), [("moco", "nash_mtl"), ("nash_mtl", "moco")])
def test_a_state_of_another_combiner_is_refused_and_changes_nothing(ours, theirs):
    agent, state = make_agent(ours), make_agent(theirs, seed=1).state_dict()
    before = [parameter.clone() for parameter in agent.critic.network.parameters()]
    with pytest.raises(ValueError, match="the saved combiner of the critic holds .*: the state is"):
        agent.load_state_dict(state)
    after = agent.critic.network.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


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


def test_an_agent_is_not_copied():
    with pytest.raises(TypeError, match=r"load this one's state_dict"):
        copy.deepcopy(make_agent())
