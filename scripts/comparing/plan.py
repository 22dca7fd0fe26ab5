"""Makes the plan of a comparison, which is written to `comparison.json`, from its arguments."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from mtrl_fair.machine import usable_cores
from mtrl_fair.supervised.benchmark import Benchmark
from mtrl_fair.supervised.comparison import SINGLE_TASK
from mtrl_fair.supervised.config import SupervisedConfig, from_dict, to_dict
from mtrl_fair.supervised.jobs import Job
from mtrl_fair.supervised.registry import benchmark_class
from scripts.command_line import resolve_device
from scripts.comparing.arguments import Arguments
from scripts.comparing.methods import make_methods

PLAN = "comparison.json"
"""The file of a comparison's folder that holds the plan."""

MAX_SEEDS = 1000
"""Trainings per method. The plan names each, so a number such as 10⁹ would fill the memory."""


def make_plan(name: str, arguments: Arguments) -> dict[str, Any]:
    """Returns the plan, as it is written to `comparison.json`.

    Raises:
        ValueError: an argument is wrong, or contradicts another one.
    """
    found = benchmark_class(name)
    methods = make_methods(arguments)
    for label, number in (("--seeds", arguments.seeds), ("--jobs", arguments.jobs)):
        if number is not None and number < 1:
            raise ValueError(f"{label} is {number}, expected at least 1")
    if arguments.seeds > MAX_SEEDS:
        raise ValueError(f"--seeds is {arguments.seeds}, expected at most {MAX_SEEDS}")
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    single_task = choose_baseline(found, arguments.single_task, arguments.pooling)
    if arguments.threads is not None and arguments.threads > (os.cpu_count() or 1):
        raise ValueError(
            f"--threads is {arguments.threads}, expected at most this machine's {os.cpu_count()}"
            " cores"
        )
    number = len(seeds) * (len(methods) + (len(found.tasks) if single_task == "train" else 0))
    device = str(resolve_device(arguments.device or "auto"))
    jobs = min(number, arguments.jobs or (usable_cores() if device == "cpu" else 1))
    base = _base_config(found, arguments, device, jobs)
    trainings = [
        (method.name, method.name.replace(" α=", "-alpha"), replace(base, **method.settings))
        for method in methods
    ]
    if single_task == "train":
        plain = replace(base, combiner="ls")
        trainings += [
            (SINGLE_TASK, f"{SINGLE_TASK}-{task.name}", replace(plain, task=task.name))
            for task in found.tasks
        ]
    runs = []
    for seed in seeds:
        for method, folder, config in trainings:
            seeded = replace(config, seed=seed)
            seeded.check()
            runs.append(
                {"folder": f"{folder}-seed{seed}", "method": method, "config": to_dict(seeded)}
            )
    return {"benchmark": name, "single_task": single_task, "jobs": jobs, "runs": runs}


def make_jobs(plan: dict[str, Any], folder: Path) -> list[Job]:
    """Returns one training per run of the plan.

    Raises:
        ValueError: a run's configuration is wrong.
    """
    return [
        Job(run["folder"], from_dict(run["config"], f"{folder / PLAN}"), folder / run["folder"])
        for run in plan["runs"]
    ]


def choose_baseline(found: type[Benchmark], wanted: str | None, pooling: str = "batch") -> str:
    """Returns where the baseline of Δm% comes from: "train", "published" or "none".

    Raises:
        ValueError: the benchmark does not have the baseline that is wanted.
    """
    if not found.has_delta:
        if wanted in ("train", "published"):
            raise ValueError(
                f"--single-task {wanted}: {found.name} has no Δm%, because its metrics can be 0 or"
                " negative; leave the flag out"
            )
        return "none"
    if wanted == "published" and found.published_baseline is None:
        raise ValueError(
            f"--single-task published: there are no published numbers for {found.name}; train them"
        )
    comparable = found.published_baseline is not None and pooling == "batch"
    if wanted == "published" and not comparable:
        raise ValueError(
            f"--single-task published does not fit --pooling {pooling}: published numbers are means"
            " of batches"
        )
    return wanted or ("published" if comparable else "train")


def _base_config(
    found: type[Benchmark], arguments: Arguments, device: str, jobs: int
) -> SupervisedConfig:
    """Returns the settings that all trainings have in common."""
    recipe = found.recipe
    cores = max(1, usable_cores() // jobs)
    workers = min(recipe.loader_workers, cores)

    def given(value: Any, published: Any) -> Any:
        return published if value is None else value

    return SupervisedConfig(
        benchmark=found.name,
        data=None if arguments.data is None else str(arguments.data.resolve()),
        alpha=arguments.alpha,
        solver=arguments.solver,
        max_norm=None
        if arguments.max_norm == math.inf
        else given(arguments.max_norm, recipe.max_norm),
        weighted_heads=arguments.weighted_heads,
        epochs=given(arguments.epochs, recipe.epochs),
        batch_size=given(arguments.batch_size, recipe.batch_size),
        learning_rate=given(arguments.learning_rate, recipe.learning_rate),
        pooling=arguments.pooling,
        threads=given(arguments.threads, given(recipe.threads, cores)),
        loader_workers=given(arguments.loader_workers, workers),
        device=device,
    )
