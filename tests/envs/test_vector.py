"""The vector environment against the package's own environments, step by step."""

import os
import signal

import metaworld
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.policies import ENV_POLICY_MAP

import envs
from envs import TaskSet, WorkerError, make_vec

# The scripted experts warn that their actions exceed [-1, 1].
pytestmark = pytest.mark.filterwarnings("ignore:Constant:UserWarning")

PAIR = ("drawer-close-v3", "reach-v3")


@pytest.fixture(scope="module")
def pair() -> TaskSet:
    return TaskSet.make(PAIR, seed=3)


@pytest.fixture
def make(request):
    """make_vec whose environments are closed at the end of the test."""

    def make(*args, **kwargs):
        venv = make_vec(*args, **kwargs)
        request.addfinalizer(venv.close)
        return venv

    return make


def random_actions(steps: int, rows: int, seed: int = 0) -> np.ndarray:
    # A little beyond [-1, 1]: the package clips for the motion, but rewards see the raw action.
    generator = np.random.default_rng(seed)
    return generator.uniform(-1.2, 1.2, (steps, rows, 4)).astype(np.float32)


class Package:
    """The package's own environment, reset to given goals in turn."""

    def __init__(self, name: str, goals, reward_version: str):
        self.env = ALL_V3_ENVIRONMENTS[name](reward_function_version=reward_version)
        self.goals = goals
        self.goal = -1
        self.reset()

    def reset(self) -> None:
        self.goal += 1
        self.env.set_task(self.goals[self.goal])
        self.observation, _ = self.env.reset()


@pytest.mark.parametrize(("reward_version", "steps"), [("v2", 1100), ("v1", 520)])
def test_equals_the_package_on_all_ten_tasks(make, mt10, reward_version, steps):
    """Observation, reward, success and truncation, `==`, over episode ends, under expert actions
    with noise (so that objects move and successes occur)."""
    venv = make(mt10, reward_version=reward_version, goal_order="sequential")
    package = [Package(name, goals, reward_version) for name, goals in zip(*mt10, strict=True)]
    experts = [ENV_POLICY_MAP[name]() for name in mt10.names]
    noise = random_actions(steps, len(package))
    observation, _ = venv.reset()
    seen_success = np.zeros(len(package), bool)
    for step in range(steps):
        for row, reference in enumerate(package):
            assert (observation[row] == reference.observation.astype(np.float32)).all()
        actions = np.stack(
            [
                expert.get_action(reference.observation)
                for expert, reference in zip(experts, package, strict=True)
            ]
        )
        actions = (np.clip(actions, -1, 1) + 0.3 * noise[step]).astype(np.float32)
        observation, reward, terminated, truncated, infos = venv.step(actions)
        assert not terminated.any()
        for row, reference in enumerate(package):
            expected = reference.env.step(actions[row])
            reference.observation = expected[0]
            assert reward[row] == expected[1]
            assert infos["success"][row] == expected[4]["success"]
            assert truncated[row] == expected[3]
            assert infos["_final_obs"][row] == expected[3]
            if expected[3]:
                final = expected[0].astype(np.float32)
                assert (infos["final_obs"][row] == final).all()
                reference.reset()
        seen_success |= infos["success"]
    assert seen_success.sum() >= 7  # or the flag was hardly tested


def test_goals_are_the_package_s_own(mt10):
    goals = metaworld.MT10(seed=0).train_tasks
    assert [goal for row in mt10.goals for goal in row] == goals
    assert len(goals) == 500


def test_a_list_has_the_goals_of_each_single_benchmark(pair):
    for name, goals in zip(PAIR, pair.goals, strict=True):
        assert list(goals) == metaworld.MT1(name, seed=3).train_tasks


def test_task_sets_by_name():
    assert envs.tasks.task_names("mt10")[0] == "reach-v3"
    assert [len(envs.tasks.task_names(name)) for name in ("mt10", "mt25", "mt50")] == [10, 25, 50]
    assert envs.tasks.task_names("push-v3") == ("push-v3",)
    assert envs.tasks.task_names(["push-v3", "push-v3"]) == ("push-v3", "push-v3")


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ("reach-v2", "unknown task 'reach-v2': did you mean reach-v3"),
        ("mt11", "unknown task 'mt11'"),
        (["reach-v3", "mt10"], "mt10 is a whole benchmark"),
        ([], "no tasks"),
    ],
)
def test_unknown_tasks_are_refused(tasks, message):
    with pytest.raises(ValueError, match=message):
        make_vec(tasks)


