"""Updates in bfloat16."""

import numpy as np
import pytest
import torch

from agents import ARCHITECTURES, Batch, NetworkConfig, SACConfig, networks
from mtrl_fair import shared_linear
from tests.agents.small_agent import NETWORK, OBS, K, make_agent, make_batch


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_all_products_of_an_update_are_in_its_precision_and_actions_in_float32(
    precision, dtype, monkeypatch
):
    agent, seen = make_agent(precision=precision), []

    def watched(x, weight, bias):
        seen.append(x.dtype)
        return shared_linear(x, weight, bias)

    monkeypatch.setattr(networks, "shared_linear", watched)
    agent.update(make_batch())
    assert seen == [dtype] * 5 * NETWORK.depth  # two networks for targets, and for losses three
    seen.clear()
    agent.act(np.zeros((K, OBS), np.float32))
    assert seen == [torch.float32] * NETWORK.depth


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("which", ["critic", "actor"])
def test_bf16_gradients_are_close_to_fp32_ones(which, architecture):
    """Within 10 % of each task's gradient norm; every other number of the update is float32."""
    network = NetworkConfig(width=64, depth=3)
    config = SACConfig(actor=network, critic=network, max_grad_norm=None)
    agents = [
        make_agent(architecture=architecture, config=config, precision=precision)
        for precision in ("fp32", "bf16")
    ]
    parts = zip(*(make_batch(seed) for seed in range(16)), strict=True)
    batch = Batch(*(torch.cat(part, 1) for part in parts))
    seen = []
    for agent in agents:
        metrics = getattr(agent, f"update_{which}")(batch)
        size = getattr(agent, which).optimizer.parameters.num_shared
        seen.append(agent.task_gradients[: K * size].view(K, size).clone())
        metrics = metrics[0] if which == "actor" else metrics
        assert all(v.dtype == torch.float32 for key, v in metrics.items() if "conflicts" not in key)
        for state in getattr(agent, which).optimizer.adam.state.values():
            assert all(part.dtype == torch.float32 for part in state.values())
    exact, rounded = seen
    errors = (rounded - exact).norm(dim=1) / exact.norm(dim=1)
    assert (errors > 1e-4).all()  # it really computes in bfloat16
    assert (errors < 0.1).all(), errors
