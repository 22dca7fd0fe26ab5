"""backward, combine and scalarize, for every combiner by name and by callable."""

import pytest
import torch
from torch import Tensor, nn

from mtrl_fair import COMBINERS, FairGrad, NonFiniteError, fairgrad_weights, make_combiner
from mtrl_fair.registry import GramianWeighting

K = 3


def problem(seed: int = 0) -> tuple[nn.Module, nn.ModuleList, Tensor]:
    """A shared trunk, one head per task and K task losses of different scale."""
    torch.manual_seed(seed)
    trunk, heads = nn.Linear(4, 5), nn.ModuleList(nn.Linear(5, 1) for _ in range(K))
    features = trunk(torch.randn(16, 4)).tanh()
    losses = torch.stack([10**k * head(features).square().mean() for k, head in enumerate(heads)])
    return trunk, heads, losses


def rows_of(losses: Tensor, module: nn.Module) -> Tensor:
    rows = [
        torch.autograd.grad(loss, list(module.parameters()), retain_graph=True) for loss in losses
    ]
    return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])


def flat_grad(module: nn.Module) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in module.parameters()])


@pytest.mark.parametrize("name", COMBINERS)
def test_backward_combines_the_trunk_and_leaves_heads_their_own_gradient(name):
    trunk, heads, losses = problem()
    rows = rows_of(losses, trunk)
    own = [
        torch.autograd.grad(loss, list(h.parameters()), retain_graph=True)
        for loss, h in zip(losses, heads, strict=True)
    ]
    info = make_combiner(name, num_tasks=K).backward(
        losses, trunk.parameters(), [head.parameters() for head in heads]
    )
    torch.testing.assert_close(flat_grad(trunk), info.weights @ rows)
    for head, expected in zip(heads, own, strict=True):
        for parameter, gradient in zip(head.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)


