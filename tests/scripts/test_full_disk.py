"""Commands whose results find no space: one line, the old file as it was, nothing left behind."""

import pytest

from mtrl_fair.errors import WriteError
from scripts import plot, supervised, toy
from scripts.benchmarks.measure import Report, replace_section
from tests.full_disk import fill_disk
from tests.mtrl_fair.results.written_runs import make_run
from tests.scripts.commands import run_here


@pytest.mark.slow
@pytest.mark.parametrize(
    ("main", "words", "name"),
    [
        (plot.main, ["RUN", "--output", "OUT/figure.png"], "figure.png"),
        (plot.main, ["RUN", "--output", "OUT/figure.svg"], "figure.svg"),
        (toy.main, ["--steps", "9", "--output", "OUT"], "toy_loss_space.png"),
    ],
)
def test_a_full_disk_is_one_line_and_keeps_the_old_file(tmp_path, main, words, name):
    output = tmp_path / "output"
    output.mkdir()
    (output / name).write_text("old")
    fill_disk(output / name)
    words = [word.replace("OUT", str(output)) for word in words]
    words = [make_run(tmp_path, "run") if word == "RUN" else word for word in words]
    code, _, errors = run_here(main, *words)
    assert code == 2
    assert f"{name} cannot be written (No space left on device): free some space" in errors
    assert "Traceback" not in errors
    assert (output / name).read_text() == "old"
    assert [path.name for path in output.iterdir()] == [name]


def test_benchmarks_keep_the_old_file_on_a_full_disk(tmp_path):
    document = "<!-- x -->\n\nold\n\n<!-- end x -->\n"
    for path in (tmp_path / "bench.json", tmp_path / "page.md"):
        path.write_text(document)
        fill_disk(path)
    with pytest.raises(WriteError, match="bench.json cannot be written .No space left on device"):
        Report([], {}).write_json(tmp_path / "bench.json")
    with pytest.raises(WriteError, match="page.md cannot be written .No space left on device"):
        replace_section(tmp_path / "page.md", "x", "new")
    assert (tmp_path / "page.md").read_text() == document


@pytest.mark.slow
def test_a_comparison_that_finds_no_space_is_written_by_a_resume(tmp_path):
    folder = tmp_path / "run"
    words = ["toy", "--epochs", "1", "--batch-size", "100", "--combiner", "ls", "--jobs", "1"]
    assert run_here(supervised.main, *words, "--run-dir", str(folder)).code == 0
    for ending in ("md", "csv", "png"):
        path = folder / f"comparison.{ending}"
        before = path.read_bytes()
        path.write_text("old")
        fill_disk(path)
        code, _, errors = run_here(supervised.main, "--resume", str(folder))
        assert code == 1
        assert f"comparison.{ending} cannot be written (No space left on device)" in errors
        assert f"--resume {folder} writes it again" in errors
        assert path.read_text() == "old"
        assert run_here(supervised.main, "--resume", str(folder)).code == 0
        assert path.read_bytes() == before
