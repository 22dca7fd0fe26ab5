"""The command line on real Meta-World: files, resume, kills and bad input."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils import _pytree as pytree

from mtrl_fair.runs import RunDirectory
from scripts import evaluate, plot, train
from tests.live_processes import children, is_alive
from tests.scripts.test_train_input import exits_with_2

ROOT = Path(__file__).parents[2]
# Networks this small gain nothing from threads, which wait for each other on a busy machine.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
TASKS = ("reach-v3", "drawer-close-v3")
FLAGS = [
    "mt10-quickstart",
    *("--tasks", *TASKS),
    *("--total-steps", "240", "--eval-every", "80", "--eval-episodes", "2"),
    *("--learning-starts", "50", "--log-every", "20"),
    *("--environment.max-episode-steps", "60", "--environment.num-workers", "2"),
    *("--agent.actor.width", "32", "--agent.critic.width", "32"),
]


def command(script: str, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "scripts" / f"{script}.py"), *arguments]


def run(script: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(script, *arguments),
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run that was never interrupted."""
    path = tmp_path_factory.mktemp("train") / "run"
    result = run("train", *FLAGS, "--run-dir", str(path))
    assert result.returncode == 0, result.stderr
    return path


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def metrics(path: Path) -> list[dict]:
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    seconds = [line.pop("charts/seconds") for line in lines if "charts/seconds" in line]
    assert seconds == sorted(seconds)  # the clock goes on in a run that is resumed
    assert seconds[0] > 0
    for line in lines:
        line.pop("charts/steps_per_second", None)  # a clock's, too
    return lines


def assert_same_run(path: Path, other: Path) -> None:
    """Bit for bit: metrics, evaluations and everything in the checkpoint, replay included."""
    assert metrics(path) == metrics(other)
    evaluations = "evaluations.csv"
    assert (path / evaluations).read_bytes() == (other / evaluations).read_bytes()
    states = [torch.load(p / "checkpoints" / "latest.pt", weights_only=True) for p in (path, other)]
    for state in states:
        assert state["loop"].pop("seconds") > 0
    leaves = [pytree.tree_leaves(state) for state in states]
    assert len(leaves[0]) == len(leaves[1]) > 100
    for ours, theirs in zip(*leaves, strict=True):
        if isinstance(ours, torch.Tensor):
            assert torch.equal(ours, theirs)
        elif not (isinstance(ours, str) and ours.startswith("{")):  # the config: total_steps
            assert ours == theirs


def test_a_run_directory_holds_what_the_readme_says(finished):
    names = {path.name for path in finished.iterdir()}
    assert {"config.json", "metadata.json", "metrics.jsonl", "evaluations.csv"} <= names
    assert {p.name for p in (finished / "checkpoints").iterdir()} == {"latest.pt", "best.pt"}
    config = json.loads((finished / "config.json").read_text())
    assert (config["tasks"], config["combiner"], config["alpha"]) == (list(TASKS), "fairgrad", 1.0)
    with (finished / "evaluations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["task"]) for row in rows] == [
        (step, task) for step in ("80", "160", "240") for task in TASKS
    ]
    assert all(row["episodes"] == "2" and 0 <= float(row["success"]) <= 1 for row in rows)


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


def test_resuming_gives_the_numbers_of_the_uninterrupted_run(finished, tmp_path):
    path = tmp_path / "run"
    assert run("train", *FLAGS, "--total-steps", "160", "--run-dir", str(path)).returncode == 0
    workers = ("--environment.num-workers", "1")  # may change, as the run may move
    result = run("train", "--resume", str(path), "--total-steps", "240", *workers)
    assert result.returncode == 0, result.stderr
    assert_same_run(path, finished)
    assert json.loads((path / "config.json").read_text())["total_steps"] == 240
    resumed = json.loads((path / "metadata.json").read_text())["resumed"]
    assert [entry["step"] for entry in resumed] == [160]


def test_resuming_is_exact_with_overlap_and_staggered_starts(finished, tmp_path):
    flags = [*FLAGS, "--environment.overlap", "on", "--environment.stagger", "True"]
    whole, path = tmp_path / "whole", tmp_path / "run"
    for folder, steps in ((whole, "160"), (path, "80")):
        result = run("train", *flags, "--total-steps", steps, "--run-dir", str(folder))
        assert result.returncode == 0, result.stderr
    assert run("train", "--resume", str(path), "--total-steps", "160").returncode == 0
    assert_same_run(path, whole)
    saved = torch.load(whole / "checkpoints" / "latest.pt", weights_only=True)["envs"]
    assert saved["elapsed"].tolist() == [10, 40]  # 160 steps: 30 and two of 60; 60 and one of 60
    config = json.loads((finished / "config.json").read_text())
    assert config["environment"]["overlap"] == ("on" if torch.cuda.is_available() else "off")


