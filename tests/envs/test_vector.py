"""The vector environment: against the package's own environments, and as gymnasium defines one."""

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import gymnasium
import metaworld
import numpy as np
import pytest
from gymnasium.error import AlreadyPendingCallError, NoAsyncCallError
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers import vector as wrappers
from metaworld.env_dict import ALL_V3_ENVIRONMENTS, MT25_V3_ARGS_KWARGS, MT50_V3
from metaworld.policies import ENV_POLICY_MAP

from envs import TaskSet, make_vec, tasks
from envs.memory import INFO_KEYS
from envs.worker import Rows

# The scripted experts warn that their actions exceed [-1, 1].
pytestmark = pytest.mark.filterwarnings("ignore:Constant:UserWarning")

PAIR = ("drawer-close-v3", "reach-v3")
ZERO = np.zeros((2, 4), np.float32)


@pytest.fixture(scope="module")
def pair() -> TaskSet:
    return TaskSet.make(PAIR, seed=3)


@pytest.fixture(scope="module")
def short(pair):
    """An environment of two workers and episodes of 20 steps, for tests that begin with a reset."""
    with contextlib.closing(
        make_vec(pair, num_workers=2, max_episode_steps=20, all_infos=True)
    ) as venv:
        yield venv


@pytest.fixture
def make(request):
    """make_vec whose environments are closed at the end of the test."""

    def make(*args, **kwargs):
        venv = make_vec(*args, **kwargs)
        request.addfinalizer(venv.close)
        return venv

    return make


def random_actions(steps: int, rows: int = 2, seed: int = 0) -> np.ndarray:
    # A little beyond [-1, 1]: the package clips for the motion, but rewards see the raw action.
    generator = np.random.default_rng(seed)
    return generator.uniform(-1.2, 1.2, (steps, rows, 4)).astype(np.float32)


def assert_same(ours, theirs) -> None:
    """Of nested tuples and dicts of arrays."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert list(ours) == list(theirs)
        ours, theirs = tuple(ours.values()), tuple(theirs.values())
    if isinstance(ours, tuple | list):
        for a, b in zip(ours, theirs, strict=True):
            assert_same(a, b)
    else:
        assert np.array_equal(ours, theirs)


def arrays_in(results) -> list[np.ndarray]:
    """Of nested tuples, lists and dicts."""
    if isinstance(results, dict):
        results = list(results.values())
    if isinstance(results, tuple | list):
        return [array for result in results for array in arrays_in(result)]
    return [results] if isinstance(results, np.ndarray) else []


def assert_own_memory(ours, theirs) -> None:
    for a, b in product(arrays_in(ours), arrays_in(theirs)):
        assert not np.shares_memory(a, b)


class Package:
    """The package's own environment, reset to given goals in turn."""

    def __init__(self, name: str, goals, reward_version: str = "v2"):
        self.env = ALL_V3_ENVIRONMENTS[name](reward_function_version=reward_version)
        self.goals = goals
        self.goal = -1
        self.reset()

    def reset(self) -> None:
        self.goal = (self.goal + 1) % len(self.goals)
        self.env.set_task(self.goals[self.goal])
        self.observation, _ = self.env.reset()


def assert_equals_the_package(
    venv, task_set, reward_version: str, steps: int, expert_noise: float
) -> np.ndarray:
    """All that a step returns, `==`, over episode ends; returns which tasks were solved.

    Under expert actions with noise, so that objects move and successes occur. The package's
    environments are stepped between `step_async` and `step_wait`.
    """
    package = [Package(*row, reward_version) for row in zip(*task_set, strict=True)]
    experts = [ENV_POLICY_MAP[name]() for name in task_set.names]
    noise = random_actions(steps, len(package))
    solved = np.zeros(len(package), bool)
    observation, _ = venv.reset()
    for step in range(steps):
        actions = np.zeros((len(package), 4), np.float32)
        for row, reference in enumerate(package):
            assert (observation[row] == reference.observation.astype(np.float32)).all()
            action = np.clip(experts[row].get_action(reference.observation), -1, 1)
            actions[row] = action + expert_noise * noise[step, row]
        venv.step_async(actions)
        expected = [
            reference.env.step(action) for reference, action in zip(package, actions, strict=True)
        ]
        observation, reward, terminated, truncated, infos = venv.step_wait()
        ends = (step + 1) % venv.max_episode_steps == 0
        assert truncated.all() == truncated.any() == infos["_final_obs"].any() == ends
        assert not terminated.any()
        for row, reference in enumerate(package):
            reference.observation, expected_reward, _, at_horizon, info = expected[row]
            assert reward[row] == expected_reward
            assert truncated[row] == at_horizon or venv.max_episode_steps < 500
            assert sorted(info) == sorted(INFO_KEYS)
            assert all(infos[key][row] == info[key] for key in INFO_KEYS)
            if ends:
                final = reference.observation.astype(np.float32)
                assert (infos["final_obs"][row] == final).all()
                reference.reset()
        solved |= infos["success"]
    return solved


