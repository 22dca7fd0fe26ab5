"""Mixed precision with a gradient scaler, and fair weights."""

import pytest
import torch
from torch import Tensor

import mtrl_fair
from mtrl_fair import FairGrad
from scripts.integrations import amp
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


def amp_step(update, init_scale: float, dtype=torch.bfloat16) -> Tensor:
    """What one step of plain SGD subtracts from the parameters."""
    some = batch()
    critic = make_critic_of_seed(4)
    before = flat(critic.parameters())
    optimizer = torch.optim.SGD(critic.parameters(), lr=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=init_scale)
    torch.manual_seed(5)
    update(critic, some, FairGrad(ALPHA), optimizer, scaler, dtype)
    return before - flat(critic.parameters())


def scale_then_weigh(critic, some, combiner, optimizer, scaler, dtype) -> None:
    """The wrong order."""
    with torch.autocast("cpu", dtype=dtype):
        losses = td_losses(critic, some)
    loss = combiner.scalarize(scaler.scale(losses), critic.parameters())
    optimizer.zero_grad()
    loss.backward()
    scaler.step(optimizer)
    scaler.update()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_step_is_that_of_the_unscaled_losses_whatever_the_scale(dtype):
    some, critic = batch(), make_critic_of_seed(4)
    torch.manual_seed(5)
    with torch.autocast("cpu", dtype=dtype):
        losses = td_losses(critic, some)
    rows = rows_of(losses, critic.parameters())
    weights = mtrl_fair.fairgrad_weights(rows.double() @ rows.double().mT, ALPHA).float()
    expected = weights @ rows
    for init_scale in (1.0, 2.0**6, 2.0**10):
        step = amp_step(amp.update, init_scale, dtype)
        assert (step - expected).norm() < 0.01 * expected.norm()
    torch.manual_seed(5)
    FairGrad(ALPHA).backward(td_losses(critic, some), critic.parameters())
    in_float32 = flat(p.grad for p in critic.parameters())
    assert torch.cosine_similarity(step, in_float32, dim=0) > 0.99


def test_scaling_before_the_weights_would_shrink_the_step():
    right = amp_step(amp.update, 2.0**10)
    wrong = amp_step(scale_then_weigh, 2.0**10)
    # d(cJ) = c^((1 - alpha) / (1 + alpha)) d, and the scaler divides by c
    shrunk = (2.0**10) ** ((1 - ALPHA) / (1 + ALPHA) - 1)
    torch.testing.assert_close(wrong.norm() / right.norm(), torch.tensor(shrunk), rtol=0.01, atol=0)
    unscaled = amp_step(scale_then_weigh, 1.0)
    torch.testing.assert_close(unscaled, amp_step(amp.update, 1.0))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision_trains_with_fair_weights(dtype, monkeypatch, capsys):
    seen, original = [], FairGrad.scalarize

    def spy(self, task_losses, shared_parameters):
        parameters = list(shared_parameters)
        rows = rows_of(task_losses, parameters).double()
        loss = original(self, task_losses, parameters)
        (weights,) = torch.autograd.grad(loss, task_losses, retain_graph=True)
        seen.append((rows @ rows.mT, weights))
        return loss

    monkeypatch.setattr(FairGrad, "scalarize", spy)
    run_script(monkeypatch, "amp", "--dtype", dtype)
    assert_fair_learning(seen, printed_losses(capsys))
