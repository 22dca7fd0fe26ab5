"""Damaged files are refused in one line or loaded: no traceback, no code, no write elsewhere.

`make torture` runs this. Every mutation follows from `SEED`.
"""

import pytest

from scripts import supervised, train
from tests.scripts.supervised_commands import jobs_here
from tests.torture import files_of_data, files_of_runs
from tests.torture.hostile_files import SEED, load_damaged, peak_memory

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("default")]


@pytest.fixture
def sandbox(tmp_path, monkeypatch):
    folder = tmp_path / "around" / "inside"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    for command in (supervised, train):  # what can be loaded is not trained
        monkeypatch.setattr(command, "stop_on_signal", lambda: lambda: True)
    monkeypatch.setattr(supervised, "run_jobs", jobs_here)
    monkeypatch.setattr("mtrl_fair.supervised.figures.draw_comparison", lambda *arguments: None)
    return folder


def check(files, sandbox, capsys):
    failed = []
    for file in files:
        before = peak_memory()
        tally = load_damaged(file, sandbox)
        with capsys.disabled():
            print(
                f"\n{file.name}: seed {SEED}, {file.mutations} mutations,"
                f" {tally.refused} refused, {tally.loaded} loaded, {tally.seconds:.0f} s,"
                f" {peak_memory() - before:.0f} MiB more at the peak",
                end="",
            )
        failed += [
            f"{file.name}, {times} times, first with mutation {tally.first[fault]}: {fault}"
            for fault, times in tally.faults.most_common()
        ]
    assert not failed, "\n".join(failed)


def test_files_of_a_run(sandbox, capsys):
    check(files_of_runs.read_run(sandbox), sandbox, capsys)


def test_zip_files_of_runs(sandbox, capsys):
    check(files_of_runs.read_zip(sandbox), sandbox, capsys)


def test_comparisons(sandbox, capsys):
    check(files_of_runs.read_comparison(sandbox), sandbox, capsys)


def test_runs_that_continue(finished, sandbox, capsys):
    check(files_of_runs.continue_run(sandbox, finished), sandbox, capsys)


def test_goal_caches(sandbox, capsys, monkeypatch):
    monkeypatch.setenv("MTRL_FAIR_CACHE", str(sandbox / "cache"))
    check(files_of_data.goal_cache(sandbox), sandbox, capsys)


def test_supervised_checkpoints(sandbox, capsys):
    check(files_of_data.supervised_checkpoint(sandbox), sandbox, capsys)


def test_files_of_benchmarks(sandbox, capsys):
    check(files_of_data.benchmark_files(sandbox), sandbox, capsys)
