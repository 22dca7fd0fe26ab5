"""What every integration's test starts from, and spies on its updates."""

import pytest
import torch

import mtrl_fair
from envs import TaskSet
from mtrl_fair import FairGrad
from scripts.integrations import policy_evaluation
from tests.scripts.integrations.gradients import Update
from tests.scripts.integrations.short_runs import collect_once, make_task_set
from tests.task_rows import flat, rows_of


@pytest.fixture(autouse=True)
def _once(monkeypatch):
    """Drawing goals and starting environments takes seconds."""
    monkeypatch.setattr(TaskSet, "make", staticmethod(make_task_set))
    monkeypatch.setattr(policy_evaluation, "collect", collect_once)


@pytest.fixture
def updates(monkeypatch) -> list[Update]:
    seen, original = [], FairGrad.backward

    def spy(self, task_losses, shared_parameters, task_parameters=None):
        parameters = list(shared_parameters)
        assert all(p.grad is None or not p.grad.any() for p in parameters)
        rows, values = rows_of(task_losses, parameters), flat(parameters)
        info = original(self, task_losses, parameters, task_parameters)
        gradient = flat(p.grad for p in parameters)
        losses = task_losses.detach()
        seen.append(Update(losses, parameters, values, rows, gradient, info.weights))
        return info

    monkeypatch.setattr(FairGrad, "backward", spy)
    return seen


@pytest.fixture
def shares_for_weights(monkeypatch):
    """Gives each task its share of the batch as weight, as a mean over all samples does."""
    shares, task_mean = [], mtrl_fair.task_mean

    def count(per_sample_loss, task_ids, num_tasks):
        shares.append(torch.bincount(task_ids, minlength=num_tasks) / len(task_ids))
        return task_mean(per_sample_loss, task_ids, num_tasks)

    def weigh(self, task_losses, shared_parameters):
        parameters = list(shared_parameters)
        weights = shares[-1]
        gradients = torch.autograd.grad(weights @ task_losses, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        return mtrl_fair.CombinerInfo(weights, *[torch.zeros(())] * 5)

    monkeypatch.setattr(mtrl_fair, "task_mean", count)
    monkeypatch.setattr(FairGrad, "backward", weigh)
