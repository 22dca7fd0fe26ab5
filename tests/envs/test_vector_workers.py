"""Who steps the rows changes nothing, and workers do not get in the way of others."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from envs.workers.worker import Rows
from tests.envs.nested_arrays import assert_same
from tests.envs.small_vector import ZERO, random_actions


def play(venv, steps: int = 50):
    return [venv.reset(seed=4)[0], *(venv.step(actions) for actions in random_actions(steps))]


@pytest.mark.parametrize(
    ("options", "num_processes"),
    [
        ({"num_workers": 1}, 1),
        ({"num_workers": 2, "caller_steps": True}, 1),
        ({"num_workers": 1, "caller_steps": True}, 0),
    ],
)
def test_who_steps_changes_nothing(make, short, pair, options, num_processes):
    assert len(short._workers.processes) == 2
    expected = play(short)
    state = short.state_dict()
    other = make(pair, max_episode_steps=20, all_infos=True, **options)
    assert len(other._workers.processes) == num_processes
    assert_same(play(other), expected)
    assert_same(other.state_dict(), state)
    assert (other.load_state_dict(state) == expected[-1][0]).all()


def test_the_caller_s_rows_compute_in_numpy_s_own_mode(make, pair, monkeypatch):
    """Whatever the caller has set, and without the warnings of underflows that are none by
    default."""
    venv, modes = make(pair, num_workers=1, caller_steps=True), []
    obey = Rows.obey
    monkeypatch.setattr(Rows, "obey", lambda *args: modes.append(np.geterr()) or obey(*args))
    with np.errstate(all="raise"):
        venv.reset()
        venv.step(ZERO)
    default = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
    assert modes == [default, default]


def test_workers_are_as_many_as_usable_cores_or_rows(make, pair):
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert len(make(pair)._workers.processes) == 1
    finally:
        os.sched_setaffinity(0, cores)
    assert len(make("reach-v3", num_workers=7)._workers.processes) == 1


def test_two_environments_share_nothing(make, short, pair):
    expected = play(short)
    other = make(pair, num_workers=2, max_episode_steps=20, all_infos=True)
    results = [short.reset(seed=4)[0]]
    other.reset(seed=5)
    for actions, others in zip(random_actions(50), random_actions(50, seed=1), strict=True):
        short.step_async(actions)
        other.step(others)
        results.append(short.step_wait())
    other.close()
    assert_same(results, expected)
    short.step(ZERO)


def test_workers_import_what_the_parent_would(make, pair, tmp_path, monkeypatch):
    """Not what lies about in the current folder, nor another `envs` beside the user's script."""
    for file in ("here/random.py", "here/queue.py", "script/envs/__init__.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("raise RuntimeError('the wrong module')")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "script"), Path("/tmp"), *sys.path])
    make(pair, num_workers=1).reset()


def test_workers_leave_the_cores_to_others(make, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    worker = make("reach-v3", num_workers=1)._workers.processes[0]
    environment = Path(f"/proc/{worker.pid}/environ").read_text().split("\0")
    for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR"):
        assert f"{library}_NUM_THREADS=1" in environment
    assert os.environ["OMP_NUM_THREADS"] == "64"


def test_without_anonymous_memory_an_unlinked_file_serves(make, pair, tmp_path, monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    venv = make(pair, num_workers=2, max_episode_steps=20, all_infos=True)
    assert list(tmp_path.iterdir()) == []
    links = [os.readlink(link) for link in Path("/proc/self/fd").glob("*") if link.is_symlink()]
    assert any(link.startswith(str(tmp_path)) for link in links)
    play(venv)


def test_workers_do_without_torch():
    """Its import takes longer than all else that a worker does before its first step."""
    modules = "envs.workers.worker, envs.engine.environment, envs.engine.snapshots"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
