"""Evaluate a trained policy: every goal once, deterministically.

python scripts/evaluate.py RUN [--episodes N] [--checkpoint latest|best] [--json PATH]
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from configs import TrainConfig, from_dict
from configs.build import build_agent, build_envs, build_task_set
from envs import evaluate
from envs.evaluation import check_episodes
from mtrl_fair.runs import RunDirectory
from scripts.command_line import check_output, or_fail, resolve_device, use_threads, writing
from scripts.training.display import evaluation_table


@dataclass(frozen=True)
class Arguments:
    """Evaluate a run's policy: the deterministic action, every goal once, and success if the flag
    is set at any step of the episode."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run directory."""
    episodes: int | None = None
    """Episodes per task, one per goal; None: all goals (50 unless the run has fewer)."""
    checkpoint: Literal["latest", "best"] = "latest"
    """The latest policy, or the one with the best evaluation so far."""
    json: Path | None = None
    """Where to write the result; None: RUN/evaluation.json."""
    device: str = "auto"
    """auto (CUDA if there is one), cpu, cuda, cuda:1, …"""


def main(words: list[str]) -> None:
    """Parses, checks, evaluates, prints and writes."""
    arguments = tyro.cli(Arguments, args=words)
    run = or_fail(lambda: RunDirectory.open(arguments.run))
    config = or_fail(lambda: from_dict(TrainConfig, run.config, f"{run.path}/config.json"))
    device = or_fail(lambda: resolve_device(arguments.device))
    episodes = arguments.episodes
    if episodes is None:
        episodes = config.environment.num_goals
    or_fail(lambda: check_episodes(episodes, config.environment.num_goals))
    state = or_fail(lambda: run.load_checkpoint(arguments.checkpoint, ("step", "agent"), mmap=True))
    output = arguments.json or run.path / "evaluation.json"
    or_fail(lambda: check_output("--json", output))

    use_threads(config.threads)
    task_set = build_task_set(config)
    agent = build_agent(config, len(task_set.names), device)
    or_fail(lambda: agent.load_state_dict(state["agent"]))
    envs = build_envs(config, task_set, device, evaluation=True)
    result = evaluate(
        lambda observation: agent.act(observation, deterministic=True), envs, episodes
    )
    envs.close()
    assert result is not None

    title = f"{arguments.checkpoint} policy of {run.path} (step {state['step']})"
    Console().print(evaluation_table(result, title))
    tasks = {
        name: {
            "success": float(result.success[row]),
            "standard_error": float(result.standard_error[row]),
            "episodes": episodes,
            "return": float(result.returns[row].mean()),
            "episode_length": float(result.lengths[row].mean()),
        }
        for row, name in enumerate(result.task_names)
    }
    summary = {
        "mean_success": result.mean_success,
        "step": state["step"],
        "checkpoint": arguments.checkpoint,
        "tasks": tasks,
    }
    with writing("--json", output):
        output.write_text(json.dumps(summary, indent=2) + "\n")
    print(f"written to {output}")


if __name__ == "__main__":
    main(sys.argv[1:])
