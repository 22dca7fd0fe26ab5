"""A saved state restores the vector environment exactly, or is refused."""

import pickle

import mujoco
import numpy as np
import pytest

from tests.envs.nested_arrays import assert_own_memory, assert_same
from tests.envs.small_vector import PAIR, ZERO, random_actions


def assert_continues_exactly(venv, other, steps: int) -> None:
    actions = random_actions(steps, venv.num_envs, seed=2)
    state = venv.state_dict()
    assert_own_memory(state, venv.state_dict())
    saved = pickle.dumps(state)
    expected = [venv.step(action) for action in actions]
    assert_same(state, pickle.loads(saved))  # and nothing of it moves on
    other.load_state_dict(pickle.loads(saved))
    assert_same([other.step(action) for action in actions], expected)
    assert_same(other.state_dict(), venv.state_dict())


def test_state_restores_exactly_in_mid_episode(make, short, pair):
    short.reset(seed=5)
    for action in random_actions(35):
        observation = short.step(action)[0]
    state = short.state_dict()
    assert state["elapsed"].tolist() == [15, 15]
    other = make(pair, seed=6, max_episode_steps=20, all_infos=True)
    other.active[:] = False
    assert (other.load_state_dict(state) == observation).all()
    assert_continues_exactly(short, other, steps=60)


@pytest.mark.process
def test_state_restores_exactly_on_all_ten_tasks(make, mt10):
    """In the third episode, in a fresh process: earlier episodes leave nothing in the state."""
    options = {"max_episode_steps": 40, "stagger": True}
    venv, other = make(mt10, seed=7, **options), make(mt10, seed=8, num_workers=1, **options)
    venv.reset()
    for action in random_actions(110, 10):
        venv.step(action)
    venv.active[3] = False
    assert_continues_exactly(venv, other, steps=40)


def test_state_from_before_the_first_reset(make, pair, short):
    state = make(pair, max_episode_steps=20).state_dict()
    short.load_state_dict(state)
    with pytest.raises(RuntimeError, match="call reset\\(\\)"):
        short.step(ZERO)
    short.reset()
    short.step(ZERO)


def test_a_state_that_does_not_fit_is_refused(make, short, pair):
    others = [
        make("reach-v3"),
        make(pair, reward_version="v1"),
        make(pair.first_goals(2)),
    ]
    for other in others:
        with pytest.raises(ValueError, match="the saved state is of .*reach-v3 .*this environment"):
            short.load_state_dict(other.state_dict())
    longer = make(pair)
    longer.reset()
    short.reset(seed=1)
    before = short.state_dict()
    with pytest.raises(ValueError, match="has episodes of 500 steps, this environment of 20"):
        short.load_state_dict(longer.state_dict())
    assert_same(short.state_dict(), before)


def test_the_state_of_another_mujoco_is_refused(short):
    """Its contacts are others, so the same actions lead elsewhere."""
    short.reset(seed=5)
    state = short.state_dict()
    assert state["mujoco"] == mujoco.__version__
    with pytest.raises(ValueError, match=r"state is of mujoco 3.2.9.*install mujoco==3.2.9"):
        short.load_state_dict(state | {"mujoco": "3.2.9"})
    early = {key: value for key, value in state.items() if key != "mujoco"}
    short.load_state_dict(early)  # did not say


def test_the_state_of_other_goals_is_refused(make, short):
    other = make(PAIR, seed=4, max_episode_steps=20)
    other.reset()
    short.reset()
    with pytest.raises(ValueError, match="the saved state is of .*reach-v3"):
        short.load_state_dict(other.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"goal": np.array([0, 50])}, "no goals that exist: goal"),
        ({"next_goal": np.array([-1, 0])}, "no goals that exist: next_goal"),
        ({"horizon": np.array([20])}, "horizon of the saved state must have 2 rows"),
        (
            {"elapsed": np.array([4, 3])},
            r"drawer-close-v3 must be 4 x 4 finite actions, got \(3, 4",
        ),
        (
            {"episode_actions": [np.full((3, 4), np.nan)] * 2},
            "drawer-close-v3 must be 3 x 4 finite",
        ),
    ],
)
def test_a_malformed_state_is_refused_and_changes_nothing(short, change, message):
    short.reset(seed=1)
    for actions in random_actions(3):
        short.step(actions)
    state = short.state_dict()
    with pytest.raises(ValueError, match=message):
        short.load_state_dict(state | change)
    assert_same(short.state_dict(), state)
