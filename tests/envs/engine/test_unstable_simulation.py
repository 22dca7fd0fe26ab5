"""A simulation that becomes unstable is reported as the package does."""

import mujoco
import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from envs import TaskSet
from envs.engine.environment import fast_class
from envs.engine.snapshots import SnapshotResets
from tests.envs.nested_arrays import same


@pytest.mark.parametrize("name", ["drawer-close-v3", "pick-place-v3", "peg-insert-side-v3"])
def test_an_unstable_simulation_is_reported_as_the_package_does(
    tmp_path, monkeypatch, request, name
):
    """MuJoCo warns, in a file too, and starts from its initial state; the episode goes on."""
    handler = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(None)  # of an earlier test's environment
    request.addfinalizer(lambda: mujoco.set_mju_user_warning(handler))
    goal = TaskSet.make(name, seed=3).goals[0][0]
    results, logs = [], []
    for env_class in (ALL_V3_ENVIRONMENTS[name], fast_class(name)):
        folder = tmp_path / str(len(results))
        folder.mkdir()
        monkeypatch.chdir(folder)
        env = env_class()
        resets = None if not results else SnapshotResets(env)
        steps = []
        for _ in range(3):  # the later ones from a snapshot
            if resets is None:
                env.set_task(goal)
                steps.append(env.reset()[0])
            else:
                steps.append(resets.reset(0, goal))
            for step, action in enumerate(np.random.default_rng(0).uniform(-1, 1, (12, 4))):
                if step == 5:
                    env.data.qpos[0] = 1e11
                if step in (3, 7, 9):
                    env.data.qvel[:] = {3: 1e9, 7: np.nan, 9: -1e9}[step]
                if step in (3, 5, 7, 9):
                    mujoco.mj_forward(env.model, env.data)  # as at the end of every step
                steps.append(env.step(action.astype(np.float32)))
                steps.append((env.data.time, env.data.warning.number.tolist()))
        results.append(steps)
        log = (folder / "MUJOCO_LOG.TXT").read_text().splitlines()
        logs.append([line for line in log if line.startswith("WARNING")])
    for package, ours in zip(*results, strict=True):
        assert same(plain(ours), plain(package))
    assert logs[0] == logs[1]
    assert len(logs[0]) >= 3  # one in each episode
    assert "The simulation is unstable" in logs[0][0]


def plain(values):
    """Arrays and numpy's numbers as bytes and Python's numbers, so that NaN equals itself."""
    if isinstance(values, dict):
        return {key: plain(value) for key, value in values.items()}
    if isinstance(values, tuple | list):
        return [plain(value) for value in values]
    return np.asarray(values, np.float64).tobytes()
