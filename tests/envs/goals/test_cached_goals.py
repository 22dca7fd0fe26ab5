"""Goals from the cache are equal to the package's own."""

import pickle

import metaworld
import numpy as np
import pytest

from envs import TaskSet, tasks
from envs.goals import draw_goals, load_or_draw
from tests.envs.goals.cache_files import REACH


def never(*args, **kwargs):
    raise AssertionError("goals were drawn")


def no_drawing(monkeypatch) -> None:
    monkeypatch.setattr(tasks, "draw_goals", never)


def assert_equal(cached, drawn) -> None:
    """The unpickled content too, so that a failure of the bytes alone says that it is that."""
    assert [goal.env_name for goal in cached] == [goal.env_name for goal in drawn]
    for goal, expected in zip(cached, drawn, strict=True):
        assert type(goal) is type(expected) is metaworld.Task
        content, wanted = pickle.loads(goal.data), pickle.loads(expected.data)
        vector, other = content.pop("rand_vec"), wanted.pop("rand_vec")
        assert (vector.dtype, vector.shape) == (other.dtype, other.shape)
        assert vector.tobytes() == other.tobytes()
        assert content == wanted
        assert goal.data == expected.data


@pytest.mark.slow
def test_mt10_from_the_file_equals_the_package_s(monkeypatch, package_mt10):
    drawn = package_mt10
    names = tuple(drawn.train_classes)
    assert load_or_draw("mt10", names, 0, lambda: drawn.train_tasks) is drawn.train_tasks
    no_drawing(monkeypatch)
    task_set = TaskSet.make("mt10", 0)
    assert task_set.names == names
    assert_equal([goal for row in task_set.goals for goal in row], drawn.train_tasks)


@pytest.mark.slow
def test_named_tasks_are_drawn_once(monkeypatch):
    pair = (REACH, "drawer-close-v3")
    first = TaskSet.make(pair, 1)
    no_drawing(monkeypatch)
    assert TaskSet.make(pair, 1) == TaskSet.make(list(pair), np.int64(1)) == first
    assert TaskSet.make(REACH, 1).goals == TaskSet.make([REACH], 1).goals == first.goals[:1]
    assert TaskSet.make((pair[1],) * 2, 1).goals == first.goals[1:] * 2
    monkeypatch.undo()
    for name, cached in zip(pair, first.goals, strict=True):
        assert_equal(cached, metaworld.MT1(name, seed=1).train_tasks)


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 7])
def test_all_fifty_are_drawn_as_the_package_draws_them(seed):
    package = metaworld.MT50(seed=seed)
    assert_equal(draw_goals(list(package.train_classes), seed), package.train_tasks)


def test_every_float_returns_exactly(package):
    """Subnormal, huge and negative zero: what decimal digits could lose."""
    vectors = (
        np.random.default_rng(0).standard_normal((50, 3))
        * 10.0 ** np.arange(-320, 280, 12)[:, None]
    )
    vectors[0] = [-0.0, 5e-324, np.nextafter(1.0, 2.0)]
    content = pickle.loads(package.train_tasks[0].data)
    drawn = [
        metaworld.Task(REACH, pickle.dumps({**content, "rand_vec": vector})) for vector in vectors
    ]
    load_or_draw(REACH, [REACH], 0, lambda: drawn)
    assert_equal(load_or_draw(REACH, [REACH], 0, never), drawn)


def test_the_global_random_state_is_untouched(monkeypatch):
    np.random.seed(5)
    before = repr(np.random.get_state(legacy=False))
    drawn = TaskSet.make(REACH, 2)
    assert repr(np.random.get_state(legacy=False)) == before
    no_drawing(monkeypatch)
    assert TaskSet.make(REACH, 2) == drawn
    assert repr(np.random.get_state(legacy=False)) == before
