"""Rows end, pause, restart and stagger each on their own."""

import numpy as np
import pytest
from metaworld.policies import ENV_POLICY_MAP

from envs.constants import INFO_KEYS
from tests.envs.small_vector import PAIR, ZERO, random_actions

# The scripted experts warn that their actions exceed [-1, 1].
pytestmark = pytest.mark.filterwarnings("ignore:Constant:UserWarning")


def test_terminate_on_success_ends_the_episode_there(make, pair):
    venv = make(pair, terminate_on_success=True, goal_order="sequential")
    observation, _ = venv.reset()
    expert = ENV_POLICY_MAP[PAIR[0]]()
    for _ in range(200):
        action = ZERO.copy()
        action[0] = np.clip(expert.get_action(observation[0].astype(np.float64)), -1, 1)
        observation, _, terminated, truncated, infos = venv.step(action)
        assert (terminated == infos["success"]).all()
        if terminated[0]:
            break
    assert terminated[0]
    assert not truncated[0]
    assert infos["_final_obs"].tolist() == [True, False]
    assert venv.state_dict()["goal"].tolist() == [1, 0]
    assert venv.state_dict()["elapsed"][0] == 0


def test_rows_can_be_reset_alone(short):
    short.reset(seed=1)
    goals = short.state_dict()["goal"]
    for actions in random_actions(10):
        observation = short.step(actions)[0]
    after, _ = short.reset(options={"reset_mask": np.array([False, True])})
    assert (after[0] == observation[0]).all()
    assert (after[1] != observation[1]).any()
    state = short.state_dict()
    assert state["elapsed"].tolist() == [10, 0]
    assert (state["goal"] == goals).tolist() == [True, False]
    for actions in random_actions(10):
        *_, truncated, infos = short.step(actions)
    assert truncated.tolist() == infos["_final_obs"].tolist() == [True, False]


def test_paused_rows_stay_as_they_are(short):
    short.reset(seed=1)
    for actions in random_actions(19):
        observation = short.step(actions)[0]
    short.active[0] = False
    after, reward, _, truncated, infos = short.step(ZERO)
    assert (after[0] == observation[0]).all()
    assert (after[1] != observation[1]).any()
    assert reward[0] == 0
    assert truncated.tolist() == infos["_final_obs"].tolist() == [False, True]
    for key in INFO_KEYS:
        assert infos[key][0] == 0
        assert infos[f"_{key}"].tolist() == [False, True]
    assert short.state_dict()["elapsed"].tolist() == [19, 0]
    assert short.step(ZERO)[3].tolist() == [False, False]
    short.active[0] = True
    assert short.step(ZERO)[3].tolist() == [True, False]
    short.active[:] = False
    short.reset()
    assert short.active.all()


def test_a_row_that_ended_and_then_pauses_has_not_ended_again(short):
    short.reset(seed=1)
    for actions in random_actions(20):
        infos = short.step(actions)[-1]
    assert infos["_final_obs"].all()
    state = short.state_dict()
    short.active[0] = False
    assert "_final_obs" not in short.step(ZERO)[-1]
    after = short.state_dict()
    assert (after["next_goal"] == state["next_goal"]).all()
    assert after["generators"] == state["generators"]


def test_rows_are_paused_by_assignment_too(short):
    short.reset(seed=1)
    short.active = [False, True]
    assert short.step(ZERO)[-1]["_success"].tolist() == [False, True]
    short.active = np.ones(2, bool)
    short.reset(seed=1)
    assert short.step(ZERO)[-1]["_success"].all()


@pytest.mark.slow
def test_staggered_episodes_end_in_turn_at_first(make, pair):
    options = {"max_episode_steps": 10, "stagger": True, "envs_per_task": 2}
    venv = make(pair, **options)

    def ends(venv, steps):
        """Of each row, the steps that truncate."""
        rows = np.array([venv.step(np.zeros((4, 4)))[3] for _ in range(steps)])
        return [(np.flatnonzero(row) + 1).tolist() for row in rows.T]

    venv.reset()
    spread = [[3, 13, 23], [5, 15, 25], [8, 18, 28], [10, 20, 30]]
    assert ends(venv, 30) == spread
    venv.reset(seed=1)
    assert ends(venv, 30) == spread
    venv.reset()
    venv.step(np.zeros((4, 4)))
    state = venv.state_dict()
    other = make(pair, seed=1, **options)
    other.load_state_dict(state)
    assert ends(other, 29) == [[step - 1 for step in row] for row in spread]
    venv.reset(options={"reset_mask": np.array([True, False, False, False])})
    assert ends(venv, 20) == [[10, 20], [4, 14], [7, 17], [9, 19]]
