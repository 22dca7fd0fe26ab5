"""docs/results.md and the pages behind it say what the runs in docs/results/data say."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from configs import PRESETS
from mtrl_fair.results.storage import open_runs
from scripts import plot, table
from scripts.command_line import parse_class
from scripts.comparing.training_runs import RULES, read_training_runs

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FIRST = DOCS / "results.md"
PAGES = {path: path.read_text() for path in (FIRST, *sorted((DOCS / "results").glob("*.md")))}
EARLIER = DOCS / "results" / "earlier.md"
"""Of its runs nothing is left but the page."""
DATA = sorted(DOCS.glob("results/data/*.zip"))
RUNS = [run for path in DATA for run in open_runs(path, RULES.kind)]


def commands_of(page: str) -> list[list[str]]:
    """The words of each command of a page, with braces as a shell expands them."""
    return [
        expand(words)
        for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        if (words := shlex.split(line, comments=True))[:1] == ["python"]
    ]


def expand(words: list[str]) -> list[str]:
    """As bash does: a{b,c} is two words."""
    expanded = []
    for word in words:
        found = re.fullmatch(r"(.*)\{(.*)\}(.*)", word)
        parts = found[2].split(",") if found else [""]
        expanded += [f"{found[1]}{part}{found[3]}" if found else word for part in parts]
    return expanded


def at_root(words: list[str]) -> list[str]:
    return [str(ROOT / word) if word.startswith("docs/") else word for word in words]


COMMANDS = [words for page in PAGES.values() for words in commands_of(page)]
TABLES = [words[2:] for words in COMMANDS if words[1] == "scripts/table.py"]
FIGURES = [words[2:] for words in COMMANDS if words[1] == "scripts/plot.py"]
TRAININGS = [words[2:] for words in COMMANDS if words[1] == "scripts/train.py"]
SHOWN = [
    (path.name, commands_of(f"```bash\n{block}```")[0][2:], shown)
    for path, page in PAGES.items()
    for block, shown in re.findall(
        r"```bash\n(python scripts/table\.py [^`]*)```\n\n((?:\|.*\n)+)", page
    )
]


def test_the_first_page_is_short_and_leads_to_all_others():
    page = PAGES[FIRST]
    assert len(page.splitlines()) <= 150
    assert {path.name for path in PAGES} - {FIRST.name} <= set(
        re.findall(r"\]\(results/(\w+\.md)[)#]", page)
    )


def test_every_table_stands_below_its_command():
    assert len(TABLES) >= 37
    assert [words for _, words, _ in SHOWN] == TABLES


@pytest.mark.parametrize(
    ("words", "shown"),
    [pytest.param(words, shown, id=f"{name}-{n}") for n, (name, words, shown) in enumerate(SHOWN)],
)
def test_a_table_is_what_its_command_prints(words, shown, capsys):
    table.main(at_root(words))
    assert capsys.readouterr().out == shown


def test_the_leads_and_their_intervals_are_those_of_the_curves():
    page = PAGES[DOCS / "results" / "two_hours.md"]
    steps, *curves = re.findall(
        r"^\|\s+\| seed \|(.*)\|$|^\| (?:fairgrad|ls) \| \d \|(.*)\|$", page, re.M
    )[:7]
    steps = [int(step.replace(",", "")) for step in steps[0].split("|")]
    success = np.array(
        [[float(value.strip() or "nan") for value in line.split("|")] for _, line in curves]
    )
    lead = dict(zip(steps, (success[:3] - success[3:]).T, strict=True))
    rows = re.findall(r"^\| (\d+,000) \| (.*) \| ([\d.]+) \| (.*) to ([\d.]+) \|$", page, re.M)
    assert len(rows) == 4
    for step, leads, mean, low, high in rows:
        values = lead[int(step.replace(",", ""))]
        assert leads == ", ".join(f"{value:.3f}" for value in values)
        assert mean == f"{values.mean():.3f}"
        interval = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
        shown = [f"{bound:.2f}".replace("-", "−") for bound in interval]
        assert [low, high] == shown


def test_every_run_stands_in_a_table():
    places = [word for words in TABLES for word in words if word.startswith("docs/")]
    used = {str(run.path) for place in set(places) for run in open_runs(ROOT / place, RULES.kind)}
    assert len(RUNS) == 88
    assert {str(run.path) for run in RUNS} == used


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


def test_every_run_but_those_of_the_tuning_was_begun_by_a_command_of_a_page():
    templates = [flags_of(words) for words in TRAININGS]
    templates = [flags for flags in templates if "--run-dir" in flags]
    used = set()
    for run in RUNS:
        path = Path(str(run.path))
        experiment, name = path.parent.stem, path.name
        if experiment == "preset":
            continue
        combiner, _, seed = name.rpartition("-")
        begun = flags_of(run.metadata()["command"][1:])
        begun["--run-dir"] = [f"runs/{experiment}/{name}"]
        own = {"$combiner": combiner, "$seed": seed}
        found = [
            index
            for index, flags in enumerate(templates)
            if {flag: filled(values, own) for flag, values in flags.items()} == begun
        ]
        assert len(found) == 1, begun
        used.add(found[0])
    assert used == set(range(len(templates)))


def test_training_commands_name_presets():
    assert {words[0] for words in TRAININGS} <= set(PRESETS)


def test_every_figure_has_its_command():
    shown = {
        (path.parent / figure).resolve()
        for path, page in PAGES.items()
        if path != EARLIER
        for figure in re.findall(r"!\[[^]]*\]\((.+?\.png)\)", page)
    }
    there = set((DOCS / "results" / "figures").glob("*.png"))
    earlier = {
        EARLIER.parent / name for name in re.findall(r"\((figures/\w+\.png)\)", PAGES[EARLIER])
    }
    drawn = {ROOT / word for words in FIGURES for word in words if word.endswith(".png")}
    assert shown == drawn - {ROOT / "curve.png"}  # an example's
    assert there == shown | earlier


@pytest.mark.parametrize("words", FIGURES, ids=lambda words: words[-1])
def test_commands_of_figures_are_valid(words):
    arguments = parse_class(plot.Arguments, at_root(words))
    runs = read_training_runs(arguments.runs)
    plot.check_files(arguments.output)
    assert len(arguments.labels) in (0, len(runs))


def test_runs_name_no_folder_of_a_machine():
    for run in RUNS:
        commands = re.findall(r'"command": \[(.*?)\]', json.dumps(run.metadata()))
        assert commands
        assert not any("/" in command for command in commands)
