"""What docs/combiners.md says is so."""

import re
from pathlib import Path

import pytest

from mtrl_fair import COMBINERS, GramianCombiner, JacobianCombiner, LossCombiner

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "combiners.md").read_text()


def rows_of(first_header: str) -> list[list[str]]:
    table = DOCUMENT.split(f"| {first_header} |")[1].split("\n\n")[0]
    lines = table.splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_its_python_runs_as_it_stands():
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(blocks) >= 2
    exec("\n".join(blocks), {})


def test_its_table_names_every_method_and_what_it_needs():
    needs = {name.strip("`"): cell.split()[0] for name, _, cell, *_ in rows_of("name")}
    kinds = {"losses": LossCombiner, "Gramian": GramianCombiner, "gradients": JacobianCombiner}
    assert set(needs) == set(COMBINERS)
    assert all(issubclass(COMBINERS[name], kinds[need]) for name, need in needs.items())


def test_every_class_says_its_convention_need_and_state():
    for name, combiner in COMBINERS.items():
        for word in ("Convention:", "Needs", "State:"):
            assert word in combiner.__doc__, (name, word)


@pytest.mark.parametrize("section", ["solver speed", "gradient scale", "sgd accuracy"])
def test_the_benchmark_s_tables_are_there(section):
    text = DOCUMENT.split(f"<!-- {section} -->")[1].split(f"<!-- end {section} -->")[0]
    assert text.count("\n|") > 5


def test_its_diff_is_that_of_the_two_files():
    shown = DOCUMENT.split("```diff\n")[1].split("```")[0].splitlines()
    folder = ROOT / "scripts" / "integrations"
    before, after = (
        (folder / f"sac_single_file{ending}.py").read_text().splitlines()
        for ending in ("", "_fairgrad")
    )
    for line in shown:
        if line == "@@":
            continue
        assert line[1:] in (before if line[0] == "-" else after), line
    added = set(after) - set(before)
    in_functions = {line for line in added if line.startswith("    ")}
    assert in_functions == {line[1:] for line in shown if line.startswith("+")}


def test_it_lists_every_integration():
    files = {path.name for path in (ROOT / "scripts" / "integrations").glob("*.py")}
    helpers = {"arguments.py", "policy_evaluation.py"}
    assert set(re.findall(r"`(\w+\.py)`", DOCUMENT)) & files == files - helpers
