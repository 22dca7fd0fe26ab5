"""The command line of the supervised trainer.

Most tests run its trainings in this process, one after the other. Those that are marked `process`
start the program, whose trainings run in processes.
"""

import csv
import json
import shutil
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtrl_fair.supervised.benchmarks import digits
from mtrl_fair.supervised.registry import BENCHMARKS, NOT_TESTED_ON_REAL_DATA
from scripts import supervised
from tests.scripts.supervised_commands import results, run, run_here

FAST = ("--epochs", "1", "--batch-size", "250")
SINGLE = ("single-task-left-seed0", "single-task-right-seed0")
PAIRS = digits.PAIRS


def refused(capsys, *words) -> str:
    """The one error line of arguments that are refused."""
    with pytest.raises(SystemExit) as caught:
        supervised.main(list(map(str, words)))
    output = capsys.readouterr()
    assert caught.value.code == 2
    assert output.err.startswith("error: ")
    return output.err


@pytest.fixture(scope="module", autouse=True)
def few_pairs():
    """Shortens the trainings on digits in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "PAIRS", {name: number // 10 for name, number in PAIRS.items()})
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two methods, each with and without the loss transformation, and one exponent more."""
    folder = tmp_path_factory.mktemp("supervised") / "all"
    words = ["--compare", "ls", "fairgrad", "--alpha-fair", "0.5", "--alphas", "5"]
    code, output, errors = run_here("digits", *FAST, *words, "--run-dir", folder, "--jobs", "2")
    assert (code, errors) == (0, "")
    return folder, output


METHODS = ("ls", "fair-ls", "fairgrad", "fair-fairgrad", "fairgrad α=5")


