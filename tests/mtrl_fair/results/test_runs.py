"""Runs read back; their numbers say which they are."""

import pytest

from mtrl_fair.results.runs import until_step
from mtrl_fair.results.weights import read_weights
from mtrl_fair.runs import RunDirectory, RunError
from tests.mtrl_fair.results.written_runs import KIND, TASKS, make_run, read, read_all, success


def test_a_run_is_read_back(tmp_path):
    run = read(make_run(tmp_path, "run", seed=2))
    assert run.name == "run"
    assert run.path == tmp_path / "run"
    assert run.tasks == TASKS
    assert run.steps.tolist() == [1000, 2000, 3000]
    assert run.seconds.tolist() == [62, 122, 182]
    assert run.success.tolist() == [
        [success(k, step, 2) for k in range(2)] for step in (1000, 2000, 3000)
    ]
    assert run.settings["agent.discount"] == 0.9
    assert run.settings["agent.batch_size"] == 128  # the default of a setting it does not have


def test_what_is_half_written_is_left_out(tmp_path):
    path = make_run(tmp_path, "run")
    with open(f"{path}/evaluations.csv", "a", newline="") as file:
        file.write("4000,reach-v3,1.0,50,1.0,2.0\r\n4000,push-v3,1.0,50,1.0,2")
    with open(f"{path}/metrics.jsonl", "a") as file:
        file.write('{"step": 4000, "charts/sec')
    assert read(path).steps.tolist() == [1000, 2000, 3000]
    assert read_weights(read(path))[0][-1] == 3000


@pytest.mark.parametrize("rows", ["", "1000,reach-v3,1.0,50,1.0,2.0\r\n1000,push-v3,1.", "1000,re"])
def test_a_run_without_a_whole_evaluation_has_none_yet(tmp_path, rows):
    path = make_run(tmp_path, "run", steps=())
    with open(f"{path}/evaluations.csv", "a", newline="") as file:
        file.write(rows)
    with pytest.raises(ValueError, match="has no evaluation yet"):
        read(path)


def test_what_comes_after_a_step_is_left_out(tmp_path):
    runs = read_all([make_run(tmp_path, "a", seed=3), make_run(tmp_path, "b", steps=(2000,))])
    assert [run.steps.tolist() for run in until_step(runs, None)] == [[1000, 2000, 3000], [2000]]
    first, second = until_step(runs, 2000)
    assert first.steps.tolist() == [1000, 2000]
    assert first.seconds.tolist() == [63, 123]
    assert first.success[:, 1].tolist() == [success(1, step, 3) for step in (1000, 2000)]
    assert second.steps.tolist() == [2000]
    with pytest.raises(ValueError, match=r"up to step 1999, because the first one of .*b is at"):
        until_step(runs, 1999)


def test_what_is_no_run_of_this_version_is_refused(tmp_path):
    with pytest.raises(RunError, match="there is no run"):
        read(tmp_path)
    path = make_run(tmp_path, "run")
    (tmp_path / "run" / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match="has no charts/seconds at step 1000"):
        read(path)
    (tmp_path / "run" / "evaluations.csv").write_text("step,epoch\r\n1,2\r\n")
    with pytest.raises(RunError, match="has the columns step,epoch, expected step,task,success"):
        read(path)


def test_a_refused_rewind_leaves_the_run_alone(tmp_path):
    path = make_run(tmp_path, "run")
    (tmp_path / "run" / "evaluations.csv").write_text("step,seconds,task\r\n1,2,3\r\n")
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").glob("*.*")}
    with pytest.raises(RunError, match="of another version"):
        RunDirectory.open(path, KIND).rewind(0)
    assert before == {file.name: file.read_bytes() for file in (tmp_path / "run").glob("*.*")}
