"""What holds for every test of the scripts."""

import shutil
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import pytest

from tests.scripts.commands import restored_process
from tests.scripts.short_trainings import train_here


@pytest.fixture(autouse=True)
def _as_it_was():
    with restored_process():
        yield
    plt.close("all")


class Finished(NamedTuple):
    path: Path
    output: str


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory) -> Finished:
    """A run that was never interrupted, and what it printed."""
    path = tmp_path_factory.mktemp("train") / "run"
    code, output, errors = train_here(path)
    assert (code, errors) == (0, "")
    return Finished(path, output)


@pytest.fixture(scope="session")
def finished(finished_run) -> Path:
    return finished_run.path


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))
