"""Checks of an optimiser's saved state, which torch loads whatever it holds."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any

import torch
from torch import Tensor

LEARNING_RATES = ("lr", "initial_lr")
NEEDED = ("lr", "betas", "eps", "weight_decay")
"""What every version of torch saves."""
OF_A_DEVICE = ("params", "capturable", "foreach", "fused")
"""What may be another on another device."""


def check_adam_state(adam: torch.optim.Adam, saved: Mapping[str, Any]) -> None:
    """Raises ValueError unless a saved state fits this optimiser.

    torch only compares the numbers of parameters. What does not fit would fail at the next step.
    """
    for own, group in zip(adam.param_groups, saved["param_groups"], strict=True):
        for key, value in own.items():
            found = group.get(key, value)
            if key in LEARNING_RATES:
                if type(found) not in (int, float) or not 0 <= found < 1:
                    raise ValueError(f"{key} of the saved optimiser is {found!r}, expected 0 to 1")
            elif key in OF_A_DEVICE[1:]:
                if type(found) not in (bool, NoneType):
                    raise ValueError(f"{key} of the saved optimiser is {found!r}")
            elif key != OF_A_DEVICE[0] and (type(found), found) != (type(value), value):
                raise ValueError(f"{key} of the saved optimiser is {found!r}, expected {value!r}")
        if missing := [key for key in NEEDED if key not in group]:
            raise ValueError(f"the saved optimiser has no {', '.join(missing)}")
        for parameter, index in zip(own["params"], group["params"], strict=True):
            _check_moments(parameter, saved["state"].get(index, {}))


def _check_moments(parameter: Tensor, state: Mapping[str, Any]) -> None:
    """Raises ValueError unless a parameter has both moments and a step, or no state yet."""
    expected = {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
    if not state:
        return
    found = {
        key: value.shape if isinstance(value, Tensor) and value.is_floating_point() else None
        for key, value in state.items()
    }
    if found != expected:
        raise ValueError(
            f"the saved optimiser holds {found} of a parameter {list(parameter.shape)}, expected"
            f" {list(expected)}"
        )
