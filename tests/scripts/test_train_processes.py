"""`train.py` as a process with workers: kills, signals, and the numbers after them.

Each run is compared with one that was made in another process, by another number of workers, and
never stopped: so these tests also say that a seed decides all numbers.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live_processes import children, is_alive
from tests.scripts.short_trainings import (
    ONE_PROCESS,
    assert_same_run,
    flags_with,
    load,
    resume_here,
    train_here,
)

pytestmark = pytest.mark.process
TRAIN = (sys.executable, str(Path(__file__).parents[2] / "scripts" / "train.py"))


OVERLAP = ("--environment.overlap", "on", "--environment.stagger", "True")


def start(path: Path, *flags: str) -> subprocess.Popen:
    return subprocess.Popen(
        [*TRAIN, *flags_with(*flags), "--environment.num-workers", "2", "--run-dir", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    for _ in range(30_000):
        if condition():
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    raise AssertionError("it did not happen within five minutes")


def last_step(path: Path) -> int:
    file = path / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return json.loads(lines[-1])["step"] if lines and lines[-1].endswith("}") else 0


def test_a_killed_run_with_overlap_resumes_from_its_last_checkpoint(tmp_path):
    path = tmp_path / "run"
    process = start(path, *OVERLAP)
    wait_for(lambda: last_step(path) >= 100, process)  # past the checkpoint at 80
    workers = children(process.pid)
    process.kill()
    process.communicate()
    assert len(workers) == 3  # two that train, and one beside the learner in evaluations
    for _ in range(100):
        if not any(map(is_alive, workers)):
            break
        time.sleep(0.1)
    assert not any(map(is_alive, workers))  # none is left behind
    assert 80 <= load(path)["step"] < 240
    result = subprocess.run(
        [*TRAIN, "--resume", str(path)], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    whole = tmp_path / "whole"
    assert train_here(whole, *OVERLAP).code == 0
    assert_same_run(path, whole)
    # 240 steps: the first task's first episode had 30 of them, the second one's all 60.
    assert load(whole)["envs"]["elapsed"].tolist() == [30, 0]


@pytest.mark.parametrize(
    ("number", "step"), [(signal.SIGINT, 20), (signal.SIGUSR1, 20), (signal.SIGTERM, 0)]
)
def test_a_signal_saves_and_a_resume_continues(finished, tmp_path, number, step):
    path = tmp_path / "run"
    process = start(path)
    assert process.stdout.readline().startswith("run directory:")
    wait_for(lambda: last_step(path) >= step, process)
    os.killpg(process.pid, number)  # the whole group, as a terminal or a scheduler does
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert errors == ""
    assert f"--resume {path}" in output
    saved = load(path)["step"]
    assert saved == step == 0 or 20 <= saved < 240
    assert resume_here(path, *ONE_PROCESS).code == 0
    assert_same_run(path, finished)


@pytest.mark.parametrize("mended", [True, False])
def test_a_disk_that_is_full_for_a_time_costs_nothing(finished, tmp_path, mended):
    """A limit of the size of files stands for it: checkpoints do not fit, the other files do."""
    path = tmp_path / "run"
    process = start(path)
    wait_for(lambda: last_step(path) >= 20, process)  # before the first evaluation
    before = (path / "checkpoints" / "latest.pt").read_bytes()
    limit = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
    for line in process.stdout:
        if "latest.pt cannot be written" in line:
            break
    assert line.startswith("warning: ")
    assert line.endswith(
        "raise the limit of file sizes (ulimit -f). Training goes on and tries again.\n"
    )
    assert (path / "checkpoints" / "latest.pt").read_bytes() == before
    if mended:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limit)
    _, errors = process.communicate(timeout=300)
    assert not list(path.rglob("*.tmp"))
    if mended:
        assert (process.returncode, errors) == (0, "")
    else:
        assert process.returncode == 1
        assert errors.startswith("error: ")
        assert errors.count("\n") == 1
        assert f"continue with --resume {path}" in errors
        assert resume_here(path, *ONE_PROCESS).code == 0
    assert_same_run(path, finished)


def test_evaluate_starts_as_a_command(tmp_path):
    """Its own folder comes first on the path of modules then, unlike in the other tests."""
    result = subprocess.run(
        [sys.executable, str(Path(TRAIN[1]).with_name("evaluate.py")), "nowhere"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("error: there is no run at nowhere: expected the folder that a")
