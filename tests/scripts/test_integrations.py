"""Other people's training code with the combiner in it, on real Meta-World."""

import ast
import dataclasses
import difflib
import functools
import runpy
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from stable_baselines3 import SAC
from tensordict import TensorDict
from torch import Tensor, nn
from torchjd.aggregation import GramianWeightedAggregator
from torchjd.autogram import Engine
from torchjd.autojac import backward, jac_to_grad
from torchrl.objectives import SoftUpdate

import mtrl_fair
from envs import TaskSet
from envs.memory import ACTION_SIZE, OBSERVATION_SIZE
from mtrl_fair import FairGrad, fairgrad_residual
from scripts.integrations import (
    amp,
    policy_evaluation,
    sac_single_file,
    sac_single_file_fairgrad,
    stable_baselines3_sac,
    torchjd_fairgrad,
    torchrl_sac,
)
from scripts.integrations.arguments import AgentArguments, read
from scripts.integrations.policy_evaluation import Transitions, collect, make_critic, td_losses

FOLDER = Path(sac_single_file.__file__).parent
TASKS = ("reach-v3", "drawer-close-v3")
ARGUMENTS = AgentArguments(
    tasks=TASKS, steps=130, learning_starts=100, episode_steps=50, batch_size=64, width=16
)
ALPHA = 2.0

# Meta-World's one-hot wrapper makes its float64 bounds into gymnasium's default, float32.
pytestmark = pytest.mark.filterwarnings("ignore:.*Box (low|high)'s precision lowered:UserWarning")


make_task_set = functools.cache(TaskSet.make)
collect_once = functools.cache(collect)


@pytest.fixture(autouse=True)
def _once(monkeypatch):
    """Drawing goals and starting environments takes seconds."""
    monkeypatch.setattr(TaskSet, "make", staticmethod(make_task_set))
    monkeypatch.setattr(policy_evaluation, "collect", collect_once)


def transitions() -> Transitions:
    return collect_once(TASKS, ARGUMENTS.steps, ARGUMENTS.seed, ARGUMENTS.episode_steps)


def batch(batch_per_task: int = 32) -> Transitions:
    torch.manual_seed(0)
    return transitions().sample(batch_per_task)


def flat(tensors) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def rows_of(losses: Tensor, parameters: list[Tensor]) -> Tensor:
    """[K, P], by one autograd.grad per task."""
    return torch.stack(
        [flat(torch.autograd.grad(loss, parameters, retain_graph=True)) for loss in losses]
    )


class Update(NamedTuple):
    """What a call of `backward` was given and what it did."""

    losses: Tensor
    parameters: list[Tensor]
    values: Tensor
    rows: Tensor
    gradient: Tensor
    weights: Tensor


@pytest.fixture
def updates(monkeypatch) -> list[Update]:
    seen, original = [], FairGrad.backward

    def spy(self, task_losses, shared_parameters, task_parameters=None):
        parameters = list(shared_parameters)
        assert all(p.grad is None or not p.grad.any() for p in parameters)
        rows, values = rows_of(task_losses, parameters), flat(parameters)
        info = original(self, task_losses, parameters, task_parameters)
        gradient = flat(p.grad for p in parameters)
        losses = task_losses.detach()
        seen.append(Update(losses, parameters, values, rows, gradient, info.weights))
        return info

    monkeypatch.setattr(FairGrad, "backward", spy)
    return seen


