"""What stops a learner whose losses or gradients are not finite."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mtrl_fair import NonFiniteError


class NonFiniteGuard:
    """Remembers the first loss or gradient that was not finite, without waiting for the device.

    From that step until `check`, no step of critic, actor or temperature changes anything. What
    does not depend on a gradient goes on: the target network and the averaged policy move towards
    networks that stand still, and the replay takes new transitions.

    Args:
        labels: names of what is watched, in the order in which an update takes its steps.
        num_tasks: K.
        device: where losses and gradients are.
    """

    def __init__(self, labels: tuple[str, ...], num_tasks: int, device: torch.device):
        self.labels = labels
        # One column per task, and one for what was made of all of them.
        self.failed = torch.zeros(len(labels), num_tasks + 1, dtype=torch.bool, device=device)

    def record(
        self, label: str, per_task: Float[Tensor, " task"], combined: Float[Tensor, ""]
    ) -> Float[Tensor, ""]:
        """Returns 1 if these numbers or any before them were not finite, else 0.

        That is the `found_inf` with which a fused optimiser's step changes nothing.

        Args:
            label: one of the labels.
            per_task: [K], finite only if all numbers of a task are.
            combined: [], finite only if all numbers of the combined direction are.
        """
        wrong = ~torch.cat([per_task, combined.unsqueeze(0)]).isfinite()
        first = ~self.failed.any()
        self.failed[self.labels.index(label)].logical_or_(wrong & first)
        return self.failed.any().float()

    def check(self) -> None:
        """Waits for the device and raises for the first failure since the last check.

        Raises:
            NonFiniteError: it names the tasks.
        """
        if self.failed.any():
            row = int(self.failed.any(1).nonzero()[0])
            tasks = self.failed[row, :-1].nonzero().flatten().tolist()
            self.failed.zero_()
            raise NonFiniteError(f"{self.labels[row]} gradient", tasks)
