"""The worker process: it steps some rows of the vector environment and sleeps in between."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import traceback
from multiprocessing.connection import Connection

from envs.workers.rows import Rows

DONE, FAILED = b"d", b"f"

AWAKE = 1e-3
"""Seconds for which a process that waits for another one keeps its core awake: more than a caller
with random actions or a small policy needs between two steps, far less than an update."""


def run(pipe: Connection, memory: int, parent: int) -> None:
    """Serves commands until the pipe closes or the parent, a process id, has ended."""
    # The pipe closes when the parent ends, but not if a fork of the parent lives on: it inherited
    # the other end. So a thread looks at who the parent is. It is a daemon thread, or the worker
    # could not end while the thread sleeps.
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    rows, commands = Rows(), CommandPipe(pipe)
    try:
        arrays_class, num_rows, specs = pipe.recv()  # imports what the rows need
        rows.make(specs, arrays_class(num_rows, memory))
        commands.answer(DONE)
        while command := commands.next():
            rows.execute(command)
            commands.answer(DONE)
    except Exception:
        with contextlib.suppress(OSError):  # most often the pipe has closed: the parent is gone
            commands.answer(FAILED)
            pipe.send((rows.current_task, traceback.format_exc()))


class CommandPipe:
    """The worker's end of the pipe: commands come in, one byte each, and answers go out.

    Where commands follow each other closely, the worker stays awake for the next one; where the
    learner computes in between, it sleeps at once.
    """

    def __init__(self, pipe: Connection):
        self._socket = socket.socket(fileno=os.dup(pipe.fileno()))
        self._awake = 0.0

    def next(self) -> bytes:
        """Waits for the next command; returns nothing (b"") when the pipe has closed."""
        began = time.perf_counter()
        command = receive(self._socket, self._awake)
        self._awake = AWAKE if time.perf_counter() - began < AWAKE else 0.0
        return command

    def answer(self, reply: bytes) -> None:
        """Sends `DONE` or `FAILED`."""
        self._socket.send(reply)


def receive(connection: socket.socket, awake: float, flags: int = 0) -> bytes:
    """Waits for a byte and returns it, or nothing (b"") when the other end has closed.

    A core that fell asleep takes a while to wake up. So this function keeps it busy for `awake`
    seconds, but lets any other process run that wants the core; after that it sleeps.
    """
    until = time.perf_counter() + awake
    while time.perf_counter() < until:
        try:
            return connection.recv(1, socket.MSG_DONTWAIT | flags)
        except BlockingIOError:
            os.sched_yield()
    return connection.recv(1, flags)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
