"""docs/results.md says what the runs in docs/runs say."""

from pathlib import Path

import pytest

from scripts.run_results import read_run

DOCS = Path(__file__).parents[1] / "docs"
RUNS = sorted(path.parent for path in DOCS.glob("runs/*/*/config.json"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.name)
def test_a_run_s_row_is_that_of_its_last_evaluation(path):
    run = read_run(str(path))
    lines = (DOCS / "results.md").read_text().splitlines()
    (row,) = [line for line in lines if line.startswith(f"| {path.name} |")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2:] == [
        f"{run.steps[-1]:,.0f}",
        f"{run.seconds[-1] / 60:.0f}",
        *(f"{value:.2f}" for value in run.success[-1]),
        f"{run.mean[-1]:.3f}",
    ]


def test_there_are_runs_and_they_name_no_folder_of_a_machine():
    assert len(RUNS) >= 10
    for path in RUNS:
        assert "/" not in (path / "metadata.json").read_text().split('"commit"')[0]
