"""What tables, figures and archives say of runs that do not fit."""

import pytest

from scripts import archive, plot, table
from tests.scripts.written_runs import make_run


def test_notes_say_where_a_comparison_is_not_a_fair_one(tmp_path, capsys):
    plain = make_run(tmp_path, "plain")
    stopped = make_run(tmp_path, "stopped", seed=1, stop_at_success=0.9)
    often = make_run(tmp_path, "often", seed=2, eval_every=500)
    figure = ["--output", str(tmp_path / "figure.png")]
    for script, words, note in [
        (table, [stopped], "stopped ran with --stop-at-success"),
        (table, [stopped, "--table", "tasks"], "stopped ran with --stop-at-success"),
        (table, [stopped, "--table", "curves"], "stopped ran with --stop-at-success"),
        (plot, [stopped, *figure], "stopped ran with --stop-at-success"),
        (table, [plain, often], ""),
        (table, [plain, often, "--table", "levels"], "evaluated every 500, 10000 steps"),
        (table, [plain, often, "--table", "task-levels"], "evaluated every 500, 10000 steps"),
        (plot, [plain, often, "--figure", "levels", *figure], "evaluated every 500, 10000 steps"),
        (table, [plain, stopped, "--table", "levels"], ""),
        (plot, [plain, stopped, "--figure", "levels", *figure], ""),
    ]:
        script.main(words)
        errors = capsys.readouterr().err
        assert note in errors if note else errors == ""


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
        (plot, ["RUN", "--output", "x.foo"], "unknown format 'foo'"),
        (plot, ["RUN", "--figure", "runs", "--labels", "a", "b"], "2 labels were given for 1 runs"),
        (plot, ["RUN", "RUN", "--figure", "weights"], "shows one run, but 2 were given"),
        (table, ["RUN", "--step", "7"], "--step 7 is not one at which all runs were evaluated"),
        (table, ["RUN", "--table", "levels", "--level", "0"], "--level is 0"),
        (table, ["RUN", "--level", "0.9"], "--level is 0.9, but --table summary has no use for it"),
        (table, ["RUN", "--table", "curves", "--step", "1"], "choose --table summary or tasks"),
        (plot, ["RUN", "--level", "0.9"], "--level is 0.9, but --figure success has no use"),
        (plot, ["RUN", "--figure", "levels", "--level", "95"], "--level is 95"),
        (plot, ["RUN", "--figure", "levels", "--until", "2000"], "levels has no use for it"),
        (plot, ["RUN", "--figure", "weights", "--until", "2000"], "weights has no use for it"),
        (
            plot,
            ["RUN", "--until", "999"],
            "there is no evaluation up to step 999, because the first",
        ),
        (archive, ["RUN", "--output", "RUN/.."], "would be a copy of itself"),
        (archive, ["RUN", "--output", "x", "--metrics", "fairness/residual"], "always kept"),
        (archive, ["RUN", "RUN", "--output", "x"], "2 of the runs are named run"),
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
