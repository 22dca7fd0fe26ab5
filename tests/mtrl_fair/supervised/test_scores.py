"""Δm% against the paper's tables, mean rank on cases made by hand."""

import numpy as np
import pytest

from mtrl_fair.supervised import delta_m, mean_rank

# Each table: the single-task row, which directions are better when higher, the rows, and Δm% as
# printed. Numbers stand as they are printed, because their decimals give the rounding.
NYUV2_BASE = "38.30 63.76 0.6754 0.2780 25.01 19.21 30.14 57.20 69.15"
NYUV2 = """
LS        39.29 65.33 0.5493 0.2263 28.15 23.96 22.09 47.50 61.08  5.59
SI        38.45 64.27 0.5354 0.2201 27.60 23.37 22.53 48.57 62.32  4.39
RLW       37.17 63.77 0.5759 0.2410 28.27 24.18 22.26 47.05 60.62  7.78
DWA       39.11 65.31 0.5510 0.2285 27.61 23.18 24.17 50.18 62.39  3.57
UW        36.87 63.17 0.5446 0.2260 27.04 22.61 23.54 49.05 63.65  4.05
MGDA      30.47 59.90 0.6070 0.2555 24.88 19.45 29.18 56.88 69.36  1.38
PCGRAD    38.06 64.64 0.5550 0.2325 27.41 22.80 23.86 49.83 63.14  3.97
GRADDROP  39.39 65.12 0.5455 0.2279 27.48 22.96 23.38 49.44 62.87  3.58
CAGRAD    39.79 65.49 0.5486 0.2250 26.31 21.58 25.61 52.36 65.58  0.20
IMTL-G    39.35 65.60 0.5426 0.2256 26.02 21.19 26.20 53.13 66.24 -0.76
MOCO      40.30 66.07 0.5575 0.2135 26.67 21.83 25.61 51.78 64.85  0.16
NASH-MTL  40.13 65.93 0.5261 0.2171 25.26 20.08 28.40 55.47 68.15 -4.04
FAMO      38.88 64.90 0.5474 0.2194 25.06 19.57 29.21 56.61 68.98 -4.10
FAIRGRAD  39.74 66.01 0.5377 0.2236 24.84 19.60 29.26 56.58 69.16 -4.66
"""
CITYSCAPES_BASE = "74.01 93.16 0.0125 27.77"
CITYSCAPES = """
LS        75.18 93.49 0.0155 46.77 22.60
SI        70.95 91.73 0.0161 33.83 14.11
RLW       74.57 93.41 0.0158 47.79 24.38
DWA       75.24 93.52 0.0160 44.37 21.45
UW        72.02 92.85 0.0140 30.13  5.89
MGDA      68.84 91.54 0.0309 33.50 44.14
PCGRAD    75.13 93.48 0.0154 42.07 18.29
GRADDROP  75.27 93.53 0.0157 47.54 23.73
CAGRAD    75.16 93.48 0.0141 37.60 11.64
IMTL-G    75.33 93.49 0.0135 38.41 11.10
MOCO      75.42 93.55 0.0149 34.19  9.90
NASH-MTL  75.41 93.66 0.0129 35.02  6.82
FAMO      74.54 93.29 0.0145 32.59  8.13
FAIRGRAD  75.72 93.68 0.0134 32.25  5.18
"""
# Cut off, not rounded (0.5027 stands as 0.502): a baseline may be off by a unit of its last digit.
QM9_BASE = "0.067 0.181 60.57 53.91 0.502 4.53 58.8 64.2 63.8 66.2 0.072"
QM9 = """
LS       0.106 0.325 73.57 89.67 5.19 14.06 143.4 144.2 144.6 140.3 0.128 177.6
SI       0.309 0.345 149.8 135.7 1.00 4.50 55.3 55.75 55.82 55.27 0.112 77.8
RLW      0.113 0.340 76.95 92.76 5.86 15.46 156.3 157.1 157.6 153.0 0.137 203.8
DWA      0.107 0.325 74.06 90.61 5.09 13.99 142.3 143.0 143.4 139.3 0.125 175.3
UW       0.386 0.425 166.2 155.8 1.06 4.99 66.4 66.78 66.80 66.24 0.122 108.0
MGDA     0.217 0.368 126.8 104.6 3.22 5.69 88.37 89.4 89.32 88.01 0.120 120.5
PCGRAD   0.106 0.293 75.85 88.33 3.94 9.15 116.36 116.8 117.2 114.5 0.110 125.7
CAGRAD   0.118 0.321 83.51 94.81 3.21 6.93 113.99 114.3 114.5 112.3 0.116 112.8
IMTL-G   0.136 0.287 98.31 93.96 1.75 5.69 101.4 102.4 102.0 100.1 0.096 77.2
NASH-MTL 0.102 0.248 82.95 81.89 2.42 5.38 74.5 75.02 75.10 74.16 0.093 62.0
FAMO     0.15 0.30 94.0 95.2 1.63 4.95 70.82 71.2 71.2 70.3 0.10 58.5
FAIRGRAD 0.117 0.253 87.57 84.00 2.15 5.07 70.89 71.17 71.21 70.88 0.095 57.9
"""
TABLES = {
    "nyuv2": (NYUV2_BASE, [1, 1, 0, 0, 0, 0, 1, 1, 1], NYUV2),
    "cityscapes": (CITYSCAPES_BASE, [1, 1, 0, 0], CITYSCAPES),
    "qm9": (QM9_BASE, [0] * 11, QM9),
}
CASES = [
    (table, *line.split(None, 1))
    for table, (_, _, rows) in TABLES.items()
    for line in rows.strip().splitlines()
]


