"""What copies of runs keep."""

import json
import zipfile

import numpy as np
import pytest

from mtrl_fair.results import copies
from mtrl_fair.results.weights import averaged, read_residuals, read_weights
from mtrl_fair.runs import RunDirectory
from scripts import archive
from tests.mtrl_fair.results.written_runs import make_run, read


def test_the_figure_of_an_archive_is_that_of_its_run(tmp_path):
    path = make_run(tmp_path, "run")
    lines = RunDirectory.open(path).metrics()
    draw = np.random.default_rng(0)
    for line in lines:
        for key in [key for key in line if key.startswith("fairness/")]:
            line[key] = draw.normal() if "weight" in key else draw.exponential()
    with open(f"{path}/metrics.jsonl", "w") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    archive.main([path, "--output", str(tmp_path / "kept"), "--lines", "7"])
    steps, expected = averaged(*read_weights(read(path)), 7)
    copied_steps, found = averaged(*read_weights(read(str(tmp_path / "kept" / "run"))), 60)
    np.testing.assert_allclose(copied_steps, steps)
    for network, kinds in expected.items():
        assert set(kinds) == {"weight", "gradient_norm", "norm_share", "share"}
        for kind, values in kinds.items():
            np.testing.assert_allclose(found[network][kind], values, rtol=1e-3)


def test_an_archive_is_a_run_without_checkpoints_and_folders(tmp_path):
    path = make_run(tmp_path, "run")
    metadata = json.loads((tmp_path / "run" / "metadata.json").read_text())
    metadata["command"] = ["/home/me/train.py", "--run-dir=/home/me/x/", "--seed", "1"]
    metadata["resumed"] = [{"step": 5, "command": ["train.py", "--resume", "/home/me/x"]}]
    (tmp_path / "run" / "metadata.json").write_text(json.dumps(metadata))
    archive.main([path, "--output", str(tmp_path / "kept"), "--lines", "7"])
    copy = tmp_path / "kept" / "run"
    assert {p.name for p in copy.iterdir()} == {
        *("config.json", "metadata.json", "evaluations.csv", "metrics.jsonl")
    }
    kept = json.loads((copy / "metadata.json").read_text())
    assert kept["command"] == ["train.py", "--run-dir=x", "--seed", "1"]
    assert kept["resumed"][0]["command"] == ["train.py", "--resume", "x"]
    assert kept["versions"] == metadata["versions"]
    original, found = read(path), read(str(copy))
    assert found.success.tolist() == original.success.tolist()
    assert found.seconds.tolist() == original.seconds.tolist()
    steps, weights = read_weights(found)
    assert steps.tolist() == [450, 850, 1250, 1650, 2050, 2450, 2850]
    np.testing.assert_allclose(weights["actor"]["weight"], [[1, 0.1]] * 7)
    np.testing.assert_allclose(weights["critic"]["gradient_norm"], [[3, 60]] * 7)
    archive.main([path, "--output", str(tmp_path / "kept"), "--lines", "0"])  # over the first
    with pytest.raises(ValueError, match="has no task weights"):
        read_weights(read(str(copy)))


def test_an_archive_keeps_averages_of_the_metrics_asked_for(tmp_path):
    path = make_run(tmp_path, "run")
    lines = RunDirectory.open(path).metrics()
    for line in lines:
        if "losses/critic" in line:
            line["q/mean/reach-v3"] = line["step"] if line["step"] % 200 else None
            line["q/spread/reach-v3"] = 1.0
            line["reward/deviation/reach-v3"] = 2.0
    with open(f"{path}/metrics.jsonl", "w") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    for words, kept in [
        ([], {"q/mean/reach-v3", "reward/deviation/reach-v3"}),
        (["--metrics", "q/", "losses"], {"q/mean/reach-v3", "q/spread/reach-v3", "losses/critic"}),
        (["--metrics", "losses"], {"losses/critic"}),
    ]:
        archive.main([path, "--output", str(tmp_path / "kept"), "--lines", "6", *words])
        found = RunDirectory.open(str(tmp_path / "kept" / "run")).metrics()
        assert found[:3] == lines[:3]  # the times of evaluations
        copied = found[3:]
        names = {key for line in copied for key in line if not key.startswith("fairness/")}
        assert names == kept | {"step"}
        means = [line for line in copied if "q/mean/reach-v3" in line]
        if "q/mean/reach-v3" in kept:  # six parts of 30 lines; every second one has no Q
            assert [line["step"] for line in means] == [300, 800, 1300, 1800, 2300, 2800]
            assert means[1]["q/mean/reach-v3"] == np.mean([700, 900])


def test_an_archive_replaces_no_run(tmp_path, capsys):
    path = make_run(tmp_path, "run")
    elsewhere = make_run(tmp_path / "other", "run", seed=4)
    before = {file: file.read_bytes() for file in (tmp_path / "run").glob("*.*")}
    with pytest.raises(SystemExit):
        archive.main([elsewhere, "--output", str(tmp_path)])
    assert f"{path} is a run, not a copy of one" in capsys.readouterr().err
    assert before == {file: file.read_bytes() for file in (tmp_path / "run").glob("*.*")}


