"""`backward`, for every combiner by name: the trunk's gradients, the heads', and the passes."""

import pytest
import torch
from torch import nn

from mtrl_fair import COMBINERS, FairGrad, fairgrad_weights, make_combiner
from tests.mtrl_fair.combiners.combiner_kinds import LOSS, WEIGHTED
from tests.mtrl_fair.combiners.trunk_and_heads import K, flat_grad, make, problem
from tests.task_rows import rows_of


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", COMBINERS)
def test_backward_combines_the_trunk_and_leaves_heads_their_own_gradient(name, weighted):
    if weighted and name == "graddrop":
        return  # which refuses, having no weights
    trunk, heads, losses = problem()
    rows = rows_of(losses, trunk.parameters())
    own = [
        torch.autograd.grad(loss, list(h.parameters()), retain_graph=True)
        for loss, h in zip(losses, heads, strict=True)
    ]
    expected, _ = make(name).combine(rows, losses.detach())
    info = make(name, weighted_heads=weighted).backward(
        losses, trunk.parameters(), [head.parameters() for head in heads]
    )
    torch.testing.assert_close(flat_grad(trunk), expected, rtol=1e-4, atol=1e-6)
    if name in WEIGHTED:
        torch.testing.assert_close(flat_grad(trunk), info.weights @ rows, rtol=1e-4, atol=1e-6)
    head_weights = info.weights if weighted else torch.ones(K)
    for head, gradients, weight in zip(heads, own, head_weights, strict=True):
        for parameter, gradient in zip(head.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad, weight * gradient)


@pytest.mark.parametrize("name", COMBINERS)
def test_methods_of_losses_cost_one_backward(name):
    """Counted by a node that every backward passes once."""
    passes = 0

    class Counter(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            nonlocal passes
            passes += 1
            return gradient

    weight = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
    make(name).backward(Counter.apply(weight).square() + 1, [weight])
    assert passes == (1 if name in LOSS else K)
    if name in WEIGHTED:
        passes = 0
        make(name).scalarize(Counter.apply(weight).square() + 1, [weight])
        assert passes == (0 if name in LOSS else K)


@pytest.mark.parametrize("name", LOSS)
def test_one_backward_gives_what_the_task_gradients_give(name):
    for way in ("backward", "combine"):
        trunk, _, losses = problem()
        combiner = make(name)
        if way == "backward":
            info = combiner.backward(losses, trunk.parameters())
            assert info.cosines.isnan().all()
            assert info.gradient_norms.isnan().all()
            expected = flat_grad(trunk), info.weights, [p.grad for p in combiner.parameters()]
        else:
            rows = rows_of(losses, trunk.parameters())
            found, info = combiner.combine(rows, losses.detach())
            actual = found, info.weights, [p.grad for p in combiner.parameters()]
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)


def test_a_head_s_gradient_survives_a_vanishing_weight():
    trunk, heads, losses = problem()
    own = torch.autograd.grad(losses[0], heads[0].weight, retain_graph=True)[0]
    combiner = make("famo")
    combiner.logits.copy_(torch.tensor([-200.0, 0.0, 0.0]))
    info = combiner.backward(losses, trunk.parameters(), [head.parameters() for head in heads])
    assert info.weights[0] == 0
    torch.testing.assert_close(heads[0].weight.grad, own)


def test_ls_is_the_gradient_of_the_sum():
    trunk, _, losses = problem()
    rows = rows_of(losses, trunk.parameters())
    make_combiner("ls", num_tasks=K).backward(losses, trunk.parameters())
    torch.testing.assert_close(flat_grad(trunk), rows.sum(0))


def test_fairgrad_s_direction_is_that_of_its_equation():
    trunk, _, losses = problem()
    rows = rows_of(losses, trunk.parameters())
    info = FairGrad(alpha=2.0).backward(losses, trunk.parameters())
    expected = fairgrad_weights((rows @ rows.mT).double(), 2.0).float()
    torch.testing.assert_close(info.weights, expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(flat_grad(trunk), expected @ rows, rtol=1e-4, atol=1e-7)


def test_backward_adds_to_existing_gradients_like_backward_does():
    trunk, _, losses = problem()
    for parameter in trunk.parameters():
        parameter.grad = torch.ones_like(parameter)
    rows = rows_of(losses, trunk.parameters())
    info = FairGrad().backward(losses, trunk.parameters())
    torch.testing.assert_close(flat_grad(trunk), 1 + info.weights @ rows)


def test_backward_frees_the_graph_and_scalarize_keeps_it():
    trunk, _, losses = problem()
    FairGrad().scalarize(losses, trunk.parameters())
    FairGrad().backward(losses, trunk.parameters())
    with pytest.raises(RuntimeError, match="a second time"):
        losses.sum().backward()


def test_frozen_parameters_are_left_out():
    trunk, _, losses = problem()
    trunk.bias.requires_grad_(False)
    FairGrad().backward(losses, trunk.parameters())
    assert trunk.bias.grad is None
    assert (trunk.weight.grad != 0).any()


@pytest.mark.parametrize("name", COMBINERS)
def test_a_shared_parameter_may_be_a_scalar(name):
    scale, weight = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
    losses = scale * weight.square() + 1
    expected, _ = make(name).combine(
        {"scale": weight.detach().square(), "weight": (4 * weight.detach()).diag()},
        losses.detach(),
    )
    make(name).backward(losses, [scale, weight])
    torch.testing.assert_close(scale.grad, expected["scale"])
    torch.testing.assert_close(weight.grad, expected["weight"])
