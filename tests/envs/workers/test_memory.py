"""Arrays that processes share."""

import os
import tempfile

import numpy as np
import pytest

from envs.workers.memory import open_memory
from tests.envs.workers.numpy_row import NumpyArrays


@pytest.fixture
def memory():
    memory = open_memory()
    yield memory
    os.close(memory)


def test_whoever_maps_the_same_memory_has_the_same_arrays(memory):
    ours, theirs = NumpyArrays(3, memory), NumpyArrays(3, memory)
    assert ours.num_rows == theirs.num_rows == 3
    ours.count[:] = [1, 2, 3]
    theirs.total[1] = 7
    theirs.active[2] = True
    assert theirs.count.tolist() == [1, 2, 3]
    assert ours.total.tolist() == [0, 7, 0]
    assert ours.active.tolist() == [False, False, True]


def test_the_fields_of_records_are_attributes_that_share_their_memory(memory):
    arrays = NumpyArrays(2, memory)
    assert (arrays.count.shape, arrays.count.dtype) == ((2,), np.int64)
    assert np.shares_memory(arrays.state, arrays.count)
    assert not np.shares_memory(arrays.total, arrays.count)


def test_the_bytes_of_a_field_are_its_arrays_and_no_others(memory):
    arrays = NumpyArrays(2, memory)
    arrays.total[:] = 9
    arrays.active[:] = True
    arrays.count[:] = [5, 6]
    assert bytes(arrays.bytes_of("state")) == b"\1\1" + np.array([5, 6]).tobytes()
    assert bytes(arrays.bytes_of("total")) == np.array([9, 9]).tobytes()


def test_they_live_on_without_the_descriptor():
    memory = open_memory()
    arrays = NumpyArrays(2, memory)
    os.close(memory)
    arrays.count[:] = 4
    assert arrays.count.tolist() == [4, 4]


def test_without_anonymous_memory_an_unlinked_file_serves(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    memory = open_memory()
    try:
        assert list(tmp_path.iterdir()) == []
        assert os.readlink(f"/proc/self/fd/{memory}").startswith(str(tmp_path))
        NumpyArrays(2, memory).count[:] = 3
        assert NumpyArrays(2, memory).count.tolist() == [3, 3]
    finally:
        os.close(memory)
