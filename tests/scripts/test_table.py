"""What table.py prints."""

import pytest

from scripts import archive, table
from tests.mtrl_fair.results.written_runs import cells, make_run, make_zip


@pytest.fixture
def printed(capsys):
    """Runs the command, and returns the header and the lines below the rule."""

    def run(*words: str) -> list[list[str]]:
        table.main(list(words))
        header, _, *lines = capsys.readouterr().out.splitlines()
        return [cells(line) for line in (header, *lines)]

    return run


def test_a_summary_counts_what_all_runs_have(tmp_path, printed):
    run = make_run(tmp_path, "run")
    longer = make_run(tmp_path, "longer", combiner="ls", steps=(1000, 2000, 3000, 4000))
    assert [row[2:4] for row in printed(run, longer)[1:]] == [["3,000", "3.0"]] * 2
    (_, found) = printed(run, "--step", "2000", "--labels", "mine")
    assert found == ["mine", "1", "2,000", "2.0", "0.025", "", "0.025"]


def test_every_table_has_its_flags(tmp_path, printed):
    path = make_run(tmp_path, "run")
    _, found = printed(path, "--table", "tasks", "--step", "2000")
    assert found[3:] == ["2,000", "2.0", "0.02", "0.03", "0.025"]
    assert printed(path, "--table", "curves", "--until", "2000")[0][1:] == [
        "seed",
        "1,000",
        "2,000",
    ]
    _, found = printed(path, "--table", "levels", "--level", "0.02")
    assert found == ["fairgrad", "1", "1", "2,000", "2.0"]
    _, found = printed(path, "--table", "task-levels", "--level", "0.03")
    assert found == ["fairgrad", "0", "3,000", "2,000"]
    # 10 residuals until 1200: the sixth is 800.
    _, found = printed(path, "--table", "residuals", "--step", "1200", "--labels", "mine")
    assert found[:3] == ["mine", "0", "0.0008"]


def test_a_table_without_a_level_waits_for_95_percent(tmp_path, printed):
    header, found = printed(make_run(tmp_path, "run", steps=(94000, 94500)), "--table", "levels")
    assert header[3] == "steps to 0.95"
    assert found[3] == "94,500"


def test_runs_of_a_zip_file_stand_in_a_table(tmp_path, printed):
    paths = [make_run(tmp_path, name, combiner=name) for name in ("ls", "fairgrad")]
    packed = make_zip(tmp_path / "runs.zip", *paths)
    assert printed(packed) == printed(paths[1], paths[0])
    assert printed(f"{packed}/ls") == printed(paths[0])


def test_residuals_that_were_not_kept_are_no_blank(tmp_path, capsys):
    path = make_run(tmp_path, "run")
    archive.main([path, "--output", str(tmp_path / "kept"), "--lines", "0"])
    for words, message in (
        ([str(tmp_path / "kept" / "run")], "has no fairness/residual/critic, which fairgrad logs"),
        (
            [path, "--step", "299"],
            f"{path} has no residual up to step 299, its first one is of step 300",
        ),
        ([make_run(tmp_path, "other", combiner="ls")], "no run has residuals"),
    ):
        with pytest.raises(SystemExit):
            table.main([*words, "--table", "residuals"])
        assert message in capsys.readouterr().err


def test_a_table_of_tasks_offers_steps_that_all_runs_have(tmp_path, capsys):
    runs = [make_run(tmp_path, "one"), make_run(tmp_path, "two", combiner="ls", steps=(500, 2000))]
    with pytest.raises(SystemExit):
        table.main([*runs, "--table", "tasks", "--step", "500"])
    expected = "step 500 is not one at which all runs were evaluated: choose from 2000"
    assert expected in capsys.readouterr().err
