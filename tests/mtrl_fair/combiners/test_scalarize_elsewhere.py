"""`scalarize` in code that compiles its networks, runs on several processes or checks its loss."""

import os
import shutil

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


def in_processes(function, number: int, folder, *arguments) -> None:
    torch.multiprocessing.spawn(
        _in_group, args=(number, f"file://{folder}/group", function, arguments), nprocs=number
    )


def _in_group(rank: int, number: int, address: str, function, arguments) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=number)
    function(rank, number, *arguments)
    torch.distributed.barrier()  # a process that leaves while another communicates aborts it
    torch.distributed.destroy_process_group()
    os._exit(0)  # gloo's threads sometimes abort the interpreter's own way out


def mean_over_ranks(tensor: Tensor) -> Tensor:
    total = tensor.clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def check_gradients_are_averaged(
    rank: int, number: int, settings: list[dict[str, bool]], ordinary_first: bool = False
) -> None:
    """Each process has weights of its own, and their directions are averaged."""
    for options in settings:
        network = make_network()
        parallel = DistributedDataParallel(network, **options)
        if ordinary_first:
            losses_of(parallel(torch.randn(16, 4))).sum().backward()
        fired = dict.fromkeys(network.parameters(), 0)

        def count(parameter: Tensor, fired=fired) -> None:
            fired[parameter] += 1

        for parameter in network.parameters():
            parameter.register_post_accumulate_grad_hook(count)
        torch.manual_seed(10 + rank)
        for iteration in range(3):
            inputs = torch.randn(16, 4)
            own = rows_of(losses_of(network(inputs)), network.parameters())
            own_weights = fairgrad_weights(own @ own.mT)
            loss = FairGrad().scalarize(losses_of(parallel(inputs)), parallel.parameters())
            parallel.zero_grad()
            loss.backward()
            gradient = flat(p.grad for p in network.parameters())
            torch.testing.assert_close(
                gradient, mean_over_ranks(own_weights @ own), rtol=1e-4, atol=1e-6
            )
            assert set(fired.values()) == {iteration + 1}


PLAIN = [{}, {"gradient_as_bucket_view": True}, {"find_unused_parameters": True}]


@pytest.mark.parametrize("number", [1, 2])
def test_gradients_are_averaged_once(number, tmp_path):
    in_processes(check_gradients_are_averaged, number, tmp_path, PLAIN)


def test_a_static_graph_is_averaged_after_one_ordinary_backward(tmp_path):
    """Its first backward plans the averaging, and must not be a single task's in scalarize."""
    settings = [{"static_graph": True}]
    in_processes(check_gradients_are_averaged, 2, tmp_path, settings, True)


def check_all_reduced_task_gradients(rank: int, number: int) -> None:
    network = make_network()
    torch.manual_seed(20)
    inputs = torch.randn(number * 16, 4)
    own = losses_of(network(inputs[16 * rank : 16 * (rank + 1)]))
    rows = mean_over_ranks(rows_of(own, network.parameters()))
    direction, info = FairGrad().combine(rows, mean_over_ranks(own.detach()))
    whole = rows_of(losses_of(network(inputs)), network.parameters())
    expected = fairgrad_weights(whole @ whole.mT)
    torch.testing.assert_close(info.weights, expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(direction, expected @ whole, rtol=1e-4, atol=1e-6)


def test_averaged_task_gradients_give_the_fair_direction_of_the_whole_batch(tmp_path):
    in_processes(check_all_reduced_task_gradients, 2, tmp_path)


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
