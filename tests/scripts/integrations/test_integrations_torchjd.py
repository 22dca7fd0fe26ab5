"""TorchJD's two ways of training with fair weights."""

import pytest
import torch
from torch import Tensor
from torchjd.aggregation import GramianWeightedAggregator
from torchjd.autogram import Engine
from torchjd.autojac import backward, jac_to_grad

import mtrl_fair
from mtrl_fair import FairGrad
from scripts.integrations import torchjd_fairgrad
from scripts.integrations.policy_evaluation import td_losses
from tests.scripts.integrations.gradients import assert_fair_learning
from tests.scripts.integrations.short_runs import (
    ALPHA,
    batch,
    make_critic_of_seed,
    printed_losses,
    run_script,
)
from tests.task_rows import flat, rows_of

# Meta-World's one-hot wrapper makes its float64 bounds into gymnasium's default, float32.
pytestmark = pytest.mark.filterwarnings("ignore:.*Box (low|high)'s precision lowered:UserWarning")


def test_torchjd_s_two_ways_give_our_direction():
    weighting = torchjd_fairgrad.FairGradWeighting(ALPHA)
    critic = make_critic_of_seed(2)
    parameters = list(critic.parameters())

    def losses() -> Tensor:
        critic.zero_grad()
        some = batch()
        return td_losses(critic, some)

    rows = rows_of(losses(), parameters).double()
    weights = mtrl_fair.fairgrad_weights(rows @ rows.mT, ALPHA).float()
    expected = weights @ rows.float()

    backward(losses())
    found = jac_to_grad(parameters, GramianWeightedAggregator(weighting))
    torch.testing.assert_close(found, weights, rtol=1e-3, atol=0)
    assert (flat(p.grad for p in parameters) - expected).norm() < 1e-3 * expected.norm()

    engine = Engine(critic, batch_dim=None)  # from here on, every loss must go through it
    task_losses = losses()
    found = weighting(engine.compute_gramian(task_losses))
    task_losses.backward(found)
    torch.testing.assert_close(found, weights, rtol=1e-3, atol=0)
    assert (flat(p.grad for p in parameters) - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["autojac", "autogram"])
def test_torchjd_trains_with_fair_weights(engine, monkeypatch, capsys):
    gramians, original = [], FairGrad.forward

    def spy(self, gramian):
        weights = original(self, gramian)
        gramians.append((gramian.detach().double(), weights.double()))
        return weights

    monkeypatch.setattr(FairGrad, "forward", spy)
    run_script(monkeypatch, "torchjd_fairgrad", "--engine", engine)
    assert_fair_learning(gramians, printed_losses(capsys))
