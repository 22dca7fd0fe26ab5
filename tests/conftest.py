from pathlib import Path

import pytest
import torch

from envs import TaskSet

# Else a failing assert of a helper module would not say which values it saw.
pytest.register_assert_rewrite(
    *(f"tests.{path.stem}" for path in Path(__file__).parent.glob("*") if path.stem != "conftest")
)


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
