"""What docs/solvers.md says is so."""

import re
from pathlib import Path

import pytest

from mtrl_fair import SOLVERS
from scripts.benchmarks import solver
from scripts.benchmarks.measure import split_at_section

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "solvers.md").read_text()


def test_its_python_runs_as_it_stands():
    (block,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    names = {}
    exec(block, names)
    assert names["weights"].shape == (10,)
    assert names["residual"] < 1e-6


def test_its_table_names_every_solver():
    assert re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.MULTILINE) == list(SOLVERS)


@pytest.mark.parametrize(
    "section", [solver.SPEED_SECTION, solver.SCALE_SECTION, solver.SGD_SECTION]
)
def test_the_benchmark_finds_its_tables(section):
    before, after = split_at_section(ROOT / "docs" / "solvers.md", section)
    text = DOCUMENT[len(before) : -len(after)]
    assert text.count("\n|") > 5
    assert all(f"| {name} " in text for name in SOLVERS) or section == solver.SGD_SECTION


def test_the_benchmark_names_this_page():
    assert "--docs docs/solvers.md" in DOCUMENT
    source = (ROOT / "scripts" / "benchmarks" / "solver.py").read_text()
    assert "such as docs/solvers.md" in source
