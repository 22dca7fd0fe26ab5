"""`train.py` on real Meta-World, in this process: files, resuming, ends and refusals."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils import _pytree as pytree

from configs import RUN_KIND
from mtrl_fair.runs import RunDirectory
from scripts import plot, train
from tests.scripts.commands import run_here
from tests.scripts.short_trainings import (
    ONE_PROCESS,
    TASKS,
    assert_same_run,
    load,
    resume_here,
    train_here,
)
from tests.scripts.test_train_input import exits_with_2

ROOT = Path(__file__).parents[2]


def test_a_run_directory_holds_what_the_readme_says(finished):
    names = {path.name for path in finished.iterdir()}
    assert {"config.json", "metadata.json", "metrics.jsonl", "evaluations.csv"} <= names
    assert {p.name for p in (finished / "checkpoints").iterdir()} == {"latest.pt", "best.pt"}
    config = json.loads((finished / "config.json").read_text())
    assert (config["tasks"], config["combiner"], config["alpha"]) == (list(TASKS), "fairgrad", 1.0)
    assert config["environment"]["overlap"] == ("on" if torch.cuda.is_available() else "off")
    assert not {"run_dir", "resume"} & config.keys()
    with (finished / "evaluations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["step", "task", "success", "episodes", "return", "episode_length"]
    assert [(row["step"], row["task"]) for row in rows] == [
        (step, task) for step in ("80", "160", "240") for task in TASKS
    ]
    assert all(row["episodes"] == "2" and 0 <= float(row["success"]) <= 1 for row in rows)


def test_a_run_says_where_it_is_and_what_to_do_next(finished_run):
    path, output = finished_run
    assert output.startswith(f"run directory: {path}\ncurves: ")
    assert output.count("evaluating") == 3  # once per evaluation
    assert "evaluation at step 80" in output
    assert output.splitlines()[-1].endswith(f"evaluate.py {path}")


def test_tensorboard_holds_every_key_of_the_glossary_and_no_other(finished):
    events = EventAccumulator(str(finished)).Reload()
    written = set(events.Tags()["scalars"])
    document = (ROOT / "docs" / "metrics.md").read_text()
    glossary = document.split("## The supervised trainer")[0]
    documented = set()
    for line in glossary.splitlines():
        if line.startswith("| `"):
            key = line.split("`")[1]
            for network in ("critic", "actor"):
                for task in TASKS:
                    documented.add(key.replace("{network}", network).replace("{task}", task))
    assert written == documented
    success = events.Scalars("charts/mean_success_rate")
    assert [point.step for point in success] == [80, 160, 240]
    weights = events.Scalars(f"fairness/weight/{TASKS[0]}/critic")
    assert [point.step for point in weights] == list(range(60, 241, 20))
    assert all(point.value > 0 for point in weights)


@pytest.mark.slow
def test_resuming_gives_the_numbers_of_the_uninterrupted_run(finished, tmp_path):
    path = tmp_path / "run"
    assert train_here(path, "--total-steps", "160").code == 0
    assert resume_here(path, "--total-steps", "240").code == 0
    assert_same_run(path, finished)
    assert json.loads((path / "config.json").read_text())["total_steps"] == 240
    resumed = json.loads((path / "metadata.json").read_text())["resumed"]
    assert [entry["step"] for entry in resumed] == [160]


def test_a_run_that_ended_before_its_first_checkpoint_begins_again(finished, tmp_path, monkeypatch):
    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(train, "train_run", lambda config, run, *rest: run.unlock())  # as a kill does
        assert train_here(path).code == 130
    assert [each.name for each in (path / "checkpoints").iterdir()] == []
    (path / "metrics.jsonl").touch()  # a kill between the two leaves it empty
    result = resume_here(path)
    assert (result.code, result.errors) == (0, "")
    assert_same_run(path, finished)
    (path / "checkpoints" / "latest.pt").unlink()
    result = resume_here(path)
    assert result.code == 2
    assert "latest.pt: the run ended before it had one, the file was moved" in result.errors


def test_resuming_a_finished_run_does_nothing(finished):
    before = (finished / "metrics.jsonl").read_bytes()
    result = resume_here(finished)
    assert result.code == 0
    assert "is finished: 240 of 240 steps" in result.output
    assert result.output.endswith("To continue it, raise --total-steps.\n")
    assert (finished / "metrics.jsonl").read_bytes() == before
    RunDirectory.open(finished).lock()  # it was let go


def test_a_run_that_reached_its_level_is_finished_until_the_level_is_taken_away(copied):
    directory = RunDirectory.open(copied, RUN_KIND)
    state = directory.load_checkpoint("latest")
    state["loop"]["best_success"] = 0.97
    directory.save_checkpoint("latest", state)
    longer = ("--total-steps", "260", "--stop-at-success")
    result = resume_here(copied, *longer, "0.95")
    assert result.code == 0
    assert "240 of 260 steps, best mean success 0.970. To continue it, give --stop" in result.output
    assert resume_here(copied, *longer, "None").code == 0
    assert directory.load_checkpoint("latest")["step"] == 260


def test_a_run_that_was_stopped_before_its_last_evaluation_is_not_finished(copied, finished):
    directory = RunDirectory.open(copied, RUN_KIND)
    state = directory.load_checkpoint("latest")
    state["loop"]["evaluated_step"] = 160
    directory.save_checkpoint("latest", state)
    directory.rewind(220)
    result = resume_here(copied)
    assert result.code == 0
    assert "evaluation at step 240" in result.output
    ours, theirs = (RunDirectory.open(path, RUN_KIND) for path in (copied, finished))
    assert ours.evaluations() == theirs.evaluations()


@pytest.mark.parametrize("network", ["critic", "actor"])
def test_a_diverging_run_stops_with_the_task_and_a_finite_checkpoint(tmp_path, network):
    path = tmp_path / "run"
    result = train_here(path, f"--agent.{network}-learning-rate", "1e30")
    assert result.code == 1
    assert result.errors.startswith("error: the ")
    assert "reach-v3" in result.errors
    assert "is not finite at step" in result.errors
    assert result.errors.count("\n") == 1
    assert "--combining.actor-min-loss" not in result.errors  # FairGrad has no use for it
    for name, step in (("latest", 0), ("last_finite", 50)):
        state = load(path, name)
        assert state["step"] >= step
        tensors = [x for x in pytree.tree_leaves(state) if isinstance(x, torch.Tensor)]
        assert all(tensor.isfinite().all() for tensor in tensors if tensor.is_floating_point())


def test_a_loss_below_its_bound_stops_the_run_with_the_setting_that_mends_it(tmp_path):
    flags = ("--combining.actor", "si", "--combining.actor-min-loss", "1000")
    result = train_here(tmp_path / "run", *flags)
    assert result.code == 1
    assert "si needs losses above min_loss = 1000" in result.errors
    assert "(--combining.actor-min-loss) in a new run; step 52" in result.errors
    assert result.errors.count("\n") == 1


def test_a_run_without_updates_says_so(tmp_path):
    result = train_here(tmp_path / "run", "--total-steps", "1", "--eval-episodes", "1")
    assert result.code == 0
    assert "note: there will be no update, because the run ends at step 1 and" in result.output


def test_the_machine_s_description_has_the_threads_that_are_used(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "train_run", lambda *arguments: True)
    assert train_here(tmp_path / "run", "--threads", "3").code == 0  # beside OMP_NUM_THREADS=1
    metadata = json.loads((tmp_path / "run" / "metadata.json").read_text())
    assert metadata["machine"]["torch_threads"] == 3


@pytest.mark.slow
def test_what_a_run_leaves_can_be_drawn(finished, tmp_path):
    for figure in ("success", "tasks", "runs", "weights"):
        path = tmp_path / f"{figure}.png"
        plot.main([str(finished), "--figure", figure, "--output", str(path)])
        assert path.read_bytes().startswith(b"\x89PNG")


def test_a_run_is_read_only_once_it_is_locked(copied, capsys):
    (copied / "checkpoints" / "latest.pt").write_bytes(b"half written by the other process")
    owner = RunDirectory.open(copied)
    owner.lock()
    message = exits_with_2(train.main, ["--resume", str(copied)], capsys)
    assert "another process is training" in message
    owner.unlock()
    assert "is truncated" in exits_with_2(train.main, ["--resume", str(copied)], capsys)
    owner.lock()  # a refusal lets it go


def test_a_run_directory_that_exists_is_left_alone(finished, capsys):
    before = (finished / "config.json").read_bytes()
    message = exits_with_2(train.main, ["--run-dir", str(finished)], capsys)
    assert f"{finished} exists: choose another with --run-dir, or continue" in message
    assert f"--resume {finished}" in message
    assert (finished / "config.json").read_bytes() == before


def test_a_resume_that_would_change_the_run_is_refused(finished, capsys):
    for flags, message in [
        (["--alpha", "2"], "alpha is 1.0 in"),
        (["--agent.batch-size", "9"], "agent.batch_size is 8 in"),
        (["--combining.options", "c", "1"], "combining.options.c is None in"),
        (["--run-dir", "elsewhere"], "leave --run-dir out"),
        (["--total-steps", "100"], "--total-steps 100 is less than the run's 240"),
        (["--threads", "0"], "--threads is 0, expected at least 1"),
    ]:
        assert message in exits_with_2(train.main, ["--resume", str(finished), *flags], capsys)


def test_damaged_checkpoints_are_refused_and_kept(copied, capsys):
    path = copied / "checkpoints" / "latest.pt"
    whole = path.read_bytes()
    resume = ["--resume", str(copied), "--total-steps", "300"]
    for content in (whole[: len(whole) // 2], b"PK\x03\x04 foreign"):
        path.write_bytes(content)
        assert "truncated or no checkpoint" in exits_with_2(train.main, resume, capsys)
        assert path.read_bytes() == content
    shutil.copy(copied / "checkpoints" / "best.pt", path)
    assert "lacks replay, envs, loop" in exits_with_2(train.main, resume, capsys)
    path.unlink()
    assert "there is no checkpoint" in exits_with_2(train.main, resume, capsys)


def test_a_state_of_other_combiners_is_refused_in_one_line(copied, capsys):
    directory = RunDirectory.open(copied, RUN_KIND)
    state = directory.load_checkpoint("latest")
    config = json.loads((copied / "config.json").read_text()) | {"combiner": "uw"}
    directory.write_config(config)  # whose log-variances the optimisers hold, too
    directory.save_checkpoint("latest", state)
    before = (copied / "metrics.jsonl").read_bytes()
    result = resume_here(copied, "--total-steps", "300", *ONE_PROCESS)
    assert result.code == 2
    assert result.errors.startswith("error: the saved ")
    assert result.errors.count("\n") == 1
    assert (copied / "metrics.jsonl").read_bytes() == before


def test_a_configuration_that_does_not_match_the_checkpoint_is_refused(copied, capsys):
    path = copied / "config.json"
    path.write_text(path.read_text().replace('"alpha": 1.0', '"alpha": 3.0'))
    message = exits_with_2(train.main, ["--resume", str(copied), "--total-steps", "300"], capsys)
    assert "alpha is 3.0 there and 1.0 in the checkpoint" in message


def test_the_comparison_of_runs_notices_one_number(copied, finished):
    assert_same_run(copied, finished)
    path = copied / "checkpoints" / "latest.pt"
    state = load(copied)
    tensors = [x for x in pytree.tree_leaves(state["agent"]) if isinstance(x, torch.Tensor)]
    tensors[0].view(-1)[-1] += 1e-6
    torch.save(state, path)
    with pytest.raises(AssertionError):
        assert_same_run(copied, finished)


def test_help_names_presets_and_flags():
    result = run_here(train.main, "--help")
    assert result.code == 0
    for words in ("mt10-quickstart", "--stop-at-success", "--agent.critic.layer-norm"):
        assert words in result.output
