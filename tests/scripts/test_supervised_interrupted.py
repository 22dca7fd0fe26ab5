"""Interrupted comparisons of the supervised trainer, which go on where they were."""

import os
import signal
import time

import pytest

from tests.scripts.supervised_commands import jobs_here, results, run_here, start, wait_for

TWO = ("toy", "--epochs", "4", "--batch-size", "8")
TWO += ("--compare", "ls", "rlw", "--jobs", "1")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("supervised") / "whole"
    code, _, errors = run_here(*TWO, "--run-dir", folder)
    assert (code, errors) == (0, "")
    return folder


def assert_resumes(folder, uninterrupted):
    """A resume reaches the numbers of the comparison that was not interrupted."""
    assert not results(folder)
    # A worker whose parent was killed stops by itself and lets the run go.
    until = time.monotonic() + 60
    while (outcome := run_here("--resume", folder))[0] != 0:
        assert "another process is training" in outcome[2]
        assert time.monotonic() < until
        time.sleep(0.5)
    assert results(folder) == results(uninterrupted)
    for name in ("ls-seed0", "rlw-seed0"):
        evaluations = [p / name / "evaluations.csv" for p in (folder, uninterrupted)]
        assert evaluations[0].read_text() == evaluations[1].read_text()


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_comparisons_go_on_where_they_were(uninterrupted, tmp_path, number):
    folder = tmp_path / "run"
    process = start(*TWO, "--run-dir", folder)
    metrics = folder / "ls-seed0" / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") >= 1)
    if number == signal.SIGINT:  # as a terminal does it: to every process
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    output, errors = process.communicate(timeout=120)
    if number != signal.SIGKILL:
        assert process.returncode == 130, errors
        assert f"--resume {folder}" in output
        assert "Traceback" not in errors
    assert_resumes(folder, uninterrupted)


@pytest.mark.slow
def test_a_sigterm_saves_and_a_second_one_changes_nothing(uninterrupted, tmp_path):
    sent = []

    def terminated(jobs, processes, display, should_stop):
        class Terminating:
            started, ended = display.started, display.ended

            def progress(self, job, progress):
                display.progress(job, progress)
                if progress.epoch == 1 and len(sent) < 2:
                    sent.append(signal.raise_signal(signal.SIGTERM))

        return jobs_here(jobs, processes, Terminating(), should_stop)

    folder = tmp_path / "run"
    code, output, errors = run_here(*TWO, "--run-dir", folder, jobs=terminated)
    assert sent
    assert (code, errors) == (130, "")
    assert "ls-seed0  stopped  (1 of 2)" in output
    assert "2 of 2 trainings are not finished. Continue with:" in output
    assert f"--resume {folder}" in output
    assert_resumes(folder, uninterrupted)


def test_a_second_ctrl_c_interrupts(tmp_path):
    def interrupted(jobs, processes, display, should_stop):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # some programs send two
        assert should_stop()
        signal.raise_signal(signal.SIGINT)

    folder = tmp_path / "run"
    code, _, errors = run_here("toy", "--run-dir", folder, jobs=interrupted)
    wanted = f"error: interrupted. Continue from the last epochs with --resume {folder}\n"
    assert (code, errors) == (130, wanted)


@pytest.mark.process
@pytest.mark.parametrize(
    "seconds",
    [0.5, pytest.param(1.5, marks=pytest.mark.long), pytest.param(2.5, marks=pytest.mark.long)],
)
def test_a_ctrl_c_while_processes_start_is_no_error(tmp_path, seconds):
    folder = tmp_path / "run"
    process = start("toy", "--compare", "ls", "rlw", "--jobs", "2", "--run-dir", folder)
    wait_for(lambda: (folder / "comparison.json").exists())
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.02)
    os.killpg(process.pid, signal.SIGTERM)  # as `timeout` does, on top of it
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (130, "")
    assert f"--resume {folder}" in output
