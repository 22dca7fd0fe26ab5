"""Half precision and autocast around a combiner."""

import pytest
import torch
from torch import nn

from mtrl_fair import FairGrad
from tests.mtrl_fair.combiners.trunk_and_heads import K, flat_grad, make, problem
from tests.task_rows import rows_of


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gradients_neither_overflow_nor_change_type(dtype):
    rows = (300 * torch.randn(K, 500, generator=torch.Generator().manual_seed(5))).to(dtype)
    direction, info = FairGrad().combine(rows, torch.ones(K))
    expected, _ = FairGrad().combine(rows.float(), torch.ones(K))
    assert direction.dtype == dtype
    torch.testing.assert_close(direction.float(), expected, rtol=2e-2, atol=1e-3)
    assert info.weights.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("way", ["backward", "combine", "scalarize", "forward"])
@pytest.mark.parametrize("name", ["fairgrad", "ls"])
def test_autocast_around_a_combiner_changes_nothing(name, way, dtype):
    """Small losses, whose Gramian and weights half precision does not hold."""
    if (name, way) == ("ls", "forward"):
        return  # which methods of losses do not have
    results = []
    for enabled in (False, True):
        trunk, _, losses = problem()
        losses = 1e-4 * losses
        rows = rows_of(losses, trunk.parameters())
        combiner = make(name)
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            if way == "backward":
                combiner.backward(losses, trunk.parameters())
                results.append(flat_grad(trunk))
            elif way == "combine":
                results.append(combiner.combine(rows, losses.detach())[0])
            elif way == "scalarize":
                results.append(combiner.scalarize(losses, trunk.parameters()).detach())
            else:
                results.append(combiner(rows.double() @ rows.double().mT).float())
    torch.testing.assert_close(*results, rtol=1e-5, atol=0)


def test_a_scalar_of_half_precision_losses_holds_large_weights():
    weight = nn.Parameter(torch.tensor([1.0, 1.0]))
    losses = (1e-6 * weight.square()).half()
    scalar = FairGrad().scalarize(losses, [weight])
    assert scalar.isfinite()
    assert scalar.dtype == torch.float32