def test_too_few_goals_are_refused(pair):
    with pytest.raises(ValueError, match="51 goals per task were asked for, but there are 50"):
        pair.first_goals(51)
    assert [len(goals) for goals in pair.first_goals(2).goals] == [2, 2]


def test_spaces_and_metadata(make, pair):
    venv = make(pair)
    observation, infos = venv.reset()
    assert infos == {}
    assert venv.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert (venv.num_envs, venv.task_names) == (2, PAIR)
    assert observation.dtype == np.float32
    assert venv.observation_space.contains(observation)
    assert all(venv.single_observation_space.contains(row) for row in observation)
    assert venv.action_space.contains(venv.action_space.sample())
    env = ALL_V3_ENVIRONMENTS[PAIR[0]]()
    env.set_task(pair.goals[0][0])
    package = env.sawyer_observation_space
    assert (venv.observation_space.low[0] == package.low.astype(np.float32)).all()
    assert (venv.observation_space.high[0] == package.high.astype(np.float32)).all()
    _, reward, *_ = venv.step(random_actions(1, 2)[0])
    assert reward.dtype == np.float64


def goal_sequence(venv, episodes: int, seed: int | None = None) -> list[tuple[int, ...]]:
    goals = []
    venv.reset(seed=seed)
    for _ in range(episodes):
        goals.append(tuple(venv.state_dict()["goal"].tolist()))
        for _ in range(venv.max_episode_steps):
            venv.step(np.zeros((venv.num_envs, 4)))
    return goals


def test_goal_orders(make, pair):
    venv = make(pair, seed=1, max_episode_steps=1)
    first = goal_sequence(venv, 40, seed=1)
    assert goal_sequence(venv, 40, seed=1) == first
    assert goal_sequence(venv, 40, seed=2) != first
    assert goal_sequence(make(pair, seed=1, max_episode_steps=1), 40) == first
    # Each task has a generator of its own; 40 draws of 50 goals miss some and repeat some.
    assert [goals[0] for goals in first] != [goals[1] for goals in first]
    assert 15 < len({goals[0] for goals in first}) < 40
    sequential = make(pair, max_episode_steps=1, goal_order="sequential")
    assert goal_sequence(sequential, 52) == [(i % 50, i % 50) for i in range(52)]


def test_two_environments_with_different_seeds_are_no_clones(make, pair):
    a, b = (make(pair, seed=seed, max_episode_steps=1) for seed in (1, 2))
    assert goal_sequence(a, 10) != goal_sequence(b, 10)


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_the_number_of_workers_changes_nothing(make, pair, workers):
    venv = make(pair, seed=4, num_workers=workers, max_episode_steps=20)
    venv.reset()
    observations = [venv.step(actions)[0] for actions in random_actions(50, 2)]
    expected = make(pair, seed=4, num_workers=1, max_episode_steps=20)
    expected.reset()
    for actions, observation in zip(random_actions(50, 2), observations, strict=True):
        assert (expected.step(actions)[0] == observation).all()


def test_state_restores_exactly_in_mid_episode(make, pair):
    venv, actions = make(pair, seed=5, max_episode_steps=60), random_actions(200, 2)
    venv.reset()
    for action in actions[:95]:
        observation = venv.step(action)[0]
    state = venv.state_dict()
    expected = [venv.step(action) for action in actions[95:]]
    other = make(pair, seed=6, max_episode_steps=60)
    assert (other.load_state_dict(state) == observation).all()
    for action, before in zip(actions[95:], expected, strict=True):
        after = other.step(action)
        for a, b in zip(before[:4], after[:4], strict=True):
            assert (a == b).all()
        assert (before[4]["success"] == after[4]["success"]).all()


