"""Running norms, the cap on weights and the warm-up, by what each is for."""

import pytest
import torch

from mtrl_fair import FairGrad, fairgrad_weights

K = 3
ROWS = torch.tensor([[1.0, 0, 0.1, 0], [0, 2.0, 0.1, 0], [0, -0.5, 3.0, 0.3]])
LOSSES = torch.ones(K)


def combine(combiner: FairGrad, rows: torch.Tensor = ROWS):
    return combiner.combine(rows, torch.ones(len(rows)))


def expected_weights(rows: torch.Tensor, norms: torch.Tensor, alpha: float = 2.0) -> torch.Tensor:
    unit = (rows / norms.unsqueeze(1)).double()
    return (fairgrad_weights(unit @ unit.mT, alpha) / norms).float()


def test_uncorrelated_tasks_add_a_power_of_their_norm():
    """What the class says of alpha: ‖g‖^((1 - alpha) / (1 + alpha))."""
    norms = torch.tensor([0.01, 1.0, 50.0])
    for alpha in (0.5, 1.0, 2.0):
        _, info = combine(FairGrad(alpha), norms.diag())
        share = info.weights * norms
        torch.testing.assert_close(share, norms ** ((1 - alpha) / (1 + alpha)), rtol=1e-4, atol=0)


def test_running_norms_make_the_direction_blind_to_the_scale_of_a_loss():
    generator = torch.Generator().manual_seed(0)
    steps = [torch.randn(K, 6, generator=generator) for _ in range(5)]
    scales = torch.tensor([[1e3], [1.0], [1e-4]])
    plain = FairGrad(num_tasks=K, norm_rate=0.1)
    scaled = FairGrad(num_tasks=K, norm_rate=0.1)
    for rows in steps:
        direction, info = combine(plain, rows)
        other, other_info = combine(scaled, rows * scales)
        torch.testing.assert_close(direction, other, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(
            info.weights, other_info.weights * scales.squeeze(1), rtol=1e-3, atol=1e-5
        )


def test_running_norms_are_root_mean_squares_that_begin_with_the_first():
    combiner = FairGrad(num_tasks=K, norm_rate=0.25)
    squares = None
    for factor in (1.0, 4.0, 0.5):
        rows = ROWS * torch.tensor([[factor], [1.0], [1 / factor]])
        own = rows.square().sum(1)
        squares = own if squares is None else 0.75 * squares + 0.25 * own
        direction, info = combine(combiner, rows)
        weights = expected_weights(rows, squares.sqrt())
        torch.testing.assert_close(info.weights, weights, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(direction, weights @ rows, rtol=1e-3, atol=1e-6)


def test_a_task_without_a_gradient_keeps_its_running_norm():
    combiner = FairGrad(num_tasks=K, norm_rate=0.5)
    absent = ROWS.clone()
    absent[0] = 0
    _, info = combine(combiner, absent)  # task 0 has none yet
    assert info.weights[0] == 0
    assert info.weights.isfinite().all()
    combine(combiner)
    norms = ROWS.square().sum(1).sqrt()
    combine(combiner, absent)
    _, info = combine(combiner)
    torch.testing.assert_close(info.weights, expected_weights(ROWS, norms), rtol=1e-3, atol=1e-6)


def test_weights_given_a_gramian_do_not_advance_the_running_norms():
    combiner = FairGrad(num_tasks=K, norm_rate=0.5)
    gramian = ROWS @ ROWS.mT
    first = combiner(9 * gramian)
    own = expected_weights(3 * ROWS, 3 * ROWS.norm(dim=1))
    torch.testing.assert_close(first, own, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(combiner(9 * gramian), first)
    combine(combiner)
    torch.testing.assert_close(
        combiner(gramian), expected_weights(ROWS, ROWS.norm(dim=1)), rtol=1e-3, atol=1e-6
    )


def test_larger_weights_are_cut():
    rows = torch.tensor([0.01, 1.0, 50.0]).diag()
    _, free = combine(FairGrad(), rows)
    direction, info = combine(FairGrad(max_weight=1.0), rows)
    assert free.weights[0] > 100
    torch.testing.assert_close(info.weights, free.weights.clamp(max=1))
    torch.testing.assert_close(direction, info.weights @ rows)


def test_the_first_steps_follow_the_sum():
    combiner = FairGrad(num_tasks=K, warmup_steps=2)
    for _ in range(2):
        direction, info = combine(combiner)
        torch.testing.assert_close(direction, ROWS.sum(0))
        assert info.weights.tolist() == [1, 1, 1]
    torch.testing.assert_close(combine(combiner)[0], combine(FairGrad())[0])


def test_weights_of_a_gramian_are_those_of_the_next_step_and_do_not_count():
    combiner = FairGrad(num_tasks=K, warmup_steps=1)
    gramian = ROWS @ ROWS.mT
    for _ in range(3):
        assert combiner(gramian).tolist() == [1, 1, 1]
    combine(combiner)
    torch.testing.assert_close(combiner(gramian), FairGrad()(gramian))


def test_weights_are_cut_before_they_are_scaled():
    _, info = combine(FairGrad(max_weight=0.1, scale="tasks"))
    torch.testing.assert_close(info.weights, torch.full((K,), 0.1 * K))


@pytest.mark.parametrize("options", [{"norm_rate": 0.2}, {"warmup_steps": 3}])
def test_the_state_is_complete(options):
    combiner, other = (FairGrad(num_tasks=K, **options) for _ in range(2))
    for factor in (1.0, 5.0):
        combine(combiner, ROWS * factor)
    other.load_state_dict(combiner.state_dict())
    for factor in (2.0, 0.1):
        torch.testing.assert_close(
            combine(combiner, ROWS * factor)[0], combine(other, ROWS * factor)[0], rtol=0, atol=0
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm_rate": 0.0}, "norm_rate is 0.0, expected a number in"),
        ({"norm_rate": 1.5}, "norm_rate is 1.5"),
        ({"norm_rate": 0.1, "num_tasks": None}, "norm_rate needs num_tasks"),
        ({"max_weight": 0.0}, "max_weight is 0.0, expected a positive number"),
        ({"warmup_steps": -1}, "warmup_steps is -1, expected 0 or more"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FairGrad(**{"num_tasks": K} | options)