@pytest.mark.parametrize(
    ("reward_version", "steps", "episode_steps", "caller_steps"),
    [("v2", 450, 150, False), ("v1", 510, 500, True)],
)
def test_equals_the_package_on_all_ten_tasks(
    make, mt10, reward_version, steps, episode_steps, caller_steps
):
    """With v2, the first goal comes twice, the second time from a snapshot."""
    goals = mt10.first_goals(2)
    options = {"goal_order": "sequential", "all_infos": True, "max_episode_steps": episode_steps}
    venv = make(goals, reward_version=reward_version, caller_steps=caller_steps, **options)
    solved = assert_equals_the_package(venv, goals, reward_version, steps, expert_noise=0.3)
    assert solved.sum() >= 7  # or the flag was hardly tested


@pytest.mark.long
def test_equals_the_package_on_all_fifty_tasks(make):
    goals = TaskSet.make("mt50", seed=0).first_goals(2)
    assert goals.names == tuple(MT50_V3)
    venv = make(goals, goal_order="sequential", all_infos=True, max_episode_steps=100)
    solved = assert_equals_the_package(venv, goals, "v2", 350, expert_noise=0.0)
    assert solved.sum() >= 30


def test_goals_are_the_package_s_own(mt10):
    goals = metaworld.MT10(seed=0).train_tasks
    assert [goal for row in mt10.goals for goal in row] == goals
    assert len(goals) == 500


def test_a_list_has_the_goals_of_each_single_benchmark(pair):
    for name, goals in zip(PAIR, pair.goals, strict=True):
        assert list(goals) == metaworld.MT1(name, seed=3).train_tasks


def test_task_sets_by_name():
    assert tasks.task_names("mt10")[0] == "reach-v3"
    assert [len(tasks.task_names(name)) for name in ("mt10", "mt25", "mt50")] == [10, 25, 50]
    assert tasks.task_names("push-v3") == ("push-v3",)
    assert tasks.task_names(["push-v3", "push-v3"]) == ("push-v3", "push-v3")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("reach-v2", "unknown task 'reach-v2': did you mean reach-v3"),
        ("mt11", "unknown task 'mt11'"),
        (["reach-v3", "mt10"], "mt10 is a whole benchmark"),
        ([], "no tasks"),
    ],
)
def test_unknown_tasks_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        make_vec(names)


def test_too_few_goals_are_refused(pair):
    with pytest.raises(ValueError, match="51 goals per task were asked for, but there are 50"):
        pair.first_goals(51)
    assert [len(goals) for goals in pair.first_goals(2).goals] == [2, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reward_version": "v3"}, "reward_version is 'v3'"),
        ({"num_workers": 0}, "num_workers is 0"),
        ({"envs_per_task": 0}, "envs_per_task is 0"),
        ({"max_episode_steps": 501}, "max_episode_steps is 501"),
        ({"max_episode_steps": 0}, "max_episode_steps is 0"),
        ({"goal_order": "shuffled"}, "goal_order is 'shuffled'"),
        ({"timeout": 0}, "timeout is 0"),
        ({"timeout": float("inf")}, "timeout is inf"),
        ({"timeout": float("nan")}, "timeout is nan"),
    ],
)
def test_bad_options_are_refused(pair, options, message):
    with pytest.raises(ValueError, match=message):
        make_vec(pair, **options)


# As gymnasium defines a vector environment


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
        assert set(infos) == {*INFO_KEYS, *masks, "final_obs", "_final_obs"}
        assert all(infos[mask].tolist() == [True, True] for mask in masks)
        assert infos["success"].dtype == bool
        assert (infos["_final_obs"] == truncated).all()
        assert (infos["final_obs"].shape, infos["final_obs"].dtype) == ((2, 39), np.float32)
        assert infos["final_obs"].any() == truncated.any()


