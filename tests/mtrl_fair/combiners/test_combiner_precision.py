"""Half precision and autocast around a combiner."""

import pytest
import torch
from torch import Tensor, nn

from mtrl_fair import FairGrad, LossCombiner
from tests.mtrl_fair.combiners.trunk_and_heads import K, flat_grad, make, problem
from tests.task_rows import rows_of


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gradients_neither_overflow_nor_change_type(dtype):
    rows = (300 * torch.randn(K, 500, generator=torch.Generator().manual_seed(5))).to(dtype)
    direction, info = FairGrad().combine(rows, torch.ones(K))
    expected, _ = FairGrad().combine(rows.float(), torch.ones(K))
    assert direction.dtype == dtype
    torch.testing.assert_close(direction.float(), expected, rtol=2e-2, atol=1e-3)
    assert info.weights.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("way", ["backward", "combine", "scalarize", "forward"])
@pytest.mark.parametrize("name", ["fairgrad", "ls"])
def test_autocast_around_a_combiner_changes_nothing(name, way, dtype):
    """Small losses, whose Gramian and weights half precision does not hold."""
    if (name, way) == ("ls", "forward"):
        return  # which methods of losses do not have
    results = []
    for enabled in (False, True):
        trunk, _, losses = problem()
        losses = 1e-4 * losses
        rows = rows_of(losses, trunk.parameters())
        combiner = make(name)
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            if way == "backward":
                combiner.backward(losses, trunk.parameters())
                results.append(flat_grad(trunk))
            elif way == "combine":
                results.append(combiner.combine(rows, losses.detach())[0])
            elif way == "scalarize":
                results.append(combiner.scalarize(losses, trunk.parameters()).detach())
            else:
                results.append(combiner(rows.double() @ rows.double().mT).float())
    torch.testing.assert_close(*results, rtol=1e-5, atol=0)


def test_a_scalar_of_half_precision_losses_holds_large_weights():
    weight = nn.Parameter(torch.tensor([1.0, 1.0]))
    losses = (1e-6 * weight.square()).half()
    scalar = FairGrad().scalarize(losses, [weight])
    assert scalar.isfinite()
    assert scalar.dtype == torch.float32


class GivenWeights(LossCombiner):
    def __init__(self, weights: list[float], **options):
        super().__init__(**options)
        self.weights = torch.tensor(weights)

    def weigh(self, task_losses: Tensor, present: Tensor) -> Tensor:
        assert task_losses.dtype == torch.float32
        return self.weights


FACTORS, HEADS = torch.tensor([3.0, 5.0]), torch.tensor([0.002, 1.0])
OF_FLOAT16 = pytest.mark.parametrize("loss_dtype", [torch.float16, torch.float32])
BEYOND_FLOAT16 = pytest.mark.parametrize(
    "weights", [[1e6, 2.0], [1e-9, 2.0], [1e-9, 0.0], [1e-12, 1e6], [2.0, 0.5]]
)


@BEYOND_FLOAT16
@OF_FLOAT16
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("way", ["backward", "differentiate"])
def test_float16_heads_keep_their_gradient_under_any_weight(way, weighted, loss_dtype, weights):
    """The losses are ℓ_k = trunk_k head_k, where only the weights are beyond float16."""
    trunk, heads = FACTORS.half(), HEADS.half()
    combiner = GivenWeights(weights, weighted_heads=weighted, scale="norm")
    if way == "backward":
        parameters = [nn.Parameter(trunk), nn.Parameter(heads[:1]), nn.Parameter(heads[1:])]
        losses = (parameters[0] * torch.cat(parameters[1:])).to(loss_dtype)
        info = combiner.backward(losses, parameters[:1], [[head] for head in parameters[1:]])
        direction, head_gradients = parameters[0].grad, torch.cat([p.grad for p in parameters[1:]])
    else:
        _, directions, gradients, info = combiner.differentiate(
            lambda p, batch: (p["trunk"] * p["heads"]).to(loss_dtype),
            {"trunk": trunk},
            torch.zeros(2, 1),
            {"heads": heads},
        )
        direction, head_gradients = directions["trunk"], gradients["heads"]
    expected = torch.tensor(weights) * heads.float()
    factor = heads.float().norm() / expected.norm()
    assert direction.dtype == head_gradients.dtype == torch.float16
    assert info.weights.dtype == torch.float32
    torch.testing.assert_close(info.weights, torch.tensor(weights) * factor, rtol=2e-3, atol=0)
    # A weight of 2e-6 times the largest has a few bits only in float16.
    torch.testing.assert_close(direction, (expected * factor).half(), rtol=2e-2, atol=1e-7)
    own = FACTORS * (torch.tensor(weights) * factor if weighted else 1)
    torch.testing.assert_close(head_gradients, own.half(), rtol=2e-3, atol=1e-7)


