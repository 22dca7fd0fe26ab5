"""Tables of results, against numbers worked out by hand."""

import math

import pytest

from mtrl_fair.supervised.comparison import compare

HIGHER = {"a/accuracy": True, "b/error": False}


def result(accuracy, error):
    return {"b/error": error, "a/accuracy": accuracy, "other": 3.0}  # in any order, and more


def test_means_errors_ranks_and_delta_by_hand():
    table = compare(
        {"x": [result(0.9, 2.0), result(0.7, 4.0)], "y": [result(0.45, 1.0), result(0.95, 3.0)]},
        HIGHER,
        [result(0.7, 2.0), result(0.9, 2.0)],
    )
    x, y = table.rows
    assert list(x.means) == list(HIGHER)
    assert x.means == {"a/accuracy": pytest.approx(0.8), "b/error": 3.0}
    assert x.errors == {"a/accuracy": pytest.approx(0.1), "b/error": 1.0}
    assert (x.rank, y.rank) == (1.5, 1.5)
    # Baseline 0.8 and 2.0: x has -12.5 and 0, then +12.5 and +100, in percent, halved.
    assert x.delta_seeds == pytest.approx((-6.25, 56.25))
    assert x.delta == pytest.approx(25)
    assert x.delta_error == pytest.approx(31.25)
    assert table.single_task.means == {"a/accuracy": pytest.approx(0.8), "b/error": 2.0}
    assert math.isnan(table.single_task.delta)  # it is the baseline
    assert math.isnan(table.single_task.rank)


def test_single_task_training_takes_no_part_in_ranks():
    best = [result(1.0, 0.1)]
    table = compare({"x": [result(0.5, 1.0)], "y": [result(0.4, 2.0)]}, HIGHER, best)
    assert [row.rank for row in table.rows] == [1, 2]


def test_one_seed_has_no_error_and_no_baseline_no_delta():
    (row,) = compare({"x": [result(0.5, 1.0)]}, HIGHER).rows
    assert row.seeds == 1
    assert all(math.isnan(error) for error in row.errors.values())
    assert math.isnan(row.delta)
    assert math.isnan(row.delta_error)
    with_base = compare({"x": [result(0.5, 1.0)]}, HIGHER, [result(1.0, 1.0)])
    assert with_base.rows[0].delta == 25
    assert math.isnan(with_base.rows[0].delta_error)


def test_methods_may_have_different_numbers_of_seeds():
    table = compare({"x": [result(0.5, 1.0)] * 3, "y": [result(0.4, 2.0)]}, HIGHER)
    assert [row.seeds for row in table.rows] == [3, 1]


def test_no_results_yet():
    assert compare({}, HIGHER).rows == ()


def test_a_result_without_a_metric_is_refused():
    with pytest.raises(ValueError, match=r"result 1 of x lacks b/error"):
        compare({"x": [result(1, 1), {"a/accuracy": 1.0}]}, HIGHER)


def test_what_cannot_be_compared_is_left_out_and_said():
    broken = [result(0.5, 1.0), result(float("nan"), 1.0)]
    table = compare({"x": broken, "y": [result(0.5, 1.0)]}, HIGHER, [result(0.5, 1.0)])
    assert [row.method for row in table.rows] == ["y"]
    assert table.notes == ("x is left out: its a/accuracy is not finite",)
    table = compare({"y": [result(0.5, 1.0)]}, HIGHER, [result(0.0, 1.0)])
    assert table.notes == ("there is no Δm%: single-task training has no positive a/accuracy",)
    assert table.single_task is None
    assert math.isnan(table.rows[0].delta)
    assert table.rows[0].rank == 1


def test_the_mean_over_metrics_has_its_error_over_seeds():
    (row,) = compare({"x": [result(0.9, 2.0), result(0.7, 4.0)]}, HIGHER).rows
    assert row.overall == pytest.approx((0.9 + 2 + 0.7 + 4) / 4)
    assert row.overall_error == pytest.approx((4.7 - 2.9) / 4)
