"""Random generators that travel in checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor


def restore_generator(generator: torch.Generator, state: Tensor) -> None:
    """Continues where a saved generator stopped.

    Generators of another kind of device have states of another size: a run that moves between CPU
    and GPU goes on with a generator seeded from what was saved, since its exact continuation does
    not exist there.
    """
    state = state.cpu()
    if state.numel() == generator.get_state().numel():
        generator.set_state(state)
    else:
        weights = torch.arange(1, state.numel() + 1)
        generator.manual_seed(int((state.long() * weights).sum()))
