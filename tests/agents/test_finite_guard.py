"""Values that are not finite change nothing and are reported with their task."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mtrl_fair import NonFiniteError
from tests.agents.small_agent import CONFIG, NETWORK, OBS, B, K, make_agent, make_batch


def test_a_non_finite_loss_names_the_task_and_changes_nothing():
    agent, batch = make_agent(), make_batch()
    batch.reward[1, 0] = float("inf")
    network = agent.critic.network
    before = [parameter.clone() for parameter in network.parameters()]
    with pytest.raises(NonFiniteError, match="critic loss of task 1 is not finite"):
        agent.update(batch)
    assert all(
        torch.equal(a, b) for a, b in zip(before, agent.critic.network.parameters(), strict=True)
    )


def test_a_non_finite_head_gradient_is_caught():
    network = replace(NETWORK, layer_norm=False)
    agent, batch = make_agent("ls", config=replace(CONFIG, critic=network)), make_batch()
    # A head of zeros shields the trunk from a huge error; only the head's own gradient shows it.
    agent.critic.network.head.weight.data.zero_()
    agent.critic.network.trunk[-2].weight.data.fill_(1e10)
    batch.reward[2] = 1e18
    with pytest.raises(NonFiniteError, match="critic gradient of task 2"):
        agent.update(batch)


def test_an_action_that_is_not_finite_names_the_task():
    agent = make_agent()
    agent.actor.network.head.bias.data[1] = float("nan")
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
        optimizers = (agent.actor.optimizer.adam, agent.critic.optimizer.adam)
        states = [*optimizers, agent.temperature.adam]
        moments = [
            part for adam in states for state in adam.state.values() for part in state.values()
        ]
        networks = [agent.actor.network, agent.critic.network]
        parameters = [p for network in networks for p in network.parameters()]
        return [
            tensor.clone() for tensor in (*parameters, agent.temperature.log_temperature, *moments)
        ]

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
    assert (agent.temperature.log_temperature == 0).all()
