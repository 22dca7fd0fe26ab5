"""A goal cache of each test's own, and goals to put into it."""

from pathlib import Path

import metaworld
import pytest

from envs.goals import load_or_draw
from tests.envs.goals.cache_files import REACH


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MTRL_FAIR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "goals"


@pytest.fixture(scope="session")
def package() -> metaworld.MT1:
    return metaworld.MT1(REACH, seed=0)


@pytest.fixture
def load(package):
    """`load_or_draw` of reach-v3; notes when it draws."""

    def load(seed: int = 0):
        def draw():
            load.draws += 1
            return package.train_tasks

        return load_or_draw(REACH, [REACH], seed, draw)

    load.draws = 0
    return load
