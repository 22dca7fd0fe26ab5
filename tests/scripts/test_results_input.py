"""What tables, figures and archives say of runs that do not fit."""

import json
from pathlib import Path

import pytest

from scripts import archive, plot, table
from tests.mtrl_fair.results.written_runs import make_run


def test_notes_say_where_a_comparison_is_not_a_fair_one(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda *arguments, **options: None)
    plain = make_run(tmp_path, "plain")
    stopped = make_run(tmp_path, "stopped", seed=1, stop_at_success=0.9)
    often = make_run(tmp_path, "often", seed=2, eval_every=500)
    other = make_run(tmp_path, "other", seed=3)
    metadata = json.loads((tmp_path / "other" / "metadata.json").read_text())
    (tmp_path / "other" / "metadata.json").write_text(json.dumps(metadata | {"commit": "0" * 40}))
    figure = ["--output", str(tmp_path / "figure.png")]
    for script, words, note in [
        (table, [stopped], "stopped ran with stop_at_success"),
        (table, [stopped, "--table", "tasks"], "stopped ran with stop_at_success"),
        (table, [stopped, "--table", "curves"], "stopped ran with stop_at_success"),
        (plot, [stopped, *figure], "stopped ran with stop_at_success"),
        (table, [plain, often], ""),  # of one group, read where all were evaluated
        (table, [plain, often, "--labels", "a", "b"], "evaluated every 500, 10000 steps"),
        (table, [plain, often, "--table", "levels"], "evaluated every 500, 10000 steps"),
        (table, [plain, often, "--table", "task-levels"], "evaluated every 500, 10000 steps"),
        (plot, [plain, often, "--figure", "levels", *figure], "evaluated every 500, 10000 steps"),
        (table, [plain, stopped, "--table", "levels"], ""),
        (plot, [plain, stopped, "--figure", "levels", *figure], ""),
        (table, [plain, other], "the runs of fairgrad are of commits 0000000, "),
        (plot, [plain, other, *figure], "the runs of fairgrad are of commits 0000000, "),
    ]:
        script.main(words)
        errors = capsys.readouterr().err
        assert note in errors
        assert errors.count("note: ") == bool(note)


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        (plot, [], "no runs: give at least one run directory, before flags"),
        (table, [], "no runs"),
        (archive, ["--output", "x"], "no runs"),
        (plot, ["nowhere"], "there is no run at nowhere"),
        (table, ["nowhere"], "there is no run at nowhere"),
        (archive, ["nowhere", "--output", "x"], "there is no run at nowhere"),
        (plot, ["RUN", "--output", "no/such/x.png"], "there is no folder no/such"),
        (plot, ["RUN", "--output", "x.foo"], "unknown ending of --output x.foo 'foo'"),
        (plot, ["RUN", "--output"], "--output names no file"),
        (plot, ["--output", "RUN"], "no runs: give at least one run directory, before flags"),
        (plot, ["RUN", "--labels", " "], "a label is empty"),
        (table, ["RUN", "--labels", ""], "a label is empty"),
        (plot, ["RUN", "--figure", "runs", "--labels", "a", "b"], "2 labels were given for 1 runs"),
        (plot, ["RUN", "RUN/../run", "--figure", "runs"], "RUN was given 2 times: leave 1 out"),
        (table, ["RUN", "--step", "7"], "step 7 is not one at which all runs were evaluated"),
        (table, ["RUN", "--table", "levels", "--level", "0"], "the level is 0"),
        (table, ["RUN", "--level", "0.9"], "--level is 0.9, but --table summary has no use for it"),
        (table, ["RUN", "--table", "curves", "--step", "1"], "choose --table summary or tasks"),
        (table, ["RUN", "--until", "2000"], "--table summary has no use for it: choose --table cu"),
        (table, ["RUN", "--table", "curves", "--until", "999"], "no evaluation up to step 999,"),
        (plot, ["RUN", "--level", "0.9"], "--level is 0.9, but --figure success has no use"),
        (plot, ["RUN", "--figure", "levels", "--level", "95"], "the level is 95"),
        (plot, ["RUN", "--figure", "levels", "--until", "2000"], "levels has no use for it"),
        (plot, ["RUN", "--figure", "weights", "--until", "2000"], "weights has no use for it"),
        (
            plot,
            ["RUN", "--until", "999"],
            "there is no evaluation up to step 999, because the first",
        ),
        (archive, ["RUN", "--output", "RUN/.."], "would be a copy of itself"),
        (
            archive,
            ["RUN", "--output", "x", "--metrics", "fairness/residual"],
            "are always copied",
        ),
        (
            archive,
            ["RUN", "--output", "x", "--metrics", "fairness/weight"],
            "are always copied",
        ),
        (
            archive,
            ["RUN", "--output", "x", "--metrics", "charts/seconds"],
            "are always copied",
        ),
        (archive, ["RUN", "RUN", "--output", "x"], "RUN was given 2 times"),
        (
            table,
            ["RUN", "--table", "residuals", "--step", "3001"],
            "the step is 3001, but RUN ends at step 3000: choose an earlier one",
        ),
        (archive, ["RUN", "--output", "x", "--lines", "-1"], "--lines is -1"),
        (archive, ["RUN", "--output", "x", "--lines", "0", "--metrics", "q/"], "drop one of them"),
        (
            archive,
            ["RUN", "--output", "x", "--metrics", "losses", "qq/"],
            "qq/: no metric of RUN begins so; it has those of charts/, fairness/, losses/",
        ),
        (archive, ["RUN", "--output", "RUN/config.json"], "is a file or in one"),
    ],
)
def test_bad_input_exits_with_2(script, words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = make_run(tmp_path, "run")
    with pytest.raises(SystemExit) as stopped:
        script.main([word.replace("RUN", path) for word in words])
    assert stopped.value.code == 2
    assert message.replace("RUN", path) in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def error_of(script, words, capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        script.main(words)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_weight_figure_is_of_one_run(tmp_path, capsys):
    runs = [make_run(tmp_path, name) for name in "ab"]
    error = error_of(plot, [*runs, "--figure", "weights"], capsys)
    assert "shows one run, but 2 were given" in error


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("config.json", lambda text: "{", "config.json cannot be read (Expecting property name"),
        ("metadata.json", lambda text: "[]", "metadata.json cannot be read (it is not a JSON"),
        ("metrics.jsonl", lambda text: text + "{\n", "line 34 of FOLDER/metrics.jsonl cannot be"),
        ("metrics.jsonl", lambda text: "1\n" + text, "line 1 of FOLDER/metrics.jsonl cannot be"),
        ("evaluations.csv", lambda text: text + "7,a\n", "line 8 of FOLDER/evaluations.csv has 2"),
        ("evaluations.csv", lambda text: text.replace("0.01", "zz"), "could not convert string"),
        ("evaluations.csv", lambda text: text.replace("1000", "1k"), "evaluations.csv is damaged"),
        ("evaluations.csv", lambda text: text.replace(",0.01,", ",1.01,"), "success 1.01 at step"),
        (
            "evaluations.csv",
            lambda text: text.replace(",0.01,", ",nan,"),
            "success nan at step 1000",
        ),
    ],
)
def test_damaged_files_are_named(name, damage, message, tmp_path, capsys):
    folder = Path(make_run(tmp_path, "run"))
    (folder / name).write_text(damage((folder / name).read_text()))
    error = error_of(table, [str(folder), "--table", "tasks"], capsys)
    assert message.replace("FOLDER", str(folder)) in error
    assert str(folder / name) in error
    assert "restore it" in error


