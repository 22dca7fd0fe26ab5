"""The temperature's loss."""

import pytest
import torch

from agents.temperature import temperature_loss

B = 5


@pytest.mark.parametrize(("entropy", "direction"), [(-5.0, 1), (-3.0, -1)])
def test_temperature_rises_while_entropy_is_below_its_target(entropy, direction):
    log_temperature = torch.zeros(1, requires_grad=True)
    temperature_loss(log_temperature, torch.full((1, B), -entropy), target_entropy=-4.0).backward()
    assert -log_temperature.grad * direction > 0
