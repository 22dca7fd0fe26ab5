"""A worker process as its parent sees it: started, addressed and ended."""

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

from envs.workers.worker import FAILED

CLOSE_TIMEOUT = 5.0
"""Seconds that workers have to end by themselves once their pipes have closed."""

IGNORED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Those of `mtrl_fair.signals`. A worker does not import `mtrl_fair`, which takes seconds."""

SINGLE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
"""What a worker's environment adds: its numpy must not compete with the learner's threads."""

BOOTSTRAP = """
import sys
sys.path[:] = {path!r}  # first, or files where the user works would be imported
import os, signal, traceback
from multiprocessing.connection import Connection
# Ctrl-C, and a scheduler's signals, reach every process of the group. Only the parent decides what
# they mean: it may still want to finish the step and save a checkpoint, which needs the workers.
for number in {signals!r}:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signals!r})  # blocked while python itself started
pipe_fd, memory_fd, parent = map(int, sys.argv[1:])
pipe = Connection(pipe_fd)
try:
    from envs.workers.worker import run
except Exception:
    os.write(pipe_fd, {failed!r})
    pipe.send(("importing envs.workers.worker", traceback.format_exc()))
else:
    run(pipe, memory_fd, parent)
"""
"""What a worker process executes, before it can import anything of this project."""


class WorkerProcess:
    """A worker process, started, and the parent's end of the pipe to it.

    Args:
        index: of the worker, for reports.
        names: of its rows, for reports.
        memory: the descriptor of the shared memory.

    Raises:
        OSError: it could not start.
    """

    def __init__(self, index: int, names: Sequence[str], memory: int):
        # The root comes first, or a folder named envs where the user works would be imported.
        path = [str(Path(__file__).parents[2]), *filter(lambda p: isinstance(p, str), sys.path)]
        signals = [int(number) for number in IGNORED_SIGNALS]
        code = BOOTSTRAP.format(path=path, failed=FAILED, signals=signals)
        self._index, self._names = index, ", ".join(names)
        self.socket, theirs = socket.socketpair()
        try:
            with theirs:
                for end in (self.socket, theirs):
                    end.setblocking(True)  # whatever socket.setdefaulttimeout says
                # A Connection of its own for what is pickled: closing one does not close the other.
                self.pipe = Connection(os.dup(self.socket.fileno()))
                descriptors = (theirs.fileno(), memory)
                # One that comes before the worker can ignore it would end it.
                before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
                try:
                    self.process = subprocess.Popen(
                        [sys.executable, "-c", code, *map(str, (*descriptors, os.getpid()))],
                        pass_fds=descriptors,
                        env=os.environ | SINGLE_THREAD,
                    )
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except BaseException:
            self.socket.close()
            raise

    @property
    def label(self) -> str:
        """The worker's name in reports: its index, process id and rows."""
        return f"worker {self._index} (process {self.process.pid}; {self._names})"

    def limit_waiting(self, seconds: float) -> None:
        """Makes the socket give up by itself, which costs nothing per call, unlike `poll`."""
        limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def describe_end(self) -> str:
        """Returns how the process ended, once its pipe has closed."""
        try:
            code = self.process.wait(CLOSE_TIMEOUT)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        if code >= 0:
            return f"ended with exit code {code} (its standard error may say why)"
        how = f"was ended by {signal.Signals(-code).name}"
        return f"{how} (by the system if memory ran out)" if -code == signal.SIGKILL else how


def end_all(workers: Sequence[WorkerProcess]) -> None:
    """Closes the pipes of all workers, and then ends by force those that do not end themselves."""
    for worker in workers:
        with contextlib.suppress(OSError):  # closed before
            worker.socket.shutdown(socket.SHUT_RDWR)  # even where a fork of this one has it open
        worker.socket.close()
        worker.pipe.close()
    deadline = time.monotonic() + CLOSE_TIMEOUT
    for worker in workers:
        try:
            worker.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
