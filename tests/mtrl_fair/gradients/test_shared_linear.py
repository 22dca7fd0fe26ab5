"""The shared linear layer against ordinary products, in both modes."""

import pytest
import torch
from torch import Tensor

from mtrl_fair import shared_linear, task_losses_and_gradients

K, B, IN, OUT = 3, 5, 4, 2
GENERATOR = torch.Generator().manual_seed(0)


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=GENERATOR)


# stack dimensions of data and weight, shape of the bias
CASES = {
    "one network": ((), (1, OUT)),
    "a flat bias": ((), (OUT,)),
    "twins": ((2,), (2, 1, OUT)),
    "as many networks as tasks": ((K,), (K, 1, OUT)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shared_input", [False, True])
def test_values_and_gradients_equal_those_of_an_ordinary_product(case, shared_input):
    stack, bias_shape = CASES[case]
    data = randn(K, B, IN).expand(*stack, K, B, IN) if shared_input else randn(*stack, K, B, IN)
    leaves = [data.clone().requires_grad_(), randn(*stack, IN, OUT), randn(*bias_shape)]
    weight, bias = (leaf.requires_grad_() for leaf in leaves[1:])
    cotangent = randn(*stack, K, B, OUT)
    expected = leaves[0] @ weight.unsqueeze(-3) + (bias.unsqueeze(-3) if bias.ndim > 1 else bias)
    wanted = torch.autograd.grad(expected, leaves, cotangent)
    inputs = data if shared_input else leaves[0]
    output = shared_linear(inputs.detach().requires_grad_(), weight, bias)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(torch.autograd.grad(output, [weight, bias], cotangent), wanted[1:])
    output = shared_linear(leaves[0], weight, bias)
    torch.testing.assert_close(torch.autograd.grad(output, leaves, cotangent), wanted)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("with_out", [False, True])
def test_task_gradients_stay_apart(case, with_out):
    stack, bias_shape = CASES[case]
    parameters = {"w": randn(*stack, IN, OUT), "g": randn(*stack, 1, OUT), "b": randn(*bias_shape)}
    data = randn(K, B, IN)

    def loss_fn(p, x):
        x = x.expand(*stack, *x.shape)
        y = shared_linear(x, p["w"], p["b"]).tanh().movedim(len(stack), 0) * p["g"]
        return y.flatten(1).square().sum(1)

    leaves = {name: tensor.clone().requires_grad_() for name, tensor in parameters.items()}
    rows = [
        torch.autograd.grad(loss, list(leaves.values()))
        for loss in _losses_one_by_one(loss_fn, leaves, data)
    ]
    size = sum(tensor.numel() for tensor in parameters.values())
    out = torch.full((K, size), float("nan"), dtype=torch.float64) if with_out else None
    losses, gradients = task_losses_and_gradients(loss_fn, parameters, data, out=out)
    for name, column in zip(parameters, zip(*rows, strict=True), strict=True):
        torch.testing.assert_close(gradients[name], torch.stack(column))
    torch.testing.assert_close(losses, loss_fn(parameters, data))
    if out is not None:
        joined = torch.cat([gradients[name].flatten(1) for name in parameters], 1)
        assert torch.equal(out, joined)
        assert all(g.untyped_storage().data_ptr() == out.data_ptr() for g in gradients.values())


def _losses_one_by_one(loss_fn, leaves, data):
    return [loss_fn(leaves, data)[k] for k in range(K)]


USES = {
    "twice": lambda p, x: shared_linear(shared_linear(x, p["w"]).tanh(), p["w"]),
    "once in each of two ways": lambda p, x: shared_linear(x, p["w"]) + p["w"][0],
    "transposed": lambda p, x: torch.nn.functional.linear(x, p["w"], p["v"]),
    "not at all": lambda p, x: x * p["v"],
    "in a way that takes a loop": lambda p, x: torch.einsum("kbi,ij->kbj", x, p["w"]),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.filterwarnings("ignore:task_gradients takes one backward per task")
def test_out_holds_the_gradients_however_a_parameter_is_used(use, dtype):
    parameters, data = {"w": randn(IN, IN), "v": randn(IN)}, randn(K, B, IN)

    def loss_fn(p, x):
        return USES[use](p, x).square().sum((1, 2))

    _, expected = task_losses_and_gradients(loss_fn, parameters, data)
    out = torch.full((K, IN * IN + IN), float("nan"), dtype=dtype)
    for _ in range(2):  # what the first call left there must not matter
        _, gradients = task_losses_and_gradients(loss_fn, parameters, data, out=out)
        for name in parameters:
            torch.testing.assert_close(gradients[name], expected[name].to(dtype))
        joined = torch.cat([expected[name].flatten(1) for name in parameters], 1)
        torch.testing.assert_close(out, joined.to(dtype))


@pytest.mark.parametrize(
    "out", [torch.empty(K, 7, dtype=torch.float64), torch.empty(K, IN * OUT, dtype=torch.int64)]
)
def test_an_out_of_another_shape_or_dtype_is_refused(out):
    with pytest.raises(ValueError, match=r"out is \[3, .*expected \[3, 8\], the numbers"):
        task_losses_and_gradients(
            lambda p, x: (x @ p["w"]).sum((1, 2)), {"w": randn(IN, OUT)}, randn(K, B, IN), out=out
        )


def test_it_computes_in_the_data_s_dtype_and_gives_gradients_in_the_parameters():
    data = randn(K, B, IN).to(torch.bfloat16)
    weight, bias = randn(IN, OUT).float(), randn(OUT).float()

    def loss_fn(p, x):
        y = shared_linear(x, p["w"], p["b"])
        assert y.dtype == torch.bfloat16
        return y.float().square().sum((1, 2))

    _, gradients = task_losses_and_gradients(loss_fn, {"w": weight, "b": bias}, data)
    rounded = {"w": weight.bfloat16().float(), "b": bias.bfloat16().float()}
    _, expected = task_losses_and_gradients(
        lambda p, x: shared_linear(x, p["w"], p["b"]).square().sum((1, 2)), rounded, data.float()
    )
    for name, gradient in gradients.items():
        assert gradient.dtype == torch.float32
        assert (gradient - expected[name]).norm() < 0.02 * expected[name].norm()


def test_data_that_is_not_laid_out_by_task_takes_the_loop():
    with pytest.warns(UserWarning, match="is not \\[task, batch"):
        task_losses_and_gradients(
            lambda p, x: shared_linear(x.transpose(0, 1), p["w"]).sum((0, 2)),
            {"w": randn(IN, OUT)},
            randn(K, B, IN),
        )


FROZEN = {
    "weight": lambda p, x, frozen: shared_linear(x, frozen["w"], p["b"]),
    "bias": lambda p, x, frozen: shared_linear(x, p["w"], frozen["b"]),
    "data": lambda p, x, frozen: shared_linear(p["e"], frozen["w"]) + x.sum(-1, keepdim=True),
    "neither data nor weight": lambda p, x, frozen: (
        shared_linear(p["e"], p["w"]) + x.sum(-1, keepdim=True)
    ),
}


@pytest.mark.parametrize(
    ("case", "stack"),
    [
        *((case, stack) for case in ("weight", "bias") for stack in ((), (K,), (2,))),
        ("data", ()),
        ("neither data nor weight", ()),
    ],
)
@pytest.mark.filterwarnings("ignore:task_gradients takes one backward per task")
def test_frozen_operands_give_the_loop_s_gradients(case, stack):
    shapes = {"w": (*stack, IN, OUT), "b": (*stack, 1, OUT), "e": (K, B, IN)}
    values = {name: randn(*shape) for name, shape in shapes.items()}
    data = randn(K, B, IN)

    def loss_fn(p, x):
        y = FROZEN[case](p, x.expand(*stack, *x.shape), values).tanh()
        return y.movedim(len(stack), 0).flatten(1).square().sum(1)

    _, gradients = task_losses_and_gradients(loss_fn, values, data)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in values.items()}
    options = {"allow_unused": True, "materialize_grads": True}
    rows = [
        torch.autograd.grad(loss, list(leaves.values()), **options)
        for loss in _losses_one_by_one(loss_fn, leaves, data)
    ]
    for name, column in zip(values, zip(*rows, strict=True), strict=True):
        torch.testing.assert_close(gradients[name], torch.stack(column))


@pytest.mark.filterwarnings("ignore:task_gradients takes one backward per task")
def test_a_loss_that_takes_derivatives_itself_gives_the_loop_s_gradients():
    parameters, data = {"w": randn(IN, OUT), "v": randn(OUT, 1)}, randn(K, B, IN)

    def penalty(p, x):
        x = x.clone().requires_grad_()
        y = ((x @ p["w"]).tanh() @ p["v"]).sum()
        (slope,) = torch.autograd.grad(y, x, create_graph=True)
        return slope.square().sum((1, 2))

    def unrelated(p, x):
        x = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(
            (x @ p["w"]).square().sum(), x
        )  # its graph is not the loss's
        return (slope.sum(-1, keepdim=True) * p["w"].sum() * p["v"].sum()).square().sum((1, 2))

    for loss_fn in (penalty, unrelated):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in parameters.items()}
        rows = [
            torch.autograd.grad(loss, list(leaves.values()))
            for loss in _losses_one_by_one(loss_fn, leaves, data)
        ]
        out = torch.empty(K, IN * OUT + OUT, dtype=torch.float64)
        _, gradients = task_losses_and_gradients(loss_fn, parameters, data, out=out)
        for name, column in zip(parameters, zip(*rows, strict=True), strict=True):
            torch.testing.assert_close(gradients[name], torch.stack(column))


def test_it_is_differentiated_once_only():
    weight = randn(IN, OUT).requires_grad_()
    (gradient,) = torch.autograd.grad(shared_linear(randn(K, B, IN), weight).sum(), weight)
    assert not gradient.requires_grad
    with pytest.raises(RuntimeError, match="differentiated twice"):
        torch.autograd.grad(shared_linear(randn(K, B, IN), weight).sum(), weight, create_graph=True)


@pytest.mark.parametrize(
    ("data", "weight"),
    [((4, 5, 3), (2, 3, 6)), ((3, 4, 5, 3), (2, 3, 6)), ((4, 5, 3), (4, 6)), ((5,), (5,))],
)
def test_shapes_that_do_not_fit_are_refused(data, weight):
    with pytest.raises(ValueError, match="do not fit weight"):
        shared_linear(randn(*data), randn(*weight))


def test_a_stack_of_one_meets_data_of_two():
    assert_close_to_loop = torch.testing.assert_close
    parameters, data = {"w": randn(1, IN, OUT)}, randn(K, 2, B, IN)

    def loss_fn(p, x):
        return (x @ p["w"]).square().sum((1, 2, 3))

    _, gradients = task_losses_and_gradients(loss_fn, parameters, data)
    leaf = {"w": parameters["w"].clone().requires_grad_()}
    rows = [
        torch.autograd.grad(loss, leaf["w"])[0] for loss in _losses_one_by_one(loss_fn, leaf, data)
    ]
    assert_close_to_loop(gradients["w"], torch.stack(rows))


@pytest.mark.parametrize("bias", [(B * K, OUT), (1,), (2, 1, OUT), ()])
def test_a_bias_that_does_not_fit_is_refused(bias):
    with pytest.raises(ValueError, match=r"bias \[.*does not fit weight .*expected \[1, 2\]"):
        shared_linear(randn(K, B, IN), randn(IN, OUT), randn(*bias))
