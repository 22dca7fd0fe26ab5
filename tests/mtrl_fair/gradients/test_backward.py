"""Several backwards through the graph of a compiled network."""

import shutil

import pytest
import torch
import torch._functorch.config
from torch import Tensor, nn

from mtrl_fair import FairGrad, GradDrop, LinearScalarization
from mtrl_fair.errors import NotPerTaskError
from mtrl_fair.gradients.backward import gradients_of
from tests.task_rows import flat, rows_of

K = 3
# inductor, torch.compile's default, needs a C++ compiler.
BACKENDS = ["aot_eager", *(["inductor"] if shutil.which("g++") else [])]


@pytest.fixture(params=BACKENDS)
def compiled_after_an_ordinary_backward(request, tmp_path, monkeypatch):
    """Makes a network, as it is and compiled; an ordinary backward has compiled its backward."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # a warm cache decides otherwise

    def make() -> tuple[nn.Module, nn.Module, Tensor]:
        torch.compiler.reset()
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, 16), nn.LayerNorm(16), nn.Tanh(), nn.Linear(16, K))
        compiled = torch.compile(network, backend=request.param)
        inputs = torch.randn(8, 4)
        losses_of(compiled, inputs).sum().backward()
        network.zero_grad()
        return network, compiled, inputs

    return make


def losses_of(network: nn.Module, inputs: Tensor) -> Tensor:
    return network(inputs).square().mean(0)


# Importing inductor defines TorchScript methods.
script_method = "ignore:.*torch.jit.script_method.*is deprecated:DeprecationWarning"


@pytest.mark.slow
@pytest.mark.filterwarnings(script_method)
def test_a_compiled_backward_that_runs_once_is_refused_with_the_setting_that_mends_it(
    compiled_after_an_ordinary_backward,
):
    network, compiled, inputs = compiled_after_an_ordinary_backward()
    for call in (FairGrad().backward, FairGrad().scalarize, GradDrop().backward):
        with pytest.raises(
            RuntimeError, match="donated_buffer = False before the network"
        ) as error:
            call(losses_of(compiled, inputs), network.parameters())
        assert "\n" not in str(error.value)
        assert all(parameter.grad is None for parameter in network.parameters())
    LinearScalarization().backward(losses_of(compiled, inputs), network.parameters())
    found = flat(parameter.grad for parameter in network.parameters())
    rows = rows_of(losses_of(network, inputs), network.parameters())
    torch.testing.assert_close(found, rows.sum(0), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings(script_method)
def test_with_that_setting_it_gets_the_gradients_of_the_plain_network(
    compiled_after_an_ordinary_backward,
):
    with torch._functorch.config.patch(donated_buffer=False):
        network, compiled, inputs = compiled_after_an_ordinary_backward()
        info = FairGrad().backward(losses_of(compiled, inputs), network.parameters())
    rows = rows_of(losses_of(network, inputs), network.parameters())
    found = flat(parameter.grad for parameter in network.parameters())
    torch.testing.assert_close(found, info.weights @ rows, rtol=1e-4, atol=1e-6)


def test_other_errors_pass_as_they_are():
    class Refuses(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            raise NotPerTaskError("no rule")  # which is a RuntimeError

    weight = torch.ones(2, requires_grad=True)
    with pytest.raises(NotPerTaskError, match="no rule"):
        gradients_of(Refuses.apply(weight).sum(), [weight], keep_graph=False)
