"""Random numbers whose state belongs to a combiner's `state_dict`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Randomness(nn.Module):
    """One generator, on the device where numbers are asked for first.

    Args:
        seed: None draws one from torch's global generator, so that `torch.manual_seed` decides.
    """

    def __init__(self, seed: int | None):
        super().__init__()
        self._seed = int(torch.randint(2**31, ())) if seed is None else seed
        self._generator: torch.Generator | None = None
        self._restored: dict[str, Any] = {}

    def generator(self, device: torch.device) -> torch.Generator:
        """The generator for numbers on `device`; on another device it starts anew."""
        if self._generator is None or self._generator.device != device:
            self._generator = torch.Generator(device).manual_seed(self._seed)
            if self._restored.get("device") == device.type:
                self._generator.set_state(self._restored["state"].cpu())
            self._restored = {}
        return self._generator

    def get_extra_state(self) -> dict[str, Any]:
        if self._generator is None:
            return {"seed": self._seed, **self._restored}
        return {
            "seed": self._seed,
            "device": self._generator.device.type,
            "state": self._generator.get_state(),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self._seed = state["seed"]
        self._generator = None
        self._restored = {key: state[key] for key in ("device", "state") if key in state}