def test_a_comparison_writes_its_runs_and_its_table(finished):
    folder, output = finished
    names = {m.replace(" α=", "-alpha") + "-seed0" for m in METHODS} | set(SINGLE)
    assert set(results(folder)) == names
    with (folder / "comparison.csv").open(newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["single-task", *METHODS]
    values = results(folder)
    for side in ("left", "right"):
        key = f"{side}/accuracy"
        assert float(rows["single-task"][key]) == values[f"single-task-{side}-seed0"][key]
        assert float(rows["fair-ls"][key]) == values["fair-ls-seed0"][key]
    drops = [
        1 - float(rows["ls"][f"{side}/accuracy"]) / float(rows["single-task"][f"{side}/accuracy"])
        for side in ("left", "right")
    ]
    assert float(rows["ls"]["delta m percent"]) == pytest.approx(50 * sum(drops))
    assert sum(float(rows[m]["mean rank"]) for m in METHODS) == pytest.approx(15)
    assert rows["single-task"]["mean rank"] == ""
    text = (folder / "comparison.md").read_text()
    assert "MR among ls, fair-ls, fairgrad, fair-fairgrad, fairgrad α=5" in text
    assert f"| ls | {float(rows['ls']['left/accuracy']):.4f} |" in text
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    for method in METHODS:
        assert method in output
    assert "Δm%" in output


def test_runs_are_configured_as_asked(finished):
    folder, _ = finished

    def config(name):
        return json.loads((folder / f"{name}-seed0" / "config.json").read_text())

    assert config("fairgrad")["scale"] == "tasks"
    assert config("ls")["scale"] == "none"
    assert (config("fairgrad-alpha5")["alpha"], config("fairgrad")["alpha"]) == (5, 2)
    assert (config("ls")["alpha_fair"], config("fair-ls")["alpha_fair"]) == (None, 0.5)
    assert config("single-task-left")["task"] == "left"
    assert config("ls")["max_norm"] == digits.Digits.recipe.max_norm
    assert {config(n)["threads"] for n in ("ls", "fairgrad")} == {1}


def test_the_glossary_has_every_key_and_no_other(finished):
    folder, _ = finished
    written = set(EventAccumulator(str(folder / "fairgrad-seed0")).Reload().Tags()["scalars"])
    document = (
        (Path(__file__).parents[2] / "docs" / "metrics.md")
        .read_text()
        .split("## The supervised trainer")[1]
    )
    documented = set()
    for line in document.splitlines():
        if line.startswith("| `"):
            for task in ("left", "right"):
                for split in ("validation", "test"):
                    key = line.split("`")[1].replace("{split}", split).replace("{task}", task)
                    documented.add(key.replace("{metric}", "accuracy"))
    assert written == documented
    lines = (folder / "fairgrad-seed0" / "metrics.jsonl").read_text().splitlines()
    assert {key for line in lines for key in json.loads(line)} - {"step"} == written


@pytest.mark.process
def test_any_number_of_processes_gives_the_same_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(digits, "PAIRS", PAIRS)
    words = ("digits", "--epochs", "1", "--batch-size", "500", "--single-task", "none")
    words += ("--seeds", "2", "--jobs", "2")
    code, _, errors = run(*words, "--run-dir", tmp_path / "two")
    assert code == 0, errors
    code, _, errors = run_here(*words, "--run-dir", tmp_path / "none")
    assert code == 0, errors
    found = results(tmp_path / "two")
    assert found.keys() == {"fairgrad-seed0", "fairgrad-seed1"}
    assert found["fairgrad-seed0"] != found["fairgrad-seed1"]
    assert found == results(tmp_path / "none")


def test_a_finished_comparison_is_shown_again(finished):
    folder, output = finished
    code, again, errors = run_here("--resume", folder)
    assert (code, errors) == (0, "")
    assert "trainings: 0 (0 on a single task)" in again
    assert again.splitlines()[3:] == output.splitlines()[-len(again.splitlines()) + 3 :]


def test_a_result_that_was_damaged_is_named(finished, tmp_path):
    folder = Path(shutil.copytree(finished[0], tmp_path / "copy"))
    (folder / "ls-seed0" / "results.json").write_text("{")
    code, _, errors = run_here("--resume", folder)
    assert code == 2
    assert errors.startswith(f"error: {folder}/ls-seed0/results.json cannot be read")
    (folder / "ls-seed0" / "results.json").unlink()
    code, _, errors = run_here("--resume", folder)
    assert (code, errors) == (0, "")
    assert results(folder) == results(finished[0])


@pytest.mark.process
def test_a_method_that_fails_leaves_the_others_alone(tmp_path):
    folder = tmp_path / "run"
    # Seed 1 starts where both losses are 0.
    words = ["--seed", "1", "--epochs", "1", "--batch-size", "100", "--jobs", "2"]
    words += ["--compare", "ls", "--alpha-fair", "0.5"]
    code, output, errors = run("toy", *words, "--run-dir", folder)
    assert code == 1
    assert (
        "error: fair-ls-seed1: the α-fair transformation needs positive losses, but first" in errors
    )
    assert "Traceback" not in errors
    assert set(results(folder)) == {"ls-seed1"}
    assert "1 of 2 trainings are not finished. Where the cause can be mended, continue" in output
    assert "Δm%" not in output


def test_the_help_says_what_was_not_tested_on_the_real_data(capsys):
    with pytest.raises(SystemExit) as caught:
        supervised.main(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    names = [name for name in BENCHMARKS if name not in NOT_TESTED_ON_REAL_DATA]
    assert names == ["toy", "digits"]
    untested = "multimnist, nyuv2, cityscapes, celeba, qm9"
    assert f"Benchmarks: toy, digits; not tested on the real data: {untested}." in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a benchmark first: toy, digits"),
        (["digit"], "unknown benchmark 'digit': did you mean digits"),
        (["digits", "--compare", "ls,si"], "separate names by blanks, --compare ls si"),
        (["digits", "--compare", "ls", "fairgard"], "did you mean fairgrad"),
        (["digits", "--compare", "ls", "ls"], "ls would be trained twice"),
        (["digits", "--compare", "ls", "--combiner", "si"], "add it to --compare"),
        (["digits", "--combiner", "ls", "--alphas", "1"], "--alphas belongs to fairgrad"),
        (["digits", "--alphas", "-1"], "alpha"),
        (["digits", "--seeds", "0"], "--seeds is 0, expected at least 1"),
        (["digits", "--jobs", "0"], "--jobs is 0, expected at least 1"),
        (["digits", "--epochs", "0"], "--epochs is 0, expected at least 1"),
        (["digits", "--data", "x"], "digits reads no files"),
        (["digits", "--pooling", "pixels"], "unknown pooling of digits"),
        (["digits", "--single-task", "published"], "no published numbers for digits"),
        (["toy", "--single-task", "train"], "toy has no Δm%"),
        (["digits", "--threads", "100000"], "--threads is 100000, expected at most this machine's"),
        (
            ["digits", "--compare", "ls", "fairgrad", "--alphas", "2"],
            "what fairgrad trains already",
        ),
        (["digits", "--alphas", "1", "--alpha-fair", "0.5"], "does not apply to --alphas"),
        (["digits", "--combiner", "ls", "--alpha", "5"], "--alpha 5.0 belongs to fairgrad"),
        (["digits", "--combiner", "ls", "--solver", "sgd"], "--solver sgd belongs to fairgrad"),
        (
            ["nyuv2", "--pooling", "pixels", "--single-task", "published"],
            "does not fit --pooling pixels",
        ),
        (["digits", "--device", "cuda:9"], "the device 'cuda:9' is not there"),
        (["nyuv2"], "nyuv2: no folder is given. --data FOLDER"),
        (["celeba", "--data", "nowhere"], "nowhere"),
        (["digits", "--resume", "x"], "--resume continues x as it was configured: leave digits"),
        (["--resume", "x"], "there is nothing to resume at x"),
        (["--resume", "x", "--seeds", "2"], "only --data, --device"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_made(
    words, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *words)
    assert list(tmp_path.iterdir()) == []


def test_two_comparisons_that_start_in_one_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(supervised.time, "strftime", lambda _: "20260102-030405")
    for seed in ("1", "2"):
        words = ("toy", "--epochs", "1", "--compare", "ls", "--jobs", "1", "--seed", seed)
        code, _, errors = run_here(*words)
        assert (code, errors) == (0, "")
    folders = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert folders == ["toy-20260102-030405", "toy-20260102-030405-2"]
    for name, seed in zip(folders, "12", strict=True):
        assert (tmp_path / "runs" / name / f"ls-seed{seed}" / "results.json").exists()


def test_existing_and_broken_folders_are_refused(capsys, finished, tmp_path):
    folder, _ = finished
    assert f"--resume {folder}" in refused(capsys, "digits", "--run-dir", folder)
    (tmp_path / "comparison.json").write_text("{")
    assert "comparison.json cannot be read" in refused(capsys, "--resume", tmp_path)
    plan = json.loads((folder / "comparison.json").read_text())
    for change in (
        {"jobs": 0},
        {"single_task": "pub"},
        {"benchmark": "toy"},
        {"runs": []},
        {"runs": [plan["runs"][0], plan["runs"][0]]},
        {"runs": [plan["runs"][0] | {"folder": "../x"}]},
    ):
        (tmp_path / "comparison.json").write_text(json.dumps(plan | change))
        assert "comparison.json cannot be read" in refused(capsys, "--resume", tmp_path)
    (tmp_path / "file").write_text("")
    assert "cannot be made" in refused(capsys, "toy", "--run-dir", tmp_path / "file" / "x")