def test_an_archive_keeps_single_residuals(tmp_path, monkeypatch):
    run = make_run(tmp_path, "run")
    words = ["--output", str(tmp_path / "kept"), "--lines", "3", "--metrics", "fairness/"]
    kept = str(tmp_path / "kept" / "run")
    archive.main([run, *words])
    expected = read_residuals(read(run))
    found = read_residuals(read(kept))
    assert found.keys() == expected.keys() == {"critic", "actor"}
    for network, (steps, residuals) in expected.items():
        assert found[network][0].tolist() == steps.tolist()
        np.testing.assert_allclose(found[network][1], residuals, rtol=1e-3)
        assert np.isinf(residuals).sum() == 3
    monkeypatch.setattr(copies, "MAX_RESIDUAL_LINES", 10)
    archive.main([run, *words])
    for network, (steps, residuals) in read_residuals(read(kept)).items():
        assert steps.tolist() == [300, 600, 900, 1200, 1500, 1800, 2100, 2400, 2700, 3000]
        lines = np.searchsorted(expected[network][0], steps)
        np.testing.assert_allclose(residuals, expected[network][1][lines], rtol=1e-3)
    monkeypatch.setattr(copies, "MAX_RESIDUAL_LINES", 20)
    archive.main([run, *words])
    steps, _ = read_residuals(read(kept))["critic"]
    gaps = np.diff(steps) / 100  # 28 lines
    assert len(steps) == 20
    assert set(gaps) == {1, 2}
    assert abs(gaps[:9].sum() - gaps[-9:].sum()) <= 1
    archive.main([make_run(tmp_path, "other", combiner="pcgrad"), *words])
    names = {
        key for line in RunDirectory.open(tmp_path / "kept" / "other").metrics() for key in line
    }
    assert not any("residual" in name for name in names)


def test_weights_of_an_archive_are_averaged_once(tmp_path):
    path = make_run(tmp_path, "run")
    for words in ([], ["--metrics", "fairness/", "losses"]):
        archive.main([path, "--output", str(tmp_path / "kept"), "--lines", "7", *words])
        steps, weights = read_weights(read(str(tmp_path / "kept" / "run")))
        assert steps.tolist() == [450, 850, 1250, 1650, 2050, 2450, 2850]
        assert not np.isnan(weights["critic"]["share"]).any()
    lines = RunDirectory.open(str(tmp_path / "kept" / "run")).metrics()
    assert sum("fairness/conflicts/critic" in line for line in lines) == 7


def test_an_archive_of_a_run_that_goes_on_is_whole(tmp_path, monkeypatch):
    path = make_run(tmp_path, "run")
    copied_metrics = archive.copied_metrics

    def while_it_writes(run, *arguments):
        run.run.add_evaluation(4000, [(task, 0.5, 50, 1.0, 2.0) for task in run.tasks])
        with open(f"{path}/evaluations.csv", "ab") as file:
            file.write(b"5000,\xff")
        return copied_metrics(run, *arguments)

    monkeypatch.setattr(archive, "copied_metrics", while_it_writes)
    archive.main([path, "--output", str(tmp_path / "kept")])
    assert read(str(tmp_path / "kept" / "run")).steps.tolist() == [1000, 2000, 3000]


def test_an_archive_in_a_zip_file_is_that_in_a_folder(tmp_path, capsys):
    runs = [make_run(tmp_path, name, seed) for seed, name in enumerate(("one", "two"))]
    folder, packed = tmp_path / "kept", tmp_path / "new" / "kept.zip"
    archive.main([*runs, "--output", str(folder)])
    archive.main([*runs, "--output", str(packed)])
    assert capsys.readouterr().out.endswith(f"written to {packed}/one\nwritten to {packed}/two\n")
    with zipfile.ZipFile(packed) as found:
        names = {str(p.relative_to(folder)) for p in folder.glob("*/*")}
        assert set(found.namelist()) == names
        assert all(found.read(name) == (folder / name).read_bytes() for name in names)
    first = packed.read_bytes()
    packed.unlink()
    for run in reversed(runs):  # one after the other, and one again
        archive.main([run, "--output", str(packed)])
        archive.main([run, "--output", str(packed)])
    assert packed.read_bytes() == first


def test_an_archive_can_be_copied_out_of_a_zip_file(tmp_path):
    packed, again = str(tmp_path / "kept.zip"), str(tmp_path / "again.zip")
    archive.main([make_run(tmp_path, "run"), "--output", packed])
    archive.main([packed, "--output", again])
    assert read(again).success.tolist() == read(packed).success.tolist()
    assert read(again).run.metadata() == read(packed).run.metadata()


def test_a_zip_file_keeps_what_is_no_copy_of_the_run(tmp_path, capsys):
    packed = tmp_path / "kept.zip"
    archive.main([make_run(tmp_path, "run"), "--output", str(packed)])
    before = packed.read_bytes()
    other = make_run(tmp_path / "other", "run")
    change = json.loads((tmp_path / "other" / "run" / "metadata.json").read_text())
    (tmp_path / "other" / "run" / "metadata.json").write_text(json.dumps(change | {"started": ""}))
    (tmp_path / "text.zip").write_text("a")
    for words, message in (
        ([other, "--output", str(packed)], f"{packed}/run is there and no copy of {other}"),
        ([f"{packed}/run", "--output", str(packed)], f"{packed}/run would be a copy of itself"),
        ([other, "--output", str(packed / "x.zip")], f"{packed / 'x.zip'} is in a file"),
        ([other, "--output", str(tmp_path / "text.zip")], "text.zip cannot be read as a zip file"),
    ):
        with pytest.raises(SystemExit):
            archive.main(words)
        assert message in capsys.readouterr().err
    assert packed.read_bytes() == before
    (tmp_path / "folder.zip").mkdir()
    with pytest.raises(SystemExit):
        archive.main([other, "--output", str(tmp_path / "folder.zip")])
    assert "folder.zip is a folder" in capsys.readouterr().err
