"""Run directories written by hand, whose numbers say which they are."""

import json
import zipfile
from pathlib import Path

from mtrl_fair.results.rules import SettingRules
from mtrl_fair.results.runs import RunResults, read_run, read_runs
from mtrl_fair.runs import RunDirectory, RunKind, write_json

TASKS = ("reach-v3", "push-v3")
COMMIT = "c0ffee1" + 33 * "0"
KIND = RunKind(("step", "task", "success", "episodes", "return", "episode_length"))
RULES = SettingRules(
    kind=KIND,
    defaults={
        "alpha": 1.0,
        "eval_every": 10_000,
        "stop_at_success": None,
        "combining.critic": None,
        "combining.actor": None,
        "agent.combine_temperature": False,
        "agent.batch_size": 128,
        "agent.actor.width": 400,
        "agent.critic.width": 400,
    },
    may_differ={"seed", "eval_every", "threads", "total_steps"},
    needs_combiner={"alpha": "fairgrad"},
    task_names=tuple,
)
"""A trainer like ours, in short."""


def read(place) -> RunResults:
    """Reads one run of this trainer."""
    return read_run(place, RULES)


def read_all(places) -> list[RunResults]:
    """Reads several runs of this trainer."""
    return read_runs(places, RULES)


def success(task: int, step: int, seed: int) -> float:
    return (step / 1000 + task + seed) / 100


def make_run(
    folder: Path,
    name: str,
    seed: int = 0,
    combiner: str = "fairgrad",
    steps=(1000, 2000, 3000),
    tasks=TASKS,
    networks=("critic", "actor"),
    **settings,
) -> str:
    """Success at step s of task k with seed n: (s / 1000 + k + n) / 100; 60 s per 1,000 steps, and
    a second more per seed. Task k has weight 10^-k and gradient norm 3 (k + 1) 10^k. Residuals are
    a millionth of the step, not finite at every thousandth; 0 with pcgrad, and ls has none."""
    config = {"seed": seed, "combiner": combiner, "total_steps": 5000, "tasks": list(tasks)}
    config |= {"agent": {"discount": 0.9}} | settings
    # Not `RunDirectory.create`, which asks git and all packages for their versions.
    (folder / name / "checkpoints").mkdir(parents=True)
    run = RunDirectory(folder / name, config, KIND)
    run.write_config(config)
    metadata = {"started": "2026-01-01", "command": ["train.py"], "commit": COMMIT, "resumed": []}
    write_json(run.path / "metadata.json", metadata | {"versions": {"torch": "2.8"}})
    run.write_evaluations([])
    lines: list[dict] = []
    for step in steps:
        rows = [(task, success(k, step, seed), 50, 1.0, 2.0) for k, task in enumerate(tasks)]
        run.add_evaluation(step, rows)
        lines.append({"step": step, "charts/seconds": 60 * step / 1000 + seed})
    for step in range(100, 3001, 100):
        line: dict = {"step": step, "losses/critic": 1.0, "fairness/conflicts/critic": 1.0}
        for k, task in enumerate(tasks if step > 200 else ()):
            for network in networks:
                line[f"fairness/weight/{task}/{network}"] = 10.0**-k
                line[f"fairness/gradient_norm/{task}/{network}"] = 3.0 * (k + 1) * 10**k
        for network in networks if step > 200 and combiner != "ls" else ():
            residual = step / 1e6 if step % 1000 else None
            line[f"fairness/residual/{network}"] = 0.0 if combiner == "pcgrad" else residual
        lines.append(line)
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(run.path)


def cells(line: str) -> list[str]:
    """Of a line of a table in Markdown."""
    return [cell.strip() for cell in line.strip("|").split("|")]


def make_zip(path: Path, *folders: str) -> str:
    """Packs runs as a zip program would: not sorted, with times."""
    with zipfile.ZipFile(path, "w") as archive:
        for folder in map(Path, folders):
            for name in ("metrics.jsonl", "config.json", "metadata.json", "evaluations.csv"):
                archive.write(folder / name, f"{folder.name}/{name}")
    return str(path)
