"""Runs several supervised trainings in processes; one that fails leaves the others alone."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import torch

from mtrl_fair.errors import BatchSizeError, DataError, LossBoundError, NonFiniteError, RunError
from mtrl_fair.signals import STOP_SIGNALS
from mtrl_fair.supervised.config import SupervisedConfig
from mtrl_fair.supervised.registry import benchmark_class
from mtrl_fair.supervised.trainer import Progress
from mtrl_fair.supervised.training import train

SECONDS_BETWEEN_REPORTS = 0.2


class Job(NamedTuple):
    """One training: its name among the others, its configuration, its run directory."""

    name: str
    config: SupervisedConfig
    path: Path


class Ended(NamedTuple):
    """How a training ended; one that neither finished nor has an error was stopped."""

    finished: bool
    error: str | None = None
    cause: Literal["not finite", "out of memory", "other"] = "other"
    """The kind of the error, so that a display can add what helps against it."""
    process_is_usable: bool = True
    """Whether its process may train another one: after an error of CUDA it cannot."""


class Display(Protocol):
    """Shows trainings while they run."""

    def started(self, job: Job) -> None: ...

    def progress(self, job: Job, progress: Progress) -> None: ...

    def ended(self, job: Job, ended: Ended) -> None: ...


def run_jobs(
    jobs: Sequence[Job], processes: int, display: Display, should_stop: Callable[[], bool]
) -> dict[str, Ended]:
    """Runs the trainings in processes, and returns how those ended that were started.

    One that fails leaves the others alone. When asked to stop, those that run save a checkpoint.

    Args:
        processes: the number of trainings that run at a time.

    Returns:
        By the name of the job.
    """
    waiting = list(jobs)
    outcomes: dict[str, Ended] = {}
    workers = [_Worker() for _ in range(min(processes, len(waiting)))]
    stopping = False
    try:
        while True:
            if should_stop() and not stopping:
                stopping = True
                waiting.clear()
                for worker in workers:
                    worker.send("stop")
            for i, worker in enumerate(workers):
                if worker.job is None and waiting:
                    if not worker.is_usable:
                        worker.close()
                        workers[i] = worker = _Worker()
                    worker.start(waiting.pop(0))
                    assert worker.job is not None
                    display.started(worker.job)
            busy = {worker.connection: worker for worker in workers if worker.job is not None}
            if not busy:
                return outcomes
            for connection in wait(list(busy), timeout=0.2):
                worker = busy[connection]  # type: ignore[index]
                job, message = worker.job, worker.receive()
                assert job is not None
                if isinstance(message, Progress):
                    display.progress(job, message)
                else:
                    worker.job, worker.is_usable = None, message.process_is_usable
                    outcomes[job.name] = message
                    display.ended(job, message)
    finally:
        for worker in workers:
            worker.close()


def run_job(job: Job, report: Callable[[Progress], None], should_stop: Callable[[], bool]) -> Ended:
    """Runs one training in this process, and returns how it ended, whatever it raised."""
    try:
        return Ended(train(job.config, job.path, report, should_stop))
    except NonFiniteError as error:
        names = [task.name for task in benchmark_class(job.config.benchmark).tasks]
        tasks = [job.config.task] if job.config.task else [names[task] for task in error.tasks]
        whose = ", ".join(task for task in tasks if task) or "all tasks together"
        return Ended(False, f"the {error.what} of {whose} is not finite", "not finite")
    except torch.OutOfMemoryError as error:
        return Ended(False, str(error), "out of memory", process_is_usable=False)
    except (BatchSizeError, DataError, RunError, LossBoundError, OSError) as error:
        return Ended(False, str(error))
    except Exception:
        return Ended(False, traceback.format_exc(), process_is_usable=False)


class _Worker:
    """A process that runs one job after the other."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_work, args=(other,))
        # A terminal's Ctrl-C reaches every process, this one perhaps before it can ignore it. So
        # it starts with the signals blocked. The tracker would unblock them when it starts: first.
        resource_tracker.ensure_running()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        # Else this process would hold its worker's end open, and never notice that it died.
        other.close()
        self.job: Job | None = None
        self.is_usable = True

    def start(self, job: Job) -> None:
        self.job = job
        self.send(job)

    def send(self, message: Job | str) -> None:
        with contextlib.suppress(OSError):  # it died, which `receive` reports
            self.connection.send(message)

    def receive(self) -> Progress | Ended:
        try:
            message: Progress | Ended = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode
            error = f"its process died (exit code {code}; -9 may mean that memory ran out)"
            return Ended(False, error, process_is_usable=False)
        return message

    def close(self) -> None:
        """Ends the process; if a training still runs in it, its last checkpoint stays."""
        if self.job is not None:
            self.process.kill()
        self.connection.close()
        self.process.join()


def _work(connection: Connection) -> None:
    """Runs jobs in a worker's process until another message than a job comes, or none can."""
    for number in STOP_SIGNALS:  # the parent decides
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    try:
        while isinstance(job := connection.recv(), Job):
            # Any message during a training asks it to stop, and so does the parent's end.
            ended = run_job(job, _limited_reports(connection), connection.poll)
            connection.send(ended)
            gc.collect()  # networks in reference cycles keep memory of the device
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()
    except (EOFError, OSError):
        return  # the parent is gone; the training has saved itself


def _limited_reports(connection: Connection) -> Callable[[Progress], None]:
    """Returns a function that sends progress, but without metrics only now and then."""
    reported = 0.0

    def report(progress: Progress) -> None:
        nonlocal reported
        if progress.values is not None or time.monotonic() - reported > SECONDS_BETWEEN_REPORTS:
            reported = time.monotonic()
            with contextlib.suppress(OSError):  # the parent is gone, which `poll` notices, too
                connection.send(progress)

    return report