def numbers(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Values, and by how much rounding may have changed each."""
    words = text.split()
    decimals = [len(word.partition(".")[2]) for word in words]
    return np.array(words, float), 0.5 * 10.0 ** -np.array(decimals)


def delta_and_rounding(table: str, row: str) -> tuple[float, float, float]:
    """Δm% of a printed row, as printed, and how far rounding may have moved the two apart."""
    base, higher, _ = TABLES[table]
    (baseline, base_rounding), (values, roundings) = numbers(base), numbers(row)
    metrics, printed = values[:-1], values[-1]
    slack = roundings[:-1] / baseline + metrics * 2 * base_rounding / baseline**2
    return delta_m(metrics, baseline, higher), printed, 100 * slack.mean() + roundings[-1]


@pytest.mark.parametrize(("table", "method", "row"), CASES)
def test_delta_m_follows_from_the_paper_s_rows(table, method, row):
    found, printed, rounding = delta_and_rounding(table, row)
    if (table, method) == ("nyuv2", "IMTL-G"):  # the paper's own numbers do not fit together
        assert found == pytest.approx(-0.60, abs=0.005)
        assert abs(found - printed) > rounding
    else:
        assert abs(found - printed) <= rounding
        assert rounding < 2.5


def test_delta_m_is_a_flat_mean_over_metrics():
    # Twice as good, 10 % better, 10 % worse, equal: (-100 - 10 + 10 + 0) / 4.
    assert delta_m([2, 9, 11, 5], [1, 10, 10, 5], [1, 0, 0, 1]) == pytest.approx(-25)
    assert delta_m([3.0], [3.0], [True]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], [1], [1, 1]), "three lists of one length"),
        (([], [], []), "three lists of one length"),
        (([1.0], [0.0], [1]), "baseline of metric 0 is 0.0"),
        (([1.0, 1.0], [1.0, -2.0], [1, 1]), "baseline of metric 1 is -2.0"),
        (([1.0, np.nan], [1.0, 1.0], [1, 1]), "metric 1 is nan"),
        (([1.0], [np.inf], [1]), "baseline of metric 0 is inf"),
        (([1.0], [1.0], [-1]), r"higher_is_better is \[-1\]"),
    ],
)
def test_delta_m_refuses_what_has_no_meaning(arguments, message):
    with pytest.raises(ValueError, match=message):
        delta_m(*arguments)


def test_mean_rank_by_hand():
    # Accuracy: b best; error: a best. A third method is last in both.
    table = [[0.8, 0.1], [0.9, 0.2], [0.7, 0.3]]
    assert mean_rank(table, [True, False]).tolist() == [1.5, 1.5, 3]
    assert mean_rank(table, [False, True]).tolist() == [2.5, 2.5, 1]


def test_equal_methods_share_their_ranks():
    table = [[1.0, 5], [2.0, 5], [2.0, 5], [3.0, 4]]
    assert mean_rank(table, [False, False]).tolist() == [(1 + 3) / 2, 2.75, 2.75, 2.5]
    assert mean_rank([[7.0, 7.0]], [True, False]).tolist() == [1]


def test_ranks_do_not_depend_on_units_and_move_with_the_methods():
    table = np.random.default_rng(0).normal(size=(6, 5))
    higher = [1, 0, 1, 0, 0]
    ranks = mean_rank(table, higher)
    assert ranks.mean() == pytest.approx(3.5)
    np.testing.assert_allclose(mean_rank(np.exp(3 * table), higher), ranks)
    order = [3, 0, 5, 1, 4, 2]
    np.testing.assert_allclose(mean_rank(table[order], higher), ranks[order])


@pytest.mark.parametrize(
    ("table", "higher", "message"),
    [
        ([1.0, 2.0], [1, 1], "must be"),
        ([[1.0, 2.0]], [1], "must be"),
        ([[1.0, 2.0], [1.0, np.nan]], [1, 1], "metric 1 of method 1 is nan"),
        ([[1.0]], ["up"], "higher_is_better"),
    ],
)
def test_mean_rank_refuses_what_has_no_meaning(table, higher, message):
    with pytest.raises(ValueError, match=message):
        mean_rank(table, higher)
