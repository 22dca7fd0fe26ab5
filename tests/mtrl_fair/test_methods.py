"""Each method against TorchJD's, and against its own equations."""

import itertools

import numpy as np
import pytest
import scipy.optimize
import torch
import torchjd.aggregation as oracle
import torchjd.scalarization as loss_oracle
from torch import Tensor

from mtrl_fair import (
    COMBINERS,
    GramianCombiner,
    JacobianCombiner,
    LossCombiner,
    alpha_fair_loss,
    fairgrad_weights,
    make_combiner,
)
from mtrl_fair.methods.pcgrad import project

K = 5
GRAMIAN = [name for name, kind in COMBINERS.items() if issubclass(kind, GramianCombiner)]
LOSS = [name for name, kind in COMBINERS.items() if issubclass(kind, LossCombiner)]
JACOBIAN = [name for name, kind in COMBINERS.items() if issubclass(kind, JacobianCombiner)]


def jacobian(
    seed: int = 0, tasks: int = K, size: int = 30, decades: float = 1.0, shift: float = 0.0
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(tasks, size, dtype=torch.float64, generator=generator) + shift
    scale = torch.rand(tasks, 1, dtype=torch.float64, generator=generator) - 0.5
    return rows * 10 ** (decades * scale)


def losses_of(seed: int = 0, tasks: int = K) -> Tensor:
    return torch.rand(tasks, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 1


def direction(combiner, rows: Tensor, losses: Tensor | None = None) -> Tensor:
    return combiner.combine(rows, losses_of(tasks=len(rows)) if losses is None else losses)[0]


def parallel(a: Tensor, b: Tensor) -> float:
    return float(torch.cosine_similarity(a, b, dim=-1).min())


def test_the_three_kinds_cover_every_method():
    assert sorted([*GRAMIAN, *LOSS, *JACOBIAN]) == sorted(COMBINERS)
    assert set(LOSS) == {"ls", "si", "rlw", "dwa", "uw", "famo"}
    assert set(JACOBIAN) == {"graddrop", "moco"}


# Against TorchJD


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_mgda_is_torchjd_s_and_closer_to_the_optimum(seed, shift):
    rows = jacobian(seed, shift=shift)
    gramian = rows @ rows.mT
    weights = make_combiner("mgda", num_tasks=K)(gramian)
    steps = oracle.MGDAWeighting(epsilon=1e-9, max_iters=20_000)(gramian)
    torch.testing.assert_close(weights @ rows, steps @ rows, rtol=1e-2, atol=1e-3)
    assert weights @ gramian @ weights <= steps @ gramian @ steps * (1 + 1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("c", [0.1, 0.4, 0.9])
def test_cagrad_is_torchjd_s_divided_by_1_plus_c_squared(seed, c):
    rows = jacobian(seed)
    expected = oracle.CAGradWeighting(c=c, norm_eps=0.0)(rows @ rows.mT) @ rows / (1 + c**2)
    actual = direction(make_combiner("cagrad", num_tasks=K, c=c), rows)
    assert (actual - expected).norm() < 1e-3 * expected.norm()
    assert (rows @ actual).min() >= (rows @ expected).min() - 1e-9  # ours is the optimum


@pytest.mark.parametrize("seed", range(5))
def test_imtl_g_is_torchjd_s(seed):
    rows = jacobian(seed)
    expected = oracle.IMTLGWeighting()(rows @ rows.mT)
    actual = make_combiner("imtl_g", num_tasks=K)(rows @ rows.mT)
    torch.testing.assert_close(actual, expected, rtol=1e-8, atol=0)


NOT_DPP = "ignore:You are solving a parameterized problem:UserWarning"  # cvxpy about TorchJD's


@pytest.mark.filterwarnings(NOT_DPP)
@pytest.mark.parametrize("seed", range(5))
def test_nash_mtl_points_where_torchjd_s_does(seed):
    """Theirs stops early (and clips to norm 1); ours solves the equation."""
    rows = jacobian(seed).float()
    expected = oracle.NashMTL(n_tasks=K, max_norm=0.0, optim_niter=100)(rows)
    combiner = make_combiner("nash_mtl", num_tasks=K)
    actual, info = combiner.combine(rows, losses_of().float())
    assert parallel(actual, expected) > 0.999
    assert info.residual < 1e-6
    assert float(actual.norm()) == pytest.approx(K**0.5, rel=1e-4)
    clipped = make_combiner("nash_mtl", num_tasks=K, max_norm=1.0)
    assert float(direction(clipped, rows, losses_of().float()).norm()) == pytest.approx(1.0)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_fairgrad_is_torchjd_s_where_that_converges(alpha):
    rows = jacobian(1, decades=0.0)
    expected = oracle.FairGradWeighting(alpha)(rows @ rows.mT)
    torch.testing.assert_close(
        fairgrad_weights(rows @ rows.mT, alpha), expected, rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("size", [3, 6])
def test_pcgrad_is_torchjd_s_in_the_same_orders(seed, size, monkeypatch):
    rows = jacobian(seed, size=size)
    gramian = rows @ rows.mT
    orders = torch.rand(K, K, generator=torch.Generator().manual_seed(seed)).argsort(-1)
    remaining = iter(orders)
    monkeypatch.setattr(torch, "randperm", lambda size: next(remaining))
    expected = oracle.PCGradWeighting()(gramian)
    torch.testing.assert_close(project(gramian, orders), expected, rtol=1e-10, atol=1e-12)


def test_graddrop_and_rlw_are_torchjd_s_from_the_same_seed():
    rows = jacobian(2)
    torch.manual_seed(7)
    expected = oracle.GradDrop()(rows)
    torch.testing.assert_close(
        direction(make_combiner("graddrop", num_tasks=K, seed=7), rows), expected
    )
    torch.manual_seed(7)
    weights = oracle.RandomWeighting()(rows)
    info = make_combiner("rlw", num_tasks=K, seed=7).combine(rows, losses_of())[1]
    torch.testing.assert_close(info.weights, weights)


def scalar_gradient(scalarizer, losses: Tensor) -> Tensor:
    """dL/dℓ of a TorchJD scalarizer: the weights it stands for."""
    leaf = losses.clone().requires_grad_()
    return torch.autograd.grad(scalarizer(leaf), leaf)[0]


def test_dwa_is_torchjd_s():
    combiner = make_combiner("dwa", num_tasks=3, steps_per_epoch=4)
    theirs = loss_oracle.DWA(temperature=2.0)
    generator = torch.Generator().manual_seed(3)
    for step in range(16):
        losses = torch.rand(3, generator=generator) + 0.1
        expected = scalar_gradient(theirs, losses)
        weights = combiner.combine(torch.eye(3), losses)[1].weights
        torch.testing.assert_close(weights, expected)
        if step % 4 == 3:
            theirs.step()
    assert weights.std() > 0.01  # the last epochs were not uniform


@pytest.mark.parametrize("name", ["dwa", "uw"])
def test_a_bound_is_subtracted_from_losses(name):
    # Losses above a bound weigh what the excess weighs above 0.
    shifted, plain = (make_combiner(name, num_tasks=3, min_loss=bound) for bound in (-5.0, 0.0))
    steps = [torch.optim.SGD([*c.parameters(), torch.zeros(1)], lr=0.5) for c in (shifted, plain)]
    generator = torch.Generator().manual_seed(3)
    for _ in range(350):
        excess = torch.rand(3, generator=generator) + torch.tensor([0.1, 1.0, 10.0])
        found = shifted.combine(torch.eye(3), excess - 5)[1].weights
        expected = plain.combine(torch.eye(3), excess)[1].weights
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
        for step in steps:
            step.step()
            step.zero_grad()
    assert found.std() > 1e-3


def test_uw_is_torchjd_s():
    combiner, theirs = make_combiner("uw", num_tasks=3), loss_oracle.UW(3)
    ours_step = torch.optim.SGD(combiner.parameters(), lr=0.5)
    theirs_step = torch.optim.SGD(theirs.parameters(), lr=0.5)
    for losses in (torch.tensor([1.0, 10.0, 0.1]), torch.tensor([0.5, 7.0, 0.2])):
        expected = scalar_gradient(theirs, losses)
        weights = combiner.combine(torch.eye(3), losses)[1].weights
        torch.testing.assert_close(weights, expected)
        theirs(losses).backward()
        ours_step.step()
        theirs_step.step()
        torch.testing.assert_close(combiner.log_variances, theirs.log_var)
        for optimizer in (ours_step, theirs_step):
            optimizer.zero_grad()


def test_famo_is_torchjd_s():
    combiner = make_combiner("famo", num_tasks=3, min_loss=0.05)
    theirs = loss_oracle.FAMO(3, min_losses=torch.full((3,), 0.05))
    generator = torch.Generator().manual_seed(4)
    for _ in range(30):
        before, after = torch.rand(2, 3, generator=generator) + 0.1
        expected = scalar_gradient(theirs, before)
        weights = combiner.combine(torch.eye(3), before)[1].weights
        torch.testing.assert_close(weights, expected, rtol=1e-5, atol=1e-6)
        theirs.update(after)
        combiner.after_step(after)
    assert combiner.logits.abs().max() > 0.01


# Against their equations


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


# Properties of all


def make(name: str, tasks: int = K, **options):
    if name in ("rlw", "pcgrad", "graddrop"):
        options["seed"] = 11
    return make_combiner(name, num_tasks=tasks, **options)


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
    assert (rows @ direction(make("pcgrad", 2), rows) > 0).all()
    assert (rows @ direction(make("ls", 2), rows) < 0).any()


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
    found = direction(make(name, 1), gradient, torch.tensor([3.0], dtype=torch.float64))
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
    alone = make(name, 4).combine(rows[kept], losses[kept])[0]
    assert parallel(found, alone) > 1 - 1e-9 or name == "moco"


@pytest.mark.parametrize("name", COMBINERS)
def test_no_task_with_a_gradient_gives_no_direction(name):
    found, info = make(name).combine(torch.zeros(K, 7), losses_of().float())
    assert found.tolist() == [0] * 7
    assert info.weights.tolist() == [0] * K


@pytest.mark.parametrize("name", [*GRAMIAN])
def test_pareto_stationary_gradients_give_finite_weights(name):
    rows = torch.tensor([[1.0, 0.0], [-2.0, 0.0]], dtype=torch.float64)
    found, info = make(name, 2).combine(rows, losses_of(tasks=2))
    assert info.weights.isfinite().all()
    if name in ("mgda", "pcgrad"):
        assert found.abs().max() < 1e-9
    if name == "cagrad":  # the shortest step of the ball around the mean of -0.5
        torch.testing.assert_close(found, torch.tensor([-0.3 / 1.16, 0.0]).double())


@pytest.mark.parametrize("name", COMBINERS)
def test_a_state_dict_in_the_middle_of_a_sequence_continues_bit_for_bit(name, tmp_path):
    def step(combiner, seed: int) -> Tensor:
        found, _ = combiner.combine(jacobian(seed).float(), losses_of(seed).float())
        combiner.after_step(losses_of(seed + 100).float())
        for parameter in combiner.parameters():
            parameter.data -= 0.1 * parameter.grad
            parameter.grad = None
        return found

    options = {"steps_per_epoch": 2} if name == "dwa" else {}
    combiner = make_combiner(name, num_tasks=K, **options)
    for seed in range(5):
        step(combiner, seed)
    torch.save(combiner.state_dict(), tmp_path / "state.pt")
    expected = [step(combiner, seed) for seed in range(5, 12)]
    fresh = make_combiner(name, num_tasks=K, **options)
    fresh.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for seed, found in zip(range(5, 12), expected, strict=True):
        assert torch.equal(step(fresh, seed), found)


@pytest.mark.parametrize("name", ["rlw", "pcgrad", "graddrop"])
def test_randomness_follows_the_seed_or_the_global_generator(name):
    rows = jacobian(13, size=6)

    def draws(**options) -> list[Tensor]:
        combiner = make_combiner(name, num_tasks=K, **options)
        return [direction(combiner, rows) for _ in range(3)]

    def same(a: list[Tensor], b: list[Tensor]) -> bool:
        return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))

    assert same(draws(seed=3), draws(seed=3))
    assert not same(draws(seed=3), draws(seed=4))
    first = draws(seed=3)
    assert not torch.equal(first[0], first[1])
    torch.manual_seed(5)
    by_global = draws()
    torch.manual_seed(5)
    assert same(by_global, draws())
    torch.manual_seed(6)
    assert not same(by_global, draws())


@pytest.mark.parametrize("name", [name for name in GRAMIAN if name != "pcgrad"])
def test_gramians_are_solved_entry_by_entry(name):
    rows = torch.stack([jacobian(seed) for seed in range(6)]).view(2, 3, K, -1)
    batch = make(name)(rows @ rows.mT)
    for i, j in itertools.product(range(2), range(3)):
        alone = make(name)(rows[i, j] @ rows[i, j].mT)
        torch.testing.assert_close(batch[i, j], alone, rtol=1e-8, atol=1e-12)


def test_pcgrad_takes_batches():
    rows = jacobian(14, tasks=2, size=4)
    batch = make("pcgrad", 2)((rows @ rows.mT).expand(3, 2, 2))
    torch.testing.assert_close(batch[2], make("pcgrad", 2)(rows @ rows.mT))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cagrad", {"c": -1.0}, "c is -1.0"),
        ("dwa", {"temperature": 0.0}, "temperature is 0.0"),
        ("dwa", {"steps_per_epoch": 0}, "steps_per_epoch is 0"),
        ("famo", {"learning_rate": -1.0}, "learning_rate is -1.0"),
        ("moco", {"beta": float("nan")}, "beta is nan"),
        ("graddrop", {"weighted_heads": True}, "graddrop has no weights"),
        ("fairgrad", {"max_norm": 0.0}, "max_norm is 0.0"),
    ],
)
def test_impossible_options_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_combiner(name, num_tasks=2, **options)


