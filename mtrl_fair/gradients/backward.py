"""One backward through a graph that several backwards may share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtrl_fair.checks import describe


def gradients_of(
    outputs: Tensor,
    inputs: Sequence[Tensor],
    weights: Tensor | None = None,
    *,
    keep_graph: bool,
) -> tuple[Tensor | None, ...]:
    """Returns the gradients of one backward; None for inputs that the outputs do not depend on.

    Args:
        outputs: a loss [], or losses [K] with weights.
        inputs: what to differentiate by.
        weights: [K], of the losses' sum.
        keep_graph: whether another backward follows.

    Raises:
        RuntimeError: the graph is that of a compiled network whose backward can run only once.
    """
    try:
        return torch.autograd.grad(
            outputs, inputs, weights, retain_graph=keep_graph, allow_unused=True
        )
    except RuntimeError as error:
        if "donated buffer" not in str(error):
            raise
        raise RuntimeError(
            "torch.compile made a backward that overwrites its graph, but each task loss needs a"
            " backward of its own: set torch._functorch.config.donated_buffer = False before the"
            " network is called for the first time"
        ) from error


def zero_if_none(
    gradients: Sequence[Tensor | None],
    parameters: Sequence[Tensor],
    names: Sequence[str] | None = None,
) -> list[Tensor]:
    """Returns gradients, with zeros for parameters that have none.

    Raises:
        ValueError: a gradient is sparse; it is named by its position if not by `names`.
    """
    found = []
    for position, (part, tensor) in enumerate(zip(gradients, parameters, strict=True)):
        if part is not None and part.layout != torch.strided:
            raise ValueError(
                f"the gradient of the shared parameter {names[position] if names else position},"
                f" {describe(part)}, is not dense, but task gradients are combined as dense"
                " vectors: use nn.Embedding(sparse=False), or a dense parameter"
            )
        if part is None:
            part = torch.zeros_like(tensor, layout=torch.strided)
        found.append(part)
    return found
