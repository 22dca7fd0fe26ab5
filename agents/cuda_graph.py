"""Updates from a replay buffer; on CUDA, sampling and update are one captured graph."""

from __future__ import annotations

from collections.abc import Callable

import torch

from agents.combined_optimizer import Metrics
from agents.replay import ReplayBuffer
from agents.sac import MultiTaskSAC

EAGER_UPDATES = 3
"""Before the capture: optimisers make their state in them, and libraries their workspaces."""


def make_updater(
    agent: MultiTaskSAC, replay: ReplayBuffer, batch_size: int, *, graph: bool = True
) -> Callable[[], Metrics]:
    """Returns a function that samples and updates.

    It is one CUDA graph if the agent is on CUDA and capturable.

    Args:
        graph: False never captures.
    """

    def update() -> Metrics:
        return agent.update(replay.sample(batch_size))

    if graph and agent.temperature.log_temperature.is_cuda and agent.capturable:
        return GraphedUpdate(
            update,
            agent.device,
            lambda: [*agent.generators(), replay.generator],
            lambda: agent.state_version,
        )
    return update


class GraphedUpdate:
    """Captures a function of no arguments in a CUDA graph, after a few ordinary calls.

    Each call overwrites the metrics that the one before returned.

    Args:
        update: only launches kernels: it never waits for the device, and finds and leaves
            everything in the same memory.
        generators: gives all that it draws from.
        state_version: gives a number that changes when the update is to be captured anew.
    """

    def __init__(
        self,
        update: Callable[[], Metrics],
        device: torch.device,
        generators: Callable[[], list[torch.Generator]],
        state_version: Callable[[], int],
    ):
        self.update = update
        self.device = device
        self.generators = generators
        self.state_version = state_version
        # Ordinary calls use the stream of the capture, where the libraries' workspaces then are.
        self.stream = torch.cuda.Stream(device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self._start()

    def __call__(self) -> Metrics:
        if self.state_version() != self.captured_version:
            self._start()
        if self.graph is None and self.eager_updates < EAGER_UPDATES:
            self.eager_updates += 1
            return self._update_eagerly()
        if self.graph is None:
            self._capture()
        assert self.graph is not None
        self.graph.replay()
        return self.metrics

    def _start(self) -> None:
        self.graph, self.eager_updates = None, 0
        self.captured_version = self.state_version()

    def _update_eagerly(self) -> Metrics:
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            metrics = self.update()
        current.wait_stream(self.stream)
        return metrics

    def _capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators():
            graph.register_generator_state(generator)
        # Other threads, such as TensorBoard's, may use the device meanwhile.
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            self.metrics = self.update()
        self.graph = graph
