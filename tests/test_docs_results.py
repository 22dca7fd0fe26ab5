"""docs/results.md says what the runs in docs/runs say."""

import re
import shlex
from pathlib import Path

import pytest

from scripts import table

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGE = (DOCS / "results.md").read_text()
RUNS = sorted(path.parent for path in DOCS.glob("runs/*/*/config.json"))
COMMANDS = [
    words
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if (words := shlex.split(line, comments=True))[:1] == ["python"]
]
TABLES = [words[2:] for words in COMMANDS if words[1] == "scripts/table.py"]
FIGURES = [words[2:] for words in COMMANDS if words[1] == "scripts/plot.py"]


def expand(words: list[str]) -> list[str]:
    """As a shell in the root of the project does."""
    paths = [sorted(ROOT.glob(word)) if word.startswith("docs/runs") else [word] for word in words]
    return [str(path) for found in paths for path in found]


@pytest.mark.parametrize("words", TABLES, ids=" ".join)
def test_a_table_is_what_its_command_prints(words, capsys):
    table.main(expand(words))
    assert capsys.readouterr().out in PAGE


def test_every_run_stands_in_a_table():
    used = {path for words in TABLES for path in expand(words)}
    assert len(RUNS) >= 10
    assert {str(path) for path in RUNS} <= used


def test_every_figure_has_its_command():
    shown = set(re.findall(r"!\[[^]]*\]\((\w+\.png)\)", PAGE))
    drawn = {Path(words[words.index("--output") + 1]).name for words in FIGURES}
    assert shown == drawn
    for words in FIGURES:
        runs = [word for word in words if word.startswith("docs/runs")]
        assert runs
        assert all(expand([run]) for run in runs)


def test_runs_name_no_folder_of_a_machine():
    for path in RUNS:
        text = (path / "metadata.json").read_text()
        commands = re.findall(r'"command": \[(.*?)\]', text, re.DOTALL)
        assert commands
        assert not any("/" in command for command in commands)