def test_famo_s_second_look_needs_a_first():
    with pytest.raises(ValueError, match="call backward first"):
        make_combiner("famo", num_tasks=2).after_step(torch.ones(2))
    assert [name for name in COMBINERS if make(name).looks_again] == ["famo"]


@pytest.mark.filterwarnings(NOT_DPP)
def test_torchjd_weightings_of_both_kinds_are_accepted():
    rows = jacobian(15)
    for weighting in (
        oracle.AlignedMTLWeighting(),
        oracle.PCGradWeighting(),
        oracle.MeanWeighting(),
        oracle.MGDAWeighting() << (lambda matrix: matrix @ matrix.mT),
    ):
        combiner = make_combiner(weighting, num_tasks=K)
        found, info = combiner.combine(rows, losses_of())
        torch.testing.assert_close(found, info.weights @ rows)
    nash = make_combiner(oracle.NashMTL(n_tasks=K).weighting, num_tasks=K)
    found, info = nash.combine(rows.float(), losses_of().float())
    assert parallel(found, direction(make("nash_mtl"), rows.float(), losses_of().float())) > 0.999
    for aggregator in (oracle.MGDA(), oracle.Mean()):
        with pytest.raises(TypeError, match="give its weighting"):
            make_combiner(aggregator, num_tasks=K)