@BEYOND_FLOAT16
def test_the_scalar_of_float16_losses_is_scaled_to_the_norm_under_any_weight(weights):
    trunk = nn.Parameter(FACTORS.half())
    losses = trunk * HEADS.half()
    scalar = GivenWeights(weights, scale="norm").scalarize(losses, [trunk])
    expected = torch.tensor(weights) * HEADS.half()
    factor = HEADS.half().float().norm() / expected.norm()
    torch.testing.assert_close(scalar, factor * (expected * FACTORS).sum(), rtol=2e-3, atol=0)


@pytest.mark.parametrize("name", ["si", "uw", "famo", "dwa", "ls"])
def test_half_precision_losses_are_weighed_in_float32(name):
    """A float16 reciprocal would be 2e-4 off, and infinite for losses below 2e-5."""
    losses = torch.tensor([1e-5, 0.3, 2.0]).half()
    rows = torch.eye(K).half()
    found = make(name).combine(rows, losses)[1].weights
    torch.testing.assert_close(found, make(name).combine(rows, losses.float())[1].weights)
    assert found.dtype == torch.float32


@pytest.mark.parametrize(("dtype", "passes"), [(torch.float32, 1), (torch.float16, 2)])
def test_heads_of_float16_cost_a_backward_of_their_own(dtype, passes):
    seen = []
    trunk, head = nn.Parameter(torch.ones(2, dtype=dtype)), nn.Parameter(torch.ones(2, dtype=dtype))
    features = trunk * 1
    features.register_hook(seen.append)
    GivenWeights([1.0, 2.0]).backward(features * head, [trunk], [[head], []])
    assert len(seen) == 1  # heads do not reach the trunk
    outputs = trunk * head
    outputs.register_hook(seen.append)
    GivenWeights([1.0, 2.0]).backward(outputs, [trunk], [[head], []])
    assert len(seen) == 1 + passes


@pytest.mark.parametrize("way", ["backward", "differentiate"])
def test_float16_weighted_heads_may_have_weights_that_float16_does_not_hold(way):
    trunk, heads = torch.tensor([0.001, 30_000]).half(), torch.tensor([1e-4, 1e-3]).half()
    weights = [1e6, 1e-9]
    combiner = GivenWeights(weights, weighted_heads=True)
    if way == "backward":
        parameters = [nn.Parameter(part) for part in (trunk, heads[:1], heads[1:])]
        losses = parameters[0].float() * torch.cat(parameters[1:]).float()
        combiner.backward(losses, parameters[:1], [[head] for head in parameters[1:]])
        found = torch.cat([head.grad for head in parameters[1:]])
    else:
        found = combiner.differentiate(
            lambda p, batch: p["trunk"].float() * p["heads"].float(),
            {"trunk": trunk},
            torch.zeros(2, 1),
            {"heads": heads},
        ).head_gradients["heads"]
    expected = (torch.tensor(weights) * trunk).half()
    assert (expected > 0).all()
    torch.testing.assert_close(found, expected, rtol=5e-3, atol=0)
