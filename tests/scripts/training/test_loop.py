"""What the loop stores and keeps, on a stand-in environment whose every number says what it is."""

import csv

import numpy as np
import pytest
import torch
from rich.console import Console

from configs import EnvironmentConfig, TrainConfig
from configs.build import part_seed
from mtrl_fair import NonFiniteError
from mtrl_fair.runs.metrics import MetricLogger
from scripts.training import loop as loop_module
from scripts.training.display import LiveReporter
from scripts.training.loop import TrainingLoop
from tests.scripts.same_states import assert_same_states
from tests.scripts.training.counting_envs import HORIZON, NAMES, K, make_loop


def test_transitions_are_stored_with_the_true_next_observation(tmp_path, evaluations):
    loop = make_loop(tmp_path)
    assert loop.run()
    stored = loop.replay.storage
    for k in range(K):
        for step in range(10):
            episode, time = divmod(step, HORIZON)
            assert stored.observation[k, step].tolist() == [k, episode, time]
            assert stored.next_observation[k, step].tolist() == [k, episode, time + 1]
            assert stored.terminated[k, step] == 0  # a time limit is no termination


def test_transitions_are_stored_with_the_action_that_was_sent_and_its_reward(tmp_path, evaluations):
    loop = make_loop(tmp_path)
    loop.run()
    stored, sent = loop.replay.storage, np.array(loop.envs.sent)
    assert sent.shape == (10, K, 1)
    assert len(np.unique(sent)) == sent.size  # or the order would not show
    np.testing.assert_array_equal(stored.action[:, :10], sent.swapaxes(0, 1))
    rewards = [[100 * k + (step + 1) % HORIZON for step in range(10)] for k in range(K)]
    assert stored.reward[:, :10].tolist() == rewards


def test_actions_are_uniform_until_learning_starts_and_the_policy_s_from_then_on(
    tmp_path, evaluations, monkeypatch
):
    loop = make_loop(tmp_path)
    acted = []
    act = loop.agent.act

    def recorded(observation):
        acted.append(act(observation))
        return acted[-1]

    monkeypatch.setattr(loop.agent, "act", recorded)
    generator = np.random.default_rng(part_seed(loop.config, "exploration"))
    loop.run()
    random = [generator.uniform(-1, 1, (K, 1)).astype(np.float32) for _ in range(3)]
    np.testing.assert_array_equal(loop.envs.sent, random + acted)
    assert len(acted) == 7


@pytest.mark.parametrize("overlap", ["on", "off"])
@pytest.mark.parametrize(("stop", "rate"), [(2, 0.7), (5, 0.25), (6, 0.7), (8, 0.7)])
def test_a_loop_that_is_loaded_goes_on_as_if_it_had_not_stopped(
    tmp_path, evaluations, overlap, stop, rate
):
    """Stops before learning, between an update and its log, between episodes, at an evaluation."""
    options = {"environment": EnvironmentConfig(overlap=overlap), "updates_per_step": rate}
    options |= {"log_every": 3}
    whole = make_loop(tmp_path / "whole", **options)
    assert whole.run()
    evaluations[:] = [0.5, 1.0, 0.5]
    stopped = make_loop(tmp_path, **options)
    assert not stopped.run(lambda: stopped.step == stop)
    run = stopped.run_directory
    loop = make_loop(tmp_path, run=run, **options)
    loop.load_state_dict(run.load_checkpoint("latest"))
    run.continue_from(loop.step, run.config)
    assert loop.run()
    paths = [each.run_directory for each in (whole, loop)]
    assert_same_states(*(path.load_checkpoint("latest") for path in paths))
    assert whole.run_directory.evaluations() == run.evaluations()
    lines = [each.run_directory.metrics() for each in (whole, loop)]
    for line in (*lines[0], *lines[1]):
        line.pop("charts/seconds", None)
        line.pop("charts/steps_per_second", None)
    assert lines[0] == lines[1]


def test_tensorboard_is_told_where_a_loaded_loop_goes_on(tmp_path, evaluations, monkeypatch):
    steps = []

    class Logger(MetricLogger):
        def __init__(self, path, resume_step=None):
            steps.append(resume_step)
            super().__init__(path, resume_step)

    monkeypatch.setattr(loop_module, "MetricLogger", Logger)
    loop = make_loop(tmp_path)
    loop.run(lambda: loop.step == 5)
    loop.run()
    assert steps == [None, 5]


