"""Comparisons of what environments return: nested tuples, lists and dicts of arrays."""

import pickle
from itertools import product

import numpy as np


def assert_same(ours, theirs) -> None:
    """Of nested tuples and dicts of arrays, without the seconds `t` that an episode took."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert list(ours) == list(theirs)
        ours, theirs = (
            tuple(value for key, value in each.items() if key != "t") for each in (ours, theirs)
        )
    if isinstance(ours, np.ndarray) and ours.dtype == object:
        ours, theirs = ours.tolist(), theirs.tolist()
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
    if isinstance(results, np.ndarray) and results.dtype == object:
        return [results, *arrays_in(results.tolist())]
    return [results] if isinstance(results, np.ndarray) else []


def assert_own_memory(ours, theirs) -> None:
    for a, b in product(arrays_in(ours), arrays_in(theirs)):
        assert not np.shares_memory(a, b)


def same(ours: list, theirs: list) -> bool:
    return pickle.dumps(ours) == pickle.dumps(theirs)
