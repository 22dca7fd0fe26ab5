import math

import pytest
import torch

from mtrl_fair.supervised.benchmarks.dense.losses import (
    depth_loss,
    normal_loss,
    segmentation_loss,
    valid_depth,
    valid_labels,
    valid_normals,
)


def test_segmentation_is_the_mean_over_pixels_with_a_class():
    logits = torch.tensor([[0.0, 1.0, -2.0], [3.0, 0.5, 4.0]]).view(1, 2, 1, 3).requires_grad_()
    loss = segmentation_loss(logits, torch.tensor([[[1, -1, 0]]]))
    by_hand = [math.log(1 + math.exp(-3)), math.log(1 + math.exp(6))]
    assert loss.item() == pytest.approx(sum(by_hand) / 2)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[0, :, 0, 1].tolist() == [0, 0]


def test_depth_is_the_mean_absolute_error_over_known_pixels():
    depth = torch.tensor([[2.0, 0.0], [4.0, 1.0]]).view(1, 1, 2, 2)
    prediction = torch.tensor([[5.0, 9.0], [3.0, 1.5]]).view(1, 1, 2, 2).requires_grad_()
    loss = depth_loss(prediction, depth)
    assert loss.item() == pytest.approx((3 + 1 + 0.5) / 3)
    (gradient,) = torch.autograd.grad(loss, prediction)
    torch.testing.assert_close(gradient.flatten(), torch.tensor([1, 0, -1, 1]) / 3)


def test_normals_are_one_minus_the_mean_cosine_over_known_pixels():
    # By pixel: equal, at right angles, opposed, unknown, and one whose components sum to 0.
    half = math.sqrt(0.5)
    truth = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [half, -half, 0]])
    guess = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 0, -1], [0, 1, 0], [0.6, 0, 0.8]])
    truth, guess = (x.T.reshape(1, 3, 1, 5) for x in (truth, guess))
    guess.requires_grad_()
    loss = normal_loss(guess, truth)
    assert loss.item() == pytest.approx(1 - (1 + 0 - 1 + 0.6 * half) / 4)
    (gradient,) = torch.autograd.grad(loss, guess)
    assert not gradient[0, :, 0, 3].any()


@pytest.mark.parametrize(
    ("loss", "output", "target"),
    [
        (segmentation_loss, torch.randn(2, 3, 4, 5), torch.full((2, 4, 5), -1)),
        (depth_loss, torch.randn(2, 1, 4, 5), torch.zeros(2, 1, 4, 5)),
        (normal_loss, torch.randn(2, 3, 4, 5), torch.zeros(2, 3, 4, 5)),
    ],
)
def test_without_a_valid_pixel_loss_and_gradient_are_0(loss, output, target):
    output.requires_grad_()
    value = loss(output, target)
    assert value.item() == 0
    (gradient,) = torch.autograd.grad(value, output)
    assert not gradient.any()


def test_valid_pixels():
    assert valid_labels(torch.tensor([[[-1, 0, 5]]])).tolist() == [[[False, True, True]]]
    depth = torch.tensor([0.0, 0.1, 3.0]).view(1, 1, 1, 3)
    assert valid_depth(depth).tolist() == [[[[False, True, True]]]]
    normals = torch.tensor([[0.0, 0, 0], [0, 0, 1], [0.6, -0.6, 0]]).T.reshape(1, 3, 1, 3)
    assert valid_normals(normals).tolist() == [[[False, True, True]]]


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(AssertionError, match="the prediction has shape"):
        depth_loss(torch.zeros(2, 1, 4, 4), torch.ones(2, 4, 4))
    with pytest.raises(AssertionError, match="got 3 channels, expected 1"):
        depth_loss(torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4))
    with pytest.raises(AssertionError, match="the prediction has shape"):
        normal_loss(torch.zeros(2, 1, 4, 4), torch.ones(2, 3, 4, 4))
    with pytest.raises(AssertionError, match="logits have shape"):
        segmentation_loss(torch.zeros(4, 3), torch.zeros(4, dtype=torch.long))
