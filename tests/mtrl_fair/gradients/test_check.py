"""The check of task gradients against the loop, on loss functions that mix tasks."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mtrl_fair import NonFiniteError, check_task_gradients, task_losses_and_gradients
from tests.mtrl_fair.gradients.loop import loop

K, B = 4, 6
GENERATOR = torch.Generator().manual_seed(0)
# Tasks of different size: else a mean over them would hardly matter.
BATCH = torch.randn(K, B, 5, generator=GENERATOR) * torch.arange(1.0, K + 1).view(-1, 1, 1)
FIRST, LAST = torch.randn(5, 3, generator=GENERATOR), torch.randn(3, 2, generator=GENERATOR)
PARAMETERS = {"first": FIRST, "bias": torch.zeros(3), "last": LAST}


def batch_norm(hidden: Tensor) -> Tensor:
    flat = functional.batch_norm(hidden.flatten(0, 1), None, None, training=True)
    return flat.view_as(hidden)


def attention(hidden: Tensor) -> Tensor:
    rows = hidden.flatten(0, 1).unsqueeze(0)
    return functional.scaled_dot_product_attention(rows, rows, rows).view_as(hidden)


MIXED = {
    "batch norm": batch_norm,
    "attention": attention,
    "mean over tasks": lambda hidden: hidden - hidden.mean(0),
    "mean over all": lambda hidden: hidden - hidden.mean((0, 1)),
    "another task's rows": lambda hidden: hidden.roll(1, 0),
    "norm of all": lambda hidden: hidden / hidden.norm(),
}
KEPT_APART = {
    "nothing": lambda hidden: hidden,
    "mean of a task": lambda hidden: hidden - hidden.mean(1, keepdim=True),
    "attention in a task": lambda hidden: functional.scaled_dot_product_attention(*[hidden] * 3),
    "instance norm": lambda hidden: functional.instance_norm(hidden.mT).mT,
    "dropout": functional.dropout,
}


def loss_of(middle):
    def task_losses(parameters, batch):
        hidden = (batch @ parameters["first"] + parameters["bias"]).tanh()
        return (middle(hidden) @ parameters["last"]).square().mean((1, 2))

    return task_losses


@pytest.mark.parametrize("middle", MIXED)
def test_a_loss_that_mixes_tasks_is_refused_with_task_parameter_and_difference(middle):
    message = r"by \d+\.\d % from one backward per task for task [0-3] and '(first|bias)'"
    with pytest.raises(ValueError, match=message) as error:
        check_task_gradients(loss_of(MIXED[middle]), PARAMETERS, BATCH)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("middle", KEPT_APART)
def test_a_loss_that_keeps_tasks_apart_passes(middle, dtype):
    parameters = {name: value.to(dtype) for name, value in PARAMETERS.items()}
    check_task_gradients(loss_of(KEPT_APART[middle]), parameters, BATCH.to(dtype))


def test_it_names_the_worst_task_and_parameter():
    def task_losses(parameters, batch):
        own = (batch @ parameters["first"]).square().mean((1, 2))
        of_all = (batch @ parameters["other"]).square().mean((1, 2))
        return own + of_all.roll(1) * torch.tensor([0.0, 0.0, 1.0, 0.0])  # task 2 learns from 1's

    # Task 1 gets what is task 2's, and has no gradient of its own there.
    with pytest.raises(ValueError, match="for task 1 and 'other'"):
        check_task_gradients(task_losses, {"first": FIRST, "other": FIRST.clone()}, BATCH)


@pytest.mark.parametrize(("leak", "passes"), [(1e-8, True), (1e-3, False)])
def test_next_to_a_gradient_that_is_0_rounding_passes_and_no_more(leak, passes):
    """As of a bias before a normalisation; the leak stands for rounding."""

    def task_losses(parameters, batch):
        own = (batch @ parameters["first"]).square().mean((1, 2))
        of_all = (batch @ parameters["other"]).square().mean((1, 2))
        return own + leak * of_all.roll(1) * torch.tensor([0.0, 0.0, 1.0, 0.0])

    parameters = {"first": FIRST, "other": FIRST.clone()}
    if passes:
        check_task_gradients(task_losses, parameters, BATCH, tolerance=1e-3)
    else:
        with pytest.raises(ValueError, match="and 'other'"):
            check_task_gradients(task_losses, parameters, BATCH, tolerance=1e-3)


def test_heads_are_checked_and_the_loop_gives_each_its_own_task_s_gradient():
    heads = {"heads": torch.randn(K, 3, 2, generator=GENERATOR)}

    def task_losses(parameters, batch):
        output = (batch @ parameters["first"]).tanh() @ parameters["heads"]
        losses = (output - output.mean(0)).square().mean((1, 2))
        return losses, output

    frozen = {"first": FIRST}
    with pytest.raises(ValueError, match="task_gradients differ"):
        check_task_gradients(task_losses, frozen, BATCH, heads, has_aux=True)

    def with_einsum(parameters, batch):  # takes the slow path, which is right
        hidden = torch.einsum("kbi,io->kbo", batch, parameters["first"]).tanh()
        output = hidden @ parameters["heads"]
        return (output - output.mean(0)).square().mean((1, 2))

    with pytest.warns(UserWarning, match="einsum"):
        check_task_gradients(with_einsum, frozen, BATCH, heads)
    with pytest.warns(UserWarning, match="einsum"):
        _, found = task_losses_and_gradients(with_einsum, frozen, BATCH, heads)
    expected = loop(with_einsum, {**frozen, **heads}, BATCH)["heads"]
    own = torch.stack([expected[k, k] for k in range(K)])
    torch.testing.assert_close(found["heads"], own)


def test_it_leaves_random_numbers_gradients_and_parameters_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    parameters = {name: nn.Parameter(value.clone()) for name, value in PARAMETERS.items()}
    check_task_gradients(loss_of(functional.dropout), parameters, BATCH)
    assert torch.equal(torch.get_rng_state(), before)
    for name, parameter in parameters.items():
        assert parameter.grad is None
        assert torch.equal(parameter, PARAMETERS[name])


def test_half_precision_takes_a_larger_tolerance():
    parameters = {name: value.bfloat16() for name, value in PARAMETERS.items()}
    check_task_gradients(
        loss_of(KEPT_APART["nothing"]), parameters, BATCH.bfloat16(), tolerance=0.05
    )
    with pytest.raises(ValueError, match="task_gradients differ"):
        check_task_gradients(loss_of(batch_norm), parameters, BATCH.bfloat16(), tolerance=0.05)
    with pytest.raises(ValueError, match="tolerance is 0, expected a positive number"):
        check_task_gradients(loss_of(batch_norm), parameters, BATCH.bfloat16(), tolerance=0)


def test_a_loss_that_is_not_finite_is_named():
    spoilt = BATCH.clone()
    spoilt[1] = torch.nan
    with pytest.raises(NonFiniteError, match="loss of task 1"):
        check_task_gradients(loss_of(KEPT_APART["nothing"]), PARAMETERS, spoilt)
