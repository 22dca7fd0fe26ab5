"""What docs/supervised.md says is so."""

import re
import shlex
from pathlib import Path

import pytest

from mtrl_fair.supervised.registry import BENCHMARKS, benchmark_class
from scripts import command_line, supervised
from scripts.comparing import plan as supervised_plan

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "supervised.md").read_text()
PAGES = DOCUMENT + (ROOT / "README.md").read_text()
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", PAGES, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("python scripts/supervised.py")
]


def table(first_header: str) -> list[list[str]]:
    lines = DOCUMENT.split(f"| {first_header} |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


BLOCKS = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)


def test_its_benchmark_trains_as_it_stands(capsys):
    exec(BLOCKS[1], {"__name__": "example"})
    assert '"product/MSE"' in capsys.readouterr().out


def test_its_python_gives_what_it_says():
    block, _ = BLOCKS
    *code, first, second = block.strip().splitlines()
    names = {}
    exec("\n".join(code), names)
    for line in (first, second):
        expression, wanted = line.split("  # ")
        assert eval(expression, names) == pytest.approx(eval(wanted), abs=0.005)


@pytest.mark.parametrize("line", COMMANDS)
def test_its_commands_are_valid(line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)[2:]
    if "--help" in words or "--resume" in words:
        with pytest.raises(SystemExit) as caught:
            supervised.main(words)
        # The folder is a placeholder: it is the only thing wrong.
        output = capsys.readouterr()
        assert caught.value.code == 0 or "nothing to resume at runs/FOLDER" in output.err
        return
    name, flags = command_line.split_name("benchmark", words, list(BENCHMARKS))
    plan = supervised_plan.make_plan(name, command_line.parse(supervised_plan.Arguments(), flags))
    assert plan["runs"]
    assert supervised_plan.make_jobs(plan, tmp_path)


def test_it_names_every_benchmark():
    rows = {row[0].strip("`"): row for row in table("name | tasks")}
    assert list(rows) == list(BENCHMARKS)
    for name, (_, _, _, baseline, files, reported, trained) in rows.items():
        found = benchmark_class(name)
        assert (files == "none") == (found.layout is None)
        assert reported.startswith("best") == (found.recipe.report == "best")
        wanted = supervised_plan.choose_baseline(found, None)
        assert baseline == {"published": "published", "train": "trained", "none": "–"}[wanted]
        assert (trained == "**not tested on the real data**") == (found.layout is not None)
    assert {row[0].strip("`") for row in table("name | from")} == {
        name for name in BENCHMARKS if benchmark_class(name).layout is not None
    }
