"""Descent on the toy problem, and the paper's claims about its trajectories."""

import pytest
import torch

from mtrl_fair import COMBINERS
from mtrl_fair.supervised.benchmarks.two_losses.problem import STARTS, toy_front_gap, toy_losses
from scripts import toy
from scripts.toy_figures.descent import (
    FRONT_TOLERANCE,
    OPTIMIZERS,
    Optimizer,
    Trajectories,
    combiner_method,
    descend,
    fairgrad_method,
    make_optimizer,
)

pytestmark = pytest.mark.slow

NEAR = [1, 3, 4]
"""The three starts from which FairGrad reaches the front within 600 steps."""


@pytest.fixture(scope="module")
def trajectories() -> Trajectories:
    """The default command's first 600 steps."""
    methods = [fairgrad_method(alpha) for alpha in toy.ALPHAS]
    return descend(methods, make_optimizer("sgd", 600, None))


@pytest.fixture(scope="module")
def full_trajectories() -> Trajectories:
    """The default command's."""
    return descend([fairgrad_method(alpha) for alpha in toy.ALPHAS], OPTIMIZERS["sgd"])


def test_fairgrad_reaches_the_front_from_three_starts(trajectories):
    assert (trajectories.reached[1:, NEAR] > 0).all()
    assert toy_front_gap(trajectories.losses[-1, 1:, NEAR]).max() <= FRONT_TOLERANCE


def test_loss_1_falls_with_alpha_from_three_starts(trajectories):
    final = trajectories.losses[-1, 1:, NEAR, 0]
    assert (final[1:] < final[:-1]).all()


def test_the_summed_loss_needs_longer(trajectories):
    assert (trajectories.reached[0] == -1).all()
    assert toy_front_gap(trajectories.losses[-1, 0]).min() > 10 * FRONT_TOLERANCE


@pytest.mark.long
def test_fairgrad_reaches_the_front_from_every_start(full_trajectories):
    assert (full_trajectories.reached[1:] > 0).all()
    assert toy_front_gap(full_trajectories.losses[-1, 1:]).max() <= FRONT_TOLERANCE


@pytest.mark.long
def test_the_summed_loss_does_not_reach_it_from_every_start(full_trajectories):
    reached = full_trajectories.reached[0]
    stuck = [start for start, step in zip(STARTS, reached, strict=True) if step < 0]
    assert stuck == [(-8.5, 7.5), (9.0, 9.0)]
    assert toy_front_gap(full_trajectories.losses[-1, 0]).max() > 1


@pytest.mark.long
def test_loss_1_falls_with_alpha_from_every_start(full_trajectories):
    final = full_trajectories.losses[-1, :, :, 0]
    assert (final[1:] < final[:-1]).all()


@pytest.mark.parametrize(
    ("steps", "starts"),
    [(1250, NEAR), pytest.param(None, range(5), marks=pytest.mark.long)],
)
def test_with_adam_the_front_is_reached_too(steps, starts):
    trajectories = descend([fairgrad_method(2.0)], make_optimizer("adam", steps, 5e-3))
    assert (trajectories.reached[:, list(starts)] > 0).all()


def test_a_trajectory_stays_where_it_reached_the_front(trajectories):
    torch.testing.assert_close(toy_losses(trajectories.points), trajectories.losses)
    step = int(trajectories.reached[1, 1])
    after = trajectories.points[trajectories.steps.index(step) :, 1, 1]
    assert len(after) > 1
    assert (after == after[0]).all()


def few_steps(number: int) -> Optimizer:
    return OPTIMIZERS["adam"]._replace(steps=number)


def test_methods_in_one_batch_equal_methods_alone():
    together = descend([fairgrad_method(1.0), fairgrad_method(2.0)], few_steps(120))
    alone = descend([fairgrad_method(2.0)], few_steps(120))
    assert together.steps == alone.steps == [0, 50, 100, 120]
    assert torch.equal(together.points[:, 1], alone.points[:, 0])


@pytest.mark.parametrize(("name", "alpha"), [("ls", 0.0), ("nash_mtl", 1.0), ("fairgrad", 2.0)])
def test_a_combiner_equals_its_alpha(name, alpha):
    named, numbered = combiner_method(name), fairgrad_method(alpha)
    batch = descend([named, numbered], few_steps(100))
    # At alpha = 1 the direction from (0, 0) has no x1 part but rounding, which Adam enlarges.
    torch.testing.assert_close(batch.points[:, 0], batch.points[:, 1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", sorted(COMBINERS))
def test_every_combiner_descends(name):
    min_loss = -21.0 if name in ("si", "dwa", "uw", "famo") else None
    torch.manual_seed(0)
    method = combiner_method(name, min_loss)
    attribute = {"uw": "log_variances", "famo": "logits"}.get(name)
    losses = descend([method], few_steps(100)).losses
    assert (losses[-1].sum(-1) < losses[0].sum(-1)).any()
    if attribute is not None:  # learnt by our optimiser, and from the second look at the losses
        assert all(getattr(combiner, attribute).any() for combiner in method.combiners)


def test_an_optimizer_has_the_given_numbers_and_else_its_own():
    assert make_optimizer("adam", None, None) == OPTIMIZERS["adam"]
    changed = make_optimizer("sgd", 7, 0.5)
    assert (changed.steps, changed.learning_rate) == (7, 0.5)
    assert changed._replace(steps=16_000, learning_rate=2e-2) == OPTIMIZERS["sgd"]