@pytest.fixture
def shares_for_weights(monkeypatch):
    """Gives each task its share of the batch as weight, as a mean over all samples does."""
    shares, task_mean = [], mtrl_fair.task_mean

    def count(per_sample_loss, task_ids, num_tasks):
        shares.append(torch.bincount(task_ids, minlength=num_tasks) / len(task_ids))
        return task_mean(per_sample_loss, task_ids, num_tasks)

    def weigh(self, task_losses, shared_parameters):
        parameters = list(shared_parameters)
        weights = shares[-1]
        gradients = torch.autograd.grad(weights @ task_losses, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        return mtrl_fair.CombinerInfo(weights, *[torch.zeros(())] * 5)

    monkeypatch.setattr(mtrl_fair, "task_mean", count)
    monkeypatch.setattr(FairGrad, "backward", weigh)


def assert_equation_4(gramian: Tensor, weights: Tensor) -> None:
    assert (weights > 0).all()
    assert fairgrad_residual(gramian, weights, ALPHA) < 1e-3


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


def run_script(monkeypatch, name: str, *words: str) -> None:
    flags = [
        *("--tasks", *TASKS, "--steps", "130"),
        *("--episode-steps", "50", "--batch-size", "64", "--width", "16"),
    ]
    monkeypatch.setattr(sys, "argv", [name, *flags, *words])
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")


# Soft actor-critic


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


# Stable-Baselines3


def test_with_shares_for_weights_it_is_stable_baselines3_s_own_sac(shares_for_weights):
    arguments = dataclasses.replace(ARGUMENTS, steps=110)
    fair = stable_baselines3_sac.train(arguments)
    own = stable_baselines3_sac.train(arguments, SAC)
    assert fair._n_updates == own._n_updates >= 9
    torch.testing.assert_close(
        flat(fair.policy.parameters()), flat(own.policy.parameters()), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(fair.log_ent_coef, own.log_ent_coef)


def test_a_saved_model_goes_on_after_loading(tmp_path, updates):
    model = stable_baselines3_sac.train(dataclasses.replace(ARGUMENTS, steps=105))
    model.save(tmp_path / "model")
    loaded = stable_baselines3_sac.FairGradSAC.load(tmp_path / "model", env=model.env)
    assert loaded.num_tasks == len(TASKS)
    loaded.replay_buffer = model.replay_buffer
    seen = len(updates)
    loaded.set_logger(model.logger)
    loaded.train(gradient_steps=2, batch_size=64)
    assert len(updates) == seen + 4
    rows = updates[-1].rows.double()
    assert_equation_4(rows @ rows.mT, updates[-1].weights)


def test_stable_baselines3_needs_the_number_of_tasks():
    with pytest.raises(ValueError, match="num_tasks is missing"):
        stable_baselines3_sac.FairGradSAC("MlpPolicy", "Pendulum-v1")


# TorchRL


def test_torchrl_s_mean_is_the_mean_of_its_per_sample_losses():
    torch.manual_seed(0)
    _, loss = torchrl_sac.make_loss(len(TASKS), 16)
    SoftUpdate(loss, tau=0.005)  # without one, the loss warns
    some = Transitions(*(field.flatten(0, 1) for field in batch()))
    terminated = torch.zeros(64, 1, dtype=torch.bool)
    outcome = {
        "observation": some.next_observation,
        "reward": some.reward.unsqueeze(1),
        "terminated": terminated,
        "done": terminated,
    }
    data = TensorDict(
        {"observation": some.observation, "action": some.action, "next": outcome}, [64]
    )
    torch.manual_seed(1)
    per_sample = loss(data.clone())
    loss.reduction = "mean"
    torch.manual_seed(1)
    mean = loss(data.clone())
    for key in ("loss_qvalue", "loss_actor", "loss_alpha"):
        assert per_sample[key].shape == (64,)
        torch.testing.assert_close(per_sample[key].mean(), mean[key])


# TorchJD


def test_torchjd_s_two_ways_give_our_direction():
    weighting = torchjd_fairgrad.FairGradWeighting(ALPHA)
    critic = make_critic_of_seed(2)
    parameters = list(critic.parameters())

    def losses() -> Tensor:
        critic.zero_grad()
        some = batch()
        return td_losses(critic, some)

    rows = rows_of(losses(), parameters).double()
    weights = mtrl_fair.fairgrad_weights(rows @ rows.mT, ALPHA).float()
    expected = weights @ rows.float()

    backward(losses())
    found = jac_to_grad(parameters, GramianWeightedAggregator(weighting))
    torch.testing.assert_close(found, weights, rtol=1e-3, atol=0)
    assert (flat(p.grad for p in parameters) - expected).norm() < 1e-3 * expected.norm()

    engine = Engine(critic, batch_dim=None)  # from here on, every loss must go through it
    task_losses = losses()
    found = weighting(engine.compute_gramian(task_losses))
    task_losses.backward(found)
    torch.testing.assert_close(found, weights, rtol=1e-3, atol=0)
    assert (flat(p.grad for p in parameters) - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.parametrize("engine", ["autojac", "autogram"])
def test_torchjd_trains_with_fair_weights(engine, monkeypatch, capsys):
    gramians, original = [], FairGrad.forward

    def spy(self, gramian):
        weights = original(self, gramian)
        gramians.append((gramian.detach().double(), weights.double()))
        return weights

    monkeypatch.setattr(FairGrad, "forward", spy)
    run_script(monkeypatch, "torchjd_fairgrad", "--engine", engine)
    assert len(gramians) == 130
    for gramian, weights in gramians:
        assert_equation_4(gramian, weights)
        assert weights.max() > 1.05 * weights.min()
    first, last = printed_losses(capsys)
    assert last < first


# Mixed precision


def amp_step(update, init_scale: float, dtype=torch.bfloat16) -> Tensor:
    """What one step of plain SGD subtracts from the parameters."""
    some = batch()
    critic = make_critic_of_seed(4)
    before = flat(critic.parameters())
    optimizer = torch.optim.SGD(critic.parameters(), lr=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=init_scale)
    torch.manual_seed(5)
    update(critic, some, FairGrad(ALPHA), optimizer, scaler, dtype)
    return before - flat(critic.parameters())


def make_critic_of_seed(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return make_critic(len(TASKS), 16)


def scale_then_weigh(critic, some, combiner, optimizer, scaler, dtype) -> None:
    """The wrong order."""
    with torch.autocast("cpu", dtype=dtype):
        losses = td_losses(critic, some)
    loss = combiner.scalarize(scaler.scale(losses), critic.parameters())
    optimizer.zero_grad()
    loss.backward()
    scaler.step(optimizer)
    scaler.update()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_step_is_that_of_the_unscaled_losses_whatever_the_scale(dtype):
    some, critic = batch(), make_critic_of_seed(4)
    torch.manual_seed(5)
    with torch.autocast("cpu", dtype=dtype):
        losses = td_losses(critic, some)
    rows = rows_of(losses, list(critic.parameters()))
    weights = mtrl_fair.fairgrad_weights(rows.double() @ rows.double().mT, ALPHA).float()
    expected = weights @ rows
    for init_scale in (1.0, 2.0**6, 2.0**10):
        step = amp_step(amp.update, init_scale, dtype)
        assert (step - expected).norm() < 0.01 * expected.norm()
    torch.manual_seed(5)
    FairGrad(ALPHA).backward(td_losses(critic, some), critic.parameters())
    in_float32 = flat(p.grad for p in critic.parameters())
    assert torch.cosine_similarity(step, in_float32, dim=0) > 0.99


def test_scaling_before_the_weights_would_shrink_the_step():
    right = amp_step(amp.update, 2.0**10)
    wrong = amp_step(scale_then_weigh, 2.0**10)
    # d(cJ) = c^((1 - alpha) / (1 + alpha)) d, and the scaler divides by c
    shrunk = (2.0**10) ** ((1 - ALPHA) / (1 + ALPHA) - 1)
    torch.testing.assert_close(wrong.norm() / right.norm(), torch.tensor(shrunk), rtol=0.01, atol=0)
    unscaled = amp_step(scale_then_weigh, 1.0)
    torch.testing.assert_close(unscaled, amp_step(amp.update, 1.0))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision_trains_with_fair_weights(dtype, monkeypatch, capsys):
    seen, original = [], FairGrad.scalarize

    def spy(self, task_losses, shared_parameters):
        parameters = list(shared_parameters)
        rows = rows_of(task_losses, parameters).double()
        loss = original(self, task_losses, parameters)
        (weights,) = torch.autograd.grad(loss, task_losses, retain_graph=True)
        seen.append((rows @ rows.mT, weights))
        return loss

    monkeypatch.setattr(FairGrad, "scalarize", spy)
    run_script(monkeypatch, "amp", "--dtype", dtype)
    assert len(seen) == 130
    for gramian, weights in seen:
        assert_equation_4(gramian, weights)
        assert weights.max() > 1.05 * weights.min()
    first, last = printed_losses(capsys)
    assert last < first


def printed_losses(capsys) -> tuple[float, float]:
    """The sums of the task losses in the first and in the last line."""
    lines = capsys.readouterr().out.splitlines()
    sums = [sum(ast.literal_eval(line.split("losses ")[1].split("  ")[0])) for line in lines]
    return sums[0], sums[-1]


# The command line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tasks", "reach-v4"], "unknown task 'reach-v4': did you mean reach-v3"),
        (["--tasks", "mt10"], "mt10 is a whole benchmark"),
        (["--steps", "0"], "--steps is 0, expected at least 1"),
        (["--batch-size", "2"], "--batch-size is 2, expected at least 1 for each of 3 tasks"),
        (["--episode-steps", "501"], "--episode-steps is 501, expected 1 to 500"),
        (["--learning-starts", "-1"], "--learning-starts is -1, expected at least 0"),
        (["--seed", "-1"], "--seed is -1, expected 0 to 2**32 - 1"),
    ],
)
def test_bad_input_is_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as caught:
        read(words, AgentArguments(), description=None)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
