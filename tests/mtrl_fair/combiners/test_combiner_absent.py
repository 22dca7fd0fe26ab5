"""Tasks that a batch does not hold."""

import pytest
import torch
from torch import nn

from mtrl_fair import COMBINERS, FairGrad
from mtrl_fair.errors import NonFiniteError
from tests.mtrl_fair.combiners.combiner_kinds import WEIGHTED
from tests.mtrl_fair.combiners.trunk_and_heads import flat_grad, make, problem
from tests.task_rows import flat


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


@pytest.mark.parametrize(
    ("method", "weighted_heads"),
    [*((name, False) for name in COMBINERS), ("ls", True), ("fairgrad", True)],
)
def test_what_no_present_loss_uses_is_left_alone_as_by_an_ordinary_backward(method, weighted_heads):
    """With zeros in `.grad`, AdamW would decay a layer that nothing uses, and an absent head."""
    trunk, heads, _ = problem()
    unused = nn.Linear(5, 5)
    combiner = make(method, weighted_heads=weighted_heads)
    optimizer = torch.optim.AdamW(
        [*trunk.parameters(), *unused.parameters(), *heads.parameters()], weight_decay=0.1
    )
    idle = [*unused.parameters(), *heads[2].parameters()]
    before = flat(idle)
    busy = flat(heads[0].parameters())
    shared = [*trunk.parameters(), *unused.parameters()]
    for _ in range(10):
        optimizer.zero_grad()
        features = trunk(torch.randn(16, 4)).tanh()
        losses = torch.stack([head(features).square().mean() for head in heads])
        parts = [list(head.parameters()) for head in heads]
        combiner.backward(losses, shared, parts, torch.tensor([True, True, False]))
        optimizer.step()
    assert [parameter.grad for parameter in idle] == [None] * 4
    assert torch.equal(flat(idle), before)
    assert (flat(heads[0].parameters()) != busy).all()


@pytest.mark.parametrize("method", ["ls", "fairgrad"])
def test_a_gradient_that_is_there_stays(method):
    trunk, heads, losses = problem()
    unused = nn.Parameter(torch.ones(2))
    unused.grad = torch.tensor([3.0, 4.0])
    heads[2].weight.grad = torch.ones(1, 5)
    parts = [head.parameters() for head in heads]
    shared = [unused, *trunk.parameters()]
    make(method).backward(losses, shared, parts, torch.tensor([True, True, False]))
    assert unused.grad.tolist() == [3, 4]
    assert heads[2].weight.grad.tolist() == [[1] * 5]


@pytest.mark.parametrize("method", ["ls", "fairgrad"])
def test_parameters_that_no_loss_uses_at_all_keep_no_gradient(method):
    """Not even the shared ones: there is nothing to combine."""
    unused, used = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    info = make(method).backward(torch.stack([used.sum()] * 3), [unused])
    assert unused.grad is None
    assert info.direction_norm == 0


@pytest.mark.parametrize("method", ["ls", "fairgrad"])
def test_an_absent_task_s_head_is_not_looked_at(method):
    shared, head = nn.Parameter(torch.ones(2)), nn.Parameter(torch.zeros(1))
    losses = torch.stack([shared.sum(), head.sqrt().sum()])  # a finite loss, an infinite gradient
    with pytest.raises(NonFiniteError, match="gradient of the head"):
        make(method, tasks=2).backward(losses, [shared], [[], [head]])
    losses = torch.stack([shared.sum(), head.sqrt().sum()])
    make(method, tasks=2).backward(losses, [shared], [[], [head]], torch.tensor([True, False]))
    assert head.grad is None
