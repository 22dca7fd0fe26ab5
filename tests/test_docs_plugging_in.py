"""What docs/plugging_in.md says is so."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "plugging_in.md").read_text()


def test_its_python_runs_as_it_stands(capsys):
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(blocks) >= 8
    names = {}
    exec("\n".join(blocks), names)
    assert capsys.readouterr().out.startswith("tensor(")
    assert names["gradients"]["w"].shape == (3, 8, 1)
    assert names["direction"]["w"].shape == (8, 1)
    assert names["famo"].uses_after_step
    assert names["famo"].logits.abs().sum() > 0  # it has learned from the losses after the step


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
    helpers = {"__init__.py", "arguments.py", "policy_evaluation.py"}
    assert set(re.findall(r"`(\w+\.py)`", DOCUMENT)) & files == files - helpers
