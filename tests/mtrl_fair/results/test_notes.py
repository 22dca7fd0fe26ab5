"""Notes on runs that do not quite compare."""

import json

from mtrl_fair.results.groups import group_runs
from mtrl_fair.results.notes import mixed_commits, stopped_at_success, unequal_intervals
from tests.mtrl_fair.results.written_runs import make_run, read, read_all


def change_metadata(folder, **changes):
    path = folder / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_note_names_the_commits_that_are_mixed(tmp_path):
    paths = [make_run(tmp_path, name, seed=i) for i, name in enumerate("ab")]
    assert mixed_commits(group_runs(read_all(paths))) == []
    change_metadata(tmp_path / "b", commit="0123456789")
    expected = ["the runs of fairgrad are of commits 0123456, c0ffee1"]
    assert mixed_commits(group_runs(read_all(paths))) == expected
    assert mixed_commits(group_runs(read_all(paths), ["a", "b"])) == []


def test_a_run_has_the_commits_that_it_was_resumed_with(tmp_path):
    path = make_run(tmp_path, "run")
    resumed = [{"step": 1, "commit": commit} for commit in ("a" * 40, None, "a" * 40, "b" * 40)]
    change_metadata(tmp_path / "run", commit="b" * 40, resumed=resumed)
    assert read(path).commits == ("bbbbbbb", "aaaaaaa", "unknown")
    (note,) = mixed_commits(group_runs(read_all([path])))
    assert note == "the runs of fairgrad are of commits aaaaaaa, bbbbbbb, unknown"


def test_a_note_names_runs_that_could_stop_at_their_success(tmp_path):
    paths = [make_run(tmp_path, "a"), make_run(tmp_path, "b", stop_at_success=0.9)]
    assert stopped_at_success(read_all(paths[:1])) == []
    (note,) = stopped_at_success(read_all(paths))
    assert note.startswith(f"{paths[1]} ran with stop_at_success")


def test_a_note_names_unequal_intervals(tmp_path):
    paths = [make_run(tmp_path, "a"), make_run(tmp_path, "b", eval_every=500)]
    assert unequal_intervals(read_all(paths[:1])) == []
    (note,) = unequal_intervals(read_all(paths))
    assert note.startswith("the runs were evaluated every 500, 10000 steps")
