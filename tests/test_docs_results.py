"""docs/results.md says what the runs in docs/runs say."""

import json
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
TRAININGS = [words[2:] for words in COMMANDS if words[1] == "scripts/train.py"]
SHOWN = re.findall(r"python scripts/table\.py (.*)\n```\n\n((?:\|.*\n)+)", PAGE)


def expand(words: list[str]) -> list[str]:
    """As a shell in the root of the project does."""
    paths = [sorted(ROOT.glob(word)) if word.startswith("docs/runs") else [word] for word in words]
    return [str(path) for found in paths for path in found]


def test_every_table_stands_below_its_command():
    assert [shlex.split(command) for command, _ in SHOWN] == TABLES


@pytest.mark.parametrize(("command", "shown"), SHOWN, ids=[command for command, _ in SHOWN])
def test_a_table_is_what_its_command_prints(command, shown, capsys):
    table.main(expand(shlex.split(command)))
    assert capsys.readouterr().out == shown


def test_every_run_stands_in_a_table():
    used = {path for words in TABLES for path in expand(words)}
    assert len(RUNS) >= 10
    assert {str(path) for path in RUNS} <= used


def flags_of(words: list[str]) -> dict[str, list[str]]:
    """What stands before the first flag under "", then each flag's values."""
    flags: dict[str, list[str]] = {"": []}
    for word in words:
        if word.startswith("--"):
            flags[word] = []
        else:
            flags[list(flags)[-1]].append(word)
    return flags


def filled(values: list[str], own: dict[str, str]) -> list[str]:
    """With what the shell variables of a loop stand for."""
    return [re.sub(r"\$\w+", lambda match: own[match[0]], value) for value in values]


def test_every_run_but_those_of_the_tuning_was_begun_by_a_command_of_the_page():
    templates = [flags_of(words) for words in TRAININGS]
    templates = [flags for flags in templates if "--run-dir" in flags]
    used = set()
    for path in RUNS:
        question, name = path.relative_to(DOCS / "runs").parts
        if question == "tuning":
            continue
        combiner, _, seed = name.rpartition("-")
        metadata = json.loads((path / "metadata.json").read_text())
        begun = flags_of(metadata["command"][1:])
        begun["--run-dir"] = [f"runs/{question}/{name}"]
        own = {"$combiner": combiner, "$seed": seed}
        found = [
            index
            for index, flags in enumerate(templates)
            if {flag: filled(values, own) for flag, values in flags.items()} == begun
        ]
        assert len(found) == 1, begun
        used.add(found[0])
    assert used == set(range(len(templates)))


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
