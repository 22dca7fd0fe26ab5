"""The vector environment as gymnasium defines one."""

import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium.error import AlreadyPendingCallError, NoAsyncCallError
from gymnasium.vector import AutoresetMode, VectorEnv

from envs import make_vec
from envs.constants import INFO_KEYS
from envs.options import check_options
from tests.envs.nested_arrays import assert_own_memory, assert_same
from tests.envs.package_environment import Package
from tests.envs.small_vector import PAIR, ZERO, calls_of_workers, random_actions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_workers": 0}, "num_workers is 0"),
        ({"envs_per_task": 0}, "envs_per_task is 0"),
        ({"max_episode_steps": 501}, "max_episode_steps is 501"),
        ({"max_episode_steps": 0}, "max_episode_steps is 0"),
        ({"timeout": 0.0}, "timeout is 0.0"),
        ({"timeout": float("inf")}, "timeout is inf"),
        ({"timeout": float("nan")}, "timeout is nan"),
    ],
)
def test_bad_options_are_refused(pair, options, message):
    with pytest.raises(ValueError, match=message):
        make_vec(pair, **options)


def test_another_reward_version_is_refused():
    """Asked directly, because the tests' type checker refuses it in `make_vec`."""
    with pytest.raises(ValueError, match="reward_version is 'v3', expected 'v1' or 'v2'"):
        check_options("v3", None, 500, 30.0)
    check_options("v1", None, 500, 30.0)


def test_spaces_and_metadata(short, pair):
    observation, infos = short.reset()
    assert isinstance(short, VectorEnv)
    assert infos == {}
    assert short.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert (short.num_envs, short.task_names, short.closed) == (2, PAIR, False)
    assert (short.render_mode, short.spec, short.unwrapped) == (None, None, short)
    single, batch = short.single_observation_space, short.observation_space
    assert (single.shape, batch.shape) == ((39,), (2, 39))
    assert single.dtype == batch.dtype == observation.dtype == np.float32
    for row, (name, goals) in enumerate(zip(*pair, strict=True)):
        bounds = Package(name, goals).env.sawyer_observation_space
        assert (batch.low[row] == bounds.low.astype(np.float32)).all()
        assert (batch.high[row] == bounds.high.astype(np.float32)).all()
    assert (single.low == batch.low.min(0)).all()
    assert (single.high == batch.high.max(0)).all()
    low, high = np.float32(-1), np.float32(1)
    assert short.single_action_space == gymnasium.spaces.Box(low, high, (4,), np.float32)
    assert short.action_space == gymnasium.spaces.Box(low, high, (2, 4), np.float32)
    for actions in random_actions(25):
        assert batch.contains(observation)
        assert all(single.contains(row) for row in observation)
        observation = short.step(actions)[0]


def test_what_a_step_returns(short):
    short.reset()
    for step in range(1, 41):
        observation, reward, terminated, truncated, infos = short.step(ZERO)
        assert (observation.shape, observation.dtype) == ((2, 39), np.float32)
        assert (reward.shape, reward.dtype) == ((2,), np.float64)
        assert terminated.dtype == truncated.dtype == bool
        assert (terminated.tolist(), truncated.tolist()) == ([False] * 2, [step % 20 == 0] * 2)
        masks = {f"_{key}" for key in INFO_KEYS}
        finals = {"final_obs", "_final_obs", "final_info", "_final_info"}
        assert set(infos) == {*INFO_KEYS, *masks, *(finals if step % 20 == 0 else ())}
        assert all(infos[mask].tolist() == [True, True] for mask in masks)
        assert infos["success"].dtype == bool


def test_without_all_infos_there_is_only_success(make):
    venv = make("reach-v3")
    venv.reset()
    assert set(venv.step(np.zeros((1, 4)))[4]) == {"success", "_success"}


def test_results_stay_as_they_were(short):
    first, _ = short.reset(seed=1)
    results = [first, *(short.step(actions) for actions in random_actions(19))]
    assert_own_memory(results[:-1], results[-1])
    before = pickle.loads(pickle.dumps(results))
    for actions in random_actions(25, seed=1):
        short.step(actions)
    short.reset()
    assert_same(results, before)


def test_a_step_can_overlap_other_work(short):
    short.reset(seed=1)
    expected = [short.step(actions) for actions in random_actions(30)]
    short.reset(seed=1)
    for actions, result in zip(random_actions(30), expected, strict=True):
        short.step_async(actions)
        actions[:] = np.nan  # the caller's array is its own again
        assert_same(short.step_wait(), result)


