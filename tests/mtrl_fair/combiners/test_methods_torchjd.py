"""Each method against TorchJD's, and TorchJD's weightings as methods."""

import pytest
import torch
import torchjd.aggregation as oracle
import torchjd.scalarization as loss_oracle
from torch import Tensor

from mtrl_fair import fairgrad_weights, make_combiner
from mtrl_fair.combiners.methods.pcgrad import project
from mtrl_fair.combiners.torchjd import GramianWeighting, MatrixWeighting, weighting_class
from tests.mtrl_fair.combiners.method_inputs import (
    K,
    direction,
    jacobian,
    losses_of,
    make,
    parallel,
)

NOT_DPP = "ignore:You are solving a parameterized problem:UserWarning"  # cvxpy about TorchJD's


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_mgda_is_torchjd_s_and_closer_to_the_optimum(seed, shift):
    rows = jacobian(seed, shift=shift)
    gramian = rows @ rows.mT
    weights = make_combiner("mgda", num_tasks=K)(gramian)
    ours, theirs = (
        weights @ rows,
        oracle.MGDAWeighting(epsilon=1e-9, max_iters=2_000)(gramian) @ rows,
    )
    torch.testing.assert_close(ours, theirs, rtol=3e-2, atol=3e-3)
    # In a convex set, the point of least norm is nearer to every other than their squares differ.
    squares = float(theirs.square().sum()), float(ours.square().sum())
    assert (ours - theirs).square().sum() <= (squares[0] - squares[1]) * (1 + 1e-9) + 1e-12


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


OF_MATRIX = {
    *("ConstantWeighting", "ExcessMTLWeighting", "MeanWeighting", "MoDoWeighting"),
    *("RandomWeighting", "SDMGradWeighting", "SumWeighting"),
}
WEIGHTINGS = [
    getattr(oracle, name)
    for name in oracle.__all__
    if issubclass(getattr(oracle, name), oracle.Weighting) and name != "Weighting"
]


@pytest.mark.parametrize("kind", WEIGHTINGS, ids=lambda kind: kind.__name__)
def test_every_weighting_of_torchjd_is_asked_with_what_it_expects(kind):
    if kind is oracle.CRMOGMWeighting:  # smooths another's
        for other in (oracle.MeanWeighting(), oracle.MGDAWeighting()):
            wrapped = kind(kind(other))
            assert weighting_class(wrapped) is weighting_class(other)
        return
    expected = MatrixWeighting if kind.__name__ in OF_MATRIX else GramianWeighting
    assert weighting_class(object.__new__(kind)) is expected


def test_what_is_not_known_of_torchjd_is_refused():
    class Renamed(oracle.Weighting):
        """As a weighting whose base class has another name in the next release."""

        def forward(self, statistic):
            return statistic.diagonal()

    for unknown in (Renamed(), loss_oracle.Mean(), oracle.CRMOGMWeighting(Renamed())):
        with pytest.raises(TypeError, match="is not known: if it returns weights for a Gramian"):
            make_combiner(unknown, num_tasks=K)
    Renamed.__module__ = "torchjd.aggregation"
    with pytest.raises(TypeError, match="TorchJD's Renamed asks for the Gramian or for the task"):
        make_combiner(Renamed(), num_tasks=K)
    combiner = make_combiner(lambda gramian: Renamed()(gramian), num_tasks=K)
    rows = jacobian(3)
    torch.testing.assert_close(combiner.combine(rows, losses_of())[1].weights, rows.square().sum(1))


@pytest.mark.filterwarnings(NOT_DPP)
def test_torchjd_weightings_of_both_kinds_are_accepted():
    rows = jacobian(15)
    for weighting in (
        oracle.AlignedMTLWeighting(),
        oracle.PCGradWeighting(),
        oracle.MeanWeighting(),
        oracle.MGDAWeighting() << (lambda matrix: matrix @ matrix.mT),
        oracle.CRMOGMWeighting(oracle.MGDAWeighting()),
        oracle.CRMOGMWeighting(oracle.RandomWeighting()),
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


def test_a_weighting_of_the_matrix_is_not_asked_about_absent_tasks():
    combiner = make_combiner(oracle.MeanWeighting(), num_tasks=3)
    rows = torch.eye(3)
    found, info = combiner.combine(rows, torch.ones(3), torch.tensor([True, False, True]))
    assert info.weights[1] == 0
    assert found[1] == 0
