"""Checks of numbers that users pass: what they refuse, and how they say it."""

import math

import pytest

import mtrl_fair.errors
from mtrl_fair.checks import check_at_least, check_integer, check_positive


@pytest.mark.parametrize("value", [None, 1, 1.0, 2, math.inf])
def test_numbers_from_the_least_on_and_none_pass(value):
    check_at_least("--threads", value, 1)
    check_positive("--rate", value)


@pytest.mark.parametrize("value", [0.999, 0, -1, -math.inf, math.nan])
def test_numbers_below_the_least_are_refused(value):
    with pytest.raises(ValueError, match=f"--threads is {value}, expected at least 1"):
        check_at_least("--threads", value, 1)


@pytest.mark.parametrize("value", [0, 0.0, -1e-9, math.nan])
def test_numbers_that_are_not_positive_are_refused(value):
    with pytest.raises(ValueError, match=f"--rate is {value}, expected a positive number"):
        check_positive("--rate", value)
    check_positive("--rate", 1e-9)


@pytest.mark.parametrize("value", [0, -3, 2.0, "2"])
def test_what_is_no_whole_number_of_at_least_the_least_is_refused(value):
    with pytest.raises(ValueError, match=f"num_tasks is {value!r}, expected a whole number of at"):
        check_integer("num_tasks", value, 1)
    check_integer("num_tasks", 1, 1)
    check_integer("num_tasks", None, 1)


def test_errors_are_the_same_classes_wherever_they_are_imported_from():
    from mtrl_fair.runs import RunError
    from mtrl_fair.supervised.data import DataError

    assert RunError is mtrl_fair.errors.RunError
    assert DataError is mtrl_fair.errors.DataError
    assert mtrl_fair.LossBoundError is mtrl_fair.errors.LossBoundError
    assert mtrl_fair.NonFiniteError is mtrl_fair.errors.NonFiniteError
    assert issubclass(mtrl_fair.LossBoundError, ValueError)
