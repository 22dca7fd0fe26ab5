"""What docs/combiners.md says is so."""

import inspect
import re
from pathlib import Path

from configs import PRESETS, TrainConfig
from mtrl_fair import COMBINERS, FairGrad, GramianCombiner, JacobianCombiner, LossCombiner
from mtrl_fair.combiners.base import Combiner
from mtrl_fair.combiners.outputs import Differentiated
from scripts.comparing import plan

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "combiners.md").read_text()
KINDS = {"losses": LossCombiner, "Gramian": GramianCombiner, "gradients": JacobianCombiner}


def rows_of(first_header: str) -> list[list[str]]:
    table = DOCUMENT.split(f"| {first_header} |")[1].split("\n\n")[0]
    lines = table.splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_its_python_runs_as_it_stands():
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(blocks) >= 2
    exec("\n".join(blocks), {})


def test_the_first_table_names_every_call_with_its_arguments():
    calls = {
        name: list(inspect.signature(method).parameters)
        for name, method in vars(Combiner).items()
        if inspect.isfunction(method) and not name.startswith("_")
    }
    own = {"aggregate", "generators"}  # for methods and the agent, not for the user
    shown = dict(
        re.findall(r"`combiner\.(\w+)\((.*?)\)`", "\n".join(map(str, rows_of("your code …"))))
    )
    assert shown.keys() == calls.keys() - own
    for name, arguments in shown.items():
        assert len(arguments.split(", ")) <= len(calls[name]) - 1
    assert "head_gradients" in Differentiated._fields


def test_it_stands_on_the_first_screen():
    assert DOCUMENT.index("## Which call do I need?") < 1000


def test_its_table_names_every_method_and_what_it_needs():
    needs = {name.strip("`"): cell.split()[0] for name, _, cell, *_ in rows_of("name")}
    assert set(needs) == set(COMBINERS)
    assert all(issubclass(COMBINERS[name], KINDS[need]) for name, need in needs.items())


def test_its_table_of_costs_names_every_method():
    kinds = {row[0].strip("`"): re.findall(r"`(\w+)`", row[1]) for row in rows_of("class")}
    for kind in KINDS.values():
        assert set(kinds[kind.__name__]) == {
            name for name, combiner in COMBINERS.items() if issubclass(combiner, kind)
        }


def test_every_class_says_its_convention_need_and_state():
    for name, combiner in COMBINERS.items():
        for word in ("Convention:", "Needs:", "State:"):
            assert word in combiner.__doc__, (name, word)


def test_the_three_defaults_of_fairgrad_are_those_of_the_code():
    library, training, paper = rows_of("where")
    assert [row[1] for row in (library, training, paper)] == ["2", "1", "2"]
    assert [row[2].split(",")[0] for row in (library, training, paper)] == [
        "`newton`",
        "`sgd`",
        "`sgd`",
    ]
    for made in (FairGrad(), plan.Arguments()):
        assert (made.alpha, made.solver) == (2.0, "newton")
    config = PRESETS["mt10-fairgrad-paper"]
    assert (config.alpha, config.solver, config.combining.precondition) == (2.0, "sgd", False)
    others = [PRESETS[name] for name in PRESETS.keys() - {"mt10-fairgrad-paper"}]
    for config in [TrainConfig(), *others]:
        assert (config.alpha, config.solver, config.combining.precondition) == (1.0, "sgd", True)
