"""The pure functions of SAC, against slow obvious versions."""

import inspect

import pytest
import torch
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from agents.actor import actor_loss, split_policy_output, squashed_sample
from agents.critic import critic_loss, td_target
from agents.temperature import temperature_loss

K, B, A = 3, 5, 2


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_squashed_sample_has_the_density_of_a_tanh_gaussian():
    mean, log_std, noise = rand(K, B, A), 0.3 * rand(K, B, A, seed=1), rand(K, B, A, seed=2)
    action, log_prob = squashed_sample(mean, log_std, noise)
    distribution = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform())
    torch.testing.assert_close(action, torch.tanh(mean + log_std.exp() * noise))
    torch.testing.assert_close(log_prob, distribution.log_prob(action).sum(-1))


def test_log_prob_stays_finite_far_from_the_origin():
    mean = torch.full((1, 1, A), 60.0, requires_grad=True)
    _, log_prob = squashed_sample(mean, torch.zeros(1, 1, A), torch.zeros(1, 1, A))
    log_prob.sum().backward()
    assert log_prob.isfinite().all()
    assert mean.grad.isfinite().all()


def test_log_std_is_clamped():
    mean, log_std = split_policy_output(torch.tensor([[[1.0, -50.0]], [[2.0, 50.0]]]), -20, 2)
    assert mean.flatten().tolist() == [1, 2]
    assert log_std.flatten().tolist() == [-20, 2]


def test_td_target_entry_by_entry():
    reward, terminated = rand(K, B), (rand(K, B, seed=1) > 0).double()
    next_q, log_prob = rand(K, 2, B, seed=2), rand(K, B, seed=3)
    temperature = torch.tensor([[0.1], [0.2], [0.3]], dtype=torch.float64)
    target = td_target(reward, terminated, next_q, log_prob, temperature, 0.9)
    for k in range(K):
        for b in range(B):
            value = min(next_q[k, 0, b], next_q[k, 1, b]) - temperature[k, 0] * log_prob[k, b]
            expected = reward[k, b] + (0 if terminated[k, b] else 0.9 * value)
            assert float(target[k, b]) == pytest.approx(float(expected))


def test_critic_loss_adds_both_mean_squared_errors():
    q, target = rand(K, 2, B), rand(K, B, seed=1)
    expected = [
        sum(torch.nn.functional.mse_loss(q[k, j], target[k]) for j in range(2)) for k in range(K)
    ]
    torch.testing.assert_close(critic_loss(q, target), torch.stack(expected))


def test_actor_loss_is_pessimistic_and_entropy_regularised():
    q, log_prob = rand(K, 2, B), rand(K, B, seed=1)
    temperature = torch.tensor([[0.1], [0.2], [0.3]], dtype=torch.float64)
    expected = torch.stack(
        [(temperature[k] * log_prob[k] - torch.minimum(q[k, 0], q[k, 1])).mean() for k in range(K)]
    )
    torch.testing.assert_close(actor_loss(q, log_prob, temperature), expected)


@pytest.mark.parametrize(("entropy", "direction"), [(-5.0, 1), (-3.0, -1)])
def test_temperature_rises_while_entropy_is_below_its_target(entropy, direction):
    log_temperature = torch.zeros(1, requires_grad=True)
    temperature_loss(log_temperature, torch.full((1, B), -entropy), target_entropy=-4.0).backward()
    assert -log_temperature.grad * direction > 0


def test_swapped_ranks_are_caught():
    """By the functions themselves: annotations are checked in tests only."""
    critic, actor, target = map(inspect.unwrap, (critic_loss, actor_loss, td_target))
    with pytest.raises(AssertionError, match="q has shape"):
        critic(rand(K, B), rand(K, B))
    # With as many samples as tasks, these would broadcast along the wrong axis.
    square, flat = rand(K, K), rand(K)
    with pytest.raises(AssertionError, match="temperature has shape"):
        actor(rand(K, 2, K), square, flat)
    with pytest.raises(AssertionError, match="temperature has shape"):
        target(square, square, rand(K, 2, K), square, flat, 0.9)
    with pytest.raises(AssertionError, match="terminated has shape"):
        target(square, flat, rand(K, 2, K), square, rand(K, 1), 0.9)
