"""Which runs have a use for a lower bound of losses."""

import pytest

from agents import SACConfig
from configs import CombinerConfig, TrainConfig


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
    assert config.has_bounded_losses() == bounded
    assert ("combining.actor_min_loss" in config.idle()) != bounded
