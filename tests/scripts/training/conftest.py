"""Evaluations whose results are known."""

import numpy as np
import pytest

from envs import Evaluation
from scripts.training import loop as loop_module
from tests.scripts.training.counting_envs import NAMES, K


@pytest.fixture
def evaluations(monkeypatch) -> list[float]:
    """Success rates that the next evaluations will find."""
    rates = [0.5, 1.0, 0.5]

    def evaluate(act, venv, episodes, should_stop, on_progress):
        on_progress(0.5)
        successes = np.zeros((K, 2), bool)
        successes.flat[: round(4 * rates.pop(0))] = True
        return Evaluation(NAMES, successes, np.ones((K, 2)), np.full((K, 2), 7))

    monkeypatch.setattr(loop_module, "evaluate", evaluate)
    return rates
