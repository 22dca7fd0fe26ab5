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
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from envs.workers import worker
from envs.workers.memory import SharedArrays

START_TIMEOUT = 300.0
"""Seconds for a worker's imports and models: a network drive may be slow the first time."""

CLOSE_TIMEOUT = 5.0
"""Seconds that workers have to end by themselves when the environment closes."""

"""Of a control group (version 2): microseconds of all cores in a period, and the period's."""

WAY_OUT = "Close this environment and make a new one."

INTERRUPTED = (
    "an interrupt came between a command and its answer, so what the workers did is unknown\n"
    f"{WAY_OUT}"
)

SINGLE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
"""What a worker's environment adds: its numpy must not compete with the learner's threads."""

NUMPY_DEFAULTS: dict[str, Any] = {
    "divide": "warn",
    "over": "warn",
    "under": "ignore",
    "invalid": "warn",
}
"""The floating-point mode that a worker starts with."""

BOOTSTRAP = """
import sys
sys.path[:] = {path!r}  # first, or files where the user works would be imported
import os, signal, traceback
from multiprocessing.connection import Connection
# Ctrl-C, and a cluster's SIGTERM, reach every process; only the parent decides what they mean.
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pipe_fd, memory_fd, parent = map(int, sys.argv[1:])
pipe = Connection(pipe_fd)
try:
    from envs.workers.worker import run
except Exception:
    os.write(pipe_fd, {failed!r})
    pipe.send(("importing", traceback.format_exc()))
else:
    run(pipe, memory_fd, parent)
"""
"""What a worker process executes, before it can import anything of this project."""


class WorkerError(RuntimeError):
    """A worker process failed, ended or did not answer, or a row of the caller failed."""