def test_a_loop_can_be_saved_before_it_runs(tmp_path, evaluations):
    loop = make_loop(tmp_path)
    loop.save()
    state = loop.run_directory.load_checkpoint("latest")
    assert (state["step"], state["loop"]["best_success"]) == (0, -1.0)
    assert loop.run()
    state = loop.run_directory.load_checkpoint("latest")
    state["loop"]["seconds"] = 1000.0
    again = make_loop(tmp_path, run=loop.run_directory)
    again.load_state_dict(state)
    again.save()
    seconds = again.run_directory.load_checkpoint("latest")["loop"]["seconds"]
    assert 1000 <= seconds < 1060  # the clock goes on from the state's


def test_training_episodes_are_counted(tmp_path, evaluations):
    loop = make_loop(tmp_path, total_steps=3, log_every=3)
    seen = {}
    loop.reporter.metrics = lambda step, metrics: seen.update(metrics)
    loop.run()
    assert seen["train/first_return"] == 1 + 2 + 0
    assert seen["train/second_return"] == 301 + 2
    assert (seen["train/first_success_rate"], seen["train/second_success_rate"]) == (0, 1)
    for name in NAMES:  # rewards 0, 1 and 2, but for a constant, and a variance of 1 as of one
        assert seen[f"reward/deviation/{name}"] == pytest.approx(np.sqrt((1 + 2) / 4))


