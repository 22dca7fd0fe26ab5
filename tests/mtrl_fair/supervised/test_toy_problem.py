import math

import pytest
import torch

from mtrl_fair.supervised.benchmarks.two_losses.problem import (
    toy_front,
    toy_front_gap,
    toy_losses,
    toy_losses_and_gradients,
    toy_starts,
)


def test_losses_at_the_starts():
    unscaled = [
        [6.5524, 7.9008],
        [0.0, 0.0],
        [7.9439, 6.6915],
        [0.3888, -4.7545],
        [-8.8311, 2.8143],
    ]
    expected = torch.tensor(unscaled, dtype=torch.float64) * torch.tensor([0.1, 1.0])
    torch.testing.assert_close(toy_losses(toy_starts()), expected, rtol=0, atol=6e-5)


def test_losses_in_each_half_by_hand():
    x = torch.tensor([[1.0, -8.0], [-7.0, 1e3]], dtype=torch.float64)
    bowl = math.tanh(4.0)
    expected = [[0.1 * bowl * -16.4, bowl * -13.6], [0.1 * 6.0, math.log(6.0) + 6.0]]
    torch.testing.assert_close(toy_losses(x), torch.tensor(expected, dtype=torch.float64))


def test_gradients_of_a_batch_equal_autograd_point_by_point():
    generator = torch.Generator().manual_seed(0)
    points = 22 * torch.rand(4, 3, 2, generator=generator, dtype=torch.float64) - 11
    losses, gradients = toy_losses_and_gradients(points)
    torch.testing.assert_close(losses, toy_losses(points))
    assert not losses.requires_grad
    for index in ((i, j) for i in range(4) for j in range(3)):
        expected = torch.autograd.functional.jacobian(toy_losses, points[index])
        torch.testing.assert_close(gradients[index], expected)


def test_the_start_at_a_kink_can_move():
    _, gradients = toy_losses_and_gradients(torch.zeros(2, dtype=torch.float64))
    assert (gradients[:, 1].abs() > 1).all()


def test_gradients_are_opposed_on_the_front_and_losses_trade_off():
    front = toy_front(torch.linspace(-6.9, 6.9, 29, dtype=torch.float64))
    losses, gradients = toy_losses_and_gradients(front)
    cosines = torch.cosine_similarity(gradients[:, 0], gradients[:, 1], dim=-1)
    torch.testing.assert_close(cosines, -torch.ones_like(cosines))
    assert (losses[:, 0].diff() < 0).all()
    assert (losses[:, 1].diff() > 0).all()


def test_the_front_bends():
    x2 = toy_front(torch.tensor([-7.0, -3.5, 0.0, 3.5, 7.0]))[:, 1]
    expected = torch.tensor([-8.4345, -8.3760, -8.3551, -8.3760, -8.4345], dtype=torch.float64)
    torch.testing.assert_close(x2, expected, rtol=0, atol=6e-5)


def test_the_front_ends():
    with pytest.raises(ValueError, match="from x1 = -7 to 7, got values from 0 to 7.5"):
        toy_front(torch.tensor([0.0, 7.5]))


def test_the_gap_is_zero_on_the_front_and_grows_off_it():
    generator = torch.Generator().manual_seed(0)
    on = toy_front(14 * torch.rand(200, generator=generator, dtype=torch.float64) - 7)
    assert toy_front_gap(toy_losses(on)).max() < 2e-6
    near, far = (on + torch.tensor([0.0, rise], dtype=torch.float64) for rise in (0.3, 1.0))
    gap_near, gap_far = toy_front_gap(toy_losses(near)), toy_front_gap(toy_losses(far))
    assert (gap_near > 5e-5).all()
    assert (gap_far > 5 * gap_near).all()


def test_the_gap_is_the_distance_to_the_nearest_point_of_a_fine_front():
    losses = toy_losses(toy_starts())
    fine = toy_losses(toy_front(torch.linspace(-7, 7, 20_001, dtype=torch.float64)))
    torch.testing.assert_close(
        toy_front_gap(losses), torch.cdist(losses, fine).amin(-1), rtol=0, atol=1e-5
    )


def test_a_small_gap_means_a_point_near_the_front():
    grid = torch.linspace(-11, 11, 89, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    gaps = torch.cat([toy_front_gap(toy_losses(part)) for part in points.split(500)])
    close = points[gaps < 1e-3]
    assert len(close) > 50
    assert (close[:, 0].abs() < 7.2).all()
    assert ((close[:, 1] + 8.4).abs() < 1.2).all()
