"""No public function has the name of a module of its package, which it would hide."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("package", ["mtrl_fair", "agents", "envs", "configs", "scripts"])
def test_no_public_function_has_the_name_of_a_module(package):
    files = [
        path
        for path in (ROOT / package).rglob("*.py")
        # Programs of their own, which do as others name things: nothing imports their functions.
        if path.parent.name not in ("integrations", "benchmarks") or package != "scripts"
    ]
    modules = {path.stem for path in files} | {path.parent.name for path in files}
    functions = {
        (node.name, path.relative_to(ROOT).as_posix())
        for path in files
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    assert files
    assert [found for found in sorted(functions) if found[0] in modules] == []
