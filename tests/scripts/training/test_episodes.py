"""Training episodes are counted where they end, by task."""

import numpy as np

from scripts.training.episodes import TrainingEpisodes

NAMES = ("first", "second")
NEVER, BOTH = np.array([False, False]), np.array([True, True])


def test_an_episode_is_counted_when_it_ends_whenever_it_succeeded():
    episodes = TrainingEpisodes(2)
    episodes.add(np.array([1.0, 10]), np.array([True, False]), NEVER)
    episodes.add(np.array([2.0, 20]), NEVER, NEVER)
    assert episodes.take(NAMES) == {}
    episodes.add(np.array([4.0, 40]), NEVER, BOTH)
    assert episodes.take(NAMES) == {
        "train/first_return": 7.0,
        "train/first_success_rate": 1.0,
        "train/second_return": 70.0,
        "train/second_success_rate": 0.0,
    }


def test_episodes_that_ended_since_the_last_time_are_averaged():
    episodes = TrainingEpisodes(2)
    first = np.array([True, False])
    episodes.add(np.array([100.0, 1]), BOTH, BOTH)
    episodes.take(NAMES)
    episodes.add(np.array([1.0, 10]), NEVER, first)
    episodes.add(np.array([5.0, 20]), first, first)
    assert episodes.take(NAMES) == {"train/first_return": 3.0, "train/first_success_rate": 0.5}
    episodes.add(np.array([0.0, 40]), NEVER, BOTH)
    assert episodes.take(NAMES) == {
        "train/first_return": 0.0,
        "train/first_success_rate": 0.0,
        "train/second_return": 70.0,
        "train/second_success_rate": 0.0,
    }


def test_episodes_go_on_from_their_state():
    episodes, again = TrainingEpisodes(2), TrainingEpisodes(2)
    episodes.add(np.array([1.0, 2]), BOTH, BOTH)
    episodes.add(np.array([3.0, 4]), np.array([False, True]), NEVER)
    again.load_state_dict(episodes.state_dict())
    taken = []
    for each in (episodes, again):
        each.add(np.array([5.0, 6]), NEVER, BOTH)
        taken.append(each.take(NAMES))
    assert taken[0] == taken[1]
    assert taken[0]["train/second_return"] == 6.0
    assert taken[0]["train/second_success_rate"] == 1.0