class WorkerPool:
    """Worker processes that hold some rows each, and answer every command once.

    Args:
        specs: the rows of each worker.
        own_specs: the rows that this process steps itself, in `wait`.
        shared: the memory of all rows.
        memory: its descriptor.
        timeout: seconds that a command may take.

    Raises:
        WorkerError: a worker could not start. Those that did are ended.
    """

    def __init__(
        self,
        specs: Sequence[Sequence[worker.RowSpec]],
        own_specs: Sequence[worker.RowSpec],
        shared: SharedArrays,
        memory: int,
        timeout: float,
    ):
        self._names = [", ".join(spec.name for spec in rows) for rows in specs]
        self._sockets: list[socket.socket] = []
        self._pipes: list[Connection] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self._failure = ""
        self._pending: list[int] = []
        self._own_names = ", ".join(spec.name for spec in own_specs)
        self._own_rows = worker.Rows()
        self._own_command = b""
        self.command_sent = b""
        """The last command, until the caller has dealt with its results and clears it."""
        try:
            for index in range(len(specs)):
                self._start(index, memory)
            self._limit_waiting(START_TIMEOUT)
            for index, rows in enumerate(specs):
                try:
                    self._pipes[index].send((len(shared.reward), rows))
                except OSError as error:
                    self._fail_sending(index, error)
            self._pending = list(range(len(specs)))
            self._do_own(lambda: self._own_rows.make(own_specs, shared))
            self.wait()
            self._limit_waiting(timeout)
        except BaseException:
            self.close()
            raise

    def command(self, command: bytes) -> None:
        """Sends a command to every worker, when all have answered the one before.

        Raises:
            WorkerError: a worker has failed, now or before, or an interrupt hit while sending.
        """
        self.check()
        self._failure = INTERRUPTED
        for index, ours in enumerate(self._sockets):
            try:
                ours.send(command)
            except OSError as error:
                self._fail_sending(index, error)
        self._pending = list(range(len(self._sockets)))
        self.command_sent = self._own_command = command
        self._failure = ""

    def wait(self) -> None:
        """Steps this process's rows and waits until all workers have answered. An interrupt of the
        waiting loses nothing: it may be called again. One while own rows step leaves them unknown.

        Raises:
            WorkerError: a worker failed, ended or took too long, or a row of this process failed.
        """
        self.check()
        if command := self._own_command:
            self._do_own(lambda: self._own_rows.obey(command))
        awake = worker.AWAKE if self._own_names else 0.0  # with a share of its own, also a core
        while self._pending:
            index = self._pending[0]
            try:
                # Only a look, so that an interrupt of this wait loses nothing.
                worker.receive(self._sockets[index], awake, socket.MSG_PEEK)
                self._failure = INTERRUPTED
                self._receive(index)
            except BlockingIOError:
                self._fail(f"{self._who(index)} has not answered for {self._limit:g} seconds")
            except (EOFError, OSError):
                self._fail_ended(index)
            self._pending.pop(0)
            self._failure = ""

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """What is done here is done as a whole: an interrupt leaves the workers unusable."""
        self._failure = INTERRUPTED
        yield
        self._failure = ""

    def check(self) -> None:
        """Raises the WorkerError of a worker that has failed before."""
        if self._failure:
            raise WorkerError(self._failure)

    def close(self) -> None:
        """Ends the workers, those that do not answer by force."""
        for ours in self._sockets:
            with contextlib.suppress(OSError):  # closed before
                ours.shutdown(socket.SHUT_RDWR)  # even where a fork of this process has it open
            ours.close()
        for pipe in self._pipes:
            pipe.close()
        deadline = time.monotonic() + CLOSE_TIMEOUT
        for process in self.processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, index: int, memory: int) -> None:
        # The root comes first, or a folder named envs where the user works would be imported.
        path = [str(Path(__file__).parents[2]), *filter(lambda p: isinstance(p, str), sys.path)]
        code = BOOTSTRAP.format(path=path, failed=worker.FAILED)
        try:
            ours, theirs = socket.socketpair()
            self._sockets.append(ours)
            with theirs:
                for end in (ours, theirs):
                    end.setblocking(True)  # whatever socket.setdefaulttimeout says
                self._pipes.append(Connection(os.dup(ours.fileno())))
                descriptors = (theirs.fileno(), memory)
                process = subprocess.Popen(
                    [sys.executable, "-c", code, *map(str, (*descriptors, os.getpid()))],
                    pass_fds=descriptors,
                    env=os.environ | SINGLE_THREAD,
                )
                self.processes.append(process)
        except OSError as error:
            self._fail(f"worker {index} ({self._names[index]}) could not start: {error}")

    def _do_own(self, work: Callable[[], None]) -> None:
        self._failure = INTERRUPTED
        try:
            with np.errstate(**NUMPY_DEFAULTS):  # as in a worker, whatever the caller has set
                work()
        except Exception as error:
            who = f"this process, which steps {self._own_names},"
            what = f"{who} failed while {self._own_rows.doing}: {error!r}"
            self._failure = f"{what}\n{WAY_OUT}"
            raise WorkerError(self._failure) from error
        self._own_command = b""  # or an interrupt just after this could have it done twice
        self._failure = ""

    def _limit_waiting(self, seconds: float) -> None:
        """Makes pipes give up by themselves, which costs nothing per call, unlike `poll`."""
        self._limit = seconds
        limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
        for ours in self._sockets:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def _receive(self, index: int) -> None:
        """Takes a worker's answer, and raises what it reports."""
        answer = self._sockets[index].recv(1)
        if not answer:
            raise EOFError
        if answer == worker.FAILED:
            doing, trace = self._pipes[index].recv()
            self._fail(f"{self._who(index)} failed while {doing}:\n{trace}")

    def _fail_sending(self, index: int, error: OSError) -> NoReturn:
        if isinstance(error, BlockingIOError):
            self._fail(f"{self._who(index)} has not listened for {self._limit:g} seconds")
        self._fail_ended(index)

    def _who(self, index: int) -> str:
        return f"worker {index} (process {self.processes[index].pid}; {self._names[index]})"

    def _fail_ended(self, index: int) -> NoReturn:
        with contextlib.suppress(EOFError, OSError):  # perhaps it said why before it ended
            self._receive(index)
        try:
            code = self.processes[index].wait(CLOSE_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._fail(f"{self._who(index)} closed its pipe")
        how = f"ended with exit code {code} (its standard error may say why)"
        if code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
            if -code == signal.SIGKILL:
                how += " (by the system if memory ran out)"
        self._fail(f"{self._who(index)} {how}")

    def _fail(self, what: str) -> NoReturn:
        self._failure = f"{what}\n{WAY_OUT}"
        raise WorkerError(self._failure)
