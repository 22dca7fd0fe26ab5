"""Single steps of the fast environments, and what they compute, against the package's own."""

import pickle

import mujoco
import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS, MT10_V3

from envs import TaskSet
from envs.engine.environment import changes_only_constraints, fast_class, is_known_mujoco
from envs.engine.snapshots import SnapshotResets
from tests.envs.policies import Expert

# The scripted experts warn that their actions exceed [-1, 1].
pytestmark = pytest.mark.filterwarnings("ignore:Constant:UserWarning")


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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MT10_V3, "box-close-v3", "stick-push-v3", "door-lock-v3"])
def test_a_step_that_computes_everything_again_is_the_same(mt10, name):
    goals = mt10 if name in MT10_V3 else TaskSet.make(name, seed=0)
    goal = goals.goals[goals.names.index(name)][0]
    shortcut, full = fast_class(name)(), fast_class(name)()
    full._can_shorten_frame = False
    for env in (shortcut, full):
        env.set_task(goal)
        env.reset()
    assert_equal_steps(full, shortcut, steps=30)
    assert shortcut._is_current
    assert not full._is_current
    for array in ("qpos", "qvel", "qacc_warmstart", "xpos", "site_xpos", "efc_force"):
        assert np.array_equal(getattr(full.data, array), getattr(shortcut.data, array)), array


def test_only_a_mocap_body_that_nothing_touches_or_hangs_from_allows_the_shortcut():
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
    for change, allowed in (
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
        assert changes_only_constraints(model, model.body("mocap").id) == allowed
    model = mujoco.MjModel.from_xml_string(scene.format(**alone))
    model.opt.enableflags = int(mujoco.mjtEnableBit.mjENBL_ISLAND)
    assert not changes_only_constraints(model, model.body("mocap").id)


@pytest.fixture
def another_mujoco(monkeypatch):
    is_known_mujoco.cache_clear()
    monkeypatch.setattr(mujoco, "__version__", "3.3.6")
    yield
    is_known_mujoco.cache_clear()


def test_another_mujoco_computes_every_frame_in_full(mt10, another_mujoco):
    with pytest.warns(RuntimeWarning, match=r"mujoco 3\.3\.6 computes other contacts than 3\.3\.0"):
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
