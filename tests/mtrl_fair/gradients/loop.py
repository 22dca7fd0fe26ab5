"""Task gradients by the slow, obvious way."""

import torch


def loop(loss_fn, parameters, batch):
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in parameters.items()}
    rows = [
        torch.autograd.grad(
            loss,
            list(leaves.values()),
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        for loss in loss_fn(leaves, batch)
    ]
    return {
        name: torch.stack(column)
        for name, column in zip(leaves, zip(*rows, strict=True), strict=True)
    }
