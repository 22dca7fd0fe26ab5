"""What docs/training.md says is so, and the training commands of the README."""

import re
import shlex
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from configs import PRESETS, check_config
from scripts import plot, table, train

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "training.md").read_text()
PAGES = (ROOT / "README.md").read_text() + DOCUMENT
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", PAGES, re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.parametrize("line", [x for x in COMMANDS if x.startswith("python scripts/train.py")])
def test_the_training_commands_are_valid(line, capsys):
    words = shlex.split(line)[2:]
    if "--help" in words or "--resume" in words:
        with pytest.raises(SystemExit) as caught:
            train.main(words)
        # The folder is a placeholder: it is the only thing wrong.
        output = capsys.readouterr()
        assert caught.value.code == 0 or "there is no run at runs/RUN" in output.err
        return
    preset, flags = train.split_name("preset", words, list(PRESETS))
    check_config(train.parse(PRESETS[preset or train.DEFAULT_PRESET], flags))


def test_the_commands_name_scripts_that_exist():
    scripts = {word for line in COMMANDS for word in line.split() if word.startswith("scripts/")}
    assert {"scripts/train.py", "scripts/evaluate.py", "scripts/plot.py"} <= scripts
    assert all((ROOT / script).is_file() for script in scripts)


def test_its_table_says_what_the_presets_are():
    rows = re.findall(r"^\| `([\w-]+)`(?: \(default\))? \| ([^|]+) \| ([^|]+) \|", DOCUMENT, re.M)
    assert [name for name, *_ in rows] != []
    assert {name for name, *_ in rows} == set(PRESETS)
    tasks = {
        "multi_head": "multi-head",
        "none": "no task id",
        "one_hot": "one-hot",
        "task_encoded": "task embedding",
    }
    for name, networks, combiner in rows:
        config = PRESETS[name]
        network = config.agent.critic
        norm = ", layer norm" if network.layer_norm else ""
        said = f"{tasks[config.architecture]}, {network.depth}×{network.width}{norm}"
        assert networks == said
        fair = {"ls": "sum", "fairgrad": f"FairGrad, α = {config.alpha:g}"}[config.combiner]
        assert combiner.startswith(fair)


@pytest.mark.parametrize(("script", "flag"), [(plot, "figure"), (table, "table")])
def test_it_names_every_figure_and_table(script, flag):
    choices = set(get_args(get_type_hints(script.Arguments)[flag])) - {"success"}  # the default
    named = re.findall(rf"^\| `\w+\.py --{flag} ([\w-]+)`", DOCUMENT, re.MULTILINE)
    assert set(named) == choices
