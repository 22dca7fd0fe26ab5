"""A hundred kills at random moments: every run resumes to the end that it has without them."""

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from scripts import train
from tests.scripts.commands import run_here
from tests.scripts.short_trainings import ONE_PROCESS, assert_same_run, flags_with
from tests.torture.killed_processes import members, start, wait_until_gone

pytestmark = pytest.mark.long

KILLS = 100
WORKERS = ("--environment.num-workers", "2")
RUNS = [(preset, seed) for seed in ("0", "1") for preset in ("mt10-quickstart", "mt10-small")]


def flags_of(preset: str, seed: str) -> list[str]:
    return [preset, *flags_with("--seed", seed)[1:]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[tuple[str, str], Path]:
    """Each run without a kill, in this process."""
    folder = tmp_path_factory.mktemp("whole")
    for preset, seed in RUNS:
        path = folder / f"{preset}-{seed}"
        words = [*flags_of(preset, seed), *ONE_PROCESS, "--run-dir", str(path)]
        assert run_here(train.main, *words).code == 0
    return {(preset, seed): folder / f"{preset}-{seed}" for preset, seed in RUNS}


def moment(run: Path) -> str:
    """What a run was doing, as far as its files tell."""
    if any(run.glob("**/*.tmp")):
        return "writing a file"
    if not (run / "config.json").exists():
        return "before its folder was complete"
    if not (run / "metrics.jsonl").exists():
        return "making environments and networks"
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    steps = [json.loads(line)["step"] for line in lines if line.endswith("}\n")]
    if not steps:
        return "before step 20"
    return f"after step {steps[-1] // 80 * 80}"


def test_a_hundred_kills_lose_nothing(whole, tmp_path, capsys):
    generator = random.Random(0)
    shared_memory = set(os.listdir("/dev/shm"))
    kills: Counter[str] = Counter()
    finished = begun_anew = 0
    longest = 4.0
    while kills.total() < KILLS:
        key = RUNS[finished % len(RUNS)]
        run, log = tmp_path / f"run{finished}", tmp_path / f"log{finished}"
        while True:
            if run.exists() and not (run / "config.json").exists():
                shutil.rmtree(run)  # nothing was there to lose
                begun_anew += 1
            resume = ["--resume", str(run)]
            words = resume if run.exists() else [*flags_of(*key), *WORKERS, "--run-dir", str(run)]
            began = time.monotonic()
            process = start(words, log)
            process.join(generator.uniform(0, longest) if kills.total() < KILLS else 120)
            if process.exitcode is not None:
                assert process.exitcode == 0, log.read_text()[-2000:]
                longest = max(longest, time.monotonic() - began)
                break
            workers = members(process.pid)
            victim = generator.choice(workers) if workers and generator.random() < 0.3 else None
            what = moment(run)
            os.kill(process.pid if victim is None else victim, signal.SIGKILL)
            process.join(120)
            wait_until_gone(process.pid)
            if victim is not None and process.exitcode == 0:
                break  # the last worker ends after the last step
            expected = -signal.SIGKILL if victim is None else 1
            assert process.exitcode == expected, log.read_text()[-2000:]
            kills[f"{'a worker' if victim else 'the trainer'}, {what}"] += 1
        wait_until_gone(process.pid)
        assert_same_run(run, whole[key])
        assert list(run.glob("**/*.tmp")) == []
        assert "Traceback" not in log.read_text()
        finished += 1
    assert set(os.listdir("/dev/shm")) <= shared_memory
    with capsys.disabled():
        print(f"\n{kills.total()} kills of {finished} runs, {begun_anew} begun anew:")
        for what, number in sorted(kills.items()):
            print(f"{number:5d}  {what}")
