"""Parameters and gradients of every kind that torch has, with every method: right, or refused."""

import pytest
import torch
from torch import Tensor, nn

from mtrl_fair import COMBINERS, FairGrad, NonFiniteError, make_combiner
from tests.mtrl_fair.combiners.combiner_kinds import WEIGHTED
from tests.mtrl_fair.combiners.trunk_and_heads import K, flat_grad, make, problem
from tests.task_rows import rows_of

GENERATOR = torch.Generator().manual_seed(0)
DATA = torch.randn(K, 6, 4, generator=GENERATOR)
PAIRS = torch.randn(4, 3, 2, generator=GENERATOR)  # complex numbers as real ones


def losses_of(weight: Tensor) -> Tensor:
    """[K], of a complex weight [4, 3]."""
    return (DATA.to(weight.dtype) @ weight - 1j).abs().square().mean((1, 2)) + 0.1


def as_complex(pairs: Tensor) -> nn.Parameter:
    return nn.Parameter(torch.view_as_complex(pairs).clone())


# Complex


@pytest.mark.parametrize("name", COMBINERS)
def test_complex_parameters_step_as_their_pairs_of_real_numbers(name):
    pairs, weight = nn.Parameter(PAIRS.clone()), as_complex(PAIRS)
    by_pairs, by_numbers = make(name), make(name)
    of_pairs = by_pairs.backward(losses_of(torch.view_as_complex(pairs)), [pairs])
    of_numbers = by_numbers.backward(losses_of(weight), [weight])
    assert weight.grad.dtype == torch.complex64
    torch.testing.assert_close(torch.view_as_real(weight.grad), pairs.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(of_numbers.weights, of_pairs.weights, rtol=1e-4, atol=1e-6)
    norms = of_numbers.direction_norm, of_pairs.direction_norm
    torch.testing.assert_close(*norms, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", COMBINERS)
def test_combine_and_differentiate_take_complex_numbers_as_backward_does(name):
    weight = as_complex(PAIRS)
    make(name).backward(losses_of(weight), [weight])

    def loss_fn(parameters, batch):
        return (batch @ parameters["w"] - 1j).abs().square().mean((1, 2)) + 0.1

    batch = DATA.to(torch.complex64)
    direction = make(name).differentiate(loss_fn, {"w": weight}, batch).direction["w"]
    torch.testing.assert_close(direction, weight.grad, rtol=1e-4, atol=1e-5)
    rows = torch.stack(
        [torch.autograd.grad(loss, weight, retain_graph=True)[0] for loss in losses_of(weight)]
    )
    rows = rows.flatten(1).conj().resolve_conj().conj()  # the same values, conjugated when read
    direction, _ = make(name).combine(rows, losses_of(weight).detach())
    torch.testing.assert_close(direction.view(4, 3), weight.grad, rtol=1e-4, atol=1e-5)
    if name in WEIGHTED:
        other = as_complex(PAIRS)
        make(name).scalarize(losses_of(other), [other]).backward()
        torch.testing.assert_close(other.grad, weight.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", COMBINERS)
def test_complex_losses_are_refused(name):
    weight = as_complex(PAIRS)
    losses = (DATA.to(weight.dtype) @ weight).mean((1, 2))
    with pytest.raises(ValueError, match="task losses must be real, got torch.complex64"):
        make(name).backward(losses, [weight])


def test_a_real_matrix_for_complex_task_gradients_is_refused():
    with pytest.raises(ValueError, match="out is real, but the parameter 'w' is complex"):
        FairGrad().differentiate(
            lambda p, b: (b @ p["w"]).abs().mean((1, 2)),
            {"w": as_complex(PAIRS)},
            DATA.to(torch.complex64),
            out=torch.empty(K, 12),
        )


# Sparse gradients, as of embeddings

IDS = torch.tensor([[0, 1, 1], [1, 2, 0], [2, 3, 3]])


@pytest.mark.parametrize("name", COMBINERS)
def test_a_sparse_gradient_of_a_shared_parameter_is_refused_by_place_and_shape(name):
    embedding = nn.Embedding(6, 2, sparse=True)
    message = r"shared parameter 0, \[6, 2\] torch.float32 torch.sparse_coo, is not dense"
    with pytest.raises(ValueError, match=message) as error:
        make(name).backward(embedding(IDS).square().mean((1, 2)) + 0.1, [embedding.weight])
    assert "\n" not in str(error.value)
    assert embedding.weight.grad is None


@pytest.mark.parametrize("name", COMBINERS)
def test_a_head_s_sparse_gradient_stays_sparse(name):
    found = {}
    for is_sparse in (True, False):
        torch.manual_seed(0)
        trunk = nn.Parameter(torch.randn(2))
        heads = [nn.Embedding(6, 2, sparse=is_sparse) for _ in range(K)]
        losses = torch.stack([(head(IDS) * trunk).square().mean() + 0.1 for head in heads])
        make(name).backward(losses, [trunk], [head.parameters() for head in heads])
        found[is_sparse] = [head.weight.grad for head in heads]
    for sparse, dense in zip(found[True], found[False], strict=True):
        assert sparse.is_sparse
        torch.testing.assert_close(sparse.to_dense(), dense)


def test_a_head_s_sparse_gradient_that_is_not_finite_is_named():
    trunk = nn.Parameter(torch.ones(2))
    heads = [nn.Embedding(6, 2, sparse=True) for _ in range(K)]
    outputs = [(head(IDS) * trunk).square().mean() for head in heads]
    zero = (0 * heads[1](IDS)).square().sum().sqrt()  # whose gradient is 0 / 0
    losses = torch.stack([outputs[0], outputs[1] + zero, outputs[2]])
    with pytest.raises(NonFiniteError, match="gradient of the head of task 1"):
        FairGrad().backward(losses, [trunk], [head.parameters() for head in heads])


@pytest.mark.parametrize("name", COMBINERS)
def test_the_direction_is_added_to_a_sparse_gradient_that_is_there(name):
    embedding = nn.Embedding(6, 2, sparse=True)
    embedding(IDS).sum().backward()
    before = embedding.weight.grad.to_dense()
    embedding.sparse = False
    losses = embedding(IDS).square().mean((1, 2)) + 0.1
    rows = rows_of(losses, [embedding.weight])
    expected, _ = make(name).combine(rows, losses.detach())
    make(name).backward(losses, [embedding.weight])
    torch.testing.assert_close(embedding.weight.grad, before + expected.view(6, 2))


# Frozen in mid-training


@pytest.mark.parametrize("name", sorted(COMBINERS.keys() - {"moco"}))
def test_freezing_and_thawing_in_mid_training(name):
    trunk, _, losses = problem()
    combiner = make(name)
    combiner.backward(losses, trunk.parameters())
    trunk.bias.requires_grad_(False)
    trunk.zero_grad()
    for thawed in (False, True):
        trunk.bias.requires_grad_(thawed)
        losses = torch.stack([*(trunk(DATA).square().mean((1, 2)) + 0.1)])
        combiner.backward(losses, trunk.parameters())
        assert (trunk.weight.grad != 0).any()
        assert (trunk.bias.grad is not None) == thawed


def test_moco_says_that_freezing_needs_a_new_combiner():
    trunk, _, losses = problem()
    combiner = make("moco")
    combiner.backward(losses, trunk.parameters())
    trunk.bias.requires_grad_(False)
    with pytest.raises(ValueError, match="new one when parameters are frozen or thawed"):
        combiner.backward(trunk(DATA).square().mean((1, 2)), trunk.parameters())


@pytest.mark.parametrize("name", COMBINERS)
def test_a_frozen_trunk_is_no_trunk_that_was_not_given(name):
    trunk, heads, _ = problem()
    trunk.requires_grad_(False)
    features = trunk(DATA[0]).tanh()
    losses = torch.stack([head(features).square().mean() + 0.1 for head in heads])
    with pytest.raises(ValueError, match="all 2 shared parameters are frozen"):
        make(name).backward(losses, trunk.parameters(), [head.parameters() for head in heads])


# Tied, given twice, computed


def test_a_tied_parameter_is_given_once():
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    second.weight = first.weight
    losses = second(first(DATA).tanh()).square().mean((1, 2))
    rows = rows_of(losses, [first.weight])
    parameters = nn.Sequential(first, second).parameters()  # torch gives it once
    info = FairGrad().backward(losses, parameters)
    torch.testing.assert_close(flat_grad(first), info.weights @ rows)
    losses = second(first(DATA)).square().mean((1, 2))
    other = nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match=r"parameters 1 and 2 of the shared ones, \[4, 4\], are"):
        FairGrad().backward(losses, [other, first.weight, second.weight])
    for heads, message in [
        ([[first.weight], [other], []], r"\[4, 4\] of task 0 is also one of the shared"),
        ([[other], [], [other]], r"\[2\] of task 2 is also one of task 0"),
        ([[other, other], [], []], r"parameters 0 and 1 of task 0, \[2\], are one"),
    ]:
        with pytest.raises(ValueError, match=message):
            FairGrad().backward(losses, [first.weight], heads)


@pytest.mark.parametrize("name", COMBINERS)
def test_a_computed_tensor_has_no_grad_to_write_to_but_may_decide_weights(name):
    """Such as features, or the weight of a parametrised layer."""
    weight = nn.Parameter(torch.ones(4))
    computed = 2 * weight
    losses = (DATA * computed).square().mean((1, 2)) + 0.1
    for retains in (False, True):
        if retains:  # torch itself adds every task's gradient to such a .grad
            computed.retain_grad()
        with pytest.raises(ValueError, match=r"parameter 0 of the shared ones, \[4\], was comp"):
            make(name).backward(losses, [computed])
    assert weight.grad is None
    rows = rows_of(losses, [computed])
    expected, _ = make(name).combine(rows, losses.detach())
    if name in WEIGHTED:  # the gradients of features decide the weights
        make(name).scalarize(losses, [computed]).backward()
        torch.testing.assert_close(weight.grad, 2 * expected, rtol=1e-4, atol=1e-6)


# What has no gradient


@pytest.mark.parametrize("name", ["ls", "fairgrad", "graddrop"])
def test_a_buffer_among_the_parameters_of_a_loss_function_is_named(name):
    def loss_fn(parameters, batch):
        return (batch @ parameters["w"]).square().mean((1, 2))

    combiner, weight = make_combiner(name, num_tasks=K), torch.ones(4, 2)
    for wrong, found in [
        (torch.arange(3), r"\[3\] torch.int64"),
        (3.0, "float"),
    ]:
        message = f"the parameter 'steps' is {found}, expected a dense tensor"
        with pytest.raises(ValueError, match=message):
            combiner.differentiate(loss_fn, {"w": weight, "steps": wrong}, DATA)
    if name != "ls":  # whose one backward takes a sparse parameter
        with pytest.raises(
            ValueError, match=r"'w' is \[4, 2\] torch.float32 torch.sparse_coo, exp"
        ):
            combiner.differentiate(loss_fn, {"w": weight.to_sparse()}, DATA)
    heads = {"heads": torch.zeros(K, 2, dtype=torch.int64)}
    with pytest.raises(ValueError, match=r"the parameter 'heads' is \[3, 2\] torch.int64"):
        combiner.differentiate(loss_fn, {"w": weight}, DATA, heads)


@pytest.mark.parametrize("name", ["ls", "fairgrad", "graddrop"])
@pytest.mark.filterwarnings("ignore:task_gradients takes one backward per task")
def test_the_sparse_gradient_of_a_loss_function_is_refused(name):
    def loss_fn(parameters, ids):
        rows = nn.functional.embedding(ids, parameters["table"], sparse=True)
        return rows.square().mean((1, 2)) + 0.1

    combiner, table = make_combiner(name, num_tasks=K), torch.ones(6, 2)
    with pytest.raises(ValueError, match="is not dense, but task gradients are combined as dense"):
        combiner.differentiate(loss_fn, {"table": table}, IDS)
