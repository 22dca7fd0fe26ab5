"""A hundred kills at random moments: every run resumes to the end that it has without them."""

import contextlib
import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from scripts import train
from tests.scripts.commands import run_here
from tests.scripts.short_trainings import ONE_PROCESS, assert_same_run, flags_with
from tests.torture.killed_processes import members, start, wait_until_gone

pytestmark = pytest.mark.long

KILLS = 25
"""Of each of the four tests."""
LONGEST = 8.0
"""Seconds to the last moment of a kill: about what a training takes."""
WORKERS = ("--environment.num-workers", "2")


def moment(run: Path) -> str:
    """What a run was doing, as far as its files tell."""
    if any(run.glob("**/*.tmp")):
        return "writing a file"
    if not (run / "config.json").exists():
        return "before its folder was complete"
    metrics = run / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True) if metrics.exists() else []
    steps = [json.loads(line)["step"] for line in lines if line.endswith("}\n")]
    if not steps:
        return "before its first metrics"
    return f"after step {steps[-1] // 80 * 80}"  # checkpoints are of steps 0, 80, 160


def wait_for_a_write(run: Path, process: BaseProcess) -> None:
    """Waits until the run writes a checkpoint or another file, at most for its usual time."""
    until = time.monotonic() + LONGEST
    while process.is_alive() and time.monotonic() < until:
        if any(run.glob("**/*.tmp")):
            return


def kill(process: BaseProcess, log: Path, generator: random.Random) -> str:
    """Kills the training or, three times of ten, one of its workers; returns which."""
    workers = members(process.pid)
    victim = generator.choice(workers) if workers and generator.random() < 0.3 else process.pid
    with contextlib.suppress(ProcessLookupError):  # it may have ended by itself in this moment
        os.kill(victim, signal.SIGKILL)
    process.join(120)
    wait_until_gone(process.pid)
    expected = -signal.SIGKILL if victim == process.pid else 1
    assert process.exitcode in (expected, 0), log.read_text()[-2000:]
    return "the trainer" if victim == process.pid else "a worker"


@pytest.mark.parametrize("preset", ["mt10-quickstart", "mt10-small"])
@pytest.mark.parametrize("seed", ["0", "1"])
def test_kills_lose_nothing(preset, seed, tmp_path, capsys):
    flags = [preset, *flags_with("--seed", seed)[1:]]
    whole, log = tmp_path / "whole", tmp_path / "log"
    assert run_here(train.main, *flags, *ONE_PROCESS, "--run-dir", str(whole)).code == 0
    generator = random.Random(f"{preset} {seed}")
    shared_memory = set(os.listdir("/dev/shm"))
    kills: Counter[str] = Counter()
    begun = finished = 0
    while kills.total() < KILLS or begun > finished:
        run = tmp_path / f"run{finished}"
        if run.exists() and not (run / "config.json").exists():
            shutil.rmtree(run)  # nothing was there to lose
        if run.exists():
            process = start(["--resume", str(run)], log)
        else:
            process = start([*flags, *WORKERS, "--run-dir", str(run)], log)
        begun = finished + 1
        if kills.total() == KILLS:
            process.join(120)
        elif generator.random() < 0.2:
            wait_for_a_write(run, process)
        else:
            process.join(generator.uniform(0, LONGEST))
        if process.is_alive():
            what = moment(run)
            who = kill(process, log, generator)
            kills[f"{who}, {what}"] += process.exitcode != 0
        if process.exitcode == 0:
            wait_until_gone(process.pid)
            assert_same_run(run, whole)
            assert list(run.glob("**/*.tmp")) == []
            finished += 1
        else:
            assert process.exitcode in (1, -signal.SIGKILL), log.read_text()[-2000:]
    assert "Traceback" not in log.read_text()
    assert set(os.listdir("/dev/shm")) <= shared_memory
    with capsys.disabled():
        print(f"\n{kills.total()} kills of {finished} runs of {preset}, seed {seed}:")
        for what, number in sorted(kills.items()):
            print(f"{number:5d}  {what}")
