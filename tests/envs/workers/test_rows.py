"""The rows of one process: phase by phase, the active ones only, and what is under way."""

import os

import numpy as np
import pytest

from envs.workers.memory import open_memory
from envs.workers.rows import Rows
from tests.envs.workers.numpy_row import DOUBLE, STEP, NumpyArrays, NumpySpec


@pytest.fixture
def arrays():
    memory = open_memory()
    arrays = NumpyArrays(3, memory)
    os.close(memory)
    arrays.active[:] = True
    return arrays


def make(arrays, **faults) -> Rows:
    rows = Rows()
    specs = [NumpySpec(row, name, faults.get(name, ("", ""))) for row, name in enumerate("abc")]
    rows.make(specs, arrays)
    return rows


def test_a_phase_is_finished_in_all_rows_before_the_next_one_begins(arrays):
    rows = make(arrays)
    for step in (1, 2):
        rows.execute(STEP)
        assert arrays.count.tolist() == [step] * 3
        assert (
            arrays.total.tolist() == [3 * step] * 3
        )  # the first row has seen the last one's count


def test_only_active_rows_carry_a_command_out(arrays):
    rows = make(arrays)
    arrays.active[1] = False
    rows.execute(STEP)
    rows.execute(DOUBLE)
    assert arrays.count.tolist() == [2, 0, 2]
    arrays.active[:] = False
    rows.execute(STEP)
    assert arrays.count.tolist() == [2, 0, 2]


def test_the_current_task_names_phase_and_row(arrays):
    rows = make(arrays, b=("doubling", "value"))
    rows.execute(STEP)
    assert rows.current_task == "adding c"
    with pytest.raises(ValueError, match="the row is broken"):
        rows.execute(DOUBLE)
    assert rows.current_task == "doubling b"
    assert arrays.count.tolist() == [2, 1, 1]


def test_a_process_without_rows_does_nothing(arrays):
    rows = Rows()
    rows.make([], arrays)
    rows.execute(STEP)
    assert not np.any(arrays.count)
