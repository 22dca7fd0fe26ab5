"""`evaluate.py`: the numbers of the training's own evaluation, as a table and as JSON."""

import csv
import json
from importlib.metadata import version

import mujoco
import pytest
import torch

from scripts import evaluate, train
from tests.scripts.commands import run_here
from tests.scripts.short_trainings import TASKS, load
from tests.scripts.test_train_input import exits_with_2

pytestmark = pytest.mark.slow


def test_evaluate_prints_a_table_and_writes_json(finished, tmp_path):
    output = tmp_path / "result.json"
    result = run_here(evaluate.main, str(finished), "--episodes", "2", "--json", str(output))
    assert result.code == 0, result.errors
    for word in ("success", "± s.e.", "return", "episode length", "mean", *TASKS):
        assert word in result.output
    assert f"latest policy of {finished} (step 240)" in " ".join(result.output.split())
    assert result.output.endswith(f"written to {output}\n")
    written = json.loads(output.read_text())
    assert (written["step"], written["checkpoint"]) == (240, "latest")
    assert list(written["tasks"]) == list(TASKS)
    assert written["versions"] == {"metaworld": version("metaworld"), "mujoco": mujoco.__version__}
    # The same function and the same goals as the training's last evaluation.
    with (finished / "evaluations.csv").open(newline="") as file:
        last = [row for row in csv.DictReader(file) if row["step"] == "240"]
    for row in last:
        entry = written["tasks"][row["task"]]
        for key in ("success", "return", "episode_length"):
            assert entry[key] == float(row[key])
        assert entry["episodes"] == 2
        p = entry["success"]
        assert entry["standard_error"] == pytest.approx((p * (1 - p) / 2) ** 0.5)
    mean = sum(float(row["success"]) for row in last) / len(last)
    assert written["mean_success"] == pytest.approx(mean)


def test_the_best_policy_may_be_evaluated_instead(copied):
    assert load(copied, "best")["step"] < 240
    result = run_here(evaluate.main, str(copied), "--episodes", "1", "--checkpoint", "best")
    assert result.code == 0, result.errors
    written = json.loads((copied / "evaluation_best.json").read_text())
    assert (written["step"], written["checkpoint"]) == (load(copied, "best")["step"], "best")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no run at nowhere"),
        (["RUN", "--episodes", "60"], "60 evaluation episodes per task"),
        (["RUN", "--episodes", "0"], "0 evaluation episodes per task"),
        (["RUN", "--device", "cuda:99"], "is not there"),
        (["RUN", "--json", "no/such/folder/x.json"], "there is no folder no/such/folder"),
        (["RUN", "--json", "/"], "is a folder"),
        ([], "required"),
    ],
)
def test_bad_input_to_evaluate_exits_with_2(arguments, message, finished, capsys):
    words = [str(finished) if word == "RUN" else word for word in arguments]
    assert message in exits_with_2(evaluate.main, words, capsys)


COMMANDS = pytest.mark.parametrize(
    ("main", "words"),
    [
        (evaluate.main, ["RUN"]),
        (train.main, ["--resume", "RUN"]),
        (train.main, ["--resume", "RUN", "--total-steps", "300"]),
    ],
)


@COMMANDS
def test_a_run_whose_settings_are_gone_is_refused_in_one_line(main, words, copied):
    path = copied / "config.json"
    config = json.loads(path.read_text())
    config["combining"]["norm_rate"] = 0.01
    path.write_text(json.dumps(config))
    before = {file: file.read_bytes() for file in copied.glob("*.*")}
    result = run_here(main, *(str(copied) if word == "RUN" else word for word in words))
    assert (result.code, result.output, result.errors.count("\n")) == (2, "", 1)
    assert f"{path} has the setting 'combining.norm_rate', which this version" in result.errors
    assert "an earlier version wrote the file; use the commit that the run's" in result.errors
    assert before == {file: file.read_bytes() for file in copied.glob("*.*")}


@COMMANDS
def test_a_run_whose_checkpoint_is_of_an_earlier_version_is_refused_in_one_line(
    main, words, copied
):
    path = copied / "checkpoints" / "latest.pt"
    content = path.read_bytes()
    found = load(copied)["format"]
    assert content.count(found.encode()) == 1
    path.write_bytes(content.replace(found.encode(), found[:-1].encode() + b"0"))
    result = run_here(main, *(str(copied) if word == "RUN" else word for word in words))
    assert (result.code, result.errors.count("\n")) == (2, 1)
    assert "another version of mtrl-fair wrote the checkpoint" in result.errors
    assert "use the commit that the run's metadata.json names" in result.errors


def test_a_policy_that_is_not_finite_is_refused_in_one_line(copied):
    state = load(copied)
    actor = state["agent"]["actor"]
    for network in {"network", "average_network"} & actor.keys():
        actor[network] = {name: value * float("nan") for name, value in actor[network].items()}
    path = copied / "checkpoints" / "latest.pt"
    torch.save(state, path)
    result = run_here(evaluate.main, str(copied), "--episodes", "1")
    assert (result.code, result.errors.count("\n")) == (2, 1)
    assert f"is not finite: the policy in {path} is damaged; restore the file" in result.errors


@pytest.mark.parametrize("flag", [["--episodes", "1"], ["--checkpoint", "best"]])
def test_a_flipped_bit_of_a_checkpoint_is_noticed(flag, copied):
    for path in (copied / "checkpoints").iterdir():
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    result = run_here(evaluate.main, str(copied), *flag)
    assert (result.code, result.output, result.errors.count("\n")) == (2, "", 1)
    assert "is truncated or no checkpoint of mtrl-fair" in result.errors
