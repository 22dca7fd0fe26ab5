"""gymnasium's contract for SAME_STEP, with the package in gymnasium's own environment as oracle."""

import numpy as np
import pytest
from gymnasium.wrappers import ClipAction, ClipReward, FlattenObservation
from gymnasium.wrappers import vector as wrappers
from metaworld.evaluation import evaluation
from metaworld.policies import ENV_POLICY_MAP

from envs import TaskSet
from tests.envs.package_vector import package_vector
from tests.envs.small_vector import PAIR, random_actions

pytestmark = [
    pytest.mark.slow,
    # gymnasium and the scripted experts warn about the package.
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

HORIZON = 6


@pytest.fixture(scope="module")
def goals(pair) -> TaskSet:
    return pair.first_goals(2)


@pytest.fixture
def both(make, goals):
    ours = make(goals, goal_order="sequential", max_episode_steps=HORIZON, all_infos=True)
    theirs = package_vector(goals, HORIZON)
    yield ours, theirs
    theirs.close()


def assert_equal(ours, theirs) -> None:
    """Type for type, but for float32 observations, success as bool, and the seconds `t`.

    Equal in the narrower type of both, because gymnasium gives an info of all rows the type that
    the first row has, which may be float32.
    """
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in ours.keys() - {"t"}:
            assert_equal(ours[key], theirs[key])
    elif isinstance(theirs, tuple | list):
        for our, their in zip(ours, theirs, strict=True):
            assert_equal(our, their)
    elif isinstance(theirs, np.ndarray) and theirs.dtype == object:
        assert ours.dtype == object
        assert_equal(ours.tolist(), theirs.tolist())
    elif theirs is None:
        assert ours is None
    else:
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        assert ours.dtype.kind == theirs.dtype.kind or ours.dtype == bool
        dtype = min(ours.dtype, theirs.dtype, key=lambda dtype: dtype.itemsize)
        np.testing.assert_array_equal(ours.astype(dtype), theirs.astype(dtype))


def assert_infos_equal(ours: dict, theirs: dict, ended: np.ndarray) -> None:
    """Ours has besides, in rows that ended, the infos of their last step."""
    theirs = dict(theirs)
    for key, last in ours.get("final_info", {}).items():
        if key not in ("episode", "_episode"):
            values = theirs.get(key, np.zeros_like(last))
            theirs[key] = np.where(ended, last, values.astype(last.dtype))
    assert_equal(ours, theirs)


def test_every_step_has_the_keys_types_masks_and_values_of_gymnasium_s(both):
    ours, theirs = both
    assert ours.autoreset_mode is theirs.autoreset_mode is theirs.metadata["autoreset_mode"]
    assert_equal(ours.reset(), theirs.reset())
    for step, actions in enumerate(random_actions(2 * HORIZON + 3)):
        if step == 2:  # from here on, the rows end at different times
            options = [{"reset_mask": np.array([False, True])} for _ in both]
            assert_equal(ours.reset(options=options[0]), theirs.reset(options=options[1]))
        our, their = ours.step(actions), theirs.step(actions)
        ended = our[2] | our[3]
        assert ended.tolist() == [(step + 1) % HORIZON == 0, (step - 1) % HORIZON == 0 and step > 2]
        assert_equal(our[:4], their[:4])
        assert_infos_equal(our[4], their[4], ended)
        if ended.any():
            rows = [row for row in our[4]["final_obs"] if row is not None]
            assert (ours.final_observation[ended] == rows).all()
            assert all(row.dtype == np.float32 for row in rows)
            seconds = our[4]["final_info"]["episode"]["t"]
            assert ((seconds > 0) == ended).all()
            assert (seconds < 60).all()


def test_final_observations_may_be_changed(both):
    ours, _ = both
    ours.reset()
    for actions in random_actions(HORIZON):
        infos = ours.step(actions)[4]
    infos["final_obs"][0] = infos["final_obs"][0][:3]  # as a user's wrapper does
    infos["final_obs"][1][:] = 0
    assert ours.final_observation.any()


@pytest.mark.parametrize(
    "seed", [None, 3, np.int64(3), [3, 4], [3, None], (3, 4), np.array([3, 4])]
)
@pytest.mark.parametrize("mask", [None, [True, True], [False, True]])
def test_a_reset_takes_every_seed_and_mask_of_gymnasium_s(make, goals, seed, mask):
    """Rows outside the mask, and those whose seed is None, go on in their order of goals."""
    env = make(goals, max_episode_steps=HORIZON)
    env.reset()
    options = None if mask is None else {"reset_mask": np.array(mask)}
    before = env.state_dict()
    observation, infos = env.reset(seed=seed, options=options)
    assert infos == {}
    assert observation.shape == (2, 39)
    if options:
        assert options["reset_mask"].tolist() == mask  # the caller's, as it was
    after = env.state_dict()
    rows = [True, True] if mask is None else mask
    seeds = list(seed) if np.ndim(seed) else [seed] * 2
    for row in range(2):
        generator = np.random.default_rng([seeds[row] or 0, row])
        if not rows[row]:
            assert after["generators"][row] == before["generators"][row]
        elif seeds[row] is None:
            assert after["goal"][row] == before["next_goal"][row]
        else:
            drawn = [int(generator.integers(2)) for _ in range(2)]
            assert [after["goal"][row], after["next_goal"][row]] == drawn


def test_a_masked_reset_restarts_only_these_statistics(both):
    ours, _ = both
    venv = wrappers.RecordEpisodeStatistics(ours)
    venv.reset()
    venv.step(random_actions(1)[0])
    venv.reset(options={"reset_mask": np.array([True, False])})
    assert venv.episode_lengths.tolist() == [0, 1]


ACCEPTED = {
    "ClipAction": {},
    "ClipReward": {"min_reward": -1, "max_reward": 1},
    "DictInfoToList": {},
    "NormalizeReward": {},
    "RecordEpisodeStatistics": {},
    "RescaleAction": {"min_action": -2, "max_action": 2},
    "TransformAction": {"func": lambda actions: actions / 2},
    "TransformReward": {"func": lambda reward: reward + 1},
    "VectorizeTransformAction": {"wrapper": ClipAction},
    "VectorizeTransformReward": {"wrapper": ClipReward, "max_reward": 0.1},
}
REFUSED = {
    "DtypeObservation": {"dtype": np.float64},
    "FlattenObservation": {},
    "NormalizeObservation": {},
    "RescaleObservation": {"min_obs": 0, "max_obs": 1},
    "ReshapeObservation": {"shape": (3, 13)},
    "TransformObservation": {"func": lambda observation: observation + 1},
    "VectorizeTransformObservation": {"wrapper": FlattenObservation},
}
NOT_FOR_US = {
    "FilterObservation": "observations that are dicts",
    "GrayscaleObservation": "images",
    "ResizeObservation": "images",
    "HumanRendering": "rendering",
    "RecordVideo": "rendering",
    "JaxToNumpy": "jax",
    "JaxToTorch": "jax",
    "ArrayConversion": "no array of objects, which `final_obs` must be",
    "NumpyToTorch": "no array of objects, which `final_obs` must be",
}


def test_every_wrapper_of_gymnasium_s_is_looked_at():
    assert {*ACCEPTED, *REFUSED, *NOT_FOR_US} == set(wrappers.__all__)


@pytest.mark.parametrize("name", ACCEPTED)
def test_wrappers_give_what_they_give_around_gymnasium_s(both, name):
    wrapped = [getattr(wrappers, name)(env, **ACCEPTED[name]) for env in both]
    assert_equal(*(env.reset() for env in wrapped))
    for actions in random_actions(2 * HORIZON + 1):
        ours, theirs = (env.step(actions) for env in wrapped)
        ended = ours[3]
        assert_equal(ours[:4], theirs[:4])
        if isinstance(theirs[4], dict):
            assert_infos_equal(ours[4], theirs[4], ended)
        elif ended.any():
            for our, their in zip(ours[4], theirs[4], strict=True):
                assert_equal(our["final_info"], their["final_info"])
                assert_equal(our["final_obs"], their["final_obs"])
        else:
            assert_equal(ours[4], theirs[4])


@pytest.mark.parametrize("name", REFUSED)
def test_wrappers_that_gymnasium_refuses_around_its_own_are_refused_around_ours(both, name):
    for env in both:
        with pytest.raises(ValueError, match="got AutoresetMode.SAME_STEP"):
            getattr(wrappers, name)(env, **REFUSED[name])


class Experts:
    """The package's scripted experts, on observations of either environment as float32."""

    def __init__(self):
        self.experts = [ENV_POLICY_MAP[name]() for name in PAIR]
        self.resets: list[list[bool]] = []

    def eval_action(self, observations):
        pairs = zip(self.experts, np.float32(observations), strict=True)
        actions = [expert.get_action(np.float64(row)) for expert, row in pairs]
        return np.clip(actions, -1, 1).astype(np.float32)

    def reset(self, env_mask):
        self.resets.append(env_mask.tolist())


def test_the_package_s_evaluation_gives_its_own_result(make, goals):
    """One task is solved in time, the other is not, so that episodes end in both ways."""
    ours = make(goals, goal_order="sequential", max_episode_steps=55)
    theirs = package_vector(goals, 55)
    agents = [Experts(), Experts()]
    result = evaluation(agents[0], ours, num_episodes=2)
    assert result == evaluation(agents[1], theirs, num_episodes=2)
    assert sorted(result[2].values()) == [0.0, 1.0]
    assert agents[0].resets == agents[1].resets
    assert not ours.terminate_on_success  # as it was
    with pytest.raises(TypeError):
        ours.call("toggle_terminate_on_success")
    theirs.close()
