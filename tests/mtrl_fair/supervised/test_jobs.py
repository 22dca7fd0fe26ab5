"""Trainings in processes: one that fails, dies or is asked to stop leaves the others alone."""

import multiprocessing
import os
import signal
from dataclasses import replace

import pytest
import torch

from mtrl_fair import NonFiniteError
from mtrl_fair.signals import STOP_SIGNALS
from mtrl_fair.supervised import jobs as jobs_module
from mtrl_fair.supervised.config import SupervisedConfig
from mtrl_fair.supervised.jobs import Ended, Job, _limited_reports, _Worker, run_job, run_jobs
from mtrl_fair.supervised.trainer import Progress

SHORT = SupervisedConfig(benchmark="toy", combiner="ls", batch_size=500)
ENDLESS = replace(SHORT, epochs=10**6)


class Silent:
    def started(self, job):
        pass

    def progress(self, job, progress):
        assert isinstance(progress, Progress)

    def ended(self, job, ended):
        pass


def run_here(job, should_stop=lambda: False):
    return run_job(job, lambda progress: None, should_stop)


def raising(error):
    def train(*arguments):
        raise error

    return train


def test_a_training_finishes_or_is_stopped(tmp_path):
    assert run_here(Job("x", SHORT, tmp_path / "run")) == Ended(True)
    stopped = run_here(Job("x", ENDLESS, tmp_path / "other"), lambda: True)
    assert stopped == Ended(False, None)


def test_bad_files_are_one_line(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    ended = run_here(Job("x", SHORT, tmp_path))
    assert (ended.finished, ended.cause, ended.process_is_usable) == (False, "other", True)
    assert ended.error.startswith("there is no run at")
    assert "\n" not in ended.error


@pytest.mark.parametrize(
    ("task", "wrong", "whose"),
    [
        (None, [1], "second"),
        (None, [0, 1], "first, second"),
        (None, [], "all tasks together"),
        ("second", [0], "second"),  # the only task that is trained is number 0
    ],
)
def test_a_number_that_is_not_finite_has_its_tasks_names(tmp_path, monkeypatch, task, wrong, whose):
    monkeypatch.setattr(jobs_module, "train", raising(NonFiniteError("loss", wrong)))
    ended = run_here(Job("x", replace(SHORT, task=task), tmp_path))
    assert ended == Ended(False, f"the loss of {whose} is not finite", "not finite")


@pytest.mark.parametrize(
    ("error", "cause", "text"),
    [
        (torch.OutOfMemoryError("no memory left."), "out of memory", "no memory left."),
        (ZeroDivisionError("a fault"), "other", "ZeroDivisionError: a fault"),
    ],
)
def test_a_process_is_given_up_after_what_may_have_broken_it(
    tmp_path, monkeypatch, error, cause, text
):
    monkeypatch.setattr(jobs_module, "train", raising(error))
    ended = run_here(Job("x", SHORT, tmp_path))
    assert not ended.finished
    assert text in ended.error
    assert ("Traceback" in ended.error) == (cause == "other")
    assert ended.cause == cause
    assert not ended.process_is_usable


def test_progress_without_metrics_is_sent_now_and_then_only():
    sent = []

    class Connection:
        send = staticmethod(sent.append)

    report = _limited_reports(Connection())
    plain, measured = Progress(0, 2, 0.1, None), Progress(1, 2, 0.5, {"a/b": 1.0})
    for progress in (plain, plain, plain, measured, measured, plain):
        report(progress)
    assert sent == [plain, measured, measured]


@pytest.mark.process
def test_a_process_that_dies_leaves_the_others_alone(tmp_path):
    others = set(multiprocessing.active_children())
    killed = []

    class Killer(Silent):
        def progress(self, job, progress):
            if job.name == "endless" and not killed:
                (worker,) = set(multiprocessing.active_children()) - others
                killed.append(worker)
                os.kill(worker.pid, signal.SIGKILL)

    configs = {"endless": ENDLESS, "rlw": replace(SHORT, combiner="rlw"), "ls": SHORT}
    jobs = [Job(name, config, tmp_path / name) for name, config in configs.items()]
    outcomes = run_jobs(jobs, 1, Killer(), lambda: False)
    assert killed
    assert outcomes["endless"].error.startswith("its process died (exit code -9")
    assert not outcomes["endless"].finished
    assert outcomes["rlw"] == outcomes["ls"] == Ended(True)
    assert set(multiprocessing.active_children()) == others


@pytest.mark.process
def test_a_worker_ignores_signals_from_its_first_moment_on(tmp_path):
    """A terminal's Ctrl-C reaches every process; whether to stop is the parent's decision."""
    worker = _Worker()
    try:
        for number in STOP_SIGNALS:
            os.kill(worker.process.pid, number)
        worker.start(Job("x", SHORT, tmp_path / "run"))
        message = worker.receive()
        while isinstance(message, Progress):
            message = worker.receive()
        assert message == Ended(True)
        worker.job = None
    finally:
        worker.close()
    assert worker.process.exitcode == 0


@pytest.mark.process
def test_when_asked_to_stop_those_that_run_save_and_those_that_wait_do_not_start(tmp_path):
    started, progressed = [], []

    class Watching(Silent):
        def started(self, job):
            started.append(job.name)

        def progress(self, job, progress):
            progressed.append(job.name)

    jobs = [Job(name, ENDLESS, tmp_path / name) for name in ("a", "b")]
    outcomes = run_jobs(jobs, 1, Watching(), lambda: bool(progressed))
    assert outcomes == {"a": Ended(False)}
    assert started == ["a"]
    assert (tmp_path / "a" / "checkpoints" / "latest.pt").exists()
    assert not (tmp_path / "b").exists()
