"""Networks with a shared trunk and one head per task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


class MultiTaskModel(nn.Module):
    """A trunk that all tasks share, and one head per task.

    Args:
        trunk: maps inputs to features, or to a list with the features for each head.
        heads: map features to outputs, one per task; they may have no parameters.
    """

    def __init__(self, trunk: nn.Module, heads: Sequence[nn.Module]):
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleList(heads)

    def forward(self, inputs: Any) -> list[Tensor]:
        """Returns one output per head."""
        features = self.trunk(inputs)
        if not isinstance(features, list):
            features = [features] * len(self.heads)
        return [head(part) for head, part in zip(self.heads, features, strict=True)]

    def shared_parameters(self) -> list[nn.Parameter]:
        """Returns the parameters of the trunk."""
        return list(self.trunk.parameters())

    def task_parameters(self) -> list[list[nn.Parameter]] | None:
        """Returns the parameters of each head; None if no head has any."""
        parameters = [list(head.parameters()) for head in self.heads]
        return parameters if any(parameters) else None
