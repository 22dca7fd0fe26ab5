"""Runs in zip files, which are read and written as folders are."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from mtrl_fair.results.storage import FILES, open_runs, write_zip
from mtrl_fair.results.weights import read_weights
from mtrl_fair.runs import RunError
from tests.mtrl_fair.results.written_runs import KIND, make_run, make_zip, read, read_all


def files_of(folder: str) -> dict[str, bytes]:
    return {name: (Path(folder) / name).read_bytes() for name in FILES}


def test_a_run_in_a_zip_file_reads_as_its_folder_does(tmp_path):
    folder = make_run(tmp_path, "run", seed=2)
    packed = make_zip(tmp_path / "runs.zip", make_run(tmp_path, "another"), folder)
    expected, found = read(folder), read(f"{packed}/run")
    assert found.path == Path(packed) / "run"
    assert found.name == "run"
    assert found.settings == expected.settings
    assert found.commits == expected.commits
    for name in ("steps", "seconds", "success"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))
    weights = read_weights(expected)[1]["critic"]["weight"]
    assert np.array_equal(read_weights(found)[1]["critic"]["weight"], weights)


def test_a_zip_file_stands_for_all_runs_in_it(tmp_path):
    folders = [make_run(tmp_path, name, seed) for seed, name in enumerate("cab")]
    packed = make_zip(tmp_path / "runs.zip", *folders)
    apart = make_run(tmp_path, "apart", 7)
    runs = read_all([apart, packed])
    assert [run.name for run in runs] == ["apart", "a", "b", "c"]
    assert [run.settings["seed"] for run in runs] == [7, 1, 2, 0]
    with pytest.raises(ValueError, match="holds several runs: name one of a, b, c"):
        read(packed)
    assert read(make_zip(tmp_path / "one.zip", apart)).name == "apart"


def test_a_run_is_given_once(tmp_path):
    packed = make_zip(tmp_path / "runs.zip", make_run(tmp_path, "a"), make_run(tmp_path, "b"))
    with pytest.raises(ValueError, match=r"the run .*runs.zip/b was given 2 times: leave 1 out"):
        read_all([packed, f"{tmp_path}/../{tmp_path.name}/runs.zip/b"])


@pytest.mark.parametrize("place", ["c", "ru", "run-a/config.json", "run-a/..x"])
def test_a_wrong_place_in_a_zip_file_is_told_which_runs_there_are(place, tmp_path):
    folders = [make_run(tmp_path, name) for name in ("run-a", "run-b")]
    packed = make_zip(tmp_path / "runs.zip", *folders)
    with pytest.raises(RunError) as caught:
        open_runs(f"{packed}/{place}", KIND)
    assert str(caught.value) == f"there is no run {place} in {packed}: choose from run-a, run-b"


def test_what_is_no_zip_file_of_runs_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"there is no run at .*missing.zip/a"):
        open_runs(tmp_path / "missing.zip" / "a", KIND)
    (tmp_path / "text.zip").write_text("a\n")
    for place in ("text.zip", "text.zip/a"):
        with pytest.raises(RunError, match=r"text.zip cannot be read as a zip file of runs"):
            open_runs(tmp_path / place, KIND)
    make_zip(tmp_path / "empty.zip")
    with pytest.raises(RunError, match=r"empty.zip holds no run"):
        open_runs(tmp_path / "empty.zip", KIND)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_of_a_run_is_named(name, tmp_path):
    files = files_of(make_run(tmp_path, "run"))
    del files[name]
    write_zip(tmp_path / "runs.zip", {"run": files})
    with pytest.raises(RunError, match=rf"runs.zip has no run/{name}: restore the file"):
        open_runs(tmp_path / "runs.zip", KIND)


def test_a_damaged_file_of_a_run_is_named(tmp_path):
    path = tmp_path / "runs.zip"
    write_zip(path, {"run": files_of(make_run(tmp_path, "run"))})
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("run/metrics.jsonl").header_offset
    content[start + 60] ^= 255
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"runs.zip is damaged at run/metrics.jsonl \(.*restore"):
        open_runs(path, KIND)
    with pytest.raises(RunError, match=r"runs.zip is damaged at run/metrics.jsonl"):
        write_zip(path, {"other": {}})
    assert path.read_bytes() == content


def test_a_configuration_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "runs.zip"
    files = files_of(make_run(tmp_path, "run"))
    for text in (b"{", b"[]", b"\xff"):
        write_zip(path, {"run": files | {"config.json": text}})
        with pytest.raises(RunError, match=r"runs.zip/run/config.json cannot be read \(.*restore"):
            open_runs(path, KIND)


def test_the_same_runs_make_the_same_bytes(tmp_path, monkeypatch):
    runs = {name: files_of(make_run(tmp_path, name, seed)) for seed, name in enumerate("ab")}
    first, second = tmp_path / "first.zip", tmp_path / "later" / "second.zip"
    write_zip(first, runs)
    monkeypatch.setattr("time.time", lambda: 2e9)
    write_zip(second, {"b": dict(reversed(runs["b"].items()))})  # one after the other
    write_zip(second, {"a": runs["a"]})
    assert second.read_bytes() == first.read_bytes()
    assert len(first.read_bytes()) < 0.3 * sum(map(len, (runs["a"] | runs["b"]).values()))
    with zipfile.ZipFile(first) as archive:
        assert archive.namelist() == [f"{run}/{name}" for run in "ab" for name in FILES]
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_run_of_the_same_name_is_replaced_and_others_stay(tmp_path):
    path = tmp_path / "runs.zip"
    write_zip(path, {name: files_of(make_run(tmp_path, name, 1)) for name in ("a", "ab")})
    write_zip(path, {"a": files_of(make_run(tmp_path / "new", "a", 5))})
    assert [run.settings["seed"] for run in read_all([path])] == [5, 1]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "ab", "new", "runs.zip"]
