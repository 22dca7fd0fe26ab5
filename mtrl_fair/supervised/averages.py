"""Means over an epoch of what its steps report."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Averages:
    """Averages values over steps; sums stay on the device until the means are asked for."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, values: Mapping[str, Tensor], present: Tensor | None = None) -> None:
        """Adds the values of one step.

        Args:
            values: tensors of any shapes, with the same names in every step.
            present: [K] (bool), the tasks whose entries count in values of that shape; None: all.
        """
        for name, value in values.items():
            counts = torch.ones_like(value)
            if present is not None and value.shape == present.shape:
                counts = present.to(value.dtype)
                value = value.where(present, 0)
            if name in self.sums:
                self.sums[name] += value.detach()
                self.counts[name] += counts
            else:
                self.sums[name] = value.detach().clone()
                self.counts[name] = counts

    def means(self) -> dict[str, Tensor]:
        """Returns the means by name, NaN where nothing counted, and starts anew."""
        means = {name: self.sums[name] / self.counts[name] for name in self.sums}
        self.sums, self.counts = {}, {}
        return means

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Returns the sums so far."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(
        self, state: Mapping[str, Mapping[str, Tensor]], device: torch.device
    ) -> None:
        """Continues from what `state_dict` returned.

        Raises:
            ValueError: the state has other counts than sums.
        """
        sums, counts = (
            {name: value.to(device).clone() for name, value in state[kind].items()}
            for kind in ("sums", "counts")
        )
        if {name: value.shape for name, value in sums.items()} != {
            name: value.shape for name, value in counts.items()
        }:
            raise ValueError("the saved averages have other counts than sums")
        self.sums, self.counts = sums, counts
