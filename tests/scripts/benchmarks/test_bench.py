"""The benchmark of solvers: its peers are right, and its files say what it printed."""

import json

import pytest
import torch

from mtrl_fair import fairgrad_weights
from scripts import bench
from scripts.benchmarks import measure, solver
from scripts.benchmarks.measure import median_times, replace_section


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(solver, "NUM_TASKS", (10,))
    monkeypatch.setattr(solver, "ALPHAS", (2.0,))
    monkeypatch.setattr(solver, "GRAMIANS_PER_CONFLICT", 5)


def test_it_writes_rows_and_the_ratios_of_the_design(quick, tmp_path, capsys):
    document = tmp_path / "combiners.md"
    sections = ("solver speed", "gradient scale", "sgd accuracy")
    document.write_text("".join(f"text\n<!-- {x} -->\nold\n<!-- end {x} -->\n" for x in sections))
    path = tmp_path / "bench.json"
    flags = ["--gramians", "1", "--repeats", "1", "--json", str(path), "--docs", str(document)]
    bench.main(["solver", *flags])
    result = json.loads(path.read_text())
    assert {"commit", "machine", "versions", "rows", "ratios"} <= set(result)
    names = [f"{a}_vs_{b}" for a in ("newton", "sgd") for b in ("least_squares", "autograd_sgd")]
    assert set(names) <= set(result["ratios"])
    rows = {row["solver"]: row for row in result["rows"] if "solver" in row}
    assert set(rows) >= {"newton", "sgd", "least_squares", "TorchJD FairGrad"}
    expected = rows["scipy, published"]["milliseconds"] / rows["newton"]["milliseconds"]
    assert result["ratios"]["newton_vs_least_squares"] == pytest.approx(expected)
    assert rows["newton"]["largest_residual"] < 1e-6
    printed = capsys.readouterr().out
    assert "newton_vs_least_squares" in printed
    written = document.read_text()
    assert "old" not in written
    assert written.count("text\n") == 3
    assert "| newton | 10 | 2 |" in written


def test_the_published_peers_solve_the_same_equation():
    rows = solver.task_gradients(5, 50, 0.0, seed=0)
    gramian = rows @ rows.mT / 50
    exact = fairgrad_weights(gramian, 2.0)
    torch.testing.assert_close(
        solver.published_least_squares(gramian, 2.0), exact, rtol=1e-3, atol=0
    )
    raw = fairgrad_weights(gramian, 2.0, "sgd", precondition=False)
    torch.testing.assert_close(solver.published_sgd(gramian, 2.0), raw, rtol=1e-5, atol=0)


def test_balanced_conflict_has_equal_cosines():
    rows = solver.balanced_gradients(4)
    rows = rows / rows.norm(dim=-1, keepdim=True)
    cosines = rows @ rows.mT
    torch.testing.assert_close(cosines[:, 0, 1:], torch.full((len(rows), 3), -0.3).double())


def test_conflict_is_what_the_table_says():
    rows = solver.opposed_gradients(4, -0.6, -0.3)
    cosines = torch.cosine_similarity(rows[:, 0::2], rows[:, 1::2], dim=-1)
    assert -0.6 <= cosines.min() < -0.55
    assert -0.35 < cosines.max() <= -0.3


def test_medians_are_of_single_calls_taken_in_turns(monkeypatch):
    clock, order = [0.0], []

    def candidate(name: str, seconds: float):
        def call() -> None:
            order.append(name)
            clock[0] += seconds

        return call

    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[0])
    candidates = {"slow": candidate("slow", 3.0), "fast": candidate("fast", 0.5)}
    assert median_times(candidates, 3, seconds=1.0) == {"slow": 3.0, "fast": 0.5}
    turn = ["slow", "fast", "fast"]
    assert order == ["slow", "slow", "fast", "fast", *turn, *turn, *turn]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no benchmark: the first argument is one of solver"),
        (["solvr"], "did you mean solver"),
        (["solver", "--gramians", "0"], "--gramians is 0, expected at least 1"),
        (["solver", "--json", "nowhere/x.json"], "there is no folder nowhere"),
        (["solver", "--docs", "nowhere.md"], "nowhere.md is no document with a section"),
    ],
)
def test_wrong_arguments_are_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as caught:
        bench.main(words)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_document_without_the_section_is_refused(tmp_path):
    document = tmp_path / "document.md"
    document.write_text("text")
    with pytest.raises(ValueError, match="no document with a section between <!-- x -->"):
        replace_section(document, "x", "new")
    assert document.read_text() == "text"