def test_fairgrad_s_direction_is_that_of_its_equation():
    trunk, _, losses = problem()
    rows = rows_of(losses, trunk)
    info = FairGrad(alpha=2.0).backward(losses, trunk.parameters())
    expected = fairgrad_weights((rows @ rows.mT).double(), 2.0).float()
    torch.testing.assert_close(info.weights, expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(flat_grad(trunk), expected @ rows, rtol=1e-4, atol=1e-7)


def test_ls_is_the_gradient_of_the_sum():
    trunk, _, losses = problem()
    rows = rows_of(losses, trunk)
    make_combiner("ls", num_tasks=K).backward(losses, trunk.parameters())
    torch.testing.assert_close(flat_grad(trunk), rows.sum(0))


def test_backward_adds_to_existing_gradients_like_backward_does():
    trunk, _, losses = problem()
    for parameter in trunk.parameters():
        parameter.grad = torch.ones_like(parameter)
    rows = rows_of(losses, trunk)
    info = FairGrad().backward(losses, trunk.parameters())
    torch.testing.assert_close(flat_grad(trunk), 1 + info.weights @ rows)


def test_backward_frees_the_graph_and_scalarize_keeps_it():
    trunk, _, losses = problem()
    FairGrad().scalarize(losses, trunk.parameters())
    FairGrad().backward(losses, trunk.parameters())
    with pytest.raises(RuntimeError, match="a second time"):
        losses.sum().backward()


@pytest.mark.parametrize("name", COMBINERS)
def test_scalarize_gives_the_direction_through_an_ordinary_backward(name):
    trunk, heads, losses = problem()
    combiner = make_combiner(name, num_tasks=K)
    rows = rows_of(losses, trunk)
    own = torch.autograd.grad(losses[2], list(heads[2].parameters()), retain_graph=True)
    loss = combiner.scalarize(losses, trunk.parameters())
    loss.backward()
    weights = combiner(rows @ rows.mT)
    torch.testing.assert_close(flat_grad(trunk), weights @ rows, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(heads[2].weight.grad, weights[2] * own[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", COMBINERS)
def test_combine_is_the_same_for_one_matrix_and_for_named_parts(name):
    torch.manual_seed(1)
    named = {"w": torch.randn(K, 2, 5), "b": torch.randn(K, 5)}
    matrix = torch.cat([part.flatten(1) for part in named.values()], dim=1)
    combiner, losses = make_combiner(name, num_tasks=K), torch.ones(K)
    direction, info = combiner.combine(matrix, losses)
    parts, named_info = combiner.combine(named, losses)
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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gradients_neither_overflow_nor_change_type(dtype):
    rows = (300 * torch.randn(K, 500, generator=torch.Generator().manual_seed(5))).to(dtype)
    direction, info = FairGrad().combine(rows, torch.ones(K))
    expected, _ = FairGrad().combine(rows.float(), torch.ones(K))
    assert direction.dtype == dtype
    torch.testing.assert_close(direction.float(), expected, rtol=2e-2, atol=1e-3)
    assert info.weights.dtype == torch.float32


def test_frozen_parameters_are_left_out():
    trunk, _, losses = problem()
    trunk.bias.requires_grad_(False)
    losses = problem()[2]  # of another trunk: this one's parameters are unused
    info = FairGrad().backward(losses, trunk.parameters())
    assert info.weights.tolist() == [0, 0, 0]
    assert trunk.bias.grad is None
    assert trunk.weight.grad is not None


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


def test_an_absent_task_gets_weight_0():
    trunk, _, losses = problem()
    losses = torch.stack([losses[0], torch.zeros(()), losses[2]])
    for name in COMBINERS:
        trunk.zero_grad()
        losses_again = torch.stack([*losses])
        weights = make_combiner(name, num_tasks=K).scalarize(losses_again, trunk.parameters())
        assert weights.isfinite()
    rows, info = FairGrad().combine(torch.tensor([[1.0, 0], [0, 0], [0, 2]]), torch.ones(3))
    assert info.weights[1] == 0
    assert rows.isfinite().all()


def test_a_non_finite_loss_names_its_tasks():
    with pytest.raises(NonFiniteError, match="loss of task 1, 2") as caught:
        FairGrad().combine(torch.eye(3), torch.tensor([1.0, float("nan"), float("inf")]))
    assert caught.value.tasks == [1, 2]


@pytest.mark.parametrize("name", COMBINERS)
def test_a_non_finite_gradient_changes_no_grad(name):
    weight = nn.Parameter(torch.tensor([1.0, 1.0]))
    second = weight[0] * 2
    second.register_hook(lambda gradient: gradient / (gradient == 0))  # x / 0, but 0 / 1
    losses = torch.stack([weight[1] ** 2, second])
    with pytest.raises(NonFiniteError, match="gradient of task 1"):
        make_combiner(name, num_tasks=2).backward(losses, [weight])
    assert weight.grad is None


def test_wrong_numbers_of_tasks_are_refused():
    trunk, heads, losses = problem()
    with pytest.raises(ValueError, match="2 collections for 3 task losses"):
        FairGrad().backward(losses, trunk.parameters(), [h.parameters() for h in heads[:2]])
    with pytest.raises(ValueError, match="3 tasks arrived, but this combiner was made for 4"):
        make_combiner("fairgrad", num_tasks=4).backward(losses, trunk.parameters())
    with pytest.raises(ValueError, match="no shared parameters"):
        FairGrad().backward(losses, [])
    for wrong in (losses.sum(), list(losses)):
        with pytest.raises(ValueError, match="must be one tensor \\[K\\]"):
            FairGrad().backward(wrong, trunk.parameters())
        with pytest.raises(ValueError, match="must be one tensor \\[K\\]"):
            FairGrad().scalarize(wrong, trunk.parameters())
    with pytest.raises(ValueError, match="one of each per task"):
        FairGrad().combine(torch.eye(3), torch.ones(2))


def test_arguments_of_the_wrong_kind_are_refused():
    trunk, _, losses = problem()
    parameters, combiner = list(trunk.parameters()), FairGrad()
    for wrong, message in [
        (trunk.weight, "collection of tensors"),
        (trunk, "collection of tensors"),
        (dict(trunk.named_parameters()), "must be tensors, got str"),
        (trunk.named_parameters(), "must be tensors, got tuple"),
        (parameters * 2, "given twice"),
    ]:
        with pytest.raises(ValueError, match=message):
            combiner.backward(losses, wrong)
    with pytest.raises(ValueError, match="both shared and a task's own"):
        combiner.backward(losses, parameters, [parameters, [], []])
    with pytest.raises(ValueError, match="have no graph"):
        combiner.backward(losses.detach(), parameters)
    for gradients in (torch.ones(3), {}, torch.ones(3, 4, dtype=torch.int64)):
        with pytest.raises(ValueError, match="floating-point tensors"):
            combiner.combine(gradients, torch.ones(3))
    for weighting, message in [
        (lambda gramian: [1.0, 2.0, 3.0], "returned list"),
        (lambda gramian: gramian, "returned \\[3, 3\\]"),
        (lambda gramian: gramian[0] * float("nan"), "returned NaN"),
    ]:
        with pytest.raises(ValueError, match=message):
            make_combiner(weighting, num_tasks=3).combine(torch.eye(3), torch.ones(3))


def test_make_combiner_names_what_is_valid():
    with pytest.raises(ValueError, match="unknown combiner 'fairgard': did you mean fairgrad"):
        make_combiner("fairgard", num_tasks=2)
    with pytest.raises(ValueError, match="option of combiner fairgrad 'alhpa': did you mean alpha"):
        make_combiner("fairgrad", num_tasks=2, alhpa=1.0)
    with pytest.raises(ValueError, match="num_tasks is 0"):
        make_combiner("ls", num_tasks=0)
    with pytest.raises(TypeError, match="a name or a callable, got int"):
        make_combiner(3, num_tasks=2)
    with pytest.raises(ValueError, match="unknown scale 'nrom': did you mean norm"):
        make_combiner("ls", num_tasks=2, scale="nrom")
