"""Run directories: what is written comes back, and what belongs to another run is refused."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from mtrl_fair.runs import RunDirectory, RunError, RunKind, make_folder
from mtrl_fair.runs.metrics import MetricLogger
from tests.mtrl_fair.runs.small_runs import CONFIG, KIND, make_run


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return make_run(tmp_path)


def test_a_new_run_says_what_it_is(run):
    assert json.loads((run.path / "config.json").read_text()) == CONFIG
    metadata = json.loads((run.path / "metadata.json").read_text())
    assert metadata["resumed"] == []
    assert metadata["versions"]["torch"] == torch.__version__
    assert {"started", "command", "commit", "machine"} <= metadata.keys()
    assert metadata["machine"]["cores"] >= 1
    assert (run.path / "evaluations.csv").read_text().splitlines() == ["step,task,score"]
    assert RunDirectory.open(run.path).config == CONFIG


def test_an_existing_folder_is_left_alone(run):
    before = (run.path / "config.json").read_bytes()
    message = "exists: choose another with --folder, or continue that run with --continue "
    with pytest.raises(RunError, match=message):
        RunDirectory.create(run.path, {"seed": 4}, KIND)
    assert (run.path / "config.json").read_bytes() == before
    with pytest.raises(RunError, match="exists: choose another with --folder$"):
        RunDirectory.create(run.path.parent, {"seed": 4}, KIND)  # no run: nothing to resume
    with pytest.raises(RunError, match="exists: choose another$"):
        RunDirectory.create(run.path, {"seed": 4}, RunKind(("step",)))  # has no flags to name


def test_folders_that_nobody_named_are_numbered(tmp_path):
    """Two programs that start in one second choose the same name."""
    runs = [RunDirectory.create(tmp_path / "run", CONFIG, KIND, numbered=True) for _ in range(3)]
    assert [run.path.name for run in runs] == ["run", "run-2", "run-3"]


def test_no_two_programs_get_the_same_folder(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: make_folder(tmp_path / "x", numbered=True), range(40)))
    assert sorted(found) == sorted(path for path in tmp_path.iterdir())
    assert len(found) == 40


def test_a_folder_that_cannot_be_made_is_refused(run):
    for numbered in (False, True):
        with pytest.raises(RunError, match=r"cannot be made \(Not a directory\): choose another w"):
            RunDirectory.create(run.path / "config.json" / "run", CONFIG, KIND, numbered=numbered)


@pytest.mark.parametrize("content", [None, "{not json", "[1]"])
def test_what_is_no_run_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(RunError, match="there is no run at|cannot be read"):
        RunDirectory.open(tmp_path)


def test_a_checkpoint_of_another_configuration_is_refused(run):
    run.save_checkpoint("latest", {"step": 1})
    run.write_config(CONFIG | {"length": 99, "machine": {"device": "cuda"}})
    assert run.load_checkpoint("latest")["step"] == 1  # prolonged and moved: the same run
    run.write_config(CONFIG | {"new": 1})  # by a version that has one setting more
    assert run.load_checkpoint("latest")["step"] == 1
    run.write_config(CONFIG | {"seed": 4})
    message = "does not match .*: seed is 4 there and 3 in the checkpoint"
    with pytest.raises(RunError, match=message):
        run.load_checkpoint("latest")


def test_what_may_change_is_the_trainer_s_to_say(run):
    run.save_checkpoint("latest", {"step": 1})
    strict = RunDirectory.open(run.path, RunKind(KIND.columns))
    strict.write_config(CONFIG | {"length": 99})
    with pytest.raises(RunError, match="length is 99 there and 10 in the checkpoint"):
        strict.load_checkpoint("latest")


def test_a_checkpoint_that_lacks_what_is_needed_is_refused(run):
    run.save_checkpoint("latest", {"step": 1, "agent": {}})
    assert run.load_checkpoint("latest", ("step", "agent")).keys() == {"step", "agent"}
    with pytest.raises(RunError, match="lacks replay, envs: it was saved for another purpose"):
        run.load_checkpoint("latest", ("step", "replay", "envs"))


def test_a_run_is_of_one_writer_at_a_time(run):
    other = RunDirectory.open(run.path)
    open_files = len(list(Path("/dev/fd").iterdir()))
    for _ in range(2):
        with pytest.raises(RunError, match="another process is training"):
            other.lock()
    assert len(list(Path("/dev/fd").iterdir())) == open_files
    run.unlock()
    other.lock()
    with pytest.raises(RunError, match="another process is training"):
        run.lock()


def test_where_there_are_no_locks_the_user_is_told(run, monkeypatch):
    run.unlock()

    def without(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", without)
    with pytest.warns(
        UserWarning, match=r"cannot be locked \(No locks available\): see to it that"
    ):
        run.lock()
    run.unlock()
    monkeypatch.setattr("mtrl_fair.runs.directory.fcntl", None)  # as on Windows
    with pytest.warns(UserWarning, match=r"cannot be locked \(the system has no flock\)"):
        run.lock()


@pytest.mark.process
def test_runs_can_be_imported_without_fcntl():
    code = "import sys; sys.modules['fcntl'] = None; import mtrl_fair.runs, mtrl_fair.supervised"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.process
def test_two_processes_cannot_train_in_one_run(run):
    code = f"from mtrl_fair.runs import RunDirectory; RunDirectory.open({str(run.path)!r}).lock()"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "another process is training" in result.stderr


def test_evaluations_come_back_without_the_row_that_is_being_written(run):
    run.add_evaluation(5, [("a", 0.5), ('b, "c"', 1)])
    with (run.path / "evaluations.csv").open("a") as file:
        file.write("10,a,0.")
    assert run.evaluations() == [
        {"step": "5", "task": "a", "score": "0.5"},
        {"step": "5", "task": 'b, "c"', "score": "1"},
    ]


def test_who_does_not_know_the_trainer_reads_its_evaluations(run):
    run.add_evaluation(5, [("a", 0.5)])
    assert RunDirectory.open(run.path).evaluations() == run.evaluations()


def test_evaluations_of_another_kind_of_run_are_refused(run):
    other = RunDirectory.open(run.path, RunKind(("step", "success")))
    message = "has the columns step,task,score, expected step,success: it is of another version"
    with pytest.raises(RunError, match=message):
        other.evaluations()
    with (run.path / "evaluations.csv").open("a") as file:
        file.write("10,a\n")
    with pytest.raises(RunError, match="line 2 of .* has 2 values, expected 3: restore it"):
        run.evaluations()


def test_a_run_whose_lists_are_gone_can_be_rewound(run):
    for name in ("evaluations.csv", "metadata.json"):
        (run.path / name).unlink()
    run.continue_from(5, CONFIG)
    assert json.loads((run.path / "metadata.json").read_text())["resumed"][0]["step"] == 5
    assert (run.path / "evaluations.csv").read_text().splitlines() == ["step,task,score"]


def test_continuing_drops_what_a_killed_run_left_after_its_checkpoint(run):
    logger = MetricLogger(run.path)
    for step in (5, 10, 15):
        logger.log(step, {"x": float(step)})
        run.add_evaluation(step, [("a", 0.5)])
    logger.close()
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 20, "x"')  # killed while writing
    run.continue_from(10, CONFIG | {"length": 99})
    assert [line["step"] for line in run.metrics()] == [5, 10]
    rows = (run.path / "evaluations.csv").read_text().splitlines()
    assert rows == ["step,task,score", "5,a,0.5", "10,a,0.5"]
    assert RunDirectory.open(run.path).config["length"] == 99
    run.continue_from(10, CONFIG, kept_until=5)
    assert [line["step"] for line in run.metrics()] == [5]
    assert [row["step"] for row in run.evaluations()] == ["5"]
    assert [entry["step"] for entry in run.metadata()["resumed"]] == [10, 10]


@pytest.mark.parametrize("name", ["metadata.json", "metrics.jsonl", "evaluations.csv"])
def test_a_run_that_cannot_be_read_is_not_continued(run, name):
    run.add_evaluation(9, [("a", 0.5)])
    (run.path / "metrics.jsonl").write_text('{"step": 9}\n')
    with (run.path / name).open("a") as file:
        file.write("x\n")
    before = {path: path.read_bytes() for path in run.path.glob("*.*")}
    with pytest.raises(RunError, match=name):
        run.continue_from(5, CONFIG | {"length": 99})
    assert before == {path: path.read_bytes() for path in run.path.glob("*.*")}


def test_rewinding_keeps_what_needs_quotes(run):
    for step in (5, 9):
        run.add_evaluation(step, [('a, "b"', 0.5)])
    run.rewind(5)
    (row,) = run.evaluations()
    assert (row["step"], row["task"]) == ("5", 'a, "b"')
