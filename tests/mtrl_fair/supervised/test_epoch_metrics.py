"""What is logged of an epoch, and under which keys."""

import pytest
import torch
from torch import nn

from mtrl_fair import make_combiner
from mtrl_fair.supervised.epoch_metrics import evaluation_rows, mean_scalars, step_values


@pytest.mark.parametrize("name", ["fairgrad", "ls"])
def test_every_value_has_its_key(name):
    x = nn.Parameter(torch.tensor([1.0, 2.0]))
    combiner = make_combiner(name, num_tasks=2)
    info = combiner.backward(torch.stack([x[0] ** 2, -x.sum()]), [x])
    losses = torch.tensor([7.0, 8.0])
    wanted = {
        "losses/a": 7.0,
        "losses/b": 8.0,
        "fairness/weight/a": float(info.weights[0]),
        "fairness/weight/b": float(info.weights[1]),
        "fairness/direction_norm": float(x.grad.norm()),
    }
    if name == "fairgrad":
        wanted |= {
            "fairness/gradient_norm/a": 2.0,
            "fairness/gradient_norm/b": 2**0.5,
            "fairness/residual": float(info.residual),
            "fairness/conflicts": 1.0,
        }
    scalars = mean_scalars(step_values(losses, info, combiner), ["a", "b"])
    assert scalars == pytest.approx(wanted)


def test_rows_have_epoch_split_task_and_metric():
    rows = evaluation_rows(3, "test", {"left/accuracy": 0.5, "normals/within_11.25": 0.25})
    assert rows == [
        (3, "test", "left", "accuracy", 0.5),
        (3, "test", "normals", "within_11.25", 0.25),
    ]
