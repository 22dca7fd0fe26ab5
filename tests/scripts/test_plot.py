"""What plot.py draws and writes, of runs whose numbers say which they are."""

import pytest

from scripts import plot
from scripts.comparing.training_runs import read_training_runs
from tests.mtrl_fair.results.written_runs import make_run


def test_figures_are_written_in_every_format_asked_for(tmp_path, capsys):
    outputs = [tmp_path / "figure.png", tmp_path / "figure.svg"]
    words = [make_run(tmp_path, "run"), "--output", *map(str, outputs)]
    plot.main(words)
    first = [path.read_bytes() for path in outputs]
    assert first[0].startswith(b"\x89PNG")
    assert b"<svg" in first[1]
    assert capsys.readouterr().out.count("written to") == 2
    plot.main(words)
    assert [path.read_bytes() for path in outputs] == first


@pytest.mark.slow
@pytest.mark.parametrize(
    ("figure", "text"),
    [
        ("tasks", "reach-v3"),
        ("runs", "mean"),
        ("levels", "first evaluation with a mean success"),
        ("weights", "gradient norm"),
    ],
)
def test_every_figure_is_written(tmp_path, figure, text, monkeypatch):
    monkeypatch.setitem(plot.plt.rcParams, "svg.fonttype", "none")  # text stays text
    output = tmp_path / "figure.svg"
    plot.main([make_run(tmp_path, "run"), "--figure", figure, "--output", str(output)])
    assert text in output.read_text()


def test_a_figure_leaves_out_what_comes_after_a_step(tmp_path):
    longer = make_run(tmp_path, "longer", steps=(1000, 2000, 9000))
    runs = read_training_runs(
        [longer, make_run(tmp_path, "short", combiner="ls", steps=(1000, 2000))]
    )
    for shown in ("success", "tasks", "runs"):
        arguments = plot.Arguments((), figure=shown, until=2000)
        for axis in plot.draw(arguments, runs)[0].axes:
            assert {tuple(line.get_xdata()) for line in axis.lines} == {(1, 2)}
            assert axis.get_xlim()[1] < 3


def test_a_run_figure_names_the_folder_that_the_user_is_in(tmp_path, monkeypatch):
    monkeypatch.chdir(make_run(tmp_path, "here"))
    figure, _ = plot.draw(plot.Arguments((), figure="runs"), read_training_runs(["."]))
    assert figure.axes[0].get_title() == "here"
