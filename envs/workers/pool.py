"""Talking to worker processes, and noticing when one fails.

What travels between the caller and a worker, in shared memory and through one socket pair:

    caller                              worker
    starts the process             ->   imports `envs.workers.worker`
    arrays and row specs, pickled  ->   imports and makes its rows
                                   <-   DONE
    writes its arrays
    command, one byte              ->   carries it out in the active rows, writes results
                                   <-   DONE
    reads the results
    closes the socket              ->   ends

A worker that fails answers FAILED instead of DONE, sends what it was doing and its traceback, and
ends. Every command is answered exactly once, and the next one is sent only after all answers have
come. That is what makes it possible to say, after any interrupt, where each worker is.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from envs.workers import worker
from envs.workers.memory import SharedArrays
from envs.workers.process import WorkerProcess, end_all
from envs.workers.rows import Rows, RowSpec

START_TIMEOUT = 300.0
"""Seconds for a worker's imports and rows: a network drive may be slow the first time."""

REMEDY = "Close this environment and make a new one."

INTERRUPTED = (
    "an interrupt came between a command and its answer, so what the workers did is unknown\n"
    f"{REMEDY}"
)

NUMPY_DEFAULTS: dict[str, Any] = {
    "divide": "warn",
    "over": "warn",
    "under": "ignore",
    "invalid": "warn",
}
"""The floating-point mode that a worker starts with."""


class WorkerError(RuntimeError):
    """A worker process failed, ended or did not answer, or a row of the caller failed."""


