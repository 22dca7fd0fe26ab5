"""Run directories written by hand, whose numbers say which they are."""

import json
from pathlib import Path

from mtrl_fair.runs import RunDirectory

TASKS = ("reach-v3", "push-v3")


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
    run = RunDirectory.create(folder / name, config | {"agent": {"discount": 0.9}} | settings)
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
    run.unlock()
    return str(run.path)


def cells(line: str) -> list[str]:
    """Of a line of a table in Markdown."""
    return [cell.strip() for cell in line.strip("|").split("|")]
