"""What a run's files may not hold is refused in one line, before it meets what computes with it."""

import json

import pytest

from mtrl_fair.runs import RunDirectory, RunError
from mtrl_fair.runs.files import MAX_JSON_BYTES, MAX_NESTING, check_nesting, read_object
from tests.mtrl_fair.results.written_runs import KIND, make_run, read


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    make_run(tmp_path, "run")
    return RunDirectory.open(tmp_path / "run", KIND)


def nested(levels: int) -> dict:
    inner: dict = {}
    for _ in range(levels):
        inner = {"a": inner}
    return inner


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a":' * 100_000, "maximum recursion depth"),
        ("[" * 100_000, "maximum recursion depth"),
        (json.dumps(nested(MAX_NESTING)), f"nested in more than {MAX_NESTING} levels"),
        (" " * (MAX_JSON_BYTES + 1), f"more than {MAX_JSON_BYTES} bytes"),
        ('{"a": ' + "9" * 5000 + "}", "4300 digits"),
    ],
)
def test_json_that_is_too_deep_or_too_large(text, message, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(RunError, match=f"config.json cannot be read .*{message}.*restore it"):
        read_object(path)


def test_a_nest_may_hold_one_object_often_but_not_itself():
    shared: list = []
    for _ in range(MAX_NESTING - 2):
        shared = [shared, shared]  # 2^48 paths lead through it
    check_nesting(shared)
    shared.append(shared)
    with pytest.raises(ValueError, match="nested in more than"):
        check_nesting(shared)


@pytest.mark.parametrize(
    "change",
    [
        {"resumed": 3},
        {"resumed": [3]},
        {"resumed": [{"commit": 3}]},
        {"commit": ["a"]},
        {"command": "train.py"},
        {"command": [3]},
    ],
)
def test_metadata_of_wrong_types(change, run):
    path = run.path / "metadata.json"
    path.write_text(json.dumps(run.metadata() | change))
    with pytest.raises(RunError, match="metadata.json cannot be read .*commit and a command"):
        run.metadata()
    with pytest.raises(RunError, match="metadata.json cannot be read"):
        read(run.path)  # before a table, a figure or a copy is begun


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ({"charts/seconds": 1.0}, "step"),
        ({"step": None}, "step"),
        ({"step": "7"}, "step"),
        ({"step": 10**400}, "step"),
        ({"step": 1, "a/b": [1]}, "a/b"),
        ({"step": 1, "a/b": float("nan")}, "a/b"),
    ],
)
def test_lines_of_metrics_hold_numbers(line, key, run):
    (run.path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(RunError, match=f"line 1 of .*metrics.jsonl .*{key} is no finite number"):
        run.metrics()


@pytest.mark.parametrize("step", ["-1", "1.5", "", "9" * 400, "٣"])
def test_steps_of_evaluations_are_whole_numbers(step, run):
    path = run.path / "evaluations.csv"
    path.write_text(path.read_text().replace("1000", step, 1))
    with pytest.raises(RunError, match="evaluations.csv is damaged .line 2 is of step"):
        run.evaluations()


def test_a_cell_without_end(run):
    path = run.path / "evaluations.csv"
    path.write_text(path.read_text().replace("1000", "9" * 200_000, 1))
    with pytest.raises(RunError, match="evaluations.csv cannot be read .field larger"):
        run.evaluations()


@pytest.mark.parametrize(
    ("key", "value"),
    [("tasks", 3), ("tasks", [3]), ("seed", [0]), ("combiner", None), ("eval_every", "1")],
)
def test_settings_that_comparisons_compute_with(key, value, run):
    run.write_config(run.config | {key: value})
    with pytest.raises(ValueError, match=f"config.json cannot be read .{key} is"):
        read(run.path)