class WorkerPool:
    """Worker processes that hold some rows each, and answer every command once.

    After a failure, or an interrupt that may have lost an answer, the pool can only be closed:
    every further call raises the same `WorkerError`.

    Args:
        specs: the rows of each worker. `envs.workers.rows` says what a row is.
        caller_specs: the rows that this process steps itself, in `wait`.
        arrays: the memory of all rows.
        memory: its descriptor.
        timeout: seconds that a command may take.

    Raises:
        WorkerError: a worker could not start. Those that did are ended.
    """

    def __init__(
        self,
        specs: Sequence[Sequence[RowSpec]],
        caller_specs: Sequence[RowSpec],
        arrays: SharedArrays,
        memory: int,
        timeout: float,
    ):
        self._workers: list[WorkerProcess] = []
        self._pending: list[WorkerProcess] = []
        # Why the pool cannot be used, or "". Where an interrupt (a KeyboardInterrupt may come
        # between any two bytecodes) would leave unknown what was sent or received, INTERRUPTED is
        # set *before* the first line that matters and cleared *after* the last one: then it stands
        # whenever an exception leaves in between. Set in an `except` block, it would come too late
        # for an interrupt between the line and the block.
        self._failure = ""
        self._caller_names = ", ".join(spec.name for spec in caller_specs)
        self._caller_rows = Rows()
        self._caller_command = b""
        self.command_sent = b""
        """The last command, until the caller has dealt with its results and clears it."""
        try:
            for rows in specs:
                self._start([spec.name for spec in rows], memory)
            self._limit_waiting(START_TIMEOUT)
            for process, rows in zip(self._workers, specs, strict=True):
                try:
                    process.pipe.send((type(arrays), arrays.num_rows, rows))
                except OSError as error:
                    self._fail_sending(process, error)
            self._pending = list(self._workers)
            self._run_in_caller(lambda: self._caller_rows.make(caller_specs, arrays))
            self.wait()
            self._limit_waiting(timeout)
        except BaseException:
            self.close()
            raise

    @property
    def processes(self) -> list[subprocess.Popen[bytes]]:
        """The process of each worker."""
        return [process.process for process in self._workers]

    def command(self, command: bytes) -> None:
        """Sends a command to every worker, when all have answered the one before.

        Raises:
            WorkerError: a worker has failed, now or before, or an interrupt hit while sending.
        """
        self.check()
        self._failure = INTERRUPTED  # some workers might have the command and some not
        for process in self._workers:
            try:
                process.socket.send(command)
            except OSError as error:
                self._fail_sending(process, error)
        self._pending = list(self._workers)
        self.command_sent = self._caller_command = command
        self._failure = ""

    def wait(self) -> None:
        """Steps this process's rows and waits until all workers have answered.

        An interrupt of the waiting loses nothing: `wait` may be called again. An interrupt while
        this process's rows step leaves them unknown.

        Raises:
            WorkerError: a worker failed, ended or took too long, or a row of this process failed.
        """
        self.check()
        if command := self._caller_command:
            self._run_in_caller(lambda: self._caller_rows.execute(command))
        # A caller that steps rows has a core of its own, so it can keep the core awake.
        awake = worker.AWAKE if self._caller_names else 0.0
        while self._pending:
            process = self._pending[0]
            try:
                # Almost all interrupts come here, in the waiting. MSG_PEEK leaves the answer in the
                # socket: a plain recv could take it and be interrupted before it returns, and the
                # next `wait` would wait for ever for an answer that had come.
                worker.receive(process.socket, awake, socket.MSG_PEEK)
                self._failure = INTERRUPTED
                self._receive(process)
            except BlockingIOError:
                self._fail(f"{process.label} has not answered for {self._limit:g} seconds")
            except (EOFError, OSError):
                self._fail_ended(process)
            self._pending.pop(0)
            self._failure = ""

    @contextlib.contextmanager
    def uninterrupted(self) -> Iterator[None]:
        """Makes the pool unusable if its body does not run to the end."""
        self._failure = INTERRUPTED
        yield
        # Not in a `finally`: an exception must leave the pool unusable.
        self._failure = ""

    def check(self) -> None:
        """Raises the `WorkerError` of a worker that has failed before."""
        if self._failure:
            raise WorkerError(self._failure)

    def close(self) -> None:
        """Ends the workers, those that do not answer by force."""
        end_all(self._workers)

    def _start(self, names: Sequence[str], memory: int) -> None:
        index = len(self._workers)
        try:
            self._workers.append(WorkerProcess(index, names, memory))
        except OSError as error:
            self._fail(f"worker {index} ({', '.join(names)}) could not start: {error}")

    def _run_in_caller(self, work: Callable[[], None]) -> None:
        self._failure = INTERRUPTED
        try:
            with np.errstate(**NUMPY_DEFAULTS):  # as in a worker, whatever the caller has set
                work()
        except Exception as error:
            who = f"this process, which steps {self._caller_names},"
            what = f"{who} failed while {self._caller_rows.current_task}: {error!r}"
            self._failure = f"{what}\n{REMEDY}"
            raise WorkerError(self._failure) from error
        # Before the failure is cleared, or an interrupt just after that could have it done twice.
        self._caller_command = b""
        self._failure = ""

    def _limit_waiting(self, seconds: float) -> None:
        self._limit = seconds
        for process in self._workers:
            process.limit_waiting(seconds)

    def _receive(self, process: WorkerProcess) -> None:
        """Takes a worker's answer, and raises what it reports."""
        answer = process.socket.recv(1)
        if not answer:
            raise EOFError
        if answer == worker.FAILED:
            task, trace = process.pipe.recv()
            self._fail(f"{process.label} failed while {task}:\n{trace}")

    def _fail_sending(self, process: WorkerProcess, error: OSError) -> NoReturn:
        if isinstance(error, BlockingIOError):
            self._fail(f"{process.label} has not listened for {self._limit:g} seconds")
        self._fail_ended(process)

    def _fail_ended(self, process: WorkerProcess) -> NoReturn:
        with contextlib.suppress(EOFError, OSError):  # perhaps it said why before it ended
            self._receive(process)
        self._fail(f"{process.label} {process.describe_end()}")

    def _fail(self, what: str) -> NoReturn:
        self._failure = f"{what}\n{REMEDY}"
        raise WorkerError(self._failure)
