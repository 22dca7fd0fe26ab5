"""The supervised trainer's command, in this process or as a program."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtrl_fair.signals import STOP_SIGNALS
from mtrl_fair.supervised.jobs import run_job
from scripts import supervised

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}


def jobs_here(jobs, processes, display, should_stop):
    """`run_jobs` without processes."""
    outcomes = {}
    for job in jobs:
        if should_stop():
            break
        display.started(job)
        outcomes[job.name] = run_job(
            job, lambda progress, job=job: display.progress(job, progress), should_stop
        )
        display.ended(job, outcomes[job.name])
    return outcomes


def run_here(*words, jobs=jobs_here):
    """(exit code, output, errors) of the command, with its trainings in this process."""
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    output, errors, code = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        patch.setattr(supervised, "run_jobs", jobs)
        try:
            supervised.main(list(map(str, words)))
        except SystemExit as end:
            code = end.code
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return code, output.getvalue(), errors.getvalue()


def start(*words):
    """The program, at the head of a group of processes, as a terminal starts it."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "supervised.py"), *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    )


def run(*words):
    process = start(*words)
    output, errors = process.communicate(timeout=240)
    return process.returncode, output, errors


def wait_for(condition):
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def results(folder):
    return {
        path.parent.name: json.loads(path.read_text())["values"]
        for path in folder.glob("*/results.json")
    }
