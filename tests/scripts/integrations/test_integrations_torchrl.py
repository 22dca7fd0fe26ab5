"""TorchRL's losses per sample, from which the task losses are made."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.objectives import SoftUpdate

from scripts.integrations import torchrl_sac
from scripts.integrations.policy_evaluation import Transitions
from tests.scripts.integrations.short_runs import TASKS, batch

# Meta-World's one-hot wrapper makes its float64 bounds into gymnasium's default, float32.
pytestmark = pytest.mark.filterwarnings("ignore:.*Box (low|high)'s precision lowered:UserWarning")


def test_torchrl_s_mean_is_the_mean_of_its_per_sample_losses():
    torch.manual_seed(0)
    _, loss = torchrl_sac.make_loss(len(TASKS), 16)
    SoftUpdate(loss, tau=0.005)  # without one, the loss warns
    some = Transitions(*(field.flatten(0, 1) for field in batch()))
    terminated = torch.zeros(64, 1, dtype=torch.bool)
    outcome = {
        "observation": some.next_observation,
        "reward": some.reward.unsqueeze(1),
        "terminated": terminated,
        "done": terminated,
    }
    data = TensorDict(
        {"observation": some.observation, "action": some.action, "next": outcome}, [64]
    )
    torch.manual_seed(1)
    per_sample = loss(data.clone())
    loss.reduction = "mean"
    torch.manual_seed(1)
    mean = loss(data.clone())
    for key in ("loss_qvalue", "loss_actor", "loss_alpha"):
        assert per_sample[key].shape == (64,)
        torch.testing.assert_close(per_sample[key].mean(), mean[key])
