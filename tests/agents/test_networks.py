import pytest
import torch

from agents import ARCHITECTURES, NetworkConfig
from agents.networks import TaskNetwork
from mtrl_fair import check_task_gradients

K, B, IN, OUT = 3, 5, 4, 2


def network(architecture: str, stack: tuple[int, ...] = (), layer_norm: bool = True) -> TaskNetwork:
    torch.manual_seed(0)
    config = NetworkConfig(width=8, depth=2, layer_norm=layer_norm)
    return TaskNetwork(IN, OUT, K, architecture, config, stack, task_embedding_size=6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("stack", [(), (2,)])
def test_shapes(architecture, stack):
    output = network(architecture, stack)(torch.randn(K, B, IN))
    assert output.shape == (*stack, K, B, OUT)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_row_depends_on_its_own_task_s_input_only(architecture):
    net, features = network(architecture, (2,)), torch.randn(K, B, IN)
    changed = features.clone()
    changed[1] += 1
    same = (net(features) == net(changed)).all(0).flatten(1).all(1)
    assert same.tolist() == [True, False, True]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("stack", [(), (2,)])
def test_its_task_gradients_are_those_of_one_backward_per_task(architecture, stack):
    net = network(architecture, stack)
    own = {name: net.get_parameter(name) for name in net.task_parameter_names()}
    shared = {name: value for name, value in net.named_parameters() if name not in own}

    def task_losses(parameters, features):
        output = torch.func.functional_call(net, parameters, (features,))
        return output.square().mean((-2, -1)).reshape(-1, K).sum(0)

    check_task_gradients(task_losses, shared, torch.randn(K, B, IN), own)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_only_none_cannot_tell_tasks_apart(architecture):
    features = torch.randn(1, B, IN).expand(K, B, IN)
    output = network(architecture)(features)
    assert torch.equal(output[0], output[1]) == (architecture == "none")


@pytest.mark.parametrize("layer_norm", [False, True])
def test_the_stack_is_two_separate_networks(layer_norm):
    twins = network("multi_head", (2,), layer_norm)
    features = torch.randn(K, B, IN)
    for index in range(2):
        single = network("multi_head", (), layer_norm)
        for name, parameter in single.named_parameters():
            value = twins.get_parameter(name)
            source = value[:, index] if name in twins.task_parameter_names() else value[index]
            parameter.data.copy_(source)
        torch.testing.assert_close(single(features), twins(features)[index])


def test_an_ordinary_perceptron_gives_the_same_numbers():
    net, features = network("none"), torch.randn(K, B, IN)
    x = features
    for linear in (net.trunk[0], net.trunk[3]):
        x = torch.nn.functional.linear(x, linear.weight.T, linear.bias[0])
        x = torch.nn.functional.layer_norm(x, (8,)).relu()
    expected = torch.nn.functional.linear(x, net.head.weight.T, net.head.bias[0])
    torch.testing.assert_close(net(features), expected)


def test_only_multi_head_has_task_parameters():
    for architecture in ARCHITECTURES:
        net = network(architecture)
        names = net.task_parameter_names()
        expected = {"head.weight", "head.bias"} if architecture == "multi_head" else set()
        assert names == expected
        assert all(net.get_parameter(name).shape[0] == K for name in names)


def test_an_unknown_architecture_is_refused():
    with pytest.raises(
        ValueError, match="unknown architecture 'multihead': did you mean multi_head"
    ):
        network("multihead")


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_exported_network_runs_and_learns_as_the_network_does(architecture):
    net, features = network(architecture, (2,)), torch.randn(K, B, IN)
    batch = {1: torch.export.Dim("batch", min=2, max=64)}
    shapes = {"features": batch, "dtype": None}
    exported = torch.export.export(net, (features, None), dynamic_shapes=shapes)
    module = exported.module()
    for size in (B, 9):
        features = torch.randn(K, size, IN)
        expected, found = net(features), module(features, None)
        assert torch.equal(found, expected)
        with torch.no_grad():
            assert torch.equal(module(features, None), expected)
        gradients = torch.autograd.grad(expected.square().sum(), [*net.parameters()])
        same = torch.autograd.grad(found.square().sum(), [*module.parameters()])
        for name, gradient in zip(dict(net.named_parameters()), gradients, strict=True):
            by_name = dict(zip(dict(module.named_parameters()), same, strict=True))
            torch.testing.assert_close(by_name[name], gradient)
