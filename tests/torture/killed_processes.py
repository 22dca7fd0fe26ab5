"""Trainings in processes that can be killed, and what is left of them."""

import contextlib
import multiprocessing
import os
import sys
import time
from pathlib import Path

from scripts import train
from tests.live_processes import is_alive

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["scripts.train"])  # else most kills would meet an import of torch


def _run(words: list[str], log: str) -> None:
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(output, number)
    with open(1, "w", buffering=1) as sys.stdout, open(2, "w", buffering=1) as sys.stderr:
        train.main(words)


def start(words: list[str], log: Path) -> multiprocessing.process.BaseProcess:
    """Starts `train.py` with these words as the head of a session of its own."""
    process = CONTEXT.Process(target=_run, args=(words, str(log)))
    process.start()
    return process


def members(session: int) -> list[int]:
    """The live processes of a session, other than its head."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and int(folder.name) != session:
                found.append(int(folder.name))
    return [pid for pid in found if is_alive(pid)]


def wait_until_gone(session: int, seconds: float = 20.0) -> None:
    """Fails if a process of the session is still there then."""
    until = time.monotonic() + seconds
    while left := members(session):
        assert time.monotonic() < until, left
        time.sleep(0.05)
