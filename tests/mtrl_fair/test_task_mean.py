import pytest
import torch

from mtrl_fair import task_mean


def test_means_per_task_and_presence():
    loss = torch.tensor([1.0, 2.0, 4.0, 8.0], requires_grad=True)
    means, present = task_mean(loss, torch.tensor([2, 0, 2, 0]), num_tasks=4)
    assert means.tolist() == [5, 0, 2.5, 0]
    assert present.tolist() == [True, False, True, False]
    means[0].backward()
    assert loss.grad.tolist() == [0, 0.5, 0, 0.5]


def test_an_absent_task_has_gradient_0():
    loss = torch.tensor([1.0], requires_grad=True)
    means, _ = task_mean(loss, torch.tensor([0]), num_tasks=2)
    means[1].backward()
    assert loss.grad.tolist() == [0]


@pytest.mark.parametrize(
    ("loss", "ids", "message"),
    [
        (torch.ones(3), torch.tensor([0, 1]), "must both have shape"),
        (torch.ones(2, 2), torch.zeros(2, 2, dtype=torch.long), "must both have shape"),
        (torch.ones(2), torch.tensor([0, 2]), "span 0 to 2, expected ids from 0 to 1"),
        (torch.ones(2), torch.tensor([-1, 0]), "span -1 to 0"),
    ],
)
def test_what_does_not_fit_is_refused(loss, ids, message):
    with pytest.raises(ValueError, match=message):
        task_mean(loss, ids, num_tasks=2)
