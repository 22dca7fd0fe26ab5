"""What the README says is so."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from configs import PRESETS, check_config
from mtrl_fair import SOLVERS
from scripts import plot, table, train

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]


def test_its_python_runs_as_it_stands():
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 2
    exec("\n".join(blocks), {})


@pytest.mark.parametrize("line", [x for x in COMMANDS if x.startswith("python scripts/train.py")])
def test_its_training_commands_are_valid(line, capsys):
    words = shlex.split(line)[2:]
    if "--help" in words or "--resume" in words:
        with pytest.raises(SystemExit) as caught:
            train.main(words)
        # The folder in the README is a placeholder: it is the only thing wrong.
        output = capsys.readouterr()
        assert caught.value.code == 0 or "there is no run at runs/RUN" in output.err
        return
    preset, flags = train.split_name("preset", words, list(PRESETS))
    check_config(train.parse(PRESETS[preset or train.DEFAULT_PRESET], flags))


@pytest.mark.parametrize("line", [x for x in COMMANDS if x.startswith("make ")])
def test_its_make_targets_exist(line):
    result = subprocess.run(
        [*shlex.split(line), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "scripts/train.py" in result.stdout or "pytest" in result.stdout


def test_its_commands_name_scripts_that_exist():
    scripts = {word for line in COMMANDS for word in line.split() if word.startswith("scripts/")}
    assert {"scripts/train.py", "scripts/evaluate.py"} <= scripts
    assert all((ROOT / script).is_file() for script in scripts)


def test_its_tables_name_every_preset_and_solver():
    rows = re.findall(r"^\| `([\w-]+)`", README, re.MULTILINE)
    assert set(rows) == set(PRESETS) | set(SOLVERS)


@pytest.mark.parametrize(("script", "flag"), [(plot, "figure"), (table, "table")])
def test_it_names_every_figure_and_table(script, flag):
    choices = set(get_args(get_type_hints(script.Arguments)[flag])) - {"success"}  # the default
    assert set(re.findall(rf"^\| `\w+\.py --{flag} ([\w-]+)`", README, re.MULTILINE)) == choices


def test_its_links_lead_somewhere():
    links = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert links
    assert all((ROOT / link).exists() for link in links)


def test_results_are_there():
    results = (ROOT / "docs" / "results.md").read_text()
    figures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", results)
    assert figures
    assert all((ROOT / "docs" / figure).is_file() for figure in figures)
    assert "scripts/train.py" in results


def test_the_wheel_holds_the_library_only(tmp_path):
    source = tmp_path / "source"  # a copy: an old build folder must not decide the result
    ignore = shutil.ignore_patterns(".*", "runs", "build", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=ignore)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"),
            *("--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)),
        ],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", str(wheel)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    modules = {name.split("/")[0] for name in names if name.endswith(".py")}
    assert modules == {"mtrl_fair"}
    assert any(name.endswith("py.typed") for name in names)


def test_the_checkout_imports_from_anywhere(tmp_path):
    code = "import agents, configs, envs, mtrl_fair; print(agents.__file__)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == str(ROOT / "agents" / "__init__.py")
