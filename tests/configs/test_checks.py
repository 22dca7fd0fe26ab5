"""Which settings have no effect, and which flag would give them one."""

import dataclasses
from operator import attrgetter

import pytest

from agents import SACConfig
from configs import (
    FAIRGRAD_SETTINGS,
    NEEDS_BOUND,
    PRESETS,
    CombinerConfig,
    TrainConfig,
    check_config,
    unused_settings,
)
from mtrl_fair import COMBINERS, Combiner
from mtrl_fair.combiners.registry import combiner_options


@pytest.mark.parametrize(
    ("critic", "actor", "combine_temperature", "bounded"),
    [
        (None, None, False, True),
        (None, "fairgrad", False, False),  # the critic's losses are squares
        (None, "fairgrad", True, True),
        ("fairgrad", "famo", False, True),
    ],
)
def test_a_bound_is_of_use_to_the_actor_and_a_combined_temperature(
    critic, actor, combine_temperature, bounded
):
    config = TrainConfig(
        combiner="uw",
        combining=CombinerConfig(critic=critic, actor=actor),
        agent=SACConfig(per_task_temperature=False, combine_temperature=combine_temperature),
    )
    assert ("combining.actor_min_loss" not in unused_settings(config)) == bounded


def test_combiners_that_need_a_bound_are_those_that_have_the_option():
    assert NEEDS_BOUND == ("si", "dwa", "uw", "famo")


def test_every_option_of_fairgrad_is_a_setting():
    options = set(combiner_options(COMBINERS["fairgrad"])) - set(combiner_options(Combiner))
    assert set(FAIRGRAD_SETTINGS) == options
    assert TrainConfig(alpha=3.0).fairgrad_options()["alpha"] == 3.0


def test_settings_of_fairgrad_need_fairgrad_before_anything_else():
    unused = unused_settings(TrainConfig(combiner="ls", solver="newton"))
    assert {unused[key] for key in FAIRGRAD_SETTINGS.values()} == {"--combiner fairgrad"}
    unused = unused_settings(TrainConfig(solver="newton"))
    assert unused["combining.precondition"] == "--solver sgd or least_squares"
    assert "alpha" not in unused


def test_the_combiner_has_an_effect_unless_each_network_has_its_own():
    both = CombinerConfig(critic="ls", actor="ls")
    assert "combiner" in unused_settings(TrainConfig(combining=both))
    temperature = SACConfig(per_task_temperature=False, combine_temperature=True)
    assert "combiner" not in unused_settings(TrainConfig(combining=both, agent=temperature))
    assert "combiner" not in unused_settings(TrainConfig(combining=CombinerConfig(critic="ls")))


@pytest.mark.parametrize("name", PRESETS)
def test_unused_settings_are_settings(name):
    for key in unused_settings(PRESETS[name]):
        attrgetter(key)(PRESETS[name])


def test_an_unused_setting_is_refused_only_if_the_user_changed_it():
    config = TrainConfig(combiner="ls")
    check_config(config, TrainConfig())
    changed = dataclasses.replace(config, alpha=2.0)
    with pytest.raises(ValueError, match="--alpha is 2.0, but it only has an effect with --comb"):
        check_config(changed, TrainConfig())
    check_config(changed, dataclasses.replace(TrainConfig(), alpha=2.0))
    check_config(changed)


@pytest.mark.parametrize(
    ("step", "best", "limits"),
    [
        (9, 0.8, []),
        (10, 0.8, ["total_steps"]),
        (11, -1.0, ["total_steps"]),
        (9, 0.9, ["stop_at_success"]),
        (9, 0.9 - 1e-12, ["stop_at_success"]),  # a mean of rates, rounded
        (10, 1.0, ["total_steps", "stop_at_success"]),
    ],
)
def test_a_run_ends_at_its_last_step_or_at_its_level(step, best, limits):
    assert TrainConfig(total_steps=10, stop_at_success=0.9).limits_reached(step, best) == limits
    assert TrainConfig(total_steps=10).limits_reached(step, best) == [
        limit for limit in limits if limit == "total_steps"
    ]
