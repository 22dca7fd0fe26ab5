"""Each method against its own equations."""

import numpy as np
import pytest
import scipy.optimize
import torch

from mtrl_fair import fairgrad_weights, make_combiner
from tests.mtrl_fair.combiners.method_inputs import K, direction, jacobian, losses_of, parallel


def test_si_is_the_gradient_of_the_summed_logarithm():
    losses = losses_of().requires_grad_()
    (expected,) = torch.autograd.grad((losses - 0.5).log().sum(), losses)
    combiner = make_combiner("si", num_tasks=K, min_loss=0.5)
    weights = combiner.combine(jacobian(), losses.detach())[1].weights
    torch.testing.assert_close(weights, expected)
    with pytest.raises(
        ValueError, match="si needs losses above min_loss = 0.5, but task 1 has 0.5"
    ):
        combiner.combine(jacobian(tasks=5), torch.tensor([1.0, 0.5, 1, 1, 1]))


@pytest.mark.parametrize("name", ["dwa", "uw"])
def test_a_bound_is_subtracted_from_losses(name):
    # Losses above a bound weigh what the excess weighs above 0.
    options = {"steps_per_epoch": 10} if name == "dwa" else {}
    shifted, plain = (
        make_combiner(name, num_tasks=3, min_loss=bound, **options) for bound in (-5.0, 0.0)
    )
    steps = [torch.optim.SGD([*c.parameters(), torch.zeros(1)], lr=0.5) for c in (shifted, plain)]
    generator = torch.Generator().manual_seed(3)
    for _ in range(35):
        excess = torch.rand(3, generator=generator) + torch.tensor([0.1, 1.0, 10.0])
        found = shifted.combine(torch.eye(3), excess - 5)[1].weights
        expected = plain.combine(torch.eye(3), excess)[1].weights
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
        for step in steps:
            step.step()
            step.zero_grad()
    assert found.std() > 1e-3


def test_moco_follows_its_equations_step_by_step():
    rows = [jacobian(seed, tasks=3, size=7) * 0.3 for seed in range(6)]
    beta, gamma, rho, decay = 0.6, 0.2, 0.1, 0.5
    combiner = make_combiner("moco", num_tasks=3, beta=beta, gamma=gamma, rho=rho, decay=decay)
    tracked, mixture = np.zeros((3, 7)), np.full(3, 1 / 3)
    for k, current in enumerate(rows, start=1):
        tracked = tracked - beta / k**decay * (tracked - current.numpy())
        exponent = mixture - gamma / k**decay * (tracked @ tracked.T + rho * np.eye(3)) @ mixture
        mixture = np.exp(exponent) / np.exp(exponent).sum()
        actual, info = combiner.combine(current, losses_of(tasks=3))
        np.testing.assert_allclose(actual, tracked.T @ mixture, rtol=1e-6)
        np.testing.assert_allclose(info.weights, mixture, rtol=1e-6)
    with pytest.raises(ValueError, match="do not fit the tracked ones \\[3, 7\\]"):
        combiner.combine(torch.ones(3, 8), losses_of(tasks=3))


@pytest.mark.parametrize("decades", [0.0, 4.0, 12.0])
@pytest.mark.parametrize("size", [3, 30])  # 3: more tasks than dimensions
def test_mgda_satisfies_the_conditions_of_its_optimum(decades, size):
    """No task's inner product with the point of least norm is below its squared norm."""
    for seed in range(10):
        rows = jacobian(seed, tasks=8, size=size, decades=decades, shift=1.0)
        gramian = rows @ rows.mT
        weights = make_combiner("mgda", num_tasks=8)(gramian)
        assert weights.min() >= 0
        assert float(weights.sum()) == pytest.approx(1.0)
        gains = gramian @ weights
        assert gains.min() >= (weights @ gains) * (1 - 1e-6)


@pytest.mark.parametrize("decades", [0.0, 4.0])
@pytest.mark.parametrize("tasks", [2, 8, 40])
def test_cagrad_beats_every_nearby_direction(decades, tasks):
    """It maximises the least gain within c ‖g₀‖ of the mean gradient."""
    generator = torch.Generator().manual_seed(5)
    for seed in range(3):
        rows = jacobian(seed, tasks=tasks, size=60, decades=decades)
        mean = rows.mean(0)
        radius = 0.4 * mean.norm()
        found = direction(make_combiner("cagrad", num_tasks=tasks), rows) * (1 + 0.4**2)
        assert float((found - mean).norm()) == pytest.approx(float(radius), rel=1e-9)
        best = (rows @ found).min()
        for spread in (1e-3, 1e-1, 10.0):
            step = (found - mean) + spread * radius * torch.randn(
                200, 60, dtype=torch.float64, generator=generator
            ) / 60**0.5
            others = mean + radius * step / step.norm(dim=1, keepdim=True)
            assert (others @ rows.mT).amin(1).max() <= best + 1e-9 * best.abs()


