"""The fast environments against the package's own: every number `==`.

MT10's tasks run in the ordinary suite, all fifty with `pytest -m long`.
"""

import gc
import pickle
import subprocess
import sys
import weakref
from pathlib import Path

import mujoco
import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS, MT10_V3
from metaworld.policies import ENV_POLICY_MAP

from envs import TaskSet
from envs.fast import fast_class, is_apart, knows_mujoco
from envs.memory import INFO_KEYS
from envs.snapshots import SnapshotResets

# The scripted experts warn that their actions exceed [-1, 1].
pytestmark = pytest.mark.filterwarnings("ignore:Constant:UserWarning")

STEPS = 500


class Random:
    """A little beyond [-1, 1]: the package clips for the motion, but rewards see the raw action."""

    def __init__(self, name: str, seed: int):
        self.generator = np.random.default_rng(seed)

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        return self.generator.uniform(-1.2, 1.2, 4)


class Constant:
    """Presses on in one direction, so that the hand comes to rest against something."""

    def __init__(self, name: str, seed: int):
        self.action = np.random.default_rng(seed).choice([-1.0, -0.3, 0.3, 1.0], 4)

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        return self.action


class Expert:
    """The package's scripted policy, which grasps, moves and succeeds."""

    def __init__(self, name: str, seed: int):
        self.policy = ENV_POLICY_MAP[name]()

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        return np.clip(self.policy.get_action(observation), -1, 1)


def assert_equal_episode(package, fast, policy, steps: int = STEPS) -> bool:
    """One episode of both, each already reset; returns whether there was a success."""
    observation = np.concatenate([package._prev_obs, package._prev_obs, package._get_pos_goal()])
    succeeded = False
    for step in range(steps):
        action = policy(observation).astype(np.float32)
        expected, result = package.step(action.copy()), fast.step(action.copy())
        observation = expected[0]
        assert (result[0] == observation).all(), step
        assert result[0].dtype == observation.dtype == np.float64
        assert result[1:4] == expected[1:4], step
        assert result[4] == expected[4], step
        assert sorted(result[4]) == sorted(INFO_KEYS)
        succeeded |= bool(result[4]["success"])
    return succeeded


def assert_equal_on(name: str, reward_version: str, goals, plan) -> bool:
    """Consecutive episodes of (goal, policy class); the package resets fully each time, ours from
    a snapshot where the goal was seen before."""
    package = ALL_V3_ENVIRONMENTS[name](reward_function_version=reward_version)
    fast = fast_class(name)(reward_function_version=reward_version)
    resets = SnapshotResets(fast)
    succeeded = False
    for episode, (goal, policy_class) in enumerate(plan):
        package.set_task(goals[goal])
        expected, _ = package.reset()
        assert (resets.reset(goal, goals[goal]) == expected).all()
        succeeded |= assert_equal_episode(package, fast, policy_class(name, episode))
        assert fast._is_current  # or its shortcut was not tested
    return succeeded


@pytest.mark.parametrize("reward_version", ["v2", "v1"])
@pytest.mark.parametrize("name", MT10_V3)
def test_an_mt10_task_equals_the_package_s(mt10, name, reward_version):
    plan = [(0, Random), (1, Expert), (0, Constant), (1, Expert)]
    goals = mt10.goals[mt10.names.index(name)]
    succeeded = assert_equal_on(name, reward_version, goals, plan)
    # The v1 reward of this task measures from the wrong end of the peg.
    unreachable = (name, reward_version) == ("peg-insert-side-v3", "v1")
    assert succeeded != unreachable  # or the flag was hardly tested


