"""Soft actor-critic in one file, Stable-Baselines3's and TorchRL's, with the combiner in it."""

import ast
import dataclasses
import difflib
from pathlib import Path

import pytest
import torch

from envs.constants import ACTION_SIZE, OBSERVATION_SIZE
from scripts.integrations import (
    sac_single_file,
    sac_single_file_fairgrad,
    stable_baselines3_sac,
    torchrl_sac,
)
from tests.scripts.integrations.gradients import Update, assert_equation_4
from tests.scripts.integrations.short_runs import ARGUMENTS, TASKS, run_script, transitions
from tests.task_rows import flat

# Meta-World's one-hot wrapper makes its float64 bounds into gymnasium's default, float32.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*Box (low|high)'s precision lowered:UserWarning"),
]


def assert_rows_are_of_their_tasks(update: Update) -> None:
    """Task k's gradient reaches the first layer's column of task id k, and no other's."""
    sizes = [parameter.numel() for parameter in update.parameters]
    first_layers = 0
    for part, parameter in zip(update.rows.split(sizes, dim=1), update.parameters, strict=True):
        inputs_without_task = parameter.shape[-1] - len(TASKS)
        if inputs_without_task in (OBSERVATION_SIZE, OBSERVATION_SIZE + ACTION_SIZE):
            columns = part.unflatten(1, parameter.shape)[..., OBSERVATION_SIZE:][..., : len(TASKS)]
            reached = columns.flatten(1, -2).abs().amax(1) > 0
            assert torch.equal(reached, torch.eye(len(TASKS), dtype=torch.bool))
            first_layers += 1
    assert first_layers > 0


@pytest.mark.parametrize(
    "name", ["sac_single_file_fairgrad", "stable_baselines3_sac", "torchrl_sac"]
)
def test_critic_and_actor_follow_the_fair_direction(name, updates, monkeypatch):
    run_script(monkeypatch, name, "--learning-starts", "100")
    assert len(updates) == 60
    critic, actor = updates[:2]
    features = OBSERVATION_SIZE + len(TASKS)
    for update, network in [(critic, sac_single_file.Critic), (actor, sac_single_file.Actor)]:
        assert len(update.values) == len(flat(network(features, ACTION_SIZE, 16).parameters()))
    for update in updates:
        assert update.losses.isfinite().all()
        assert_rows_are_of_their_tasks(update)
        rows = update.rows.double()
        assert_equation_4(rows @ rows.mT, update.weights)
        expected = update.weights @ update.rows
        assert (update.gradient - expected).norm() < 1e-3 * expected.norm()
    for of_network in (updates[::2], updates[1::2]):
        ratios = torch.stack([update.weights.max() / update.weights.min() for update in of_network])
        assert ratios.median() > 1.05
        first = of_network[0]
        moved = flat(first.parameters) - first.values
        assert moved.isfinite().all()
        assert (moved != 0)[first.gradient != 0].float().mean() > 0.99


def code_lines(module) -> list[str]:
    """Without the docstring."""
    text = Path(module.__file__).read_text()
    return text.splitlines()[ast.parse(text).body[0].end_lineno :]


def test_fairgrad_changes_at_most_three_lines_per_network():
    ordinary, fair = code_lines(sac_single_file), code_lines(sac_single_file_fairgrad)
    changes = [line for line in difflib.ndiff(ordinary, fair) if line[0] in "+-"]
    added = [line[2:].strip() for line in changes if line[0] == "+"]
    removed = [line[2:].strip() for line in changes if line[0] == "-"]
    setup = [line for line in added if line == "import mtrl_fair" or "make_combiner" in line]
    update = [line for line in added if line not in setup]
    actor = [line for line in update if line.startswith("actor")]
    assert len(setup) == 3
    assert len(update) - len(actor) <= 3
    assert len(actor) <= 3
    assert len(removed) == 4


def test_with_shares_for_weights_the_fairgrad_file_is_the_ordinary_one(shares_for_weights):
    arguments = dataclasses.replace(ARGUMENTS, steps=110)
    ordinary = sac_single_file.train(arguments)
    fair = sac_single_file_fairgrad.train(arguments)
    for one, other in zip(ordinary[:2], fair[:2], strict=True):
        torch.testing.assert_close(
            flat(one.parameters()), flat(other.parameters()), rtol=1e-4, atol=1e-5
        )


ONLY_RANDOM = dataclasses.replace(ARGUMENTS, learning_starts=ARGUMENTS.steps)


def stored_by_single_file(monkeypatch):
    _, _, replay = sac_single_file.train(ONLY_RANDOM)
    assert replay.added == ONLY_RANDOM.steps * len(TASKS)
    fields = (replay.stored.observation, replay.stored.next_observation, replay.stored.terminated)
    return [field[: replay.added].unflatten(0, (-1, len(TASKS))) for field in fields]


def stored_by_stable_baselines3(monkeypatch):
    buffer = stable_baselines3_sac.train(ONLY_RANDOM).replay_buffer
    fields = (buffer.observations, buffer.next_observations, buffer.dones * (1 - buffer.timeouts))
    return [torch.as_tensor(field[: ONLY_RANDOM.steps]) for field in fields]


def stored_by_torchrl(monkeypatch):
    rows = []
    monkeypatch.setattr(
        torchrl_sac.TensorDictReplayBuffer, "extend", lambda _, row: rows.append(row)
    )
    torchrl_sac.train(ONLY_RANDOM)
    stored = torch.stack(rows)
    assert stored["next", "done"].sum() == 2 * len(TASKS)
    return stored["observation"], stored["next", "observation"], stored["next", "terminated"]


def stored_by_policy_evaluation(monkeypatch):
    stored = transitions()
    fields = (stored.observation, stored.next_observation, stored.terminated)
    return [field.transpose(0, 1) for field in fields]


@pytest.mark.parametrize(
    "stored_by",
    [
        stored_by_single_file,
        stored_by_stable_baselines3,
        stored_by_torchrl,
        stored_by_policy_evaluation,
    ],
)
def test_a_truncated_episode_leads_to_its_own_last_observation(stored_by, monkeypatch):
    observation, following, terminated = stored_by(monkeypatch)  # [step, task, …]
    assert not terminated.any()
    goes_on = (observation[1:] == following[:-1]).all(-1)
    for task in range(len(TASKS)):
        assert (~goes_on[:, task]).nonzero().flatten().tolist() == [49, 99]
    # The second half of an observation is the previous one; a reset's first one repeats itself.
    assert torch.equal(following[..., 18:36], observation[..., :18])
    assert torch.equal(following[..., -2:], torch.eye(2).expand(len(following), 2, 2))
