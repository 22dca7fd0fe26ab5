"""What the README says is so."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from configs import PRESETS
from mtrl_fair import COMBINERS
from scripts.train import DEFAULT_PRESET

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]
DIFF = re.findall(r"```diff\n(.*?)```", README, re.DOTALL)


def test_its_diff_leads_from_one_loop_that_runs_to_another():
    (lines,) = (text.splitlines() for text in DIFF)
    assert {line[:1] for line in lines} == {"", " ", "+", "-"}
    before, after = (
        "\n".join(line[1:] for line in lines if not line.startswith(sign)) for sign in "+-"
    )
    for code in (before, after):
        exec(code.replace("range(100)", "range(2)"), {})
    assert "mtrl_fair" not in before
    assert "combiner.backward(" in after


def test_its_diff_adds_three_lines():
    assert sum(line.startswith("+") for line in DIFF[0].splitlines()) == 3


@pytest.mark.process
@pytest.mark.parametrize("line", [x for x in COMMANDS if x.startswith("make ")])
def test_its_make_targets_exist(line):
    result = subprocess.run(
        [*shlex.split(line), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "scripts/train.py" in result.stdout or "pytest" in result.stdout


def test_its_test_command_is_what_continuous_integration_runs():
    assert "make test" in COMMANDS
    assert "make test" in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.mark.parametrize("name", ["README.md", "docs/training.md"])
def test_a_table_names_every_preset_and_the_hours_of_the_default(name):
    page = (ROOT / name).read_text().split("\n### ")[0]
    rows = re.findall(r"^\| `([\w-]+)`( \(default\))? \|.*\| (.+) \|$", page, re.MULTILINE)
    assert {name for name, _, _ in rows} == set(PRESETS)
    assert [name for name, mark, _ in rows if mark] == [DEFAULT_PRESET]
    times = {name: time for name, _, time in rows}
    performance = (ROOT / "docs" / "performance.md").read_text()
    (hours,) = re.findall(rf"^\| {DEFAULT_PRESET} .*\| ([\d.]+) \|$", performance, re.MULTILINE)
    assert f"{float(hours):.0f} hours" in times[DEFAULT_PRESET]


def test_it_names_every_method():
    (names,) = re.findall(r"Other methods have names, too:\n((?:`\w+` ?)+)\.", README)
    assert re.findall(r"`(\w+)`", names) == [name for name in COMBINERS if name != "fairgrad"]


def test_it_leads_to_every_page():
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    assert pages - set(re.findall(r"\]\(([^)]+)\)", README)) == set()


@pytest.mark.process
def test_the_checkout_imports_from_anywhere(tmp_path):
    code = "import agents, configs, envs, mtrl_fair; print(agents.__file__)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == str(ROOT / "agents" / "__init__.py")