def test_cagrad_agrees_with_a_general_purpose_optimiser():
    rows = jacobian(6, tasks=4)
    gramian, c = (rows @ rows.mT).numpy(), 0.4
    mean = np.full(4, 0.25)
    radius = c * np.sqrt(mean @ gramian @ mean)
    result = scipy.optimize.minimize(
        lambda w: w @ gramian @ mean + radius * np.sqrt(w @ gramian @ w),
        mean,
        bounds=[(0, 1)] * 4,
        constraints={"type": "eq", "fun": lambda w: 1 - w.sum()},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    norm = np.sqrt(result.x @ gramian @ result.x)
    expected = (mean + radius / norm * result.x) / (1 + c**2)
    weights = make_combiner("cagrad", num_tasks=4)(rows @ rows.mT)
    np.testing.assert_allclose(weights, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("length", [1e-4, 1e-6, 1e-7, 1e-8, 1e-10, 1e-14])
def test_cagrad_helps_a_task_whose_gradient_is_much_shorter(length):
    """With g₀ = (½, 0) the worst-off task is helped most by going all of the radius its way."""
    rows = torch.tensor([[1.0, 0.0], [0.0, length]])
    expected = torch.tensor([0.5, 0.5 * 0.4]) / (1 + 0.4**2)
    found = direction(make_combiner("cagrad", num_tasks=2), rows)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=0)


def test_cagrad_without_a_radius_is_the_mean():
    combiner = make_combiner("cagrad", num_tasks=K, c=0.0)
    torch.testing.assert_close(direction(combiner, jacobian()), jacobian().mean(0))


def test_imtl_g_projects_equally_onto_every_gradient():
    for decades in (0.0, 4.0, 12.0):
        rows = jacobian(7, decades=decades)
        found = direction(make_combiner("imtl_g", num_tasks=K), rows)
        projections = rows @ found / rows.norm(dim=1)
        torch.testing.assert_close(projections, projections[0].expand(K), rtol=1e-6, atol=0)


def test_pcgrad_of_two_tasks_is_its_closed_form():
    rows = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    found = direction(make_combiner("pcgrad", num_tasks=2), rows)
    first, second = rows
    inner = first @ second
    expected = (first - inner / (second @ second) * second) + (second - inner * first)
    torch.testing.assert_close(found, expected)
    agreeing = rows.abs()
    found = direction(make_combiner("pcgrad", num_tasks=2), agreeing)
    torch.testing.assert_close(found, agreeing.sum(0))


def test_graddrop_keeps_one_sign_per_coordinate_with_the_right_probability():
    rows = torch.tensor([[3.0, -1.0, 2.0], [-1.0, -2.0, 0.0]]).repeat(1, 20_000)
    found, info = make_combiner("graddrop", num_tasks=2, seed=0).combine(rows, torch.ones(2))
    found = found.view(-1, 3)
    assert set(found[:, 0].tolist()) == {3.0, -1.0}
    assert float((found[:, 0] > 0).double().mean()) == pytest.approx(0.75, abs=0.01)
    assert set(found[:, 1].tolist()) == {-3.0}
    assert set(found[:, 2].tolist()) == {2.0}
    kept = (0.75 * 9 + 1 + 4) / (9 + 1 + 4)
    assert float(info.weights[0]) == pytest.approx(kept, abs=0.01)


def test_large_alpha_approaches_the_max_min_direction_of_mgda():
    """Over directions of one length, the least gain is largest along the point of least norm."""
    rows = jacobian(8, tasks=4, size=6, decades=0.5)
    gramian = rows @ rows.mT
    least = make_combiner("mgda", num_tasks=4)(gramian)
    cosines = []
    for alpha in (1.0, 5.0, 20.0, 100.0):
        weights = fairgrad_weights(gramian, alpha)
        cosines.append(parallel(weights @ rows, least @ rows))
    assert cosines == sorted(cosines)
    assert cosines[-1] > 0.999
    torch.testing.assert_close(weights / weights.sum(), least, rtol=0, atol=0.03)
