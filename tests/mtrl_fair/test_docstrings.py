"""The examples in the library's docstrings run and print what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

import mtrl_fair

ROOT = Path(mtrl_fair.__file__).parent
MODULES = [
    ".".join(("mtrl_fair", *path.relative_to(ROOT).with_suffix("").parts))
    for path in sorted(ROOT.rglob("*.py"))
    if ">>> " in path.read_text()
]
OPTIONAL = {"tensorboard", "matplotlib", "tyro", "rich", "sklearn", "PIL", "torch_geometric"}

WITH_EXAMPLE = [
    *mtrl_fair.COMBINERS.values(),
    *(mtrl_fair.Aggregate, mtrl_fair.GramianCombiner, mtrl_fair.JacobianCombiner),
    mtrl_fair.LossCombiner,
    *(
        getattr(mtrl_fair.Combiner, name)
        for name in ("backward", "combine", "differentiate", "scalarize")
    ),
    *(mtrl_fair.make_combiner, mtrl_fair.task_mean, mtrl_fair.alpha_fair_loss),
]
"""What users call first, and what they derive methods of their own from."""


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] in OPTIONAL:
            pytest.skip(f"not run: {name} needs {error.name}")
        raise
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize("public", WITH_EXAMPLE, ids=lambda public: public.__qualname__)
def test_what_users_call_first_has_an_example(public):
    (found,) = doctest.DocTestFinder(recurse=False).find(public, public.__name__)
    assert found.examples
