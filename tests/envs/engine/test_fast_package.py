"""The fast environments are the package's, refuse what it refuses, and leave it untouched."""

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from envs.engine.environment import fast_class
from envs.engine.snapshots import SnapshotResets


def test_what_the_package_refuses_is_refused(mt10):
    for env in (ALL_V3_ENVIRONMENTS["reach-v3"](), fast_class("reach-v3")()):
        with pytest.raises(RuntimeError, match=r"You must call env\.set_task"):
            env.step(np.zeros(4, np.float32))
        env.set_task(mt10.goals[0][0])
        env.reset()
        with pytest.raises(AssertionError, match="Actions should be size 4, got 3"):
            env.step(np.zeros(3, np.float32))
        with pytest.raises(ValueError, match="either high_density or medium_density"):
            env._gripper_caging_reward(
                np.zeros(4), np.zeros(3), 0, 0, 0, 0, high_density=True, medium_density=True
            )
        env.curr_path_length = 500
        with pytest.raises(ValueError, match="You must reset the env manually"):
            env.step(np.zeros(4, np.float32))


def test_an_environment_that_is_let_go_is_freed(mt10):
    """MuJoCo's memory, 20 MB each, included."""
    fast = fast_class("push-v3")()
    resets = SnapshotResets(fast)
    resets.reset(0, mt10.goals[1][0])
    fast.step(np.zeros(4, np.float32))
    left = weakref.ref(fast), weakref.ref(fast.data)
    del fast, resets
    gc.collect()
    assert [reference() for reference in left] == [None, None]


def test_it_is_an_environment_of_the_package(mt10):
    fast = fast_class("reach-v3")()
    assert isinstance(fast, ALL_V3_ENVIRONMENTS["reach-v3"])
    assert fast.task_name == ALL_V3_ENVIRONMENTS["reach-v3"]().task_name
    assert fast_class("reach-v3") is type(fast)


UNTOUCHED = """
import sys
import numpy, scipy.spatial.transform
import metaworld, mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

def identities():
    modules = {name: module for name, module in sys.modules.items()
               if name.split(".")[0] in ("metaworld", "mujoco", "gymnasium")
               or name in ("numpy", "numpy.linalg", "scipy.spatial.transform")}
    owners = {name: vars(module) for name, module in modules.items()}
    for name, module in modules.items():
        for key, value in vars(module).items():
            if isinstance(value, type) and value.__module__ == name:
                owners[f"{name}.{key}"] = vars(value)
    return {(owner, key): id(value) for owner, contents in owners.items()
            for key, value in contents.items() if not key.startswith("__") and key != "_abc_impl"}

task = metaworld.MT1("push-v3", seed=0).train_tasks[0]

def episode():
    env = ALL_V3_ENVIRONMENTS["push-v3"]()
    env.set_task(task)
    env.reset()
    rows = []
    for action in np.random.default_rng(0).uniform(-1, 1, (50, 4)).astype(np.float32):
        observation, reward, _, _, info = env.step(action)
        rows.append([*observation, reward, *info.values()])
    return np.array(rows)

before, package = episode(), identities()
import envs
from envs.engine.environment import fast_class
from envs.engine.snapshots import SnapshotResets
venv = envs.make_vec(["push-v3", "reach-v3"], num_workers=1, caller_steps=True)
venv.reset()
venv.step(np.zeros((2, 4)))
fast = fast_class("push-v3")()
SnapshotResets(fast).reset(0, task)
fast.step(np.zeros(4, np.float32))
after = identities()
changed = [key for key, value in package.items() if after.get(key) != value]
assert not changed, changed
added = [key for key in after if key not in package and key[0].split(".")[0] == "metaworld"]
assert not added, added
assert (episode() == before).all()
venv.close()
print("untouched", len(package))
"""


@pytest.mark.process
def test_the_package_behaves_the_same_before_and_after(tmp_path):
    """In a process of its own: every function, class and method is the same object, and an episode
    gives the same numbers."""
    root = Path(__file__).parents[3]
    code = f"import sys; sys.path.insert(0, {str(root)!r})\n{UNTOUCHED}"
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[1]) > 2000
