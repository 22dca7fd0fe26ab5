"""The table of what is finished, from results by hand."""

import json

import pytest

from mtrl_fair.errors import RunError
from scripts.comparing.arguments import Arguments
from scripts.comparing.outcome import is_finished, read_comparison
from scripts.comparing.plan import make_jobs, make_plan


def write(job, values):
    job.path.mkdir(parents=True)
    (job.path / "results.json").write_text(json.dumps({"epoch": 1, "values": values}))


@pytest.fixture
def digits(tmp_path):
    """(plan, jobs by name): two seeds of ls, and of single-task training."""
    plan = make_plan("digits", Arguments(compare=("ls",), seeds=2, device="cpu"))
    return plan, {job.name: job for job in make_jobs(plan, tmp_path)}


def compared(digits):
    plan, jobs = digits
    return read_comparison(plan, list(jobs.values()))


def test_a_seed_of_single_task_training_counts_when_all_its_tasks_are_finished(digits):
    _, jobs = digits
    write(jobs["ls-seed0"], {"left/accuracy": 0.6, "right/accuracy": 0.8})
    write(jobs["single-task-left-seed0"], {"left/accuracy": 0.8})
    write(jobs["single-task-right-seed0"], {"right/accuracy": 0.8})
    write(jobs["single-task-left-seed1"], {"left/accuracy": 0.1})
    comparison = compared(digits)
    (row,) = comparison.rows
    assert (row.method, row.seeds) == ("ls", 1)
    assert comparison.single_task.seeds == 1
    assert comparison.single_task.means == {"left/accuracy": 0.8, "right/accuracy": 0.8}
    assert row.delta == pytest.approx(12.5)
    assert [is_finished(job) for job in jobs.values()] == [True, True, True, False, True, False]


def test_without_a_whole_seed_there_is_no_baseline(digits):
    _, jobs = digits
    write(jobs["ls-seed1"], {"left/accuracy": 0.6, "right/accuracy": 0.8})
    write(jobs["single-task-left-seed0"], {"left/accuracy": 0.8})
    comparison = compared(digits)
    assert comparison.single_task is None
    assert [row.method for row in comparison.rows] == ["ls"]


def test_nothing_is_finished_yet(digits):
    assert compared(digits).rows == ()


@pytest.mark.parametrize("text", ["{", "[]", '{"values": 3}', '{"values": {"left/accuracy": "x"}}'])
def test_a_damaged_result_is_named(digits, text):
    _, jobs = digits
    job = jobs["ls-seed0"]
    write(job, {})
    (job.path / "results.json").write_text(text)
    with pytest.raises(RunError, match="results.json cannot be read .*: remove it, and --resume"):
        compared(digits)


def test_a_published_baseline_has_its_name(tmp_path):
    plan = make_plan("nyuv2", Arguments(device="cpu", threads=1))
    assert plan["single_task"] == "published"
    comparison = read_comparison(plan, make_jobs(plan, tmp_path))
    assert comparison.single_task.method == "single-task (published)"
    assert comparison.single_task.means["segmentation/mIoU"] == 0.383