def test_evaluations_happen_on_time_and_the_best_is_kept(tmp_path, evaluations):
    loop = make_loop(tmp_path)
    loop.run()
    with (loop.run_directory.path / "evaluations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["4", "4", "8", "8", "10", "10"]
    assert loop.run_directory.load_checkpoint("best")["step"] == 8
    assert loop.run_directory.load_checkpoint("latest")["step"] == 10


@pytest.mark.parametrize(("level", "end"), [(None, 10), (0.5, 4), (0.75, 8), (1.0, 8)], ids=str)
def test_a_run_ends_at_the_first_evaluation_that_reaches_the_level(
    tmp_path, evaluations, level, end
):
    loop = make_loop(tmp_path, stop_at_success=level)
    assert loop.run()
    rows = loop.run_directory.evaluations()
    assert [int(row["step"]) for row in rows[::K]] == [s for s in (4, 8, 10) if s <= end]
    assert loop.run_directory.load_checkpoint("latest")["step"] == end


@pytest.mark.parametrize(("best", "finished_at"), [(0.95, 6), (0.9, 8)])
def test_a_run_that_had_its_level_before_it_is_resumed_evaluates_and_ends(
    tmp_path, evaluations, best, finished_at
):
    loop = make_loop(tmp_path, stop_at_success=0.95)
    evaluations[:] = [0.5, 1.0]
    assert not loop.run(lambda: loop.step == 6)
    loop.best_success, loop.evaluated_step = best, 4
    assert loop.run()
    assert loop.step == loop.evaluated_step == finished_at
    assert int(loop.run_directory.evaluations()[-1]["step"]) == finished_at


def test_a_run_whose_last_evaluation_was_interrupted_is_not_finished(
    tmp_path, evaluations, monkeypatch
):
    loop = make_loop(tmp_path, total_steps=4)
    whole = loop_module.evaluate
    monkeypatch.setattr(loop_module, "evaluate", lambda *arguments: None)
    assert not loop.run()
    monkeypatch.setattr(loop_module, "evaluate", whole)
    assert loop.run()
    assert loop.step == 4


def test_a_level_that_is_never_reached_leaves_the_length_as_it_is(tmp_path, evaluations):
    evaluations[:] = [0.5, 0.75, 0.5]
    loop = make_loop(tmp_path, stop_at_success=1.0)
    assert loop.run()
    assert loop.step == 10


def test_no_update_before_learning_starts(tmp_path, evaluations, monkeypatch):
    loop = make_loop(tmp_path)
    sizes = []
    update = loop.agent.update

    def counted(batch):
        sizes.append(loop.replay.size)
        return update(batch)

    monkeypatch.setattr(loop.agent, "update", counted)
    loop.run()
    assert sizes == list(range(4, 11))  # after the transitions 4 to 10, one update each


@pytest.mark.parametrize("overlap", ["on", "off"])
@pytest.mark.parametrize("rate", [0.25, 0.4, 1.0, 2.5])
def test_updates_keep_their_ratio_to_steps(tmp_path, evaluations, monkeypatch, rate, overlap):
    options = {"environment": EnvironmentConfig(overlap=overlap), "updates_per_step": rate}
    loop = make_loop(tmp_path, learning_starts=1, log_every=100, **options)
    steps = []
    update = loop.agent.update

    def counted(batch):
        steps.append(loop.step)
        return update(batch)

    monkeypatch.setattr(loop.agent, "update", counted)
    loop.run()
    for step in range(1, 10):
        assert abs(steps.count(step) - rate) < 1
        since_start = sum(done <= step for done in steps)
        assert abs(since_start - rate * step) < 1 + rate


def test_a_line_of_metrics_has_the_latest_update_since_the_last_line(
    tmp_path, evaluations, monkeypatch
):
    loop = make_loop(tmp_path, learning_starts=1, updates_per_step=0.25, log_every=2)
    seen = {}
    loop.reporter.metrics = lambda step, metrics: seen.update({step: "losses/critic" in metrics})
    loop.run()
    # Updates in the fourth and the eighth step.
    assert seen == {2: False, 4: True, 6: False, 8: True, 10: False}


def test_overlapping_updates_run_during_the_step_and_lack_its_transition(
    tmp_path, evaluations, monkeypatch
):
    loop = make_loop(tmp_path, environment=EnvironmentConfig(overlap="on"))
    sizes = []
    update = loop.agent.update

    def counted(batch):
        assert loop.envs.stepping
        sizes.append(loop.replay.size)
        return update(batch)

    monkeypatch.setattr(loop.agent, "update", counted)
    loop.run()
    assert sizes == list(range(3, 10))
    assert loop.replay.size == 10


def test_an_update_that_fails_while_the_environments_step_leaves_a_state_to_save(
    tmp_path, evaluations, monkeypatch
):
    loop = make_loop(tmp_path, environment=EnvironmentConfig(overlap="on"))

    def fail(batch):
        raise NonFiniteError("critic loss", [1])

    monkeypatch.setattr(loop.agent, "update", fail)
    with pytest.raises(NonFiniteError, match="critic loss of task 1"):
        loop.run()
    assert loop.run_directory.load_checkpoint("last_finite")["step"] == 3


@pytest.mark.parametrize(
    ("overlap", "device", "expected"),
    [("auto", "cpu", False), ("auto", "cuda", True), ("on", "cpu", True), ("off", "cuda", False)],
)
def test_updates_overlap_by_default_only_with_cuda(tmp_path, overlap, device, expected):
    loop = make_loop(tmp_path)
    loop.agent.device = torch.device(device)
    config = TrainConfig(environment=EnvironmentConfig(overlap=overlap))
    parts = (loop.agent, loop.replay, loop.envs, loop.envs, loop.run_directory, loop.reporter)
    assert TrainingLoop(config, *parts).overlap is expected


@pytest.mark.parametrize("what", ["reward", "observation"])
def test_a_value_that_is_not_finite_never_reaches_the_replay(tmp_path, evaluations, what):
    loop = make_loop(tmp_path)
    step_wait = loop.envs.step_wait

    def spoilt():
        observation, reward, *rest = step_wait()
        if loop.step == 5:
            (reward if what == "reward" else observation)[1] = np.nan
        return observation, reward, *rest

    loop.envs.step_wait = spoilt
    with pytest.raises(NonFiniteError, match="reward or observation of task 1"):
        loop.run()
    assert loop.replay.storage.reward.isfinite().all()
    assert loop.replay.size == 5
    assert loop.run_directory.load_checkpoint("latest")["step"] == 4  # the last evaluation's
    assert loop.run_directory.load_checkpoint("last_finite")["step"] == 5


def test_the_live_display_shows_progress_success_losses_and_weights(tmp_path, evaluations):
    console = Console(
        force_terminal=True, width=110, record=True, file=(tmp_path / "out").open("w")
    )
    with console.file, LiveReporter(console, 10, NAMES) as reporter:
        make_loop(tmp_path, reporter).run()
        shown = Console(width=110, record=True, file=(tmp_path / "shown").open("w"))
        with shown.file:
            shown.print(reporter.render())
        text = shown.export_text()
    assert "step 10/10" in text
    assert "mean success 0.50 at step 10" in text
    for row in ("first", "second"):
        cells = next(line for line in text.splitlines() if row in line).split("│")[2:-1]
        assert len(cells) == 5
        assert all(float(cell) == float(cell) for cell in cells)
    assert "evaluation at step 10" in console.export_text()
