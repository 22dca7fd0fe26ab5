"""Where the goal cache keeps its files, and which goals have one."""

import os
import pickle
from importlib import metadata

import pytest

from envs import TaskSet, goals
from envs.goals import cache_folder, load_or_draw
from tests.envs.goals.cache_files import REACH, only_file


def test_another_seed_version_task_or_format_is_another_file(folder, load, package, monkeypatch):
    load(0)
    load(0)
    assert load.draws == 1
    load(1)
    monkeypatch.setattr(goals, "version", lambda name: "3.1.2")
    load(0)
    monkeypatch.setattr(goals, "FORMAT", 2)
    load(0)
    assert load.draws == len(list(folder.iterdir())) == 4
    TaskSet.make("drawer-close-v3", 0)
    assert len(list(folder.iterdir())) == 5


def test_the_files_can_be_read_by_others_as_the_umask_allows(folder, load):
    before = os.umask(0o027)
    try:
        load()
    finally:
        os.umask(before)
    assert only_file(folder).stat().st_mode & 0o777 == 0o640


def test_tasks_that_hold_more_than_a_goal_are_not_cached(folder, package):
    """A later version of the package could add one; dropping it would change the tasks."""
    drawn = [
        goal._replace(data=pickle.dumps({**pickle.loads(goal.data), "obj_type": "block"}))
        for goal in package.train_tasks
    ]
    with pytest.warns(RuntimeWarning, match="hold more than goal vectors"):
        assert load_or_draw(REACH, [REACH], 0, lambda: drawn) == drawn
    assert not folder.exists()


def test_where_the_files_are(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache" / "goals"
    monkeypatch.setenv("MTRL_FAIR_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "xdg" / "mtrl-fair" / "goals"
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache_folder() == tmp_path / "home" / ".cache" / "mtrl-fair" / "goals"
    monkeypatch.setenv("MTRL_FAIR_CACHE", "~/here")
    assert cache_folder() == tmp_path / "home" / "here" / "goals"


def test_without_a_home_folder_it_goes_on(monkeypatch, load, package):
    """As in a container whose user id has no name."""
    monkeypatch.setattr(goals, "_folders_warned_of", set())
    monkeypatch.setenv("MTRL_FAIR_CACHE", "~no-such-user/cache")
    with pytest.warns(RuntimeWarning, match="not cached in any folder.*home directory"):
        assert load() == package.train_tasks


def test_without_the_package_s_version_it_goes_on(monkeypatch, folder, load, package):
    """As with a copy of the package that was put on the path, not installed."""
    monkeypatch.setattr(goals, "_folders_warned_of", set())
    monkeypatch.setattr(goals, "version", lambda name: metadata.version("no-such-package"))
    with pytest.warns(RuntimeWarning, match="not cached in any folder.*no-such-package"):
        assert load() == package.train_tasks
    assert not folder.exists()
