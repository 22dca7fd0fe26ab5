"""A damaged plan or result of a comparison is one line, and leads into no other folder."""

import json

import pytest

from scripts import supervised
from tests.scripts.commands import run_here
from tests.scripts.supervised_commands import run_here as supervised_here

PLAN = "comparison.json"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan") / "toy"
    words = ["toy", "--combiner", "ls", "--epochs", "1", "--device", "cpu", "--run-dir", folder]
    assert supervised_here(*words)[0] == 0
    return folder


@pytest.mark.parametrize("name", ["", "..", ".", "../x", "a/b", "a\0b", "a\nb", "é" * 200])
def test_a_run_of_a_plan_lies_in_its_folder(name, finished, tmp_path):
    plan = json.loads((finished / PLAN).read_text())
    plan["runs"][0]["folder"] = name
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / PLAN).write_text(json.dumps(plan))
    result = run_here(supervised.main, "--resume", str(tmp_path / "toy"))
    assert (result.code, result.output, result.errors.count("\n")) == (2, "", 1)
    assert "comparison.json cannot be read" in result.errors
    assert "is no name of a run" in result.errors
    assert [path.name for path in tmp_path.rglob("*")] == ["toy", PLAN]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ('{"first/loss": 1' + "0" * 400 + "}", "int too large"),
        ("[" * 100_000, "maximum recursion depth"),
        ("[]", "it has no values by name"),
    ],
)
def test_a_damaged_result_says_how_to_mend_it(values, message, finished, monkeypatch):
    (path,) = finished.glob("*/results.json")
    content = path.read_text()
    path.write_text(f'{{"epoch": 1, "values": {values}}}'[: 10**6])
    code, _, errors = supervised_here("--resume", finished)
    path.write_text(content)
    assert (code, errors.count("\n")) == (2, 1)
    assert message in errors
    assert "remove it, and --resume writes it again" in errors
