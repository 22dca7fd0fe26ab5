"""`scalarize` in code that compiles its networks, runs on several processes or checks its loss."""

import os
import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mtrl_fair import COMBINERS, FairGrad, fairgrad_weights, make_combiner
from tests.task_rows import flat, rows_of

K = 3
# inductor, torch.compile's default, needs a C++ compiler.
BACKENDS = ["eager", "aot_eager", *(["inductor"] if shutil.which("g++") else [])]


def make_network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, K))


def losses_of(outputs: Tensor) -> Tensor:
    return (outputs.square() * torch.tensor([1.0, 10.0, 0.1])).mean(0)


# torch.compile


# Importing inductor defines TorchScript methods.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*is deprecated:DeprecationWarning")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_compiled_network_gets_the_same_gradients(backend):
    network, inputs = make_network(), torch.randn(16, 4)
    compiled = torch.compile(network, backend=backend)
    for _ in range(2):
        rows = rows_of(losses_of(network(inputs)), network.parameters())
        loss = FairGrad().scalarize(losses_of(compiled(inputs)), compiled.parameters())
        network.zero_grad()
        loss.backward()
        expected = fairgrad_weights(rows @ rows.mT) @ rows
        torch.testing.assert_close(
            flat(p.grad for p in network.parameters()), expected, rtol=1e-4, atol=1e-6
        )


# Several processes


def mean_over_ranks(tensor: Tensor, group: torch.distributed.ProcessGroup) -> Tensor:
    total = tensor.clone()
    torch.distributed.all_reduce(total, group=group)
    return total / group.size()


def check_gradients_are_averaged_once(
    group: torch.distributed.ProcessGroup, ordinary_first: bool = False, **options: bool
) -> None:
    """Each process has weights of its own, and their directions are averaged."""
    network = make_network()
    parallel = DistributedDataParallel(network, process_group=group, **options)
    if ordinary_first:
        losses_of(parallel(torch.randn(16, 4))).sum().backward()
    fired = dict.fromkeys(network.parameters(), 0)

    def count(parameter: Tensor) -> None:
        fired[parameter] += 1

    for parameter in network.parameters():
        parameter.register_post_accumulate_grad_hook(count)
    torch.manual_seed(10 + torch.distributed.get_rank())
    for iteration in range(3):
        inputs = torch.randn(16, 4)
        own = rows_of(losses_of(network(inputs)), network.parameters())
        own_weights = fairgrad_weights(own @ own.mT)
        loss = FairGrad().scalarize(losses_of(parallel(inputs)), parallel.parameters())
        parallel.zero_grad()
        loss.backward()
        gradient = flat(p.grad for p in network.parameters())
        expected = mean_over_ranks(own_weights @ own, group)
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)
        assert set(fired.values()) == {iteration + 1}


def check_averaged_task_gradients_give_the_fair_direction_of_the_whole_batch(
    group: torch.distributed.ProcessGroup,
) -> None:
    network, rank = make_network(), group.rank()
    torch.manual_seed(20)
    inputs = torch.randn(group.size() * 16, 4)
    own = losses_of(network(inputs[16 * rank : 16 * (rank + 1)]))
    rows = mean_over_ranks(rows_of(own, network.parameters()), group)
    direction, info = FairGrad().combine(rows, mean_over_ranks(own.detach(), group))
    whole = rows_of(losses_of(network(inputs)), network.parameters())
    expected = fairgrad_weights(whole @ whole.mT)
    torch.testing.assert_close(info.weights, expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(direction, expected @ whole, rtol=1e-4, atol=1e-6)


def in_group(rank: int, number: int, address: str, reports: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=number)
    together = torch.distributed.group.WORLD
    alone = [torch.distributed.new_group([member]) for member in range(number)][rank]
    check_gradients_are_averaged_once(alone)
    check_gradients_are_averaged_once(together)
    check_gradients_are_averaged_once(together, gradient_as_bucket_view=True)
    check_gradients_are_averaged_once(together, find_unused_parameters=True)
    # A static graph's first backward plans the averaging, and must not be a single task's.
    check_gradients_are_averaged_once(together, ordinary_first=True, static_graph=True)
    check_averaged_task_gradients_give_the_fair_direction_of_the_whole_batch(together)
    Path(reports, str(rank)).touch()
    torch.distributed.barrier()  # a process that leaves while another communicates aborts it
    torch.distributed.destroy_process_group()
    os._exit(0)  # gloo's threads sometimes abort the interpreter's own way out


@pytest.mark.process
def test_directions_are_averaged_over_processes(tmp_path):
    """All checks in one pair of processes, because these take longer to start than to check."""
    number = 2
    address = f"file://{tmp_path}/group"
    torch.multiprocessing.spawn(in_group, (number, address, str(tmp_path)), nprocs=number)
    assert all((tmp_path / str(rank)).exists() for rank in range(number))  # none left early


# Code that checks its loss


@pytest.mark.parametrize("name", sorted(COMBINERS.keys() - {"graddrop", "moco"}))
def test_the_loss_is_an_ordinary_scalar(name):
    network = make_network()
    losses = losses_of(network(torch.randn(16, 4)))
    combiner = make_combiner(name, num_tasks=K)
    loss = combiner.scalarize(losses, network.parameters())
    assert isinstance(loss, Tensor)
    assert type(loss) is Tensor
    assert loss.ndim == 0
    assert loss.requires_grad
    assert not loss.is_leaf
    assert loss.dtype == losses.dtype
    assert isinstance(loss.item(), float)
    assert all(p.grad is None for p in network.parameters())
    (loss / 4).backward()  # as code that accumulates gradients does
    assert all(p.grad.isfinite().all() for p in network.parameters())
