"""A network's parameters in one vector, so that a step, a copy or a norm is one operation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agents.networks import TaskNetwork


class FlatParameters:
    """Makes the parameters of a network views of one vector, those that tasks share first.

    The vector is what an optimiser holds; each parameter's `.grad` is a view of the vector's. The
    network must stay on its device.

    Args:
        network: its parameters get new storage and keep their values.
    """

    def __init__(self, network: TaskNetwork):
        named = dict(network.named_parameters())
        head_names = network.task_parameter_names()
        names = sorted(named, key=lambda name: name in head_names)
        self.vector = nn.Parameter(
            torch.cat([named[name].detach().flatten() for name in names]), requires_grad=False
        )
        self.vector.grad = torch.zeros_like(self.vector)
        values, gradients = (
            dict(zip(names, _views(vector, [named[name].shape for name in names]), strict=True))
            for vector in (self.vector.detach(), self.vector.grad)
        )
        for name in names:
            named[name].data = values[name]
            named[name].grad = gradients[name]
        self.shared = {name: values[name] for name in names if name not in head_names}
        self.heads = {name: values[name] for name in names if name in head_names}
        self.gradients = gradients
        self.num_shared = sum(value.numel() for value in self.shared.values())


def _views(vector: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
    parts = vector.split([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
