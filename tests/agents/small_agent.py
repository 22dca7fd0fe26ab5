"""An agent and a batch that tests of the agent share."""

import torch
from torch import Tensor

from agents import Batch, MultiTaskSAC, NetworkConfig, SACConfig
from mtrl_fair import make_combiner

K, B, OBS, ACT = 3, 8, 5, 2
NETWORK = NetworkConfig(width=16, depth=2, layer_norm=True)
CONFIG = SACConfig(actor=NETWORK, critic=NETWORK, batch_size=B, max_grad_norm=None)


def make_agent(
    combiner: str = "fairgrad",
    architecture: str = "multi_head",
    config: SACConfig = CONFIG,
    seed: int = 0,
    precision: str = "fp32",
    **sizes: int,
) -> MultiTaskSAC:
    tasks = sizes.get("num_tasks", K)
    return MultiTaskSAC(
        sizes.get("observation_size", OBS),
        sizes.get("action_size", ACT),
        tasks,
        make_combiner(combiner, num_tasks=tasks),
        make_combiner(combiner, num_tasks=tasks),
        make_combiner(combiner, num_tasks=tasks) if config.combine_temperature else None,
        architecture=architecture,
        config=config,
        precision=precision,
        seed=seed,
    )


def make_batch(seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(K, B, *shape, generator=generator)

    scale = torch.tensor([1.0, 10.0, 100.0]).unsqueeze(1)
    return Batch(randn(OBS), randn(ACT).tanh(), scale * randn(), torch.zeros(K, B), randn(OBS))
