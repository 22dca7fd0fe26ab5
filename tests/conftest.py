"""What holds for every test."""

import os

# A second thread gains nothing for the small arrays of tests, and while another program keeps a
# core busy two threads are many times slower. Set before numpy and torch are imported; processes
# that tests start inherit it.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

from pathlib import Path

import jaxtyping
import pytest
import torch

# Else a failing assert of a helper module would not say which values it saw.
pytest.register_assert_rewrite(
    *(f"tests.{path.stem}" for path in Path(__file__).parent.glob("*") if path.stem != "conftest")
)

import tests.type_checking

# Annotated shapes and types are checked at every call, so they cannot lie. Before the first import.
jaxtyping.install_import_hook(["agents", "envs"], f"{tests.type_checking.__name__}.check")

from envs import TaskSet

torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skipif(True, reason="not run: no CUDA device"))


@pytest.fixture(scope="session", autouse=True)
def goal_cache(tmp_path_factory):
    """Goals are drawn once for the whole suite, and the user's own files are not touched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTRL_FAIR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def mt10(goal_cache) -> TaskSet:
    return TaskSet.make("mt10", seed=0)
