"""Tables and figures of comparisons, for few metrics and for many."""

import csv
import io

import matplotlib.pyplot as plt
import pytest
from rich.console import Console

from mtrl_fair.supervised.benchmark import metric_directions, metric_labels
from mtrl_fair.supervised.comparison import compare
from mtrl_fair.supervised.figures import draw_comparison, panels_of
from mtrl_fair.supervised.registry import benchmark_class
from mtrl_fair.supervised.tables import console_table, headings, write_csv, write_markdown


def comparison_of(name):
    """Two methods, two seeds; every metric is 1 for the baseline."""
    tasks = benchmark_class(name).tasks
    directions = metric_directions(tasks)
    values = {
        method: [dict.fromkeys(directions, base + seed / 10) for seed in (0, 2)]
        for method, base in (("one", 0.8), ("two", 1.2))
    }
    return compare(
        values, directions, [dict.fromkeys(directions, 1.0)], labels=metric_labels(tasks)
    )


def test_units_and_directions_are_in_the_headings():
    shown = headings(comparison_of("qm9"))
    assert shown[0] == "mu/MAE (D) ↓"
    assert "U0/MAE (meV) ↓" in shown
    assert shown[-2:] == ["MR ↓", "Δm% ↓"]
    assert headings(comparison_of("nyuv2"))[0] == "segmentation/mIoU ↑"


def test_many_metrics_of_one_kind_become_their_mean(tmp_path):
    comparison = comparison_of("celeba")
    assert headings(comparison) == ["mean F1 ↑", "MR ↓", "Δm% ↓"]
    write_markdown(tmp_path / "table.md", comparison, "celeba")
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "| one | 0.9000 ± 0.1000 | 2.00 | 10.00 ± 10.00 |" in text
    write_csv(tmp_path / "table.csv", comparison)
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[1]["Young/F1"]) == pytest.approx(0.9)
    assert [float(x) for x in rows[1]["delta m percent of each seed"].split()] == pytest.approx(
        [20, 0]
    )
    assert len(rows[0]) == 2 + 2 * 40 + 4


def test_numbers_are_not_cut_off_where_the_terminal_is_narrow():
    comparison = comparison_of("nyuv2")
    narrow = io.StringIO()
    Console(file=narrow, width=80).print(console_table(comparison, "nyuv2"))
    assert "…" not in narrow.getvalue().replace("…,", "")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "panels"), [("nyuv2", 10), ("qm9", 12), ("celeba", 2)])
def test_the_figure_shows_every_metric_or_their_mean(name, panels, tmp_path):
    comparison = comparison_of(name)
    found = panels_of(comparison, list(comparison.rows))
    assert len(found) == panels
    assert found[0].means == [row.delta for row in comparison.rows]
    assert all(panel.baseline == 1 for panel in found[1:])
    draw_comparison(tmp_path / "figure.png", comparison, name)
    height, width, _ = plt.imread(tmp_path / "figure.png").shape
    assert width > height / 2
