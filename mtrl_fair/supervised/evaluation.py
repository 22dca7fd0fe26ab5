"""Evaluates a split, and keeps the test metrics that are a training's result."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch

from mtrl_fair.supervised.benchmark import Benchmark, Recipe, metric_names
from mtrl_fair.supervised.data import Batches, to_device
from mtrl_fair.supervised.model import MultiTaskModel

Values: TypeAlias = dict[str, float]
"""Metrics by the names that `metric_names` returns."""


@torch.no_grad()
def evaluate(
    model: MultiTaskModel,
    benchmark: Benchmark,
    tasks: Sequence[int],
    batches: Batches,
    device: torch.device,
    should_stop: Callable[[], bool],
) -> Values | None:
    """Computes the metrics of a split for the tasks that a model has heads for.

    Returns:
        None if it was asked to stop before the end.
    """
    model.eval()
    meters = [benchmark.meter(task) for task in tasks]
    for batch in batches.epoch():
        inputs, targets = to_device(batch, device)
        for meter, output in zip(meters, model(inputs), strict=True):
            meter.update(output, targets)
        if should_stop():
            return None
    values: Values = {}
    for task, meter in zip(tasks, meters, strict=True):
        names = metric_names(benchmark.tasks[task])
        values |= dict(zip(names, meter.compute(), strict=True))
    return values


class Reported:
    """Keeps the test metrics to report, of the best epoch or the last ones (`Recipe.report`)."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.best_score = -math.inf
        self.epoch = 0
        self.tests: list[Values] = []

    def wants(self, score: float | None) -> bool:
        """Returns whether the test metrics of an epoch with this validation score are needed."""
        if self.recipe.report == "last":
            return True
        assert score is not None
        return score > self.best_score

    def take(self, epoch: int, score: float | None, test: Values) -> None:
        """Keeps the test metrics of an epoch that `wants` asked for."""
        self.epoch = epoch
        if self.recipe.report == "last":
            self.tests = [*self.tests, test][-self.recipe.report_epochs :]
        else:
            assert score is not None
            self.best_score, self.tests = score, [test]

    def result(self) -> dict[str, Any]:
        """Returns the best or the last epoch, and the reported values."""
        values = {
            name: sum(test[name] for test in self.tests) / len(self.tests) for name in self.tests[0]
        }
        return {"epoch": self.epoch, "values": values}

    def state_dict(self) -> dict[str, Any]:
        """Returns what was kept so far."""
        return {"best_score": self.best_score, "epoch": self.epoch, "tests": self.tests}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state_dict` returned.

        Raises:
            ValueError: the state holds something else than numbers.
        """
        best, epoch, tests = state["best_score"], state["epoch"], state["tests"]
        numbers = [best, epoch, *(value for test in tests for value in test.values())]
        if not all(type(number) in (int, float) for number in numbers):
            raise ValueError("the saved metrics are no numbers")
        self.best_score, self.epoch, self.tests = best, epoch, tests
