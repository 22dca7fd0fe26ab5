"""Tasks that a batch does not hold."""

import pytest
import torch

from mtrl_fair import FairGrad
from tests.mtrl_fair.combiners.combiner_kinds import WEIGHTED
from tests.mtrl_fair.combiners.trunk_and_heads import flat_grad, make, problem


@pytest.mark.parametrize("method", ["si", "famo", "fairgrad", "dwa", "graddrop"])
def test_present_leaves_tasks_out_whatever_their_loss(method):
    """An absent task's loss of 0 would be an error, or count."""
    trunk, _, losses = problem()
    absent = torch.stack([losses[0], 0 * losses[1], losses[2]])
    present = torch.tensor([True, False, True])
    info = make(method).backward(absent, trunk.parameters(), present=present)
    assert info.weights[1] == 0
    assert flat_grad(trunk).isfinite().all()
    rows = torch.tensor([[1.0, 0.2, 0.0], [-0.5, 1.0, 0.0], [0.0, -0.3, 1.0]])
    found, info = make(method).combine(rows, torch.ones(3), present)
    assert info.weights[1] == 0
    without = rows * present.unsqueeze(1)
    expected, _ = make(method).combine(without, torch.ones(3), present)
    torch.testing.assert_close(found, expected)
    for wrong in (torch.ones(3), torch.ones(2, dtype=torch.bool)):
        with pytest.raises(ValueError, match="present must be a boolean torch tensor \\[3\\]"):
            make(method).combine(rows, torch.ones(3), wrong)


def test_an_absent_task_gets_weight_0():
    trunk, _, losses = problem()
    losses = torch.stack([losses[0], torch.zeros(()), losses[2]])
    for name in set(WEIGHTED) - {"si", "famo"}:  # which must be told, by `present`
        scalar = make(name).scalarize(torch.stack([*losses]), trunk.parameters())
        assert scalar.isfinite()
    rows, info = FairGrad().combine(torch.tensor([[1.0, 0], [0, 0], [0, 2]]), torch.ones(3))
    assert info.weights[1] == 0
    assert rows.isfinite().all()
