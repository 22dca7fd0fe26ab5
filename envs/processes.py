"""Starting worker processes, talking to them, and noticing when one fails."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from envs import worker

START_TIMEOUT = 300.0
"""Seconds for a worker's imports and models: a network drive may be slow the first time."""

CLOSE_TIMEOUT = 5.0
"""Seconds that workers have to end by themselves when the environment closes."""

SINGLE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
"""What a worker's environment adds: its numpy must not compete with the learner's threads."""


class WorkerError(RuntimeError):
    """A worker process failed, ended or did not answer."""


class WorkerPool:
    """Worker processes that hold some rows each, and answer every command once.

    Args:
        specs: the rows of each worker.
        num_rows: of the shared memory.
        memory: its descriptor.
        timeout: seconds that a command may take.

    Raises:
        WorkerError: a worker could not start. Those that did are ended.
    """

    def __init__(
        self, specs: Sequence[Sequence[worker.RowSpec]], num_rows: int, memory: int, timeout: float
    ):
        self._names = [", ".join(spec.name for spec in rows) for rows in specs]
        self._pipes: list[Connection] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self._failure = ""
        self._pending: list[int] = []
        try:
            for _ in specs:
                self._start(memory)
            self._limit_waiting(START_TIMEOUT)
            for index, rows in enumerate(specs):
                self._send(index, (num_rows, rows))
            self._pending = list(range(len(specs)))
            self.wait()
            self._limit_waiting(timeout)
        except BaseException:
            self.close()
            raise

    def command(self, command: bytes, payload: Any = None) -> None:
        """Sends a command to every worker; `wait` receives the answers.

        Raises:
            WorkerError: a worker has failed, now or before.
        """
        self.wait()  # for answers that an interrupt left behind
        for index in range(len(self._pipes)):
            self._send(index, command)
            if payload is not None:
                self._send(index, payload)
        self._pending = list(range(len(self._pipes)))

    def wait(self) -> None:
        """Waits until all workers have answered. Interrupted, it may be called again.

        Raises:
            WorkerError: a worker failed, ended or took too long.
        """
        self.check()
        while self._pending:
            index = self._pending[0]
            pipe = self._pipes[index]
            try:
                reply = pipe.recv_bytes()
                report = pipe.recv() if reply == worker.FAILED else None
            except BlockingIOError:
                self._fail(f"{self._who(index)} has not answered for {self._limit:g} seconds")
            except (EOFError, OSError):
                self._fail_ended(index)
            self._pending.pop(0)
            if report is not None:
                doing, trace = report
                self._fail(f"{self._who(index)} failed while {doing}:\n{trace}")

    def check(self) -> None:
        """Raises the WorkerError of a worker that has failed before."""
        if self._failure:
            raise WorkerError(self._failure)

    def close(self) -> None:
        """Ends the workers, those that do not answer by force."""
        for pipe in self._pipes:
            with contextlib.suppress(OSError):  # that worker has ended already
                pipe.send_bytes(worker.CLOSE)
            pipe.close()
        deadline = time.monotonic() + CLOSE_TIMEOUT
        for process in self.processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, memory: int) -> None:
        # The root comes first, or a folder named envs where the user works would be imported.
        root = str(Path(__file__).parents[1])
        code = f"import sys; sys.path.insert(0, {root!r}); from envs.worker import main; main()"
        ours, theirs = socket.socketpair()
        with ours, theirs:
            descriptors = (theirs.fileno(), memory)
            process = subprocess.Popen(
                [sys.executable, "-c", code, *map(str, descriptors)],
                pass_fds=descriptors,
                env=os.environ | SINGLE_THREAD,
            )
            self.processes.append(process)
            self._pipes.append(Connection(ours.detach()))

    def _limit_waiting(self, seconds: float) -> None:
        """Makes pipes give up by themselves, which costs nothing per call, unlike `poll`."""
        self._limit = seconds
        limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
        for pipe in self._pipes:
            with socket.socket(fileno=os.dup(pipe.fileno())) as same:
                same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
                same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def _send(self, index: int, message: Any) -> None:
        try:
            if isinstance(message, bytes):
                self._pipes[index].send_bytes(message)
            else:
                self._pipes[index].send(message)
        except BlockingIOError:
            self._fail(f"{self._who(index)} has not listened for {self._limit:g} seconds")
        except OSError:
            self._fail_ended(index)

    def _who(self, index: int) -> str:
        return f"worker {index} (process {self.processes[index].pid}; {self._names[index]})"

    def _fail_ended(self, index: int) -> None:
        try:
            code = self.processes[index].wait(CLOSE_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._fail(f"{self._who(index)} closed its pipe")
        how = f"ended with exit code {code}"
        if code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
            if -code == signal.SIGKILL:
                how += " (by the system if memory ran out)"
        self._fail(f"{self._who(index)} {how}")

    def _fail(self, what: str) -> None:
        self._failure = f"{what}\nClose this environment and make a new one."
        raise WorkerError(self._failure)


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
