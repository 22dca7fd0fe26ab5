"""The command line of the supervised trainer: real trainings in real processes."""

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
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtrl_fair.supervised.benchmarks.digits import Digits
from mtrl_fair.supervised.jobs import Ended, Job, run_jobs
from mtrl_fair.supervised.trainer import Progress
from scripts import supervised
from scripts.comparing import plan as supervised_plan

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}
FAST = ("--epochs", "1", "--batch-size", "500")
SINGLE = ("single-task-left-seed0", "single-task-right-seed0")


def command(*words):
    return [sys.executable, str(ROOT / "scripts" / "supervised.py"), *map(str, words)]


def run(*words):
    return subprocess.run(
        command(*words), capture_output=True, text=True, check=False, env=ENVIRONMENT
    )


def refused(capsys, *words) -> str:
    """The one error line of arguments that are refused."""
    with pytest.raises(SystemExit) as caught:
        supervised.main(list(map(str, words)))
    output = capsys.readouterr()
    assert caught.value.code == 2
    assert output.err.startswith("error: ")
    return output.err


def results(folder):
    return {
        path.parent.name: json.loads(path.read_text())["values"]
        for path in folder.glob("*/results.json")
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two methods, each with and without the loss transformation, and one exponent more."""
    folder = tmp_path_factory.mktemp("supervised") / "all"
    words = ["--compare", "ls", "fairgrad", "--alpha-fair", "0.5", "--alphas", "5"]
    done = run("digits", *FAST, *words, "--run-dir", folder, "--jobs", "2")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


METHODS = ("ls", "fair-ls", "fairgrad", "fair-fairgrad", "fairgrad α=5")


def test_a_comparison_writes_its_runs_and_its_table(finished):
    folder, output = finished
    names = {m.replace(" α=", "-alpha") + "-seed0" for m in METHODS} | set(SINGLE)
    assert set(results(folder)) == names
    with (folder / "comparison.csv").open(newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["single-task", *METHODS]
    values = results(folder)
    for side in ("left", "right"):
        key = f"{side}/accuracy"
        assert float(rows["single-task"][key]) == values[f"single-task-{side}-seed0"][key]
        assert float(rows["fair-ls"][key]) == values["fair-ls-seed0"][key]
    drops = [
        1 - float(rows["ls"][f"{side}/accuracy"]) / float(rows["single-task"][f"{side}/accuracy"])
        for side in ("left", "right")
    ]
    assert float(rows["ls"]["delta m percent"]) == pytest.approx(50 * sum(drops))
    assert sum(float(rows[m]["mean rank"]) for m in METHODS) == pytest.approx(15)
    assert rows["single-task"]["mean rank"] == ""
    text = (folder / "comparison.md").read_text()
    assert "MR among ls, fair-ls, fairgrad, fair-fairgrad, fairgrad α=5" in text
    assert f"| ls | {float(rows['ls']['left/accuracy']):.4f} |" in text
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    for method in METHODS:
        assert method in output
    assert "Δm%" in output


def test_runs_are_configured_as_asked(finished):
    folder, _ = finished

    def config(name):
        return json.loads((folder / f"{name}-seed0" / "config.json").read_text())

    assert config("fairgrad")["scale"] == "tasks"
    assert config("ls")["scale"] == "none"
    assert (config("fairgrad-alpha5")["alpha"], config("fairgrad")["alpha"]) == (5, 2)
    assert (config("ls")["alpha_fair"], config("fair-ls")["alpha_fair"]) == (None, 0.5)
    assert config("single-task-left")["task"] == "left"
    assert config("ls")["max_norm"] == Digits.recipe.max_norm
    assert {config(n)["threads"] for n in ("ls", "fairgrad")} == {1}


def test_the_glossary_has_every_key_and_no_other(finished):
    folder, _ = finished
    written = set(EventAccumulator(str(folder / "fairgrad-seed0")).Reload().Tags()["scalars"])
    document = (ROOT / "docs" / "metrics.md").read_text().split("## The supervised trainer")[1]
    documented = set()
    for line in document.splitlines():
        if line.startswith("| `"):
            for task in ("left", "right"):
                for split in ("validation", "test"):
                    key = line.split("`")[1].replace("{split}", split).replace("{task}", task)
                    documented.add(key.replace("{metric}", "accuracy"))
    assert written == documented
    lines = (folder / "fairgrad-seed0" / "metrics.jsonl").read_text().splitlines()
    assert {key for line in lines for key in json.loads(line)} - {"step"} == written


def test_the_same_training_alone_gives_the_same_numbers(finished, tmp_path):
    folder, _ = finished
    done = run("digits", *FAST, "--run-dir", tmp_path / "one", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "one") == {
        name: results(folder)[name] for name in ("fairgrad-seed0", *SINGLE)
    }
    again = run("--resume", tmp_path / "one")  # nothing is left to do but the table
    assert again.returncode == 0, again.stderr
    assert "fairgrad" in again.stdout


TWO = ("digits", "--epochs", "4", "--batch-size", "500", "--single-task", "none")
TWO += ("--compare", "ls", "rlw", "--jobs", "1")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("supervised") / "whole"
    done = run(*TWO, "--run-dir", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_comparisons_go_on_where_they_were(uninterrupted, tmp_path, number):
    folder = tmp_path / "run"
    process = subprocess.Popen(
        command(*TWO, "--run-dir", folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    metrics = folder / "ls-seed0" / "metrics.jsonl"
    until = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") >= 1):
        assert time.monotonic() < until
        time.sleep(0.05)
    if number == signal.SIGINT:  # as a terminal does it: to every process
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    output, errors = process.communicate(timeout=120)
    if number != signal.SIGKILL:
        assert process.returncode == 130, errors
        assert f"--resume {folder}" in output
        assert "Traceback" not in errors
    assert not results(folder)
    # A worker whose parent was killed stops by itself and lets the run go.
    until = time.monotonic() + 60
    while (done := run("--resume", folder)).returncode != 0:
        assert "another process is training" in done.stderr
        assert time.monotonic() < until
        time.sleep(0.5)
    assert results(folder) == results(uninterrupted)
    for name in ("ls-seed0", "rlw-seed0"):
        evaluations = [p / name / "evaluations.csv" for p in (folder, uninterrupted)]
        assert evaluations[0].read_text() == evaluations[1].read_text()


@pytest.mark.parametrize("seconds", [1.5, 2.5, 3.5])
def test_a_ctrl_c_while_processes_start_is_no_error(tmp_path, seconds):
    folder = tmp_path / "run"
    process = subprocess.Popen(
        command("toy", "--compare", "ls", "rlw", "--jobs", "2", "--run-dir", folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    until = time.monotonic() + 120
    while not (folder / "comparison.json").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    time.sleep(seconds - 1)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.02)
    os.killpg(process.pid, signal.SIGTERM)  # as `timeout` does, on top of it
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (130, "")
    assert f"--resume {folder}" in output


def test_a_result_that_was_damaged_is_named(finished, tmp_path):
    folder = Path(shutil.copytree(finished[0], tmp_path / "copy"))
    (folder / "ls-seed0" / "results.json").write_text("{")
    done = run("--resume", folder)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {folder}/ls-seed0/results.json cannot be read")
    (folder / "ls-seed0" / "results.json").unlink()
    done = run("--resume", folder)
    assert done.returncode == 0, done.stderr
    assert results(folder) == results(finished[0])


def test_a_method_that_fails_leaves_the_others_alone(tmp_path):
    folder = tmp_path / "run"
    # Seed 1 starts where both losses are 0.
    words = ["--seed", "1", "--epochs", "1", "--compare", "ls", "--alpha-fair", "0.5"]
    done = run("toy", *words, "--run-dir", folder)
    assert done.returncode == 1
    assert (
        "error: fair-ls-seed1: the α-fair transformation needs positive losses, but first"
        in done.stderr
    )
    assert "Traceback" not in done.stderr
    assert set(results(folder)) == {"ls-seed1"}
    assert "1 of 2 trainings are not finished" in done.stdout
    assert "Δm%" not in done.stdout


class Silent:
    def started(self, job):
        pass

    def progress(self, job, progress):
        assert isinstance(progress, Progress)

    def ended(self, job, ended):
        pass


def test_a_process_that_dies_leaves_the_others_alone(tmp_path, monkeypatch):
    plan = supervised_plan.make_plan(
        "toy", supervised_plan.Arguments(compare=("ls", "rlw", "mgda"), epochs=2, device="cpu")
    )
    jobs = supervised_plan.make_jobs(plan, tmp_path)
    killed = []

    class Killer(Silent):
        def progress(self, job, progress):
            if job.name == "ls-seed0" and not killed:
                killed.append(True)
                pid = int((tmp_path / "pid").read_text())
                os.kill(pid, signal.SIGKILL)

    from mtrl_fair.supervised import jobs as training_jobs

    original = training_jobs._Worker

    class Recorded(original):
        def start(self, job):
            super().start(job)
            if job.name == "ls-seed0":
                (tmp_path / "pid").write_text(str(self.process.pid))

    monkeypatch.setattr(training_jobs, "_Worker", Recorded)
    outcomes = run_jobs(jobs, 1, Killer(), lambda: False)
    assert outcomes["ls-seed0"].error.startswith("its process died (exit code -9")
    assert not outcomes["ls-seed0"].finished
    assert outcomes["rlw-seed0"] == outcomes["mgda-seed0"] == Ended(True)


def test_bad_files_are_one_line(tmp_path):
    job = Job("x", supervised_plan.make_jobs(toy_plan(), tmp_path)[0].config, tmp_path)
    (tmp_path / "mine.txt").write_text("mine")
    outcomes = run_jobs([job], 1, Silent(), lambda: False)
    assert not outcomes["x"].finished
    assert outcomes["x"].error.startswith("there is no run at")


def toy_plan():
    return supervised_plan.make_plan("toy", supervised_plan.Arguments(device="cpu"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a benchmark first: toy, digits"),
        (["digit"], "unknown benchmark 'digit': did you mean digits"),
        (["digits", "--compare", "ls,si"], "separate names by blanks, --compare ls si"),
        (["digits", "--compare", "ls", "fairgard"], "did you mean fairgrad"),
        (["digits", "--compare", "ls", "ls"], "ls would be trained twice"),
        (["digits", "--compare", "ls", "--combiner", "si"], "add it to --compare"),
        (["digits", "--combiner", "ls", "--alphas", "1"], "--alphas belongs to fairgrad"),
        (["digits", "--alphas", "-1"], "alpha"),
        (["digits", "--seeds", "0"], "--seeds is 0, expected at least 1"),
        (["digits", "--jobs", "0"], "--jobs is 0, expected at least 1"),
        (["digits", "--epochs", "0"], "--epochs is 0, expected at least 1"),
        (["digits", "--data", "x"], "digits reads no files"),
        (["digits", "--pooling", "pixels"], "unknown pooling of digits"),
        (["digits", "--single-task", "published"], "no published numbers for digits"),
        (["toy", "--single-task", "train"], "toy has no Δm%"),
        (["digits", "--threads", "100000"], "--threads is 100000, expected at most this machine's"),
        (
            ["digits", "--compare", "ls", "fairgrad", "--alphas", "2"],
            "what fairgrad trains already",
        ),
        (["digits", "--alphas", "1", "--alpha-fair", "0.5"], "does not apply to --alphas"),
        (["digits", "--combiner", "ls", "--alpha", "5"], "--alpha 5.0 belongs to fairgrad"),
        (["digits", "--combiner", "ls", "--solver", "sgd"], "--solver sgd belongs to fairgrad"),
        (
            ["nyuv2", "--pooling", "pixels", "--single-task", "published"],
            "does not fit --pooling pixels",
        ),
        (["digits", "--device", "cuda:9"], "the device 'cuda:9' is not there"),
        (["nyuv2"], "nyuv2: no folder is given. --data FOLDER"),
        (["celeba", "--data", "nowhere"], "nowhere"),
        (["digits", "--resume", "x"], "--resume continues x as it was configured: leave digits"),
        (["--resume", "x"], "there is nothing to resume at x"),
        (["--resume", "x", "--seeds", "2"], "only --data, --device"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_made(
    words, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *words)
    assert list(tmp_path.iterdir()) == []


def test_existing_and_broken_folders_are_refused(capsys, finished, tmp_path):
    folder, _ = finished
    assert f"--resume {folder}" in refused(capsys, "digits", "--run-dir", folder)
    (tmp_path / "comparison.json").write_text("{")
    assert "comparison.json cannot be read" in refused(capsys, "--resume", tmp_path)
    plan = json.loads((folder / "comparison.json").read_text())
    for change in (
        {"jobs": 0},
        {"single_task": "pub"},
        {"benchmark": "toy"},
        {"runs": []},
        {"runs": [plan["runs"][0], plan["runs"][0]]},
        {"runs": [plan["runs"][0] | {"folder": "../x"}]},
    ):
        (tmp_path / "comparison.json").write_text(json.dumps(plan | change))
        assert "comparison.json cannot be read" in refused(capsys, "--resume", tmp_path)
    (tmp_path / "file").write_text("")
    assert "cannot be made" in refused(capsys, "toy", "--run-dir", tmp_path / "file" / "x")