def test_without_all_infos_there_is_only_success(make):
    venv = make("reach-v3", num_workers=1)
    venv.reset()
    keys = {"success", "_success", "final_obs", "_final_obs"}
    assert set(venv.step(np.zeros((1, 4)))[4]) == keys


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
        with pytest.raises(ValueError, match="seeds were given|non-negative"):
            short.reset(**options)
    for mask in (np.array([1, 0]), np.ones(3, bool), [[True, False]], True):
        with pytest.raises(ValueError, match="reset_mask must be 2 booleans"):
            short.reset(options={"reset_mask": mask})
    assert_same(short.state_dict(), before)
    short.step(ZERO)


def test_a_step_before_the_first_reset_of_every_row_is_refused(make, pair):
    venv = make(pair, num_workers=1)
    with pytest.raises(RuntimeError, match="call reset\\(\\)"):
        venv.step(ZERO)
    venv.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(RuntimeError, match="call reset\\(\\)"):
        venv.step_async(ZERO)
    venv.reset(options={"reset_mask": np.array([False, True])})
    venv.step(ZERO)


def test_what_workers_cannot_do_is_refused_with_a_way_out(short):
    with pytest.raises(NotImplementedError, match="render_mode='rgb_array'"):
        short.render()
    for refused in (
        lambda: short.call("set_task", None),
        lambda: short.get_attr("tcp_center"),
        lambda: short.set_attr("max_path_length", 9),
    ):
        with pytest.raises(NotImplementedError, match="cannot be called .* all_infos=True"):
            refused()


def test_standard_wrappers_work(short):
    statistics = wrappers.RecordEpisodeStatistics(wrappers.ClipAction(short))
    venv = wrappers.DictInfoToList(statistics)
    assert venv.num_envs == 2
    venv.reset(seed=1)
    for actions in random_actions(40):
        *_, infos = venv.step(actions)
    assert [info["episode"]["l"] for info in infos] == [20, 20]
    assert [info["final_obs"].shape for info in infos] == [(39,), (39,)]
    short.reset(seed=1)
    rewards = np.array([short.step(actions.clip(-1, 1))[1] for actions in random_actions(40)])
    # The wrapper restarts its sum at the first episode's end.
    assert np.allclose([info["episode"]["r"] for info in infos], rewards[20:].sum(0))
    assert list(statistics.length_queue) == [20] * 4


def test_close_ends_the_workers_and_may_be_repeated(pair):
    venv = make_vec(pair, num_workers=2)
    venv.reset()
    state = venv.state_dict()
    venv.close()
    venv.close()
    assert venv.closed
    assert [process.returncode for process in venv._workers.processes] == [0, 0]
    for call in (
        venv.reset,
        venv.state_dict,
        venv.step_wait,
        lambda: venv.step(ZERO),
        lambda: venv.step_async(ZERO),
        lambda: venv.load_state_dict(state),
    ):
        with pytest.raises(RuntimeError, match="is closed"):
            call()


# Seeds and goals


@pytest.fixture(scope="module")
def first_observations(pair):
    """[goal, row, 39]; a sequential order visits the goals in turn, from 0 again after 49."""
    with contextlib.closing(
        make_vec(pair, num_workers=1, max_episode_steps=1, goal_order="sequential")
    ) as venv:
        observations = [venv.reset()[0], *(venv.step(ZERO)[0] for _ in range(50))]
        assert venv.state_dict()["goal"].tolist() == [0, 0]
        assert (observations[50] == observations[0]).all()
        venv.step(ZERO)
        assert (venv.reset()[0] == observations[0]).all()
        return np.array(observations[:50])


@pytest.fixture(scope="module")
def random_order(pair):
    """Episodes of one step."""
    with contextlib.closing(make_vec(pair, seed=1, num_workers=1, max_episode_steps=1)) as venv:
        yield venv


def draw_goals(venv, first_observations, episodes: int = 40, **reset_options) -> np.ndarray:
    """[episode, row], each checked to be what the observation shows."""
    observation, _ = venv.reset(**reset_options)
    goals = []
    for _ in range(episodes):
        goals.append(venv.state_dict()["goal"])
        assert (observation == first_observations[goals[-1], [0, 1]]).all()
        observation = venv.step(ZERO)[0]
    return np.array(goals)


def test_a_sequential_order_is_the_task_set_s(first_observations, pair):
    for row, (name, goals) in enumerate(zip(*pair, strict=True)):
        package = Package(name, goals[7:8])
        assert (first_observations[7, row] == package.observation.astype(np.float32)).all()
    assert len(np.unique(first_observations, axis=0)) == 50


