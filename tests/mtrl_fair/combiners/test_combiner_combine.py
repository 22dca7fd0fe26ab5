"""`combine`, for every combiner by name and by callable, and what its info says."""

import pytest
import torch

from mtrl_fair import COMBINERS, FairGrad, make_combiner
from mtrl_fair.combiners.torchjd import GramianWeighting
from tests.mtrl_fair.combiners.trunk_and_heads import K, make


@pytest.mark.parametrize("name", COMBINERS)
def test_combine_is_the_same_for_one_matrix_and_for_named_parts(name):
    torch.manual_seed(1)
    named = {"w": torch.randn(K, 2, 5), "b": torch.randn(K, 5)}
    matrix = torch.cat([part.flatten(1) for part in named.values()], dim=1)
    losses = torch.ones(K)
    direction, info = make(name).combine(matrix, losses)
    parts, named_info = make(name).combine(named, losses)
    torch.testing.assert_close(info.weights, named_info.weights, rtol=1e-5, atol=1e-7)
    assert parts["w"].shape == (2, 5)
    joined = torch.cat([parts["w"].flatten(), parts["b"]])
    torch.testing.assert_close(direction, joined, rtol=1e-5, atol=1e-6)


def test_info_describes_the_task_gradients():
    rows = torch.tensor([[3.0, 0.0], [-4.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    _, info = make_combiner("ls", num_tasks=4).combine(rows, torch.ones(4))
    assert info.gradient_norms.tolist() == [3, 4, 2, 0]
    assert info.cosines[0].tolist() == [1, -1, 0, 0]
    assert info.conflicts == 1
    assert info.weights.tolist() == [1, 1, 1, 0]
    assert float(info.direction_norm) == pytest.approx(5**0.5)
    assert info.residual == 0


def test_fairgrad_s_info_holds_the_residual():
    rows = torch.randn(4, 30, generator=torch.Generator().manual_seed(2))
    exact = FairGrad(2.0, "newton").combine(rows, torch.ones(4))[1].residual
    rough = FairGrad(2.0, "sgd", precondition=False).combine(rows, torch.ones(4))[1].residual
    assert exact < 1e-6 < 1e-2 < rough


def test_any_callable_is_a_combiner():
    combiner = make_combiner(lambda gramian: gramian.diagonal().rsqrt(), num_tasks=2)
    direction, info = combiner.combine(torch.tensor([[2.0, 0.0], [0.0, 4.0]]), torch.ones(2))
    assert isinstance(combiner, GramianWeighting)
    assert direction.tolist() == [1, 1]
    assert info.weights.tolist() == [0.5, 0.25]
    absent = torch.tensor([[2.0, 0.0], [0.0, 0.0]])  # whose reciprocal norm is infinite
    direction, info = combiner.combine(absent, torch.ones(2))
    assert direction.tolist() == [1, 0]
    assert info.weights.tolist() == [0.5, 0]


@pytest.mark.parametrize("name", COMBINERS)
def test_nothing_keeps_the_graph_of_task_gradients(name):
    rows = torch.randn(K, 4, generator=torch.Generator().manual_seed(6)).requires_grad_()
    combiner = make(name)
    direction, info = combiner.combine(rows * 2, torch.ones(K))
    assert not direction.requires_grad
    assert not any(value.requires_grad for value in info)
    assert not any(buffer.requires_grad for buffer in combiner.buffers())