def wait_for(condition, process: subprocess.Popen) -> None:
    for _ in range(6000):
        if condition():
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    raise AssertionError("it did not happen within five minutes")


def last_step(path: Path) -> int:
    lines = (
        (path / "metrics.jsonl").read_text().splitlines()
        if path.exists() and (path / "metrics.jsonl").exists()
        else []
    )
    return json.loads(lines[-1])["step"] if lines and lines[-1].endswith("}") else 0


def start(path: Path) -> subprocess.Popen:
    return subprocess.Popen(
        command("train", *FLAGS, "--run-dir", str(path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    )


def test_a_killed_run_resumes_from_its_last_checkpoint(finished, tmp_path):
    path = tmp_path / "run"
    process = start(path)
    wait_for(lambda: last_step(path) >= 100, process)  # past the checkpoint at 80
    workers = children(process.pid)
    process.kill()
    process.communicate()
    assert len(workers) == 2
    for _ in range(100):
        if not any(map(is_alive, workers)):
            break
        time.sleep(0.1)
    assert not any(map(is_alive, workers))  # none is left behind
    assert run("train", "--resume", str(path)).returncode == 0
    assert_same_run(path, finished)


@pytest.mark.parametrize(
    ("number", "step"), [(signal.SIGINT, 20), (signal.SIGTERM, 20), (signal.SIGINT, 0)]
)
def test_ctrl_c_saves_and_a_resume_continues(finished, tmp_path, number, step):
    path = tmp_path / "run"
    process = start(path)
    assert process.stdout.readline().startswith("run directory:")
    wait_for(lambda: last_step(path) >= step, process)
    os.killpg(process.pid, number)  # the whole group, as a terminal does
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert errors == ""
    assert f"--resume {path}" in output
    saved = torch.load(path / "checkpoints" / "latest.pt", weights_only=True)["step"]
    assert saved == step == 0 or 20 <= saved < 240
    assert run("train", "--resume", str(path)).returncode == 0
    assert_same_run(path, finished)


def test_resuming_a_finished_run_does_nothing(finished):
    before = (finished / "metrics.jsonl").read_bytes()
    result = run("train", "--resume", str(finished))
    assert result.returncode == 0
    assert "is finished: 240 of 240 steps" in result.stdout
    assert (finished / "metrics.jsonl").read_bytes() == before


def test_a_run_that_reached_its_level_is_finished_until_the_level_is_taken_away(copied):
    directory = RunDirectory.open(copied)
    state = directory.load_checkpoint("latest")
    state["loop"]["best_success"] = 0.97
    directory.save_checkpoint("latest", state)
    resume = ("--resume", str(copied), "--total-steps", "260", "--stop-at-success")
    result = run("train", *resume, "0.95")
    assert result.returncode == 0
    assert "240 of 260 steps, best mean success 0.970. To continue it, give --stop" in result.stdout
    result = run("train", *resume, "None")
    assert result.returncode == 0
    assert directory.load_checkpoint("latest")["step"] == 260


def test_the_same_seed_twice_is_the_same_run(finished, tmp_path):
    path = tmp_path / "run"
    assert run("train", *FLAGS, "--run-dir", str(path)).returncode == 0
    assert_same_run(path, finished)


@pytest.mark.parametrize("network", ["critic", "actor"])
def test_a_diverging_run_stops_with_the_task_and_a_finite_checkpoint(tmp_path, network):
    path = tmp_path / "run"
    rate = (f"--agent.{network}-learning-rate", "1e30")
    result = run("train", *FLAGS, *rate, "--run-dir", str(path))
    assert result.returncode == 1
    assert result.stderr.startswith("error: the ")
    assert "reach-v3" in result.stderr
    assert "is not finite at step" in result.stderr
    assert "Traceback" not in result.stderr
    for name, step in (("latest", 0), ("last_finite", 50)):
        state = torch.load(path / "checkpoints" / f"{name}.pt", weights_only=True)
        assert state["step"] >= step
        tensors = [x for x in pytree.tree_leaves(state) if isinstance(x, torch.Tensor)]
        assert all(tensor.isfinite().all() for tensor in tensors if tensor.is_floating_point())


def test_evaluate_prints_a_table_and_writes_json(finished, tmp_path, capsys):
    output = tmp_path / "result.json"
    result = run("evaluate", str(finished), "--episodes", "2", "--json", str(output))
    assert result.returncode == 0, result.stderr
    for word in ("success", "± s.e.", "return", "episode length", "mean", *TASKS):
        assert word in result.stdout
    written = json.loads(output.read_text())
    assert set(written["tasks"]) == set(TASKS)
    # The same function and the same goals as the training's last evaluation.
    with (finished / "evaluations.csv").open(newline="") as file:
        last = [row for row in csv.DictReader(file) if row["step"] == "240"]
    for row in last:
        entry = written["tasks"][row["task"]]
        assert entry["success"] == float(row["success"])
        assert entry["return"] == float(row["return"])
        assert entry["episodes"] == 2
    mean = sum(float(row["success"]) for row in last) / len(last)
    assert written["mean_success"] == pytest.approx(mean)


def test_a_run_is_read_only_once_it_is_locked(copied, capsys):
    (copied / "checkpoints" / "latest.pt").write_bytes(b"half written by the other process")
    owner = RunDirectory.open(copied)
    owner.lock()
    message = exits_with_2(train.main, ["--resume", str(copied)], capsys)
    assert "another process is training" in message
    owner.unlock()
    assert "is truncated" in exits_with_2(train.main, ["--resume", str(copied)], capsys)


def test_the_machine_s_description_has_the_threads_that_are_used(tmp_path):
    path = tmp_path / "run"
    flags = ("--total-steps", "1", "--eval-episodes", "1", "--threads", "2")  # beside OMP's 1
    assert run("train", *FLAGS, *flags, "--run-dir", str(path)).returncode == 0
    metadata = json.loads((path / "metadata.json").read_text())
    assert metadata["machine"]["torch_threads"] == 2


def test_a_run_directory_that_exists_is_left_alone(finished, capsys):
    before = (finished / "config.json").read_bytes()
    message = exits_with_2(train.main, ["--run-dir", str(finished)], capsys)
    assert "exists" in message
    assert "--resume" in message
    assert (finished / "config.json").read_bytes() == before


def test_a_resume_that_would_change_the_run_is_refused(finished, capsys):
    for flags, message in [
        (["--alpha", "2"], "alpha is 1.0 in"),
        (["--agent.batch-size", "8"], "agent.batch_size is 64 in"),
        (["--combining.options", "c", "1"], "combining.options.c is None in"),
        (["--run-dir", "elsewhere"], "leave --run-dir out"),
        (["--total-steps", "100"], "--total-steps 100 is less than the run's 240"),
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


def test_a_configuration_that_does_not_match_the_checkpoint_is_refused(copied, capsys):
    path = copied / "config.json"
    path.write_text(path.read_text().replace('"alpha": 1.0', '"alpha": 3.0'))
    message = exits_with_2(train.main, ["--resume", str(copied), "--total-steps", "300"], capsys)
    assert "alpha is 3.0 there and 1.0 in the checkpoint" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no run at nowhere"),
        (["RUN", "--episodes", "60"], "60 evaluation episodes per task"),
        (["RUN", "--episodes", "0"], "0 evaluation episodes per task"),
        (["RUN", "--device", "cuda:99"], "is not there"),
        (["RUN", "--json", "no/such/folder/x.json"], "there is no folder no/such/folder"),
        (["RUN", "--json", "/"], "is a folder"),
        ([], "required"),
    ],
)
def test_bad_input_to_evaluate_exits_with_2(arguments, message, finished, capsys):
    words = [str(finished) if word == "RUN" else word for word in arguments]
    assert message in exits_with_2(evaluate.main, words, capsys)


def test_what_a_run_leaves_can_be_drawn(finished, tmp_path):
    for figure in ("success", "tasks", "runs", "weights"):
        path = tmp_path / f"{figure}.png"
        plot.main([str(finished), "--figure", figure, "--output", str(path)])
        assert path.read_bytes().startswith(b"\x89PNG")


def test_plain_output_says_once_that_it_evaluates(finished, tmp_path):
    result = run("train", *FLAGS, "--total-steps", "80", "--run-dir", str(tmp_path / "run"))
    assert result.stdout.count("evaluating") == 1
    assert "evaluation at step 80" in result.stdout
