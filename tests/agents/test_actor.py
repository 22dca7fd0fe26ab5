"""The policy's samples and loss, against slow obvious versions."""

import inspect

import pytest
import torch
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from agents.actor import actor_loss, split_policy_output, squashed_sample

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


def test_actor_loss_is_pessimistic_and_entropy_regularised():
    q, log_prob = rand(K, 2, B), rand(K, B, seed=1)
    temperature = torch.tensor([[0.1], [0.2], [0.3]], dtype=torch.float64)
    expected = torch.stack(
        [(temperature[k] * log_prob[k] - torch.minimum(q[k, 0], q[k, 1])).mean() for k in range(K)]
    )
    torch.testing.assert_close(actor_loss(q, log_prob, temperature), expected)


def test_swapped_ranks_are_caught():
    """By the function itself: annotations are checked in tests only."""
    square, flat = rand(K, K), rand(K)
    with pytest.raises(AssertionError, match="temperature has shape"):
        inspect.unwrap(actor_loss)(rand(K, 2, K), square, flat)
