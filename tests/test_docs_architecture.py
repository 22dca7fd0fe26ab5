"""What docs/architecture.md says is so."""

import ast
import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "architecture.md").read_text()
RUNG = {"mtrl_fair": 0, "agents": 1, "envs": 1, "configs": 2, "scripts": 3}
"""A room may import itself and what stands on a lower rung."""

PATHS = sorted(
    {path for path in re.findall(r"`([\w./]+/[\w./]*)`", DOCUMENT) if not path.startswith("/")}
)
ROOMS = [row.split("`")[1] for row in re.findall(r"^\| `\S+/` \|.*$", DOCUMENT, re.MULTILINE)]


def imports(path: Path) -> set[str]:
    """The top-level packages that a file imports, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found.add(node.module.split(".")[0])
    return found


def test_every_path_that_it_names_exists():
    assert len(PATHS) > 30
    missing = [path for path in PATHS if "NAME" not in path and not (ROOT / path).exists()]
    assert not missing


def test_the_recipes_put_new_files_into_folders_that_exist():
    new = [path for path in PATHS if "NAME" in path]
    assert len(new) == 3
    assert all((ROOT / path).parent.is_dir() for path in new)


def test_it_names_every_room():
    packages = {path.parent for path in ROOT.glob("*/__init__.py")} | {
        ROOT / name for name in ("scripts", "tests", "docs")
    }
    rooms = {f"{path.name}/" for path in packages}
    rooms |= {
        f"{path.relative_to(ROOT)}/"
        for parent in ("mtrl_fair", "envs", "scripts", "agents", "configs")
        for path in (ROOT / parent).iterdir()
        if path.is_dir() and any(path.glob("*.py"))
    }
    assert set(ROOMS) == rooms
    assert set(RUNG) <= set(re.findall(r"│  (\w+)/", DOCUMENT))


@pytest.mark.parametrize("room", RUNG)
def test_imports_point_down_only(room):
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    wrong = [
        f"{path.relative_to(ROOT)} imports {other}"
        for path in files
        for other in imports(path) & RUNG.keys()
        if other != room and RUNG[other] >= RUNG[room]
    ]
    assert not wrong
    tests = [path for path in files if "tests" in imports(path)]
    assert not tests


def test_an_import_that_points_up_is_seen(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("import os\n\n\ndef function():\n    from scripts.train import main\n")
    assert imports(path) == {"os", "scripts"}


def test_the_arrows_within_the_library_are_imports():
    arrows = [("combiners", "gradients"), ("combiners", "solvers")]
    arrows += [("supervised", "combiners"), ("results", "runs")]
    shown = re.findall(r"(\w+)/ ─+► (\w+)/", DOCUMENT)
    assert sorted(shown) == sorted(set(arrows) - {("combiners", "solvers")})
    assert "└───────► solvers/" in DOCUMENT
    for begin, end in arrows:
        text = "".join(p.read_text() for p in (ROOT / "mtrl_fair" / begin).rglob("*.py"))
        assert f"from mtrl_fair.{end}" in text, (begin, end)


def test_its_combiner_is_one():
    (block,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    names = {"__name__": "example"}
    exec(block, names)
    for word in ("Convention:", "Needs:", "State:"):
        assert word in names["InverseNorms"].__doc__
    rows = torch.randn(4, 9)
    _, info = names["InverseNorms"](num_tasks=4).combine(rows, torch.ones(4))
    torch.testing.assert_close(info.weights * info.gradient_norms, torch.ones(4))


def test_the_files_that_its_commands_run_exist():
    commands = re.findall(r"^\.venv/bin/python -m pytest (.*)$", DOCUMENT, re.MULTILINE)
    assert len(commands) == 6
    paths = [word for command in commands for word in command.split() if word.startswith("tests")]
    assert all((ROOT / path).exists() for path in paths)
