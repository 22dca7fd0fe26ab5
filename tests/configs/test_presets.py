import dataclasses

import pytest

from configs import PRESETS, TrainConfig, from_dict, to_dict


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_come_back_from_json(name):
    config = PRESETS[name]
    config.check()
    assert from_dict(TrainConfig, to_dict(config), "here") == config


def test_presets_are_what_they_say():
    assert PRESETS["mt10-fairgrad"] == TrainConfig()
    table = {"mt10-mtsac": "one_hot", "mt10-mtsac-te": "task_encoded", "mt10-mhsac": "multi_head"}
    for name, architecture in table.items():
        config = PRESETS[name]
        assert (config.architecture, config.combiner) == (architecture, "ls")
        same = dataclasses.replace(config, architecture="multi_head", combiner="fairgrad")
        assert same == TrainConfig()
    paper = PRESETS["mt10-fairgrad-paper"]
    assert (paper.alpha, paper.solver, paper.architecture) == (2.0, "sgd", "none")
    assert not paper.combining.precondition
    assert len(PRESETS["stl"].tasks) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"total_steps": 0}, "--total-steps is 0"),
        ({"eval_every": 0}, "--eval-every is 0"),
        ({"log_every": -1}, "--log-every is -1"),
        ({"learning_starts": 0}, "--learning-starts is 0"),
        ({"seed": -1}, "--seed is -1"),
        ({"threads": 0}, "--threads is 0"),
        ({"tasks": ()}, "no tasks"),
        ({"tasks": ("reach-v3", "reach-v3")}, "names reach-v3 more than once"),
        ({"tasks": ("reach-v3", "mt10")}, "mt10 is a whole benchmark"),
        ({"architecture": "heads"}, "unknown architecture 'heads'"),
        ({"combiner": "fairgard"}, "did you mean fairgrad"),
        ({"solver": "sdg"}, "did you mean sgd"),
        ({"alpha": -0.5}, "alpha is -0.5"),
        ({"eval_episodes": 51}, "51 evaluation episodes"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TrainConfig(), **options).check()


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match=r"setting in old\.json 'alhpa': did you mean alpha"):
        from_dict(TrainConfig, {"alhpa": 1.0}, "old.json")


@pytest.mark.parametrize(
    "values", [{"total_steps": "many"}, {"alpha": None}, {"seed": True}, {"device": 3}]
)
def test_settings_of_another_type_are_refused(values):
    (key,) = values
    with pytest.raises(ValueError, match=f"{key} in old.json is .*, expected"):
        from_dict(TrainConfig, values, "old.json")
