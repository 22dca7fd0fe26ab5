import dataclasses

import pytest

from configs import PRESETS, TrainConfig, check_config, from_dict, to_dict
from mtrl_fair.runs import flatten


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_come_back_from_json(name):
    config = PRESETS[name]
    check_config(config)
    assert from_dict(TrainConfig, to_dict(config), "here") == config


# The JAX Meta-World+ baselines: 20 million transitions, Adam, heads, evaluation on all 50 goals.
META_WORLD_PLUS = {
    "total_steps": 2_000_000,
    "eval_every": 10_000,
    "eval_episodes": 50,
    "learning_starts": 4_000,
    "updates_per_step": 1.0,
    "tasks": ["mt10"],
    "architecture": "multi_head",
    "combiner": "fairgrad",
    "solver": "sgd",
    "combining.scale": "none",
    "combining.precondition": True,
    "environment.reward_version": "v2",
    "environment.max_episode_steps": 500,
    "environment.num_goals": 50,
    "agent.actor.width": 400,
    "agent.actor.depth": 3,
    "agent.actor.layer_norm": False,
    "agent.critic.width": 400,
    "agent.critic.depth": 3,
    "agent.critic.layer_norm": False,
    "agent.batch_size": 128,
    "agent.replay_capacity": 100_000,
    "agent.actor_learning_rate": 3e-4,
    "agent.critic_learning_rate": 3e-4,
    "agent.temperature_learning_rate": 3e-4,
    "agent.discount": 0.99,
    "agent.target_rate": 0.005,
    "agent.policy_average_rate": None,
    "agent.initial_temperature": 1.0,
    "agent.per_task_temperature": True,
    "agent.combine_temperature": False,
    "agent.target_entropy": -4.0,
    "agent.log_std_min": -20.0,
    "agent.log_std_max": 2.0,
    "agent.max_grad_norm": 1.0,
    "agent.normalize_reward": False,
}
# FairGrad, section 5.2 and its code on mtrl; the departures stand in configs/presets.py.
PAPER = META_WORLD_PLUS | {
    "alpha": 2.0,
    "eval_episodes": 1,
    "learning_starts": 1_500,
    "architecture": "none",
    "combining.precondition": False,
    "environment.reward_version": "v1",
    "environment.max_episode_steps": 150,
    "environment.num_goals": 1,
    "agent.per_task_temperature": False,
    "agent.combine_temperature": True,
    "agent.max_grad_norm": None,
    "agent.normalize_reward": True,
    "agent.reward_rate": 1e-3,
}


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("mt10-fairgrad", META_WORLD_PLUS | {"alpha": 1.0}),  # alpha is ours
        ("mt10-fairgrad-paper", PAPER),
    ],
)
def test_a_preset_of_a_published_experiment_is_the_published_setting(name, published):
    settings = flatten(to_dict(PRESETS[name]))
    assert {key: settings[key] for key in published} == published


def test_presets_are_what_they_say():
    assert PRESETS["mt10-fairgrad"] == TrainConfig()
    table = {"mt10-mtsac": "one_hot", "mt10-mtsac-te": "task_encoded", "mt10-mhsac": "multi_head"}
    for name, architecture in table.items():
        config = PRESETS[name]
        assert (config.architecture, config.combiner) == (architecture, "ls")
        same = dataclasses.replace(config, architecture="multi_head", combiner="fairgrad")
        assert same == TrainConfig()
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
        check_config(dataclasses.replace(TrainConfig(), **options))


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match=r"old\.json has the setting 'alhpa', .*near to it: alpha"):
        from_dict(TrainConfig, {"alhpa": 1.0}, "old.json")


@pytest.mark.parametrize(
    "values",
    [
        {"total_steps": "many"},
        {"alpha": None},
        {"seed": True},
        {"device": 3},
    ],
)
def test_settings_of_another_type_are_refused(values):
    (key,) = values
    with pytest.raises(ValueError, match=f"{key} in old.json is .*, expected"):
        from_dict(TrainConfig, values, "old.json")


@pytest.mark.parametrize("options", [3, {"c": "much"}, {"c": True}])
def test_options_in_a_file_are_numbers_by_name(options):
    with pytest.raises(ValueError, match="options in old.json is .*, expected numbers by name"):
        from_dict(TrainConfig, {"combining": {"options": options}}, "old.json")
