"""Hooks of parameters and modules in `backward`, with every method."""

import pytest
import torch
from torch import nn

from mtrl_fair import COMBINERS, FairGrad, NonFiniteError
from tests.mtrl_fair.combiners.combiner_kinds import LOSS
from tests.mtrl_fair.combiners.trunk_and_heads import K, flat_grad, make, problem
from tests.task_rows import flat, rows_of


@pytest.mark.parametrize("name", COMBINERS)
def test_a_hook_after_accumulation_is_called_once_with_the_gradient_in_place(name):
    trunk, heads, losses = problem()
    unused = nn.Parameter(torch.ones(2))
    combiner = make(name)
    for parameter in trunk.parameters():
        parameter.grad = torch.ones_like(parameter)
    seen = {}

    def hook(parameter):
        assert parameter not in seen
        assert not torch.is_grad_enabled()  # as in loss.backward()
        seen[parameter] = parameter.grad.clone()

    own = list(combiner.parameters())  # uncertainty weighting's
    for parameter in (*trunk.parameters(), *heads.parameters(), *own, unused):
        parameter.register_post_accumulate_grad_hook(hook)
    combiner.backward(losses, [*trunk.parameters(), unused], [h.parameters() for h in heads])
    assert seen.keys() == {*trunk.parameters(), *heads.parameters(), *own}
    for parameter, gradient in seen.items():
        torch.testing.assert_close(gradient, parameter.grad)
    plain_trunk, plain_heads, losses = problem()
    plain = make(name)
    plain.backward(losses, plain_trunk.parameters(), [h.parameters() for h in plain_heads])
    torch.testing.assert_close(flat_grad(trunk), 1 + flat_grad(plain_trunk))


def test_an_optimiser_may_step_in_the_hooks():
    trunk, _, losses = problem()
    before, rows = flat(trunk.parameters()), rows_of(losses, trunk.parameters())
    for parameter in trunk.parameters():

        def step(parameter):
            parameter.sub_(0.1 * parameter.grad)
            parameter.grad = None

        parameter.register_post_accumulate_grad_hook(step)
    info = FairGrad().backward(losses, trunk.parameters())
    torch.testing.assert_close(flat(trunk.parameters()), before - 0.1 * info.weights @ rows)
    assert all(parameter.grad is None for parameter in trunk.parameters())


def test_a_removed_hook_and_one_that_removes_itself():
    trunk, _, losses = problem()
    calls = []
    trunk.weight.register_post_accumulate_grad_hook(lambda p: calls.append("gone")).remove()
    handle = trunk.weight.register_post_accumulate_grad_hook(lambda p: handle.remove())
    trunk.weight.register_post_accumulate_grad_hook(lambda p: calls.append("stays"))
    FairGrad().backward(losses, trunk.parameters())
    assert calls == ["stays"]


def test_no_hook_is_called_where_a_gradient_is_not_finite():
    weight = nn.Parameter(torch.tensor([1.0, 0.0]))
    weight.register_post_accumulate_grad_hook(lambda p: pytest.fail("called"))
    with pytest.raises(NonFiniteError):
        FairGrad().backward(torch.stack([weight[0], weight[1].sqrt()]), [weight])


@pytest.mark.parametrize("name", COMBINERS)
def test_a_linear_hook_on_a_parameter_acts_on_the_task_gradients(name):
    """Here a mask, as for a layer that is frozen in part."""
    mask = (torch.arange(20) % 3 > 0).view(5, 4)
    trunk, heads, losses = problem()
    rows = rows_of(losses, trunk.parameters())
    own = torch.autograd.grad(losses[1], heads[1].weight, retain_graph=True)[0]
    calls = []

    def hook(gradient):
        calls.append(1)
        return gradient * mask

    trunk.weight.register_hook(hook)
    heads[1].weight.register_hook(lambda gradient: 3 * gradient)
    make(name).backward(losses, trunk.parameters(), [h.parameters() for h in heads])
    assert len(calls) == (1 if name in LOSS else K)
    masked = rows * torch.cat([mask.flatten(), torch.ones(5)])
    expected, _ = make(name).combine(masked, losses.detach())
    torch.testing.assert_close(flat_grad(trunk), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(heads[1].weight.grad, 3 * own)


@pytest.mark.parametrize("name", ["ls", "fairgrad"])
def test_what_the_documentation_says_of_the_other_hooks(name):
    trunk, heads, _ = problem()
    calls = []
    first = nn.Linear(4, 4)
    first.register_full_backward_hook(lambda *_: calls.append("first"))
    trunk.register_full_backward_hook(lambda *_: calls.append("second"))
    node = trunk.weight.view_as(trunk.weight).grad_fn.next_functions[0][0]
    node.register_hook(lambda *_: calls.append("node"))
    features = trunk(first(torch.randn(16, 4, requires_grad=True)))
    features.retain_grad()
    losses = torch.stack([head(features).square().mean() for head in heads])
    of_features = rows_of(losses, [features])
    features.grad = None  # in which that, too, was retained
    calls.clear()
    make(name).backward(losses, [*first.parameters(), *trunk.parameters()])
    assert calls == ["second"] * (1 if name == "ls" else K)
    torch.testing.assert_close(features.grad.flatten(), of_features.sum(0))
