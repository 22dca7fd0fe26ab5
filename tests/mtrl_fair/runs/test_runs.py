"""Run directories, checkpoints and metrics: what is written comes back, whole."""

import json
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtrl_fair.runs import RunDirectory, RunError
from mtrl_fair.runs.checkpoints import load_checkpoint, save_checkpoint
from mtrl_fair.runs.metrics import MetricLogger

CONFIG = {"seed": 3, "total_steps": 10, "tasks": ["a"], "device": "cpu"}


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "nested" / "run", CONFIG)


def test_a_new_run_says_what_it_is(run):
    assert json.loads((run.path / "config.json").read_text()) == CONFIG
    metadata = json.loads((run.path / "metadata.json").read_text())
    assert metadata["resumed"] == []
    assert metadata["versions"]["torch"] == torch.__version__
    assert {"started", "command", "commit", "machine"} <= metadata.keys()
    assert metadata["machine"]["cores"] >= 1
    assert RunDirectory.open(run.path).config == CONFIG


def test_an_existing_folder_is_left_alone(run):
    before = (run.path / "config.json").read_bytes()
    with pytest.raises(RunError, match="exists: choose another with --run-dir, or .* --resume"):
        RunDirectory.create(run.path, {"seed": 4})
    assert (run.path / "config.json").read_bytes() == before
    with pytest.raises(RunError, match="exists: choose another with --run-dir$"):
        RunDirectory.create(run.path.parent, {"seed": 4})  # no run: nothing to resume


@pytest.mark.parametrize("content", [None, "{not json", "[1]"])
def test_what_is_no_run_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(RunError, match="there is no run at|cannot be read"):
        RunDirectory.open(tmp_path)


def test_checkpoints_come_back_exactly(run):
    state = {
        "step": 7,
        "tensor": torch.randn(3, 2),
        "array": np.arange(4.0),
        "generator": np.random.default_rng(0).bit_generator.state,
        "nested": [{"flag": True, "none": None, "text": "x"}],
    }
    run.save_checkpoint("latest", state)
    loaded = run.load_checkpoint("latest")
    assert loaded.keys() == state.keys()
    assert torch.equal(loaded["tensor"], state["tensor"])
    assert loaded["array"].tolist() == [0, 1, 2, 3]
    for key in ("step", "generator", "nested"):
        assert loaded[key] == state[key]


def test_a_checkpoint_of_another_configuration_is_refused(run):
    run.save_checkpoint("latest", {"step": 1})
    run.write_config(CONFIG | {"total_steps": 99, "device": "cuda", "cuda_graph": "off"})
    assert run.load_checkpoint("latest")["step"] == 1  # prolonged and moved: the same run
    run.write_config(CONFIG | {"new": 1})  # by a version that has one setting more
    assert run.load_checkpoint("latest")["step"] == 1
    run.write_config(CONFIG | {"seed": 4})
    with pytest.raises(
        RunError, match="does not match .*: seed is 4 there and 3 in the checkpoint"
    ):
        run.load_checkpoint("latest")


class Exploit:
    def __reduce__(self):
        return (print, ("executed",))


def truncated(path):
    save_checkpoint(path, {"tensor": torch.zeros(10_000)})
    path.write_bytes(path.read_bytes()[:5_000])


@pytest.mark.parametrize(
    "write",
    [
        truncated,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"hello"),
        lambda path: path.write_bytes(pickle.dumps(Exploit())),
        lambda path: torch.save({"model": torch.zeros(2)}, path),
        lambda path: torch.save(torch.zeros(2), path),
        lambda path: torch.save({"format": Exploit()}, path),
    ],
)
def test_damaged_and_foreign_checkpoints_are_refused_without_running_them(run, write, capsys):
    write(run.checkpoint_path("latest"))
    with pytest.raises(RunError, match="truncated or no checkpoint|was not written by"):
        run.load_checkpoint("latest")
    assert "executed" not in capsys.readouterr().out


def test_a_missing_checkpoint_is_refused(run):
    with pytest.raises(RunError, match="there is no checkpoint"):
        run.load_checkpoint("latest")


