"""The agent learns the real thing."""

import pytest

from configs import RUN_KIND
from mtrl_fair.runs import RunDirectory
from scripts import train
from tests.scripts.commands import run_here

STEPS = 20_000
"""With seed 0, ten goals were reached at 0.9 after 11,000 steps; twice as many leave room for a
processor that rounds in another way."""


@pytest.mark.long
def test_reach_is_learned(tmp_path):
    """The networks and learning rates of mt10-quickstart on one task, with an update every step."""
    result = run_here(
        train.main,
        *("mt10-quickstart", "--tasks", "reach-v3", "--seed", "0"),
        *("--total-steps", str(STEPS), "--stop-at-success", "0.9", "--learning-starts", "500"),
        *("--eval-every", "500", "--eval-episodes", "10", "--environment.num-goals", "10"),
        *("--environment.max-episode-steps", "150", "--environment.num-workers", "1"),
        *("--updates-per-step", "1", "--agent.batch-size", "128"),
        *("--agent.replay-capacity", "20000", "--run-dir", str(tmp_path / "run")),
    )
    assert result.code == 0, result.errors
    success = [
        float(row["success"]) for row in RunDirectory.open(tmp_path / "run", RUN_KIND).evaluations()
    ]
    assert success[0] <= 0.2  # before the first update: it is no task that anything solves
    assert max(success) >= 0.9
    assert "reaches --stop-at-success 0.9" in result.output