def test_what_cannot_be_written_is_one_line(tmp_path, capsys, monkeypatch):
    def full(path, *arguments, **options):
        raise OSError(28, "No space left on device")

    run = make_run(tmp_path, "run")
    monkeypatch.setattr(Path, "mkdir", full)
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    for script, name in [(plot, "figure.png"), (archive, "kept")]:
        error = error_of(script, [run, "--output", str(tmp_path / name)], capsys)
        assert f"{tmp_path / name}" in error
        assert "cannot be written (No space left on device): choose another place" in error


def test_an_archive_replaces_copies_of_the_same_run_only(tmp_path, capsys):
    run = make_run(tmp_path, "run")
    kept = tmp_path / "kept"
    archive.main([run, "--output", str(kept)])
    metadata = kept / "run" / "metadata.json"
    archive.main([run, "--output", str(kept)])
    copied = json.loads(metadata.read_text())
    metadata.write_text(json.dumps(copied | {"resumed": [{"step": 5}]}))
    archive.main([run, "--output", str(kept)])  # of the run before it was resumed
    (kept / "run" / "config.json").unlink()
    archive.main([run, "--output", str(kept)])  # of which something is missing
    for change in (
        lambda: metadata.write_text(json.dumps(copied | {"started": "another day"})),
        metadata.unlink,
    ):
        change()
        before = {path: path.read_bytes() for path in (kept / "run").iterdir()}
        assert f"{kept / 'run'} is there and no copy of {run}" in error_of(
            archive, [run, "--output", str(kept)], capsys
        )
        assert before == {path: path.read_bytes() for path in (kept / "run").iterdir()}
