"""What is not finite or no argument of a combiner is refused, by name, and changes no gradient."""

import pytest
import torch
from torch import nn

from mtrl_fair import COMBINERS, FairGrad, NonFiniteError, make_combiner
from tests.mtrl_fair.combiners.combiner_kinds import LOSS
from tests.mtrl_fair.combiners.trunk_and_heads import K, make, problem


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
    # One backward of a weighted sum cannot tell whose gradient it is.
    whose = "gradient of the weighted sum is not" if name in LOSS else "gradient of task 1"
    with pytest.raises(NonFiniteError, match=whose):
        make_combiner(name, num_tasks=2).backward(losses, [weight])
    assert weight.grad is None


@pytest.mark.parametrize("name", ["fairgrad", "ls"])
def test_a_head_s_non_finite_gradient_changes_no_grad(name):
    trunk, heads, losses = problem()
    spoilt = torch.nn.Parameter(torch.zeros(()))
    losses = torch.stack([losses[0], losses[1] + 0 * spoilt.square().sqrt(), losses[2]])
    own = [heads[0].parameters(), [spoilt], heads[2].parameters()]
    with pytest.raises(NonFiniteError, match="gradient of the head of task 1"):
        make(name).backward(losses, trunk.parameters(), own)
    assert all(p.grad is None for p in (*trunk.parameters(), spoilt, *heads[0].parameters()))


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
        (parameters * 2, "parameters 0 and 2 of the shared ones, \\[5, 4\\], are one"),
    ]:
        with pytest.raises(ValueError, match=message):
            combiner.backward(losses, wrong)
    with pytest.raises(ValueError, match="belongs to several tasks"):
        combiner.backward(losses, parameters, [parameters, [], []])
    head = [torch.nn.Parameter(torch.ones(2))]
    with pytest.raises(ValueError, match="belongs to several tasks"):
        combiner.backward(losses, parameters, [head, head, []])
    used_up = [iter([])] * K
    with pytest.raises(ValueError, match="a generator such as module.parameters"):
        combiner.backward(losses, parameters, used_up)
    with pytest.raises(ValueError, match="0 collections for 3"):
        combiner.backward(losses, parameters, [])
    with pytest.raises(ValueError, match="have no graph"):
        combiner.backward(losses.detach(), parameters)
    for gradients in (torch.ones(3), {}, torch.ones(3, 4, dtype=torch.int64)):
        with pytest.raises(ValueError, match="floating-point tensor"):
            combiner.combine(gradients, torch.ones(3))
    for weighting, message in [
        (lambda gramian: [1.0, 2.0, 3.0], "returned list"),
        (lambda gramian: gramian, "returned \\[3, 3\\]"),
        (lambda gramian: gramian[0] * float("nan"), "returned what is not finite"),
        (lambda gramian: gramian.sum(0) / 0, "returned what is not finite"),
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
