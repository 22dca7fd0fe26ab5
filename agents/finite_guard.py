"""What stops a learner whose losses or gradients are not finite."""

from __future__ import annotations

import torch
from torch import Tensor

from mtrl_fair import NonFiniteError


class FiniteGuard:
    """Remembers the first loss or gradient that was not finite, without waiting for the device.

    Args:
        labels: of what is watched, in the order in which an update takes its steps.
        num_tasks: K.
    """

    def __init__(self, labels: tuple[str, ...], num_tasks: int, device: torch.device):
        self.labels = labels
        # Each task's, and what was made of all of them.
        self.failed = torch.zeros(len(labels), num_tasks + 1, dtype=torch.bool, device=device)

    def see(self, label: str, of_tasks: Tensor, combined: Tensor) -> Tensor:
        """1 if these numbers or any before them were not finite, else 0: [], the `found_inf` with
        which a fused optimiser's step changes nothing.

        Args:
            of_tasks: [K].
            combined: [].
        """
        wrong = ~torch.cat([of_tasks, combined.unsqueeze(0)]).isfinite()
        first = ~self.failed.any()
        self.failed[self.labels.index(label)].logical_or_(wrong & first)
        return self.failed.any().float()

    def check(self) -> None:
        """Waits for the device; raises NonFiniteError for the first failure since the last one."""
        if self.failed.any():
            row = int(self.failed.any(1).nonzero()[0])
            tasks = self.failed[row, :-1].nonzero().flatten().tolist()
            self.failed.zero_()
            raise NonFiniteError(f"{self.labels[row]} gradient", tasks)
