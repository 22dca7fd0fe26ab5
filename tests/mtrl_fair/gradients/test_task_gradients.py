"""The one-backward path against the loop over autograd.grad."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mtrl_fair import shared_linear, task_gradients, task_losses_and_gradients
from tests.mtrl_fair.gradients.loop import loop

K, B = 4, 5


def randn(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=GENERATOR)


GENERATOR = torch.Generator().manual_seed(0)
BATCH = {"x": randn(K, B, 3), "y": randn(K, B, 2)}


def assert_equals_loop(loss_fn, parameters):
    gradients = task_gradients(loss_fn, parameters, BATCH)
    expected = loop(loss_fn, parameters, BATCH)
    assert gradients.keys() == expected.keys()
    for name in gradients:
        torch.testing.assert_close(gradients[name], expected[name], rtol=1e-9, atol=1e-12)


def test_an_ordinary_module():
    net = nn.Sequential(
        nn.Linear(3, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 2, bias=False)
    ).double()

    def loss_fn(parameters, batch):
        output = torch.func.functional_call(net, parameters, (batch["x"],))
        return (output - batch["y"]).square().mean((1, 2))

    assert_equals_loop(loss_fn, dict(net.named_parameters()))


# Each uses parameters in other ways: (loss per task, parameter shapes).
USES = {
    "matmul": (lambda p, b: (b["x"] @ p["w"]).square().mean((1, 2)), {"w": (3, 2)}),
    "matmul of a vector": (lambda p, b: (b["x"] @ p["w"]).square().mean(1), {"w": (3,)}),
    "one row per task": (lambda p, b: (b["x"][:, 0] @ p["w"]).square().sum(1), {"w": (3, 2)}),
    "parameter on the left": (
        lambda p, b: (p["w"] @ b["x"].mT).square().mean((1, 2)),
        {"w": (2, 3)},
    ),
    "transpose": (lambda p, b: (b["x"] @ p["w"].T).square().mean((1, 2)), {"w": (2, 3)}),
    "stacked weights": (
        lambda p, b: (b["x"].unsqueeze(1) @ p["w"] + p["b"]).tanh().square().mean((1, 2, 3)),
        {"w": (2, 3, 4), "b": (2, 1, 4)},
    ),
    "bias": (lambda p, b: (b["x"] + p["b"]).square().mean((1, 2)), {"b": (3,)}),
    "reversed operands": (
        lambda p, b: (p["a"] - b["x"]).div(2 + p["b"].exp()).square().mean((1, 2)),
        {"a": (3,), "b": (5, 1)},
    ),
    "a function of parameters alone": (
        lambda p, b: (
            (b["x"] * torch.softmax(p["a"], 0)).sum((1, 2)) + (p["a"] ** 2).sum() * b["y"][:, 0, 0]
        ),
        {"a": (3,)},
    ),
    "functional.linear": (
        lambda p, b: functional.linear(b["x"], p["w"], p["b"]).square().mean((1, 2)),
        {"w": (2, 3), "b": (2,)},
    ),
    "unused": (lambda p, b: (b["x"] @ p["w"]).mean((1, 2)), {"w": (3, 2), "v": (7,)}),
    "used twice": (
        lambda p, b: ((b["x"] @ p["w"]).tanh() @ p["w"]).square().mean((1, 2)),
        {"w": (3, 3)},
    ),
    "a scalar": (lambda p, b: (p["s"] * b["x"]).square().mean((1, 2)), {"s": ()}),
}


@pytest.mark.parametrize("use", USES)
def test_every_use_equals_the_loop(use):
    loss_fn, shapes = USES[use]
    assert_equals_loop(loss_fn, {name: randn(*shape) for name, shape in shapes.items()})


def test_complex_parameters_get_the_conjugate_as_autograd_gives_it():
    shapes = {"w": (3, 2), "v": (4, 2), "b": (4,), "s": (2, 4, 2), "own": (2, 1, 2)}
    values = {name: randn(*shape, dtype=torch.complex128) for name, shape in shapes.items()}

    def loss_fn(p, b):
        hidden = (b["x"] + 1j * b["x"].roll(1, 2)) @ p["w"]
        stacked = shared_linear(functional.linear(hidden, p["v"], p["b"]), p["s"][0], p["own"][0])
        return stacked.abs().square().mean((1, 2))

    assert_equals_loop(loss_fn, values)
    data = randn(K, B, 4, dtype=torch.complex128).requires_grad_()
    inputs = (data, values["s"][1].clone().requires_grad_())
    of_linear, of_matmul = (
        torch.autograd.grad(product(*inputs).abs().square().sum(), inputs)
        for product in (shared_linear, torch.matmul)
    )
    torch.testing.assert_close(of_linear, of_matmul)


SLOW_USES = {
    "einsum": (
        lambda p, b: torch.einsum("kbi,io->kbo", b["x"], p["w"]).square().mean((1, 2)),
        {"w": (3, 2)},
    ),
    "an operand by keyword": (
        lambda p, b: torch.mul(b["x"], other=p["a"]).square().mean((1, 2)),
        {"a": (3,)},
    ),
    "a random function of a parameter": (
        lambda p, b: (b["x"] * (p["a"] + 0 * torch.randn_like(p["a"]))).square().mean((1, 2)),
        {"a": (3,)},
    ),
    "a constant without a task dimension": (
        # Of length K, so that it could be mistaken for one value per task.
        lambda p, b: (b["y"][..., :1] * (p["w"] * torch.arange(K))).square().mean((1, 2)),
        {"w": (K,)},
    ),
}


@pytest.mark.parametrize("use", SLOW_USES)
def test_other_uses_are_right_and_warn_of_the_cost(use):
    loss_fn, shapes = SLOW_USES[use]
    with pytest.warns(UserWarning, match="one backward per task"):
        assert_equals_loop(loss_fn, {name: randn(*shape) for name, shape in shapes.items()})


@pytest.mark.parametrize("shape", [(3,), (1, 3), (1, 1), ()])
def test_as_many_samples_as_tasks_are_not_mistaken_for_them(shape):
    batch = {"x": randn(K, K, 3)}
    values = {"s": randn(*shape)}

    def loss_fn(p, b):
        return (b["x"] * p["s"]).square().sum((1, 2))

    found = task_gradients(loss_fn, values, batch)["s"]
    torch.testing.assert_close(found, loop(loss_fn, values, batch)["s"])


# What the documentation of task_gradients says takes the slow path. All see a batch [K, B, 3].
SLOW_NETWORKS = {
    "conv1d": nn.Conv1d(B, 2, 2),
    "gru": nn.GRU(3, 2, batch_first=True),
    "multi_head_attention": nn.MultiheadAttention(3, 1, batch_first=True),
    "batch_norm": nn.BatchNorm1d(B).eval(),
    "group_norm": nn.GroupNorm(1, B),
    "rms_norm": nn.RMSNorm(3),
    "not \\[task, batch": nn.Sequential(nn.Flatten(0, 1), nn.Linear(3, 2), nn.Unflatten(0, (K, B))),
}


@pytest.mark.parametrize("operation", SLOW_NETWORKS)
def test_networks_that_take_the_slow_path_say_why_and_equal_the_loop(operation):
    network = SLOW_NETWORKS[operation].double()

    def loss_fn(p, b):
        inputs = (b["x"],) * (3 if operation == "multi_head_attention" else 1)
        output = torch.func.functional_call(network, p, inputs)
        return (output[0] if isinstance(output, tuple) else output).square().mean((1, 2))

    with pytest.warns(UserWarning, match=operation):
        assert_equals_loop(loss_fn, dict(network.named_parameters()))


def test_an_embedding_takes_the_slow_path():
    embedding, ids = nn.Embedding(7, 2).double(), torch.arange(K * B).view(K, B) % 7
    values = dict(embedding.named_parameters())

    def loss_fn(p, b):
        return torch.func.functional_call(embedding, p, (b,)).square().mean((1, 2))

    with pytest.warns(UserWarning, match="no rule for a parameter in embedding"):
        found = task_gradients(loss_fn, values, ids)["weight"]
    torch.testing.assert_close(found, loop(loss_fn, values, ids)["weight"])


def test_task_parameters_receive_their_own_gradient():
    weight, heads = randn(3, 4), randn(K, 4, 2)

    def loss_fn(p, b):
        losses = ((b["x"] @ p["w"]).tanh() @ p["heads"] - b["y"]).square().mean((1, 2))
        return losses, {"twice": 2 * losses}

    (losses, aux), gradients = task_losses_and_gradients(
        loss_fn, {"w": weight}, BATCH, {"heads": heads}, has_aux=True
    )
    expected = loop(lambda p, b: loss_fn(p, b)[0], {"w": weight, "heads": heads}, BATCH)
    torch.testing.assert_close(gradients["w"], expected["w"])
    own = torch.stack([expected["heads"][k, k] for k in range(K)])
    torch.testing.assert_close(gradients["heads"], own)
    torch.testing.assert_close(losses, loss_fn({"w": weight, "heads": heads}, BATCH)[0])
    torch.testing.assert_close(aux["twice"], 2 * losses)
    assert not losses.requires_grad


def test_the_slow_path_treats_task_parameters_alike():
    weight, heads = randn(3, 4), randn(K, 4, 2)

    def loss_fn(p, b):
        hidden = torch.einsum("kbi,io->kbo", b["x"], p["w"])
        return (hidden @ p["heads"] - b["y"]).square().mean((1, 2))

    with pytest.warns(UserWarning, match="einsum"):
        _, gradients = task_losses_and_gradients(loss_fn, {"w": weight}, BATCH, {"heads": heads})
    _, expected = task_losses_and_gradients(
        lambda p, b: ((b["x"] @ p["w"]) @ p["heads"] - b["y"]).square().mean((1, 2)),
        {"w": weight},
        BATCH,
        {"heads": heads},
    )
    for name in expected:
        torch.testing.assert_close(gradients[name], expected[name])


def test_costs_one_backward():
    backwards = []

    class Counted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, *gradients):
            backwards.append(1)
            return gradients

    def loss_fn(p, b):
        return Counted.apply(b["x"] @ p["w"]).square().mean((1, 2))

    task_gradients(loss_fn, {"w": randn(3, 2)}, BATCH)
    assert len(backwards) == 1


def test_works_under_no_grad_and_leaves_parameters_alone():
    weight = nn.Parameter(randn(3, 2))
    with torch.no_grad():
        task_gradients(lambda p, b: (b["x"] @ p["w"]).mean((1, 2)), {"w": weight}, BATCH)
    assert weight.grad is None
    assert weight.requires_grad


def test_a_batch_without_a_common_task_dimension_is_refused():
    batch = {"x": randn(K, B), "y": randn(K + 1, B)}
    with pytest.raises(ValueError, match="first dimensions \\[4, 5\\]"):
        task_gradients(lambda p, b: b["x"].mean(1), {"w": randn(1)}, batch)


def test_losses_of_another_shape_are_refused():
    with pytest.raises(
        ValueError, match="returned shape \\[\\], expected one loss per task, \\[4\\]"
    ):
        task_gradients(lambda p, b: (b["x"] @ p["w"]).mean(), {"w": randn(3, 2)}, BATCH)
