"""Replay with self-identifying data: every number says which task and step it belongs to."""

import numpy as np
import pytest
import torch

from agents import ReplayBuffer, Transition
from mtrl_fair.runs.checkpoints import restore_generator

K = 3


def transition(step: int) -> Transition:
    """observation = (task, step), next_observation = (task, step + 1), and so on."""
    tasks = np.arange(K, dtype=np.float32)
    steps = np.full(K, step, np.float32)
    return Transition(
        observation=np.stack([tasks, steps], 1),
        action=np.stack([tasks, steps, steps], 1),
        reward=100 * tasks + steps,
        terminated=steps % 2 == 0,
        next_observation=np.stack([tasks, steps + 1], 1),
    )


def buffer(capacity: int = 8, **options) -> ReplayBuffer:
    return ReplayBuffer(K, capacity, 2, 3, **options)


def test_samples_keep_task_and_time_together():
    replay = buffer(capacity=8)
    for step in range(11):  # wraps around
        replay.add(transition(step))
    batch = replay.sample(200)
    task, step = batch.observation.unbind(-1)
    assert torch.equal(task, torch.arange(K).float().unsqueeze(1).expand(K, 200))
    assert torch.equal(batch.next_observation, torch.stack([task, step + 1], -1))
    assert torch.equal(batch.action, torch.stack([task, step, step], -1))
    assert torch.equal(batch.reward, 100 * task + step)
    assert torch.equal(batch.terminated, (step % 2 == 0).float())
    for row in step:  # the latest 8 of 11, each of them
        assert row.unique().tolist() == [3, 4, 5, 6, 7, 8, 9, 10]


def test_tasks_are_sampled_independently():
    replay = buffer(capacity=100)
    for step in range(100):
        replay.add(transition(step))
    steps = replay.sample(50).observation[..., 1]
    assert not torch.equal(steps[0], steps[1])


def test_nothing_unwritten_is_sampled():
    replay = buffer(capacity=1000)
    replay.add(transition(5))
    assert (replay.sample(100).observation[..., 1] == 5).all()


def test_an_empty_buffer_says_so():
    with pytest.raises(ValueError, match="replay buffer is empty"):
        buffer().sample(1)


def test_rewards_are_normalised_per_task_when_sampled():
    replay = buffer(capacity=4, normalize_reward=True)
    generator = np.random.default_rng(0)
    scale = np.array([0.1, 1.0, 10.0])
    for step in range(3_000):
        noise = generator.normal(size=K)
        replay.add(transition(step)._replace(reward=5 + scale * noise))
    assert (replay.storage.reward[2] > 1).any()  # stored raw
    deviation = replay.reward_deviation
    np.testing.assert_allclose(deviation.numpy(), scale, rtol=0.1)
    batch = replay.sample(64)
    unscaled = (batch.reward * deviation.unsqueeze(1)).unsqueeze(-1)
    stored = replay.storage.reward.unsqueeze(1)
    assert ((unscaled - stored).abs().amin(-1) < 1e-4).all()


@pytest.mark.parametrize("rate", [1e-5, 1e-3, 0.1])
def test_the_first_rewards_count_alike_and_later_ones_by_the_rate(rate):
    replay = buffer(capacity=10, normalize_reward=True, reward_rate=rate)
    rewards = np.random.default_rng(0).uniform(3, 4, (50, K)).astype(np.float32)
    mean, variance = np.zeros(K), np.ones(K)
    for step, reward in enumerate(rewards):
        replay.add(transition(step)._replace(reward=reward))
        deviation = reward - mean
        mean += max(rate, 1 / (step + 1)) * deviation
        variance += max(rate, 1 / (step + 2)) * (deviation * (reward - mean) - variance)
        np.testing.assert_allclose(replay.reward_mean.numpy(), mean, rtol=1e-12)
        np.testing.assert_allclose(replay.reward_variance.numpy(), variance, rtol=1e-12)
        if (step + 2) * rate <= 1:
            seen = rewards[: step + 1].astype(float)
            np.testing.assert_allclose(mean, seen.mean(0))
            squares = ((seen - seen.mean(0)) ** 2).sum(0)
            np.testing.assert_allclose(variance, (1 + squares) / (step + 2))


def test_state_round_trip_continues_bit_for_bit():
    original, restored = buffer(), buffer(seed=9)
    for step in range(5):
        original.add(transition(step))
    original.sample(4)
    restored.load_state_dict(original.state_dict())
    for ours, theirs in zip(original.sample(50), restored.sample(50), strict=True):
        assert torch.equal(ours, theirs)
    for step in range(5, 12):
        for replay in (original, restored):
            replay.add(transition(step))
        for ours, theirs in zip(original.sample(6), restored.sample(6), strict=True):
            assert torch.equal(ours, theirs)
        assert torch.equal(original.reward_variance, restored.reward_variance)


def test_a_generator_of_another_device_is_reseeded_from_what_was_saved():
    """A CUDA generator's state has 16 bytes, a CPU generator's thousands."""
    states = []
    for byte in (1, 1, 2):
        generator = torch.Generator()
        restore_generator(generator, torch.full((16,), byte, dtype=torch.uint8))
        states.append(generator.get_state())
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_a_state_larger_than_the_buffer_is_refused():
    full = buffer(capacity=8)
    for step in range(8):
        full.add(transition(step))
    with pytest.raises(ValueError, match="holds 8 transitions per task, but the capacity is 4"):
        buffer(capacity=4).load_state_dict(full.state_dict())
    full.add(transition(8))
    with pytest.raises(ValueError, match="was full with 8 .* but the capacity is 16"):
        buffer(capacity=16).load_state_dict(full.state_dict())  # its next one would leave a gap


def test_a_state_of_other_tasks_is_refused():
    state = buffer().state_dict()
    state["storage"] = {name: part[:1] for name, part in state["storage"].items()}
    with pytest.raises(ValueError, match=r"saved replay's observation has shape \[1, 0"):
        buffer().load_state_dict(state)