def test_state_restores_exactly_on_all_ten_tasks(make, mt10):
    """In the third episode, in fresh processes: earlier episodes leave nothing in the state."""
    venv, actions = make(mt10, seed=7, max_episode_steps=70), random_actions(220, 10)
    venv.reset()
    for action in actions[:180]:
        venv.step(action)
    venv.active[3] = False
    state = venv.state_dict()
    expected = [venv.step(action) for action in actions[180:]]
    other = make(mt10, seed=8, max_episode_steps=70)
    other.load_state_dict(state)
    for action, before in zip(actions[180:], expected, strict=True):
        after = other.step(action)
        for a, b in zip(before[:4], after[:4], strict=True):
            assert (a == b).all()


def test_workers_import_ours_even_beside_a_folder_named_envs(make, pair, tmp_path, monkeypatch):
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "__init__.py").write_text("raise RuntimeError('the wrong envs')")
    monkeypatch.chdir(tmp_path)
    make(pair, num_workers=1).reset()


def test_a_state_of_other_tasks_is_refused(make, pair):
    state = make("reach-v3").state_dict()
    with pytest.raises(ValueError, match="has 1 tasks, this environment 2"):
        make(pair).load_state_dict(state)


def test_terminate_on_success_ends_the_episode_there(make, pair):
    venv = make(pair, terminate_on_success=True, goal_order="sequential")
    observation, _ = venv.reset()
    expert = ENV_POLICY_MAP[PAIR[0]]()
    for _ in range(200):
        action = np.zeros((2, 4), np.float32)
        action[0] = np.clip(expert.get_action(observation[0].astype(np.float64)), -1, 1)
        observation, _, terminated, truncated, infos = venv.step(action)
        assert (terminated == infos["success"]).all()
        if terminated[0]:
            break
    assert terminated[0]
    assert not truncated[0]
    assert infos["_final_obs"].tolist() == [True, False]
    assert venv.state_dict()["goal"].tolist() == [1, 0]


def test_rows_can_be_reset_or_paused_alone(make, pair):
    venv, actions = make(pair, goal_order="sequential"), random_actions(10, 2)
    first, _ = venv.reset()
    for action in actions:
        observation = venv.step(action)[0]
    mask = np.array([False, True])
    after, _ = venv.reset(options={"reset_mask": mask})
    assert (after[0] == observation[0]).all()
    assert venv.state_dict()["elapsed"].tolist() == [10, 0]
    venv.active[0] = False
    observation, reward, _, _, _ = venv.step(actions[0])
    assert (observation[0] == after[0]).all()
    assert (observation[1] != after[1]).any()
    assert reward[0] == 0
    assert venv.state_dict()["elapsed"].tolist() == [10, 1]
    again, _ = venv.reset()
    assert (again == first).all()


def test_bad_calls_are_refused(make, pair):
    venv = make(pair)
    with pytest.raises(RuntimeError, match="call reset"):
        venv.step(np.zeros((2, 4)))
    venv.reset()
    with pytest.raises(ValueError, match="actions have shape \\(4,\\), expected \\(2, 4\\)"):
        venv.step(np.zeros(4))
    with pytest.raises(ValueError, match="actions of reach-v3 are not finite"):
        venv.step(np.array([[0, 0, 0, 0], [0, np.nan, 0, 0]]))
    with pytest.raises(ValueError, match="reset_mask must be 2 booleans"):
        venv.reset(options={"reset_mask": np.array([1, 0])})
    for options, message in [
        ({"reward_version": "v3"}, "reward_version is 'v3'"),
        ({"num_workers": 0}, "num_workers is 0"),
        ({"max_episode_steps": 501}, "max_episode_steps is 501"),
        ({"goal_order": "shuffled"}, "goal_order is 'shuffled'"),
    ]:
        with pytest.raises(ValueError, match=message):
            make_vec(pair, **options)


def test_close_ends_the_workers_and_may_be_repeated(pair):
    venv = make_vec(pair)
    processes = venv._processes
    venv.close()
    venv.close()
    assert all(process.returncode == 0 for process in processes)
    with pytest.raises(RuntimeError, match="is closed"):
        venv.reset()


def test_a_killed_worker_is_reported_with_its_tasks(make, pair):
    venv = make(pair, num_workers=2)
    venv.reset()
    os.kill(venv._processes[1].pid, signal.SIGKILL)
    venv._processes[1].wait()
    with pytest.raises(WorkerError, match="worker stepping reach-v3 ended with exit code -9"):
        venv.step(np.zeros((2, 4)))
