"""Snapshot resets against the package's full ones: the same state, not only the same numbers."""

import mujoco
import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS, MT10_V3

from envs import TaskSet
from envs.engine.environment import fast_class
from envs.engine.snapshots import STATE, SnapshotResets


def physics(env) -> np.ndarray:
    state = np.empty(mujoco.mj_stateSize(env.model, STATE))
    mujoco.mj_getState(env.model, env.data, state, STATE)
    return state


def model_arrays(env) -> dict[str, np.ndarray]:
    names = [name for name in dir(env.model) if not name.startswith("_")]
    arrays = {name: getattr(env.model, name) for name in names}
    return {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}


def assert_same_state(env, package) -> None:
    assert (physics(env) == physics(package)).all()
    for name, array in model_arrays(package).items():
        assert np.array_equal(getattr(env.model, name), array, equal_nan=True), name
    for name, value in vars(package).items():
        if isinstance(value, np.ndarray | float | int | bool):
            own = vars(env)[name]
            assert is_view_of_positions(own) == is_view_of_positions(value), name
            # Views are up to date from the next step on, before anything reads them.
            assert is_view_of_positions(own) or np.array_equal(own, value), name


def is_view_of_positions(value) -> bool:
    """Such as init_left_pad: an array in MuJoCo's memory."""
    return isinstance(value, np.ndarray) and "capsule" in repr(value.base)


def play(env, seed: int, steps: int = 40) -> None:
    for action in np.random.default_rng(seed).uniform(-1, 1, (steps, 4)).astype(np.float32):
        env.step(action)


def assert_resets_like_the_package(name: str, goals, order) -> None:
    package, fast = ALL_V3_ENVIRONMENTS[name](), fast_class(name)()
    resets = SnapshotResets(fast)
    for episode, goal in enumerate(order):
        package.set_task(goals[goal])
        expected, _ = package.reset()
        assert (resets.reset(goal, goals[goal]) == expected).all()
        assert_same_state(fast, package)
        play(package, episode)
        play(fast, episode)


@pytest.mark.slow
@pytest.mark.parametrize("name", MT10_V3)
def test_the_state_after_a_reset_of_mt10_is_the_package_s(mt10, name):
    goals = mt10.goals[mt10.names.index(name)]
    assert_resets_like_the_package(name, goals, (0, 1, 0, 2, 1))


@pytest.mark.long
@pytest.mark.parametrize("name", ALL_V3_ENVIRONMENTS)
def test_the_state_after_every_reset_of_every_task_is_the_package_s(name):
    """All fifty goals, each twice: the first reset is the package's, the second a snapshot's."""
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(50), 2)).tolist()
    assert_resets_like_the_package(name, TaskSet.make(name, seed=0).goals[0], order)


@pytest.fixture(scope="module")
def push() -> TaskSet:
    return TaskSet.make("push-v3", seed=0)


def test_a_goal_is_reset_in_full_only_once(push, monkeypatch):
    fast = fast_class("push-v3")()
    resets, full = SnapshotResets(fast), []
    reset = type(fast).reset
    monkeypatch.setattr(
        type(fast), "reset", lambda self, **kwargs: full.append(1) or reset(self, **kwargs)
    )
    for goal in (0, 1, 0, 0, 1):
        resets.reset(goal, push.goals[0][goal])
    assert len(full) == 2


def test_what_an_episode_changes_in_place_does_not_reach_the_snapshot(push):
    fast = fast_class("push-v3")()
    resets = SnapshotResets(fast)
    first = resets.reset(0, push.goals[0][0])
    first[:] = 7
    for _ in range(2):
        fast._target_pos += 1
        fast.init_tcp[:] = 9
        fast.obj_init_pos[:] = 8
        again = resets.reset(0, push.goals[0][0])
        assert (again != 7).all()
        assert (fast._target_pos == again[36:]).all()
        assert fast.init_tcp[0] != 9
        assert fast.obj_init_pos[0] != 8


def test_the_model_is_put_back_even_where_only_a_later_goal_changed_it(push):
    fast = fast_class("push-v3")()
    resets = SnapshotResets(fast)
    resets.reset(0, push.goals[0][0])
    pristine = fast.model.body_mass.copy()
    reset_model = type(fast).reset_model

    def heavier(self):
        self.model.body_mass[1] = 123.0
        return reset_model(self)

    fast.reset_model = heavier.__get__(fast)
    resets.reset(1, push.goals[0][1])
    assert fast.model.body_mass[1] == 123
    resets.reset(0, push.goals[0][0])
    assert (fast.model.body_mass == pristine).all()
    resets.reset(1, push.goals[0][1])
    assert fast.model.body_mass[1] == 123


def test_arrays_that_a_reset_changes_in_place_are_put_back(push):
    fast = fast_class("push-v3")()
    fast.marks = np.zeros(2)
    resets = SnapshotResets(fast)
    reset_model = type(fast).reset_model

    def mark(self):
        self.marks[0] = self._last_rand_vec[0]
        return reset_model(self)

    fast.reset_model = mark.__get__(fast)
    marks = []
    for goal in (0, 1, 0, 1):
        resets.reset(goal, push.goals[0][goal])
        marks.append(fast.marks[0])
    assert marks[0] == marks[2] != marks[1] == marks[3]


def test_attributes_that_no_reset_assigns_are_left_alone(push):
    """As the package's reset leaves them, whatever an earlier episode put there."""
    fast = fast_class("push-v3")()
    resets = SnapshotResets(fast)
    resets.reset(0, push.goals[0][0])
    fast.kept_between_episodes = 5
    resets.reset(0, push.goals[0][0])
    assert fast.kept_between_episodes == 5


def test_a_failing_reset_keeps_nothing(push):
    fast = fast_class("push-v3")()
    resets = SnapshotResets(fast)
    with pytest.raises(AssertionError):
        resets.reset(0, TaskSet.make("reach-v3", seed=0).goals[0][0])
    assert type(fast) is fast_class("push-v3")
    expected = ALL_V3_ENVIRONMENTS["push-v3"]()
    expected.set_task(push.goals[0][0])
    assert (resets.reset(0, push.goals[0][0]) == expected.reset()[0]).all()


def test_warnings_of_the_simulation_are_counted_anew(push):
    fast = fast_class("push-v3")()
    resets = SnapshotResets(fast)
    resets.reset(0, push.goals[0][0])
    fast.data.warning[0].number = 3
    resets.reset(0, push.goals[0][0])
    assert fast.data.warning[0].number == 0
