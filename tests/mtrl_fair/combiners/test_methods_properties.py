"""What holds of every method: symmetry, scales, tasks without gradient, conflicts, batches."""

import itertools

import pytest
import torch

from mtrl_fair import COMBINERS
from mtrl_fair.combiners.methods.pcgrad import project
from tests.mtrl_fair.combiners.combiner_kinds import GRAMIAN, JACOBIAN, LOSS
from tests.mtrl_fair.combiners.method_inputs import (
    K,
    direction,
    jacobian,
    losses_of,
    make,
    parallel,
)


def test_the_three_kinds_cover_every_method():
    assert sorted([*GRAMIAN, *LOSS, *JACOBIAN]) == sorted(COMBINERS)
    assert set(LOSS) == {"ls", "si", "rlw", "dwa", "uw", "famo"}
    assert set(JACOBIAN) == {"graddrop", "moco"}


@pytest.mark.parametrize("name", sorted(set(COMBINERS) - {"rlw", "pcgrad"}))
def test_permuting_tasks_permutes_weights_and_keeps_the_direction(name):
    rows, losses, order = jacobian(9), losses_of(9), torch.tensor([2, 0, 4, 1, 3])
    found, info = make(name).combine(rows, losses)
    permuted, permuted_info = make(name).combine(rows[order], losses[order])
    torch.testing.assert_close(permuted, found, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(permuted_info.weights, info.weights[order], rtol=1e-6, atol=1e-9)


def test_pcgrad_s_permutation_moves_with_its_orders():
    rows, order = jacobian(9, size=6), torch.tensor([2, 0, 4, 1, 3])
    orders = torch.rand(K, K, generator=torch.Generator().manual_seed(0)).argsort(-1)
    position = order.argsort()
    expected = project(rows @ rows.mT, orders)[order]
    moved = rows[order]
    torch.testing.assert_close(project(moved @ moved.mT, position[orders][order]), expected)


@pytest.mark.parametrize("name", ["mgda", "nash_mtl", "fairgrad", "imtl_g"])
def test_methods_that_promise_it_never_conflict(name):
    for seed in range(20):
        rows = jacobian(seed, size=40)
        found = direction(make(name), rows)
        gains = rows @ found
        assert (gains > 0).all() or (name == "imtl_g" and (gains < 0).all())


def test_pcgrad_of_two_tasks_never_conflicts_and_ls_may():
    rows = torch.tensor([[10.0, 1.0], [-1.0, 1.0]], dtype=torch.float64)
    assert (rows @ direction(make("pcgrad", tasks=2), rows) > 0).all()
    assert (rows @ direction(make("ls", tasks=2), rows) < 0).any()


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", COMBINERS)
def test_extreme_gradient_scales_stay_finite(name, scale, dtype):
    rows = (jacobian(10, decades=4) * scale).to(dtype)
    found, info = make(name).combine(rows, losses_of().to(dtype))
    assert found.isfinite().all()
    assert info.weights.isfinite().all()
    assert found.norm() > 0
    assert found.dtype == dtype


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("name", LOSS)
def test_extreme_losses_stay_finite(name, scale):
    combiner = make(name, steps_per_epoch=1) if name == "dwa" else make(name)
    for seed in range(4):
        losses = losses_of(seed).float() * scale
        _, info = combiner.combine(jacobian().float(), losses)
        combiner.after_step(losses_of(seed + 50).float() * scale)
        assert info.weights.isfinite().all()
        assert (info.weights > 0).all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *[(name, 1.0) for name in ("ls", "rlw", "dwa", "mgda", "pcgrad", "graddrop", "imtl_g")],
        ("famo", 1.0),
        ("uw", 0.5),
        ("si", 1 / 3),
        ("cagrad", 1.4 / 1.16),
        ("nash_mtl", 1 / 5),
        ("fairgrad", 25 ** (-2 / 3)),
        ("moco", 0.5),
    ],
)
def test_a_single_task_is_followed_exactly(name, expected):
    gradient = torch.tensor([[3.0, -4.0]], dtype=torch.float64)
    found = direction(make(name, tasks=1), gradient, torch.tensor([3.0], dtype=torch.float64))
    torch.testing.assert_close(found, expected * gradient[0], rtol=1e-7, atol=0)


@pytest.mark.parametrize("name", COMBINERS)
def test_a_task_without_gradient_has_weight_0_and_changes_no_other(name):
    """RLW, DWA and FAMO normalise over all tasks, so there the others keep their proportions."""
    rows, losses = jacobian(12), losses_of(12)
    kept = [0, 1, 3, 4]
    rows[2] = 0
    found, info = make(name).combine(rows, losses)
    assert info.weights[2] == 0
    if name in ("rlw", "pcgrad"):  # which draw as many numbers as there are tasks
        assert found.isfinite().all()
        return
    alone = make(name, tasks=4).combine(rows[kept], losses[kept])[0]
    assert parallel(found, alone) > 1 - 1e-9 or name == "moco"


@pytest.mark.parametrize("name", COMBINERS)
def test_no_task_with_a_gradient_gives_no_direction(name):
    found, info = make(name).combine(torch.zeros(K, 7), losses_of().float())
    assert found.tolist() == [0] * 7
    assert info.weights.tolist() == [0] * K


@pytest.mark.parametrize("name", [*GRAMIAN])
def test_pareto_stationary_gradients_give_finite_weights(name):
    rows = torch.tensor([[1.0, 0.0], [-2.0, 0.0]], dtype=torch.float64)
    found, info = make(name, tasks=2).combine(rows, losses_of(tasks=2))
    assert info.weights.isfinite().all()
    if name in ("mgda", "pcgrad"):
        assert found.abs().max() < 1e-9
    if name == "cagrad":  # the shortest step of the ball around the mean of -0.5
        torch.testing.assert_close(found, torch.tensor([-0.3 / 1.16, 0.0]).double())


def test_imtl_g_may_lead_uphill_for_every_task_though_none_conflict():
    """What its description warns of; no other method does."""
    rows = torch.tensor([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.1, 0.1, 0.02]])
    for name in COMBINERS:
        direction, info = make(name, tasks=3).combine(rows, losses_of(tasks=3).float().abs())
        assert info.conflicts == 0
        assert ((rows @ direction < 0) if name == "imtl_g" else (rows @ direction > 0)).all()
    _, info = make("imtl_g", tasks=3).combine(rows, torch.ones(3))
    assert (info.weights < 0).any()


@pytest.mark.parametrize("name", [name for name in GRAMIAN if name != "pcgrad"])
def test_gramians_are_solved_entry_by_entry(name):
    rows = torch.stack([jacobian(seed) for seed in range(6)]).view(2, 3, K, -1)
    batch = make(name)(rows @ rows.mT)
    for i, j in itertools.product(range(2), range(3)):
        alone = make(name)(rows[i, j] @ rows[i, j].mT)
        torch.testing.assert_close(batch[i, j], alone, rtol=1e-8, atol=1e-12)


def test_pcgrad_takes_batches():
    rows = jacobian(14, tasks=2, size=4)
    batch = make("pcgrad", tasks=2)((rows @ rows.mT).expand(3, 2, 2))
    torch.testing.assert_close(batch[2], make("pcgrad", tasks=2)(rows @ rows.mT))
