"""Evaluate a trained policy: every goal once, deterministically.

python scripts/evaluate.py RUN [--episodes N] [--checkpoint latest|best] [--json PATH]
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from configs import RUN_KIND, read_config
from configs.build import build_agent, build_envs, build_task_set
from envs import evaluate
from envs.evaluation import check_episodes
from mtrl_fair import NonFiniteError
from mtrl_fair.runs import RunDirectory, write_json
from mtrl_fair.runs.checkpoints import LATEST, state_of
from scripts.command_line import (
    bad_input_is_one_line,
    check_output,
    fail,
    parse_class,
    resolve_device,
    use_threads,
    writing,
)
from scripts.training.display import evaluation_table
from scripts.training.evaluations import evaluation_summary


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
    """Where to write the result; None: RUN/evaluation.json, or RUN/evaluation_best.json for the
    best policy."""
    device: str = "auto"
    """auto (CUDA if there is one), cpu, cuda, cuda:1, …"""


def main(words: list[str]) -> None:
    """Parses, checks, evaluates, prints and writes."""
    arguments = parse_class(Arguments, words)
    with bad_input_is_one_line():
        run = RunDirectory.open(arguments.run, RUN_KIND)
        config = read_config(run)
        config.check_fields()
        device = resolve_device(arguments.device)
        goals = config.environment.num_goals
        episodes = goals if arguments.episodes is None else arguments.episodes
        check_episodes(episodes, goals)
        state = run.load_checkpoint(arguments.checkpoint, ("step", "agent"), mmap=True)
        name = "evaluation.json" if arguments.checkpoint == LATEST else "evaluation_best.json"
        output = arguments.json or run.path / name
        check_output("--json", output)

    use_threads(config.threads)
    task_set = build_task_set(config)
    agent = build_agent(config, len(task_set.names), device)
    saved = run.checkpoint_path(arguments.checkpoint)
    with bad_input_is_one_line(), state_of(saved):
        agent.load_state_dict(state["agent"])
    with contextlib.closing(build_envs(config, task_set, device, evaluation=True)) as envs:
        try:
            result = evaluate(
                lambda observation: agent.act(observation, deterministic=True), envs, episodes
            )
        except NonFiniteError as error:  # no training saves such a policy
            fail(f"{error}: the policy in {saved} is damaged; restore the file")
    assert result is not None  # nothing asked it to stop

    title = f"{arguments.checkpoint} policy of {run.path} (step {state['step']})"
    Console().print(evaluation_table(result, title))
    summary = evaluation_summary(result, state["step"], arguments.checkpoint)
    with writing("--json", output):
        write_json(output, summary)
    print(f"written to {output}")


if __name__ == "__main__":
    main(sys.argv[1:])
