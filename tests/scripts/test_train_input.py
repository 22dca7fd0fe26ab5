"""What the command line makes of its flags, good and bad."""

from dataclasses import replace

import pytest
import torch

from agents import SACConfig
from configs import PRESETS, CombinerConfig, TrainConfig
from envs.tasks import task_names
from scripts import archive, bench, evaluate, plot, supervised, table, toy, train
from scripts.command_line import split_name, use_threads
from scripts.training.run import notes, sgd_is_inexact


def exits_with_2(script, arguments: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as caught:
        script(arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mt10-fairgard"], "unknown preset 'mt10-fairgard': did you mean mt10-fairgrad"),
        (["--tasks", "reach-v2"], "unknown task 'reach-v2': did you mean reach-v3"),
        (["--tasks", "reach-v3", "--tasks", "push-v3"], "--tasks is given 2 times"),
        (
            ["--tasks", "push-wall-v3", "--environment.goals-of", "mt10"],
            "goals_of is mt10, which has no push-wall-v3",
        ),
        (["--eval_every=9", "--eval-every", "8"], "--eval-every is given 2 times"),
        (["--combiner", "pcgard"], "unknown combiner 'pcgard'"),
        (["--solver", "newtn"], "did you mean newton"),
        (["--architecture", "multihead"], "did you mean multi_head"),
        (["--alpha", "-1"], "alpha is -1.0"),
        (["--combining.critic", "pcgard"], "unknown combiner 'pcgard'"),
        (["mt10-small", "--combiner", "ls", "--alpha", "2"], "--alpha is 2.0, but it only has"),
        (
            ["--combining.critic", "ls", "--combining.actor", "uw", "--solver", "newton"],
            "--solver is newton, but it only has an effect with --combiner fairgrad",
        ),
        (
            ["--combiner", "pcgrad", "--combining.critic", "ls", "--combining.actor", "ls"],
            "--combiner is pcgrad, but it only has an effect with --combining.critic None",
        ),
        (["--solver", "newton", "--combining.precondition", "False"], "with --solver sgd or least"),
        (
            ["--combining.actor-min-loss", "-9"],
            "one of si, dwa, uw, famo as the combiner of the actor or the temperature",
        ),
        (["mt10-mtsac", "--combining.weighted-heads", "True"], "with --architecture multi_head"),
        (["--agent.task-embedding-size", "3"], "with --architecture task_encoded"),
        (["--combiner", "cagrad", "--combining.options", "d", "1"], "unknown option of cagrad 'd'"),
        (["--combiner", "cagrad", "--combining.options", "c", "-1"], "c is -1.0, expected"),
        (["--combining.options", "c", "1"], "unknown option of fairgrad 'c'"),
        (["--agent.reward-rate", "0.1"], "with --agent.normalize-reward True"),
        (["--updates-per-step", "0"], "--updates-per-step is 0.0, expected a positive number"),
        (["--updates-per-step", "nan"], "--updates-per-step is nan"),
        (["--total-steps", "0"], "--total-steps is 0"),
        (["--stop-at-success", "95"], "--stop-at-success is 95.0, expected a mean success rate"),
        (["--eval-episodes", "60"], "60 evaluation episodes"),
        (["--environment.num-goals", "10"], "50 evaluation episodes"),
        (["--environment.num-goals", "51"], "num_goals is 51"),
        (["--environment.max-episode-steps", "600"], "max_episode_steps is 600"),
        (["--environment.num-workers", "0"], "num_workers is 0"),
        (["--run-dir", "/dev/null/run"], "cannot be made (Not a directory)"),
        (["--device", "cuda:99"], "the device 'cuda:99' is not there"),
        (["--device", "gpu"], "the device 'gpu' is not there: choose auto or cpu"),
        (["--resume", "nowhere"], "there is no run at nowhere"),
        (["mt10-small", "--resume", "nowhere"], "leave mt10-small out"),
        (["--agent.critic.width", "0"], "width is 0"),
        (["--total-steps", "many"], "many"),
        (["--no-such-flag", "1"], "no-such-flag"),
    ],
)
def test_bad_input_exits_with_2_and_makes_nothing(
    arguments, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert message in exits_with_2(train.main, arguments, capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("wanted", "found"), [(None, 1), (2, 2)])
def test_threads_stay_within_the_usable_cores_unless_they_are_given(wanted, found, monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr("scripts.command_line.usable_cores", lambda: 1)
    torch.set_num_threads(3)
    use_threads(wanted)
    assert torch.get_num_threads() == found
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("options", "tasks", "inexact"),
    [
        ({}, 10, False),
        ({}, 11, True),
        ({"alpha": 2.0}, 10, True),
        ({"alpha": 2.0, "agent": SACConfig(normalize_reward=True)}, 10, False),
        ({"alpha": 3.0, "agent": SACConfig(normalize_reward=True)}, 2, True),
        ({"combining": CombinerConfig(precondition=False)}, 2, True),
        ({"alpha": 3.0, "solver": "newton"}, 50, False),
        ({"combiner": "ls"}, 50, False),
    ],
)
def test_a_note_says_where_the_sgd_solver_is_inexact(options, tasks, inexact):
    assert sgd_is_inexact(replace(TrainConfig(), **options), tasks) == inexact


def test_presets_may_follow_flags():
    presets = ["mt10-small", "stl"]

    def split(words, names):
        return split_name("preset", words, names)

    assert split(["stl", "--seed", "1"], presets) == ("stl", ["--seed", "1"])
    assert split(["--seed", "1", "stl"], presets) == ("stl", ["--seed", "1"])
    assert split(["--x", "-4", "stl"], presets) == ("stl", ["--x", "-4"])
    assert split(["--seed=1", "stl"], presets) == ("stl", ["--seed=1"])
    assert split(["--run-dir", "stl"], presets) == (None, ["--run-dir", "stl"])
    assert split([], presets) == (None, [])


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (train, ["mt10-small"]),
        (supervised, ["toy"]),
        (bench, ["solver"]),
        *((each, []) for each in (archive, evaluate, plot, table, toy)),
    ],
)
def test_every_command_refuses_a_flag_that_stands_there_twice(script, words, capsys):
    """tyro keeps the last one without a word."""
    errors = exits_with_2(script.main, [*words, "--seed", "1", "--seed=2"], capsys)
    assert errors.startswith("error: --seed is given 2 times, but only the last would count")
    assert errors.count("\n") == 1


def test_tasks_that_can_never_succeed_are_named():
    config = replace(PRESETS["mt10-fairgrad-paper"], alpha=1.0)
    (hopeless,) = (note for note in notes(config, task_names("mt10")) if "v1" in note)
    assert "never reports success in peg-insert-side-v3: the mean success can reach 0.9" in hopeless
    assert not any("v1" in note for note in notes(config, ("reach-v3", "push-v3")))
    assert not any("v1" in note for note in notes(PRESETS["mt10-small"], task_names("mt10")))
