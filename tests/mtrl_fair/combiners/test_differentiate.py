"""`differentiate` of every method against `combine` on the gradients of a loop."""

import pytest
import torch
from torch import Tensor

from mtrl_fair import COMBINERS, make_combiner, shared_linear

K, B, IN, WIDTH = 4, 5, 3, 6
GENERATOR = torch.Generator().manual_seed(0)


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=GENERATOR)


PARAMETERS = {"w": randn(2, IN, WIDTH), "b": randn(2, 1, WIDTH), "v": randn(WIDTH, WIDTH)}
HEADS = {"heads": randn(K, WIDTH, 1)}
SIZE = sum(tensor.numel() for tensor in PARAMETERS.values())
SCALES = torch.tensor([0.1, 1.0, 10.0, 3.0], dtype=torch.float64)


def loss_fn(p, batch):
    x, y = batch
    hidden = shared_linear(x.expand(2, *x.shape), p["w"], p["b"]).tanh().mean(0)
    output = (hidden @ p["v"]).tanh() @ p["heads"]
    losses = SCALES * (output - y).square().mean((1, 2))
    return losses, {"output": output}


def options_of(combiner: str) -> dict:
    if combiner in ("rlw", "pcgrad", "graddrop"):
        return {"seed": 0}
    return {}


CONVENTIONS = [
    {},
    {"scale": "tasks", "max_norm": 0.5},
    {"scale": "norm"},
    {"weighted_heads": True},
]


@pytest.mark.parametrize(
    ("combiner", "convention"),
    [
        (combiner, convention)
        for combiner in COMBINERS
        for convention in CONVENTIONS
        if not (combiner == "graddrop" and "weighted_heads" in convention)  # it has no weights
    ],
)
@pytest.mark.parametrize("with_out", [False, True])
def test_every_method_equals_combine_on_a_loop(combiner, convention, with_out):
    fast, slow = (
        make_combiner(combiner, K, **options_of(combiner), **convention).double() for _ in range(2)
    )
    out = torch.empty(K, SIZE, dtype=torch.float64) if with_out else None
    tolerance = (
        {"rtol": 1e-6, "atol": 1e-7} if combiner == "famo" else {"rtol": 1e-9, "atol": 1e-11}
    )
    for _ in range(3):  # the methods' states, too
        batch = (randn(K, B, IN), randn(K, B, 1))
        leaves = {n: t.clone().requires_grad_() for n, t in {**PARAMETERS, **HEADS}.items()}
        losses, aux = loss_fn(leaves, batch)
        rows = [
            torch.autograd.grad(loss, list(leaves.values()), retain_graph=True) for loss in losses
        ]
        columns = dict(zip(leaves, zip(*rows, strict=True), strict=True))
        expected, expected_info = slow.combine(
            {name: torch.stack(columns[name]) for name in PARAMETERS}, losses.detach()
        )
        own = torch.stack([column[k] for k, column in enumerate(columns["heads"])])
        if "weighted_heads" in convention:
            own = own * expected_info.weights.view(-1, 1, 1)

        (found, found_aux), direction, heads, info = fast.differentiate(
            loss_fn, PARAMETERS, batch, HEADS, has_aux=True, out=out
        )
        torch.testing.assert_close(found, losses.detach())
        torch.testing.assert_close(found_aux["output"], aux["output"].detach())
        assert not found.requires_grad
        for name in PARAMETERS:
            torch.testing.assert_close(direction[name], expected[name], **tolerance)
        torch.testing.assert_close(heads["heads"], own, **tolerance)
        for name in ("weights", "residual", "direction_norm"):
            ours, theirs = getattr(info, name), getattr(expected_info, name)
            torch.testing.assert_close(ours, theirs, **tolerance)
        for ours, theirs in zip(fast.parameters(), slow.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad)
        for part in (fast, slow):
            part.after_step(losses.detach() * 0.9)


def product(p, x):
    return (x @ p["w"]).sum((1, 2))


W, X = torch.ones(IN, 1, dtype=torch.float64), torch.ones(K, B, IN, dtype=torch.float64)


@pytest.mark.parametrize("combiner", ["ls", "fairgrad"])
@pytest.mark.parametrize(
    ("loss_fn", "parameters", "own", "options", "message"),
    [
        (product, {}, None, {}, "a dict of tensors by name with at least one entry"),
        (product, [W], None, {}, "a dict of tensors by name .*got list"),
        (product, {"w": W}, {"w": X}, {}, "w are shared and task parameters"),
        (product, {"w": W}, {"h": W}, {}, r"h is \[3, 1\], expected one row for each of 4 tasks"),
        (
            lambda p, x: (product(p, x), {}),
            {"w": W},
            None,
            {},
            "returned tuple, expected one tensor",
        ),
        (product, {"w": W}, None, {"has_aux": True}, "returned Tensor, but has_aux=True expects"),
        (lambda p, x: x.sum((1, 2)), {"w": W}, None, {}, "do not depend on the parameters"),
        (
            lambda p, x: product(p, x).sum(),
            {"w": W},
            None,
            {},
            r"expected one loss per task, \[4\]",
        ),
    ],
)
def test_mistakes_are_named(combiner, loss_fn, parameters, own, options, message):
    with pytest.raises(ValueError, match=message):
        make_combiner(combiner, K).differentiate(loss_fn, parameters, X, own, **options)


@pytest.mark.parametrize("combiner", ["ls", "fairgrad"])
def test_parameters_in_the_aux_output_are_ordinary_tensors(combiner):
    def loss_fn(p, x):
        return product(p, x), {"norm": p["w"].norm(), "w": p["w"]}

    (_, aux), *_ = make_combiner(combiner, K).differentiate(loss_fn, {"w": W}, X, has_aux=True)
    assert {name: type(value) for name, value in aux.items()} == {"norm": Tensor, "w": Tensor}
    assert torch.stack([aux["norm"], torch.zeros_like(aux["norm"])]).sum() == W.norm()
    assert torch.equal(aux["w"] + 0, W)


def test_the_direction_has_each_parameter_s_dtype():
    parameters = {"w": randn(IN, 1), "v": randn(IN, 1).float()}
    out = torch.empty(K, 2 * IN, dtype=torch.float64)
    _, direction, _, _ = make_combiner("fairgrad", K).differentiate(
        lambda p, x: (x @ p["w"]).square().mean((1, 2)) + (x.float() @ p["v"]).mean((1, 2)),
        parameters,
        randn(K, B, IN),
        out=out,
    )
    assert {name: part.dtype for name, part in direction.items()} == {
        "w": torch.float64,
        "v": torch.float32,
    }


@pytest.mark.parametrize("combiner", ["fairgrad", "graddrop", "moco", "mgda"])
def test_half_precision_task_gradients_are_combined_in_float32(combiner):
    """Long rows in blocks, as if they had been converted first."""
    rows = torch.randn(3, 200_000, generator=torch.Generator().manual_seed(1)).bfloat16()
    losses = torch.ones(3)
    ours, theirs = (make_combiner(combiner, 3, **options_of(combiner)) for _ in range(2))
    direction, info = ours.combine(rows, losses, dtype=torch.float32)
    expected, expected_info = theirs.combine(rows.float(), losses)
    torch.testing.assert_close(direction, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(info.cosines, expected_info.cosines, rtol=1e-4, atol=1e-5)
    assert ours.combine(rows, losses)[0].dtype == torch.bfloat16