def test_a_second_step_or_anything_else_under_way_is_refused(short):
    short.reset()
    with pytest.raises(NoAsyncCallError, match="call step_async\\(\\) before step_wait"):
        short.step_wait()
    short.step_async(ZERO)
    for call in (
        lambda: short.step_async(ZERO),
        lambda: short.step(ZERO),
        short.reset,
        short.state_dict,
        lambda: short.load_state_dict({}),
    ):
        with pytest.raises(AlreadyPendingCallError, match="call step_wait\\(\\) before"):
            call()
    short.step_wait()
    with pytest.raises(NoAsyncCallError):
        short.step_wait()
    assert short.state_dict()["elapsed"].tolist() == [1, 1]


def test_bad_actions_are_refused_and_leave_nothing_under_way(short):
    short.reset(seed=1)
    expected = short.step(ZERO)
    short.reset(seed=1)
    for actions, message in [
        (np.zeros(4), "actions have shape \\(4,\\), expected \\(2, 4\\)"),
        (np.zeros((3, 4)), "actions have shape \\(3, 4\\), expected \\(2, 4\\)"),
        (np.zeros((2, 4, 1)), "actions have shape"),
        ([[0, 0, 0, 0], [0, np.nan, 0, 0]], "actions of reach-v3 are not finite"),
        ([[0, 0, np.inf, 0], [-np.inf, 0, 0, 0]], "actions of drawer-close-v3, reach-v3 are not"),
        ([[0, 0, 0, 0], [0, 0, 0]], "inhomogeneous"),
        ([["a"] * 4] * 2, "could not convert"),
    ]:
        with pytest.raises(ValueError, match=message):
            short.step(actions)
        with pytest.raises(NoAsyncCallError):
            short.step_wait()
    assert_same(short.step([[0, 0, 0, 0], [0, 0, 0, 0]]), expected)


def test_a_bad_reset_changes_nothing(short):
    short.reset(seed=1)
    before = short.state_dict()
    for options in ({"seed": [1, 2, 3]}, {"seed": -1}, {"seed": []}):
        with pytest.raises(ValueError, match="seeds were given|a seed is -1"):
            short.reset(**options)
    for mask in (np.array([1, 0]), np.ones(3, bool), [[True, False]], True, np.zeros(2, bool)):
        with pytest.raises(ValueError, match="reset_mask must be 2 booleans, at least one true"):
            short.reset(options={"reset_mask": mask})
    assert_same(short.state_dict(), before)
    short.step(ZERO)


def test_a_step_before_the_first_reset_of_every_row_is_refused(make, pair):
    venv = make(pair)
    with pytest.raises(RuntimeError, match="call reset\\(\\)"):
        venv.step(ZERO)
    venv.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(RuntimeError, match="call reset\\(\\)"):
        venv.step_async(ZERO)
    venv.reset(options={"reset_mask": np.array([False, True])})
    venv.step(ZERO)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of gymnasium's checker, about the package
def test_an_episode_can_be_repeated_where_render_says(short, pair):
    first, _ = short.reset()
    goals = short.state_dict()["goal"]
    actions = random_actions(19)
    found = [first, *(short.step(action)[0] for action in actions)]
    for row, name in enumerate(PAIR):
        env = gymnasium.make("Meta-World/MT1", env_name=name)
        env.get_wrapper_attr("toggle_sample_tasks_on_reset")(False)
        env.unwrapped.set_task(pair.goals[row][goals[row]])
        repeated = [env.reset()[0], *(env.step(action[row])[0] for action in actions)]
        np.testing.assert_array_equal(np.float32(repeated), [each[row] for each in found])
        env.close()


def test_what_workers_cannot_do_is_refused_with_a_way_out(short):
    # NotImplementedError is gymnasium's for what an environment does not offer; nothing is to come.
    with pytest.raises(NotImplementedError, match="render_mode='rgb_array'"):
        short.render()
    for refused in (
        lambda: short.call("set_task", None),
        lambda: short.get_attr("tcp_center"),
        lambda: short.set_attr("max_path_length", 9),
    ):
        with pytest.raises(NotImplementedError, match="cannot be (called|set) .* all_infos=True"):
            refused()


@pytest.mark.process
def test_close_ends_the_workers_and_may_be_repeated(pair):
    venv = make_vec(pair, num_workers=1)
    venv.reset()
    state = venv.state_dict()
    venv.close()
    venv.close()
    assert venv.closed
    assert [process.returncode for process in venv._workers.processes] == [0]
    for call in calls_of_workers(venv, state):
        with pytest.raises(RuntimeError, match="is closed"):
            call()