@pytest.mark.long
@pytest.mark.parametrize("reward_version", ["v2", "v1"])
@pytest.mark.parametrize("name", ALL_V3_ENVIRONMENTS)
def test_every_task_equals_the_package_s(name, reward_version):
    """Nine episodes over three goals, six of them after a snapshot reset."""
    policies = (Random, Constant, Expert)
    plan = [(2 * episode % 3, policies[episode // 3]) for episode in range(9)]
    goals = TaskSet.make(name, seed=0).goals[0]
    assert_equal_on(name, reward_version, goals, plan)


def both(name: str, goal):
    """The package's environment and ours, reset to a goal."""
    environments = ALL_V3_ENVIRONMENTS[name](), fast_class(name)()
    for env in environments:
        env.set_task(goal)
        env.reset()
    return environments


def assert_equal_steps(package, fast, steps: int = 5) -> np.ndarray:
    for action in np.random.default_rng(0).uniform(-1, 1, (steps, 4)).astype(np.float32):
        expected, result = package.step(action), fast.step(action)
        assert (result[0] == expected[0]).all()
        assert (result[1], result[4]) == (expected[1], expected[4])
    return result[0]


def test_actions_of_any_kind_move_alike(mt10):
    """The package keeps an action's own precision, which decides the bits of the motion."""
    package, fast = both("reach-v3", mt10.goals[0][0])
    generator = np.random.default_rng(0)
    for dtype in (np.float32, np.float64, np.int64, np.float16):
        for _ in range(5):
            action = (generator.uniform(-2, 2, 4)).astype(dtype)
            expected, result = package.step(action.copy()), fast.step(action.copy())
            assert (result[0] == expected[0]).all()
            assert (result[1], result[4]) == (expected[1], expected[4])


def test_touching_is_the_package_s_for_every_geom(mt10):
    package, fast = both("pick-place-v3", mt10.goals[mt10.names.index("pick-place-v3")][0])
    expert, observation = Expert("pick-place-v3", 0), package.reset()[0]
    fast.reset()
    touched, beside = set(), set()
    for _ in range(120):
        action = expert(observation).astype(np.float32)
        observation = package.step(action)[0]
        fast.step(action)
        for geom in range(package.model.ngeom):
            touching = package.touching_object(geom)
            assert fast.touching_object(geom) == touching
            (touched if touching else beside).add(geom)
    assert touched
    assert beside > touched  # the fingers closed on the object after some steps
    held = package._get_id_main_object()
    assert fast.touching_object(held)
    for env in (package, fast):
        env.data.efc_force[:] = 0  # contact without force is none
        assert not env.touching_object(held)


def test_a_step_uses_what_the_one_before_has_computed(mt10):
    """But not the first one of an episode, whose reset moved things without computing them."""
    _, fast = both("push-v3", mt10.goals[1][0])
    resets = SnapshotResets(fast)
    for _ in range(3):  # in full, then from a snapshot
        resets.reset(0, mt10.goals[1][0])
        assert not fast._is_current
        fast.step(np.zeros(4, np.float32))
        assert fast._is_current


@pytest.mark.parametrize("name", [*MT10_V3, "box-close-v3", "stick-push-v3", "door-lock-v3"])
def test_a_step_that_computes_everything_again_is_the_same(mt10, name):
    goals = mt10 if name in MT10_V3 else TaskSet.make(name, seed=0)
    goal = goals.goals[goals.names.index(name)][0]
    shortcut, whole = fast_class(name)(), fast_class(name)()
    whole._mocap_is_apart = False
    for env in (shortcut, whole):
        env.set_task(goal)
        env.reset()
    assert_equal_steps(whole, shortcut, steps=30)
    assert shortcut._is_current
    assert not whole._is_current
    for array in ("qpos", "qvel", "qacc_warmstart", "xpos", "site_xpos", "efc_force"):
        assert np.array_equal(getattr(whole.data, array), getattr(shortcut.data, array)), array


def test_a_mocap_body_that_something_touches_or_hangs_from_is_not_apart():
    scene = """
<mujoco>
  <option {option}/>
  <worldbody>
    <body name="mocap" mocap="true">
      <geom name="target" size="1" {contact}/><site name="here"/>{child}
    </body>
    <body><freejoint/><geom name="thing" size="1"/><site name="there"/></body>
  </worldbody>
  {more}
</mujoco>"""
    alone = {"option": "", "contact": 'contype="0" conaffinity="0"', "child": "", "more": ""}
    for change, apart in (
        ({}, True),
        ({"contact": 'contype="1" conaffinity="0"'}, False),
        ({"contact": 'contype="0" conaffinity="1"'}, False),
        ({"child": '<body><geom size="1"/></body>'}, False),
        ({"option": 'integrator="RK4"'}, False),
        ({"option": 'solver="PGS"'}, False),
        ({"option": 'noslip_iterations="1"'}, False),
        ({"more": '<contact><pair geom1="target" geom2="thing"/></contact>'}, False),
        ({"more": '<equality><weld site1="here" site2="there"/></equality>'}, False),
        ({"more": '<actuator><general site="here"/></actuator>'}, False),
        ({"more": '<sensor><framepos objtype="site" objname="here"/></sensor>'}, False),
    ):
        model = mujoco.MjModel.from_xml_string(scene.format(**alone | change))
        assert is_apart(model, model.body("mocap").id) == apart
    model = mujoco.MjModel.from_xml_string(scene.format(**alone))
    model.opt.enableflags = int(mujoco.mjtEnableBit.mjENBL_ISLAND)
    assert not is_apart(model, model.body("mocap").id)


@pytest.fixture
def another_mujoco(monkeypatch):
    knows_mujoco.cache_clear()
    monkeypatch.setattr(mujoco, "__version__", "3.3.6")
    yield
    knows_mujoco.cache_clear()


def test_another_mujoco_computes_every_frame_in_full(mt10, another_mujoco):
    with pytest.warns(RuntimeWarning, match=r"longer with mujoco 3\.3\.6 than with 3\.3\.0"):
        package, fast = both("push-v3", mt10.goals[1][0])
    assert_equal_steps(package, fast)
    assert not fast._is_current


class Caging:
    """Random arguments of the caging reward, of which some close the fingers on the object."""

    def __init__(self, env, seed: int):
        generator = np.random.default_rng(seed)
        near = env.tcp_center + generator.normal(size=3) * 10.0 ** generator.uniform(-4, -0.5)
        self.arguments = (
            generator.uniform(-1.5, 1.5, 4).astype(generator.choice([np.float32, np.float64])),
            near,
            generator.uniform(0, 0.03),
            generator.uniform(0.03, 0.1),
            generator.uniform(0, 0.05),
            generator.uniform(0, 0.02),
        )
        density = generator.choice(["", "high_density", "medium_density"])
        self.options = {str(density): True} if density else {}
        self.options |= {"desired_gripper_effort": generator.choice([0.3, 1.0])}


def test_the_caging_reward_is_the_package_s(mt10):
    package, fast = both(
        "peg-insert-side-v3", mt10.goals[mt10.names.index("peg-insert-side-v3")][0]
    )
    caged = 0
    for seed in range(600):
        if seed % 20 == 0:
            assert_equal_steps(package, fast)
        caging = Caging(package, seed)
        expected, result = (
            env._gripper_caging_reward(*caging.arguments, **caging.options)
            for env in (package, fast)
        )
        assert result == expected
        assert type(result) is type(expected)
        caged += expected > 0.97
    assert caged > 5


@pytest.mark.parametrize("beyond", [-7.0, 7.0])
def test_observations_are_clipped_to_the_space(mt10, beyond):
    package, fast = both("push-v3", mt10.goals[1][0])
    for env in (package, fast):
        env._target_pos = np.full(3, beyond)
    assert (abs(assert_equal_steps(package, fast)[36:]) < 7).all()


def test_hidden_goals_stay_hidden(mt10):
    data = pickle.loads(mt10.goals[1][0].data) | {"partially_observable": True}
    package, fast = both("push-v3", mt10.goals[1][0]._replace(data=pickle.dumps(data)))
    assert (fast.reset()[0] == package.reset()[0]).all()
    assert (assert_equal_steps(package, fast)[36:] == 0).all()


def test_a_turned_hand_is_turned_back(mt10):
    """After an unstable simulation, MuJoCo puts its target back to where the model has it."""
    package, fast = both("push-v3", mt10.goals[1][0])
    for env in (package, fast):
        env.data.mocap_quat[:] = 0.5
    assert_equal_steps(package, fast)


def test_a_returned_observation_may_be_changed(mt10):
    _, fast = both("push-v3", mt10.goals[1][0])
    observation = fast.step(np.zeros(4, np.float32))[0]
    kept = fast._last_stable_obs.copy()
    observation[:] = 9
    assert (fast._last_stable_obs == kept).all()


def test_initial_pads_stay_live_views(mt10):
    """As in the package, where they follow the current pads; a copy would change pick-place."""
    row = mt10.names.index("pick-place-v3")
    fast = fast_class("pick-place-v3")()
    resets = SnapshotResets(fast)
    for goal in (0, 1, 0):
        resets.reset(goal, mt10.goals[row][goal])
        for action in (1, -1):
            before = fast.init_left_pad.copy()
            fast.step(np.full(4, action, np.float32))
            assert (fast.init_left_pad != before).any()
            assert (fast.init_left_pad == fast.data.body("leftpad").xpos).all()


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
from envs.fast import fast_class
from envs.snapshots import SnapshotResets
venv = envs.make_vec(["push-v3", "reach-v3"], num_workers=1)
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


def test_the_package_behaves_the_same_before_and_after(tmp_path):
    """In a process of its own: every function, class and method is the same object, and an episode
    gives the same numbers."""
    root = Path(__file__).parents[2]
    code = f"import sys; sys.path.insert(0, {str(root)!r})\n{UNTOUCHED}"
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[1]) > 2000
