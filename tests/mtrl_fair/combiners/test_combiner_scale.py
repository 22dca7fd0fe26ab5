"""The options `scale` and `max_norm`, and the norms that are logged."""

import pytest
import torch
from torch import nn

from mtrl_fair import COMBINERS, FairGrad
from tests.mtrl_fair.combiners.combiner_kinds import WEIGHTED
from tests.mtrl_fair.combiners.trunk_and_heads import K, flat_grad, make, problem
from tests.task_rows import rows_of


@pytest.mark.parametrize("options", [{"scale": "tasks"}, {"scale": "norm"}, {"max_norm": 0.1}])
@pytest.mark.parametrize("name", COMBINERS)
def test_scale_and_max_norm_hold_for_every_method_and_way(name, options):
    trunk, _, losses = problem()
    rows = rows_of(losses, trunk.parameters())
    plain, _ = make(name).combine(rows, losses.detach())
    length = {
        "tasks": K * plain.norm(),
        "norm": rows.sum(0).norm(),
        None: plain.norm().clamp(max=0.1),
    }[options.get("scale")]
    expected = plain * length / plain.norm()
    combined, info = make(name, **options).combine(rows, losses.detach())
    torch.testing.assert_close(combined, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(info.direction_norm, length, rtol=1e-4, atol=0)
    if name in WEIGHTED:
        make(name, **options).scalarize(losses, trunk.parameters()).backward(retain_graph=True)
        torch.testing.assert_close(flat_grad(trunk), expected, rtol=1e-4, atol=1e-6)
        trunk.zero_grad()
    info = make(name, **options).backward(losses, trunk.parameters())
    torch.testing.assert_close(flat_grad(trunk), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(info.direction_norm, length, rtol=1e-4, atol=0)


def test_max_norm_lengthens_nothing():
    rows = 1e-3 * torch.eye(K)
    plain, _ = make("ls").combine(rows, torch.ones(K))
    limited, _ = make("ls", max_norm=1.0).combine(rows, torch.ones(K))
    torch.testing.assert_close(limited, plain)


def test_scales():
    rows = torch.randn(K, 30, generator=torch.Generator().manual_seed(3))
    plain, _ = FairGrad().combine(rows, torch.ones(K))
    times_k, info = FairGrad(scale="tasks").combine(rows, torch.ones(K))
    torch.testing.assert_close(times_k, K * plain)
    torch.testing.assert_close(info.direction_norm, times_k.norm())
    same_norm, _ = FairGrad(scale="norm").combine(rows, torch.ones(K))
    torch.testing.assert_close(same_norm.norm(), rows.sum(0).norm())
    torch.testing.assert_close(torch.cosine_similarity(same_norm, plain, dim=0), torch.tensor(1.0))


@pytest.mark.parametrize("scale", ["none", "tasks", "norm"])
def test_norms_are_those_of_the_direction_under_strong_conflict(scale):
    """Where w' A w, in float32, is all rounding: g3 nearly cancels the others."""
    generator = torch.Generator().manual_seed(4)
    first, second, rest = torch.randn(3, 1000, generator=generator)
    rows = torch.stack([first, second, -first - 0.5 * second + 1e-3 * rest])
    combiner = FairGrad(scale=scale)
    direction, info = combiner.combine(rows, torch.ones(K))
    torch.testing.assert_close(info.direction_norm, direction.norm())
    if scale == "norm":
        torch.testing.assert_close(direction.norm(), rows.sum(0).norm())
    assert (info.weights @ rows - direction).norm() < 1e-3 * direction.norm()


@pytest.mark.parametrize("name", COMBINERS)
def test_scale_norm_is_that_of_the_present_tasks_sum(name):
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [300.0, 500.0]])
    present = torch.tensor([True, True, False])
    _, info = make(name, scale="norm").combine(rows, torch.ones(K), present)
    assert float(info.direction_norm) == pytest.approx(2**0.5)
    assert info.conflicts == 0
    weight = nn.Parameter(torch.ones(2))
    losses = rows @ weight
    info = make(name, scale="norm").backward(losses, [weight], present=present)
    assert float(info.direction_norm) == pytest.approx(2**0.5)