def test_a_random_order_follows_from_the_seed(random_order, first_observations):
    unseeded = draw_goals(random_order, first_observations)
    first = draw_goals(random_order, first_observations, seed=1)
    assert (unseeded == first).all()  # the constructor's seed
    assert (draw_goals(random_order, first_observations) != first).any()  # it goes on
    assert (draw_goals(random_order, first_observations, seed=1) == first).all()
    assert (draw_goals(random_order, first_observations, seed=2) != first).any()
    # Each row has a generator of its own; 40 draws of 50 goals miss some and repeat some.
    assert (first[:, 0] != first[:, 1]).any()
    assert 15 < len(set(first[:, 0])) < 40


def test_each_row_can_have_its_own_seed(random_order, first_observations):
    one, two = (draw_goals(random_order, first_observations, seed=seed) for seed in (1, 2))
    mixed = draw_goals(random_order, first_observations, seed=[1, 2])
    assert (mixed == np.stack([one[:, 0], two[:, 1]], 1)).all()
    same = draw_goals(random_order, first_observations, seed=np.array([2, 2]))
    assert (same == two).all()


def test_goals_are_the_task_set_s_whatever_the_seed(make, pair, first_observations):
    venv = make(pair, seed=9, num_workers=1, max_episode_steps=1)
    draw_goals(venv, first_observations, 10)


def test_envs_per_task_have_goal_orders_of_their_own(make, pair, first_observations):
    venv = make(pair, num_workers=1, envs_per_task=3, max_episode_steps=1)
    assert venv.task_names == (PAIR[0],) * 3 + (PAIR[1],) * 3
    observation, _ = venv.reset()
    goals = []
    for _ in range(10):
        goals.append(venv.state_dict()["goal"].tolist())
        assert (observation == first_observations[goals[-1], [0, 0, 0, 1, 1, 1]]).all()
        observation = venv.step(np.zeros((6, 4)))[0]
    assert len(set(zip(*goals, strict=True))) == 6


# Workers


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


# Rows


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
    assert short.step(ZERO)[-1]["_final_obs"].tolist() == [False, False]
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


def test_mt25_has_the_package_s_tasks_in_its_order():
    assert tasks.task_names("mt25") == tuple(MT25_V3_ARGS_KWARGS)


def test_staggered_episodes_end_in_turn_at_first(make, pair):
    options = {"num_workers": 2, "max_episode_steps": 10, "stagger": True, "envs_per_task": 2}
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


# State


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
    other = make(pair, seed=6, num_workers=1, max_episode_steps=20, all_infos=True)
    other.active[:] = False
    assert (other.load_state_dict(state) == observation).all()
    assert_continues_exactly(short, other, steps=60)


def test_state_restores_exactly_on_all_ten_tasks(make, mt10):
    """In the third episode, in fresh processes: earlier episodes leave nothing in the state."""
    options = {"max_episode_steps": 70, "stagger": True}
    venv, other = make(mt10, seed=7, **options), make(mt10, seed=8, **options)
    venv.reset()
    for action in random_actions(180, 10):
        venv.step(action)
    venv.active[3] = False
    assert_continues_exactly(venv, other, steps=40)


def test_state_from_before_the_first_reset(make, pair, short):
    state = make(pair, num_workers=1, max_episode_steps=20).state_dict()
    short.load_state_dict(state)
    with pytest.raises(RuntimeError, match="call reset\\(\\)"):
        short.step(ZERO)
    short.reset()
    short.step(ZERO)


def test_a_state_that_does_not_fit_is_refused(make, short, pair):
    others = [
        make("reach-v3", num_workers=1),
        make(pair, reward_version="v1", num_workers=1),
        make(pair.first_goals(2), num_workers=1),
    ]
    for other in others:
        with pytest.raises(ValueError, match="the saved state is of .*reach-v3 .*this environment"):
            short.load_state_dict(other.state_dict())
    longer = make(pair, num_workers=1)
    longer.reset()
    short.reset(seed=1)
    before = short.state_dict()
    with pytest.raises(ValueError, match="has episodes of 500 steps, this environment of 20"):
        short.load_state_dict(longer.state_dict())
    assert_same(short.state_dict(), before)


def test_workers_do_without_torch():
    """Its import takes longer than all else that a worker does before its first step."""
    code = "import sys, envs.worker, envs.fast, envs.snapshots; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
