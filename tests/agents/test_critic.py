"""The critic's target and loss, against slow obvious versions."""

import inspect

import pytest
import torch

from agents.critic import critic_loss, td_target

K, B, A = 3, 5, 2


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


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


def test_swapped_ranks_are_caught():
    """By the functions themselves: annotations are checked in tests only."""
    loss, target = map(inspect.unwrap, (critic_loss, td_target))
    with pytest.raises(AssertionError, match="q has shape"):
        loss(rand(K, B), rand(K, B))
    # With as many samples as tasks, these would broadcast along the wrong axis.
    square, flat = rand(K, K), rand(K)
    with pytest.raises(AssertionError, match="temperature has shape"):
        target(square, square, rand(K, 2, K), square, flat, 0.9)
    with pytest.raises(AssertionError, match="terminated has shape"):
        target(square, flat, rand(K, 2, K), square, rand(K, 1), 0.9)
