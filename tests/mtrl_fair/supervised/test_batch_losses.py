"""Task losses of a batch and their α-fair transformation, against numbers worked out by hand."""

import pytest
import torch
from torch import nn

from mtrl_fair import LossBoundError
from mtrl_fair.supervised.batch_losses import task_losses, task_losses_again, transform_losses
from mtrl_fair.supervised.model import MultiTaskModel
from mtrl_fair.supervised.torch_random import random_state

NAMES = ["one", "two", "three"]


class Scaled:
    """The loss of task k is (k + 1) times its head's output; task 2 may be absent."""

    def __init__(self, flags=(None, None, None)):
        self.flags = flags

    def loss(self, task, output, targets):
        return (task + 1) * output.mean() + targets

    def present(self, task, targets):
        return None if self.flags[task] is None else torch.tensor(self.flags[task])


def losses_of(benchmark, tasks):
    model = MultiTaskModel(nn.Identity(), [nn.Identity() for _ in tasks])
    return task_losses(model, benchmark, tasks, torch.tensor([1.0, 3.0]), torch.tensor(0.5))


def test_each_head_has_the_loss_of_its_task():
    losses, present = losses_of(Scaled(), [0, 1, 2])
    assert losses.tolist() == [2.5, 4.5, 6.5]
    assert present is None
    assert losses_of(Scaled(), [1])[0].tolist() == [4.5]


@pytest.mark.parametrize("flag", [True, False])
def test_tasks_that_say_nothing_about_presence_are_present(flag):
    _, present = losses_of(Scaled((None, flag, None)), [0, 1, 2])
    assert present.tolist() == [True, flag, True]


def test_the_second_look_draws_what_the_first_drew_and_changes_nothing():
    device = torch.device("cpu")
    model = MultiTaskModel(nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5)), [nn.Identity()])
    arguments = model, Scaled(), [0], torch.randn(8, 4), torch.tensor(0.5)
    start = random_state(device)
    first, _ = task_losses(*arguments)
    torch.rand(3)
    random, buffers = random_state(device), [buffer.clone() for buffer in model.buffers()]
    again, present = task_losses_again(*arguments, start, device)
    assert torch.equal(first, again)
    assert present is None
    assert not again.requires_grad
    assert torch.equal(random_state(device)["cpu"], random["cpu"])
    assert all(map(torch.equal, model.buffers(), buffers))


def test_the_transformation_is_left_out_or_that_of_the_paper():
    losses = torch.tensor([0.25, 4.0, 1.0])
    assert transform_losses(losses, None, None, NAMES) is losses
    # ℓ^(1 - α) / (1 - α)
    assert transform_losses(losses, None, 0.5, NAMES).tolist() == [1.0, 4.0, 2.0]


def test_losses_of_absent_tasks_may_be_0_and_those_of_others_are_named():
    losses = torch.tensor([0.25, 0.0, -1.0])
    absent = torch.tensor([True, False, False])
    assert transform_losses(losses, absent, 0.5, NAMES)[0] == 1
    with pytest.raises(LossBoundError, match=r"but two has 0, three has -1: train without"):
        transform_losses(losses, None, 0.5, NAMES)
    with pytest.raises(LossBoundError, match=r"but three has -1: train without"):
        transform_losses(losses, torch.tensor([True, False, True]), 0.5, NAMES)
