import pytest
import torch

from envs import TaskSet


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skipif(True, reason="not run: no CUDA device"))


@pytest.fixture(scope="session")
def mt10() -> TaskSet:
    """Drawing its goals takes seconds, so the suite does it once."""
    return TaskSet.make("mt10", seed=0)