def test_a_kill_while_saving_leaves_a_whole_checkpoint(tmp_path):
    """A process that saves over and over is killed at some moments; the file always loads."""
    path = tmp_path / "latest.pt"
    code = (
        "import sys, torch; from pathlib import Path\n"
        "from mtrl_fair.runs.checkpoints import save_checkpoint\n"
        "count = 0\n"
        "while True:\n"
        "    count += 1\n"
        f"    save_checkpoint(Path({str(path)!r}), "
        "{'count': count, 'tensor': torch.full((500_000,), float(count))})\n"
    )
    counts = []
    for delay in (0.0, 0.013, 0.037):
        process = subprocess.Popen([sys.executable, "-c", code])
        while not path.exists():
            time.sleep(0.01)
        time.sleep(0.05 + delay)
        process.kill()
        process.wait()
        state = load_checkpoint(path)
        assert (state["tensor"] == state["count"]).all()
        counts.append(state["count"])
        path.unlink()
    assert min(counts) >= 1


def test_two_processes_cannot_train_in_one_run(run):
    code = f"from mtrl_fair.runs import RunDirectory; RunDirectory.open({str(run.path)!r}).lock()"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "another process is training" in result.stderr


def test_metrics_reach_tensorboard_and_json_lines(tmp_path):
    logger = MetricLogger(tmp_path)
    logger.log(10, {"losses/critic": 1.5, "charts/x": 2.0})
    logger.log(20, {"losses/critic": float("inf")})
    logger.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [
        {"step": 10, "losses/critic": 1.5, "charts/x": 2.0},
        {"step": 20, "losses/critic": None},
    ]
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("losses/critic")] == [
        (10, 1.5),
        (20, float("inf")),
    ]


def test_a_run_whose_lists_are_gone_can_be_rewound(run):
    for name in ("evaluations.csv", "metadata.json"):
        (run.path / name).unlink()
    run.continue_from(5, CONFIG)
    assert json.loads((run.path / "metadata.json").read_text())["resumed"][0]["step"] == 5
    header = "step,task,success,episodes,return,episode_length"
    assert (run.path / "evaluations.csv").read_text().splitlines() == [header]


def test_rewinding_drops_what_a_killed_run_left_after_its_checkpoint(run):
    logger = MetricLogger(run.path)
    for step in (5, 10, 15):
        logger.log(step, {"x": float(step)})
        run.add_evaluation(step, [("a", 0.5, 2, 1.0, 500.0)])
    logger.close()
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 20, "x"')  # killed while writing
    run.rewind(10)
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [5, 10]
    rows = (run.path / "evaluations.csv").read_text().splitlines()
    assert rows == [
        "step,task,success,episodes,return,episode_length",
        "5,a,0.5,2,1.0,500.0",
        "10,a,0.5,2,1.0,500.0",
    ]
    time.sleep(1.1)  # TensorBoard reads files in the order of names that begin with the second
    logger = MetricLogger(run.path, resume_step=10)
    logger.log(15, {"x": -15.0})
    logger.close()
    events = EventAccumulator(str(run.path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("x")] == [(5, 5), (10, 10), (15, -15)]


@pytest.mark.parametrize("name", ["metadata.json", "metrics.jsonl", "evaluations.csv"])
def test_a_run_that_cannot_be_read_is_not_continued(run, name):
    run.add_evaluation(9, [("a", 0.5, 2, 1.0, 500.0)])
    (run.path / "metrics.jsonl").write_text('{"step": 9}\n')
    with (run.path / name).open("a") as file:
        file.write("x\n")
    before = {path: path.read_bytes() for path in run.path.glob("*.*")}
    with pytest.raises(RunError, match=name):
        run.continue_from(5, CONFIG | {"total_steps": 99})
    assert before == {path: path.read_bytes() for path in run.path.glob("*.*")}


def test_rewinding_keeps_what_needs_quotes(run):
    for step in (5, 9):
        run.add_evaluation(step, [('a, "b"', 0.5, 2, 1.0, 500.0)])
    run.rewind(5)
    (row,) = run.evaluations()
    assert (row["step"], row["task"]) == ("5", 'a, "b"')
