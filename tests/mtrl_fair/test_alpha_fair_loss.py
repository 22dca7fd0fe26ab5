"""The α-fair transformation of losses, alone and under other methods."""

import pytest
import torch

from mtrl_fair import alpha_fair_loss
from tests.mtrl_fair.combiners.method_inputs import direction, jacobian, losses_of, make


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_the_gradient_of_the_alpha_fair_loss_is_g_over_loss_to_the_alpha(alpha):
    losses = losses_of().requires_grad_()
    (gradient,) = torch.autograd.grad(alpha_fair_loss(losses, alpha).sum(), losses)
    torch.testing.assert_close(gradient, losses.detach() ** -alpha)


def test_the_alpha_fair_loss_of_alpha_1_makes_ls_si():
    rows, losses = jacobian(16), losses_of(16)
    weights = torch.autograd.functional.jacobian(lambda x: alpha_fair_loss(x, 1.0), losses)
    fair = direction(make("ls"), weights @ rows, losses)
    torch.testing.assert_close(fair, direction(make("si"), rows, losses))


@pytest.mark.parametrize("name", ["ls", "rlw", "dwa", "uw", "mgda", "pcgrad", "cagrad"])
def test_alpha_fair_losses_go_through_every_method_of_the_paper(name):
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    losses = torch.stack([weight.square().sum(), (weight - 3).square().sum()])
    info = make(name, tasks=2).backward(alpha_fair_loss(losses, 0.5), [weight])
    rows = torch.stack([2 * weight, 2 * (weight - 3)]).detach()
    torch.testing.assert_close(weight.grad, info.weights @ (rows / losses.detach().sqrt()[:, None]))


def test_alpha_fair_losses_leave_absent_tasks_as_they_are():
    losses = torch.tensor([4.0, 0.0, 9.0], requires_grad=True)
    present = torch.tensor([True, False, True])
    transformed = alpha_fair_loss(losses, 0.5, present)
    assert transformed.tolist() == [4, 0, 6]
    (gradient,) = torch.autograd.grad(transformed.sum(), losses)
    torch.testing.assert_close(gradient, torch.tensor([0.5, 1.0, 1 / 3]))


def test_alpha_fair_losses_must_be_positive():
    with pytest.raises(ValueError, match="positive losses, but got -1.0 at index 1"):
        alpha_fair_loss(torch.tensor([1.0, -1.0]), 0.5)
    with pytest.raises(ValueError, match="alpha is nan"):
        alpha_fair_loss(torch.ones(2), float("nan"))