def test_absent_tasks_leave_no_trace_in_the_state():
    """Of the losses and gradients given for them."""
    present = torch.tensor([True, False, True])
    for name, options in [("dwa", {"steps_per_epoch": 2}), ("famo", {}), ("moco", {})]:
        states = []
        for loss, gradient in ((1.0, 0.0), (50.0, 3.0)):
            combiner = make(name, 3, **options)
            combiner.combine(torch.eye(3), torch.tensor([1.0, 2.0, 3.0]))
            combiner.after_step(torch.tensor([0.9, 1.5, 2.0]))
            rows = torch.eye(3)
            rows[1] *= gradient
            for _ in range(3):
                combiner.combine(rows, torch.tensor([1.0, loss, 3.0]), present)
                combiner.after_step(torch.tensor([0.5, loss, 2.0]))
            states.append(combiner.state_dict())
        for key, value in states[0].items():
            torch.testing.assert_close(value, states[1][key], rtol=0, atol=0, equal_nan=True)
        assert all(
            value.isfinite().all() for key, value in states[0].items() if key != "log_losses"
        )


def test_a_weighting_of_the_matrix_is_not_asked_about_absent_tasks():
    combiner = make_combiner(oracle.MeanWeighting(), num_tasks=3)
    rows = torch.eye(3)
    found, info = combiner.combine(rows, torch.ones(3), torch.tensor([True, False, True]))
    assert info.weights[1] == 0
    assert found[1] == 0


# The alpha-fair transformation


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
    info = make(name, 2).backward(alpha_fair_loss(losses, 0.5), [weight])
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
