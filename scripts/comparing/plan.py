"""What `supervised.py` will train, from its arguments or from the folder of an earlier command."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mtrl_fair import COMBINERS, Scale
from mtrl_fair.checks import check_name
from mtrl_fair.machine import usable_cores
from mtrl_fair.runs import RunError
from mtrl_fair.supervised.benchmark import Benchmark
from mtrl_fair.supervised.config import SupervisedConfig, from_dict, to_dict
from mtrl_fair.supervised.jobs import Job
from mtrl_fair.supervised.registry import benchmark_class
from scripts.command_line import resolve_device

PLAN = "comparison.json"
SINGLE_TASK = "single-task"


@dataclass(frozen=True)
class Arguments:
    """Train one method, or compare several, next to networks trained on one task each. Where a flag
    is left out, the benchmark's published value holds."""

    combiner: str = "fairgrad"
    """How task gradients become one direction; any method of docs/combiners.md."""
    compare: tuple[str, ...] = ()
    """Methods to compare instead, by name, separated by blanks."""
    seeds: int = 1
    """Trainings per method, with the seeds SEED, SEED + 1, …"""
    seed: int = 0
    """The first seed."""
    alpha: float = 2.0
    """Fairness exponent (fairgrad)."""
    alphas: tuple[float, ...] = ()
    """Also train fairgrad with each of these exponents (the paper's Table 5: 1 2 5 10)."""
    alpha_fair: float | None = None
    """Exponent of the α-fair loss transformation, such as 0.5. With --compare, every method is
    trained with it and without it."""
    solver: str = "newton"
    """Solver of the fairness equation (fairgrad): newton, sgd, least_squares."""
    scale: Scale | None = None
    """Length of the combined direction; None: as published, "tasks" for fairgrad and "none" for
    the others."""
    max_norm: float | None = None
    """The combined direction is clipped to this norm; inf: not at all; None: the benchmark's."""
    weighted_heads: bool = False
    """Whether heads follow the gradient of the weighted loss instead of their own task's."""
    single_task: Literal["train", "published", "none"] | None = None
    """Where the baseline of Δm% comes from; None: published numbers where there are any, else one
    network per task and seed is trained."""
    data: Path | None = None
    """The folder with the benchmark's files; without it, the error says how it must look."""
    epochs: int | None = None
    """None: the benchmark's, as for the next two."""
    batch_size: int | None = None
    """Samples per step, and per batch of an evaluation."""
    learning_rate: float | None = None
    """Adam's, at the start."""
    pooling: Literal["batch", "pixels"] = "batch"
    """Errors of depth and normals (nyuv2, cityscapes): means of batches, averaged, as in papers, or
    over all pixels."""
    run_dir: Path | None = None
    """A new folder for everything; None: runs/BENCHMARK-TIME."""
    resume: Path | None = None
    """Continue in this folder as it was configured; only --data, --device, --jobs and
    --loader-workers may be given."""
    device: str | None = None
    """cpu, cuda, cuda:1, …; None: CUDA if there is one, and what it was when resumed."""
    jobs: int | None = None
    """Trainings at a time; None: one per core on a CPU, one with CUDA, and what it was when
    resumed."""
    threads: int | None = None
    """CPU threads of each training; None: one for small networks, else the cores shared out among
    the trainings that run at a time."""
    loader_workers: int | None = None
    """Processes of each training that load its batches, and as many more during an evaluation."""


@dataclass(frozen=True)
class Method:
    """A row of the table."""

    name: str
    settings: dict[str, Any]


def make_plan(name: str, arguments: Arguments) -> dict[str, Any]:
    """What will be trained, as it is written to `comparison.json`.

    Raises:
        ValueError: arguments that make no sense.
    """
    found = benchmark_class(name)
    methods = make_methods(arguments)
    for label, number in (("--seeds", arguments.seeds), ("--jobs", arguments.jobs)):
        if number is not None and number < 1:
            raise ValueError(f"{label} is {number}, expected at least 1")
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
    base = base_config(found, arguments, device, jobs)
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
            seeded.make_combiner(num_tasks=2)
            runs.append(
                {"folder": f"{folder}-seed{seed}", "method": method, "config": to_dict(seeded)}
            )
    return {"benchmark": name, "single_task": single_task, "jobs": jobs, "runs": runs}


def base_config(
    found: type[Benchmark], arguments: Arguments, device: str, jobs: int
) -> SupervisedConfig:
    """What all trainings have in common."""
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


def make_methods(arguments: Arguments) -> list[Method]:
    """The rows of the table, single-task training left out.

    Raises:
        ValueError: a name that is unknown, given twice, or several in one word.
    """
    names = arguments.compare or (() if arguments.alphas else (arguments.combiner,))
    if arguments.compare and arguments.combiner != "fairgrad":
        raise ValueError(f"--combiner {arguments.combiner} trains one method: add it to --compare")
    if arguments.alphas and arguments.combiner != "fairgrad":
        raise ValueError("--alphas belongs to fairgrad: leave it or --combiner out")
    if "fairgrad" in names and arguments.alpha in arguments.alphas:
        raise ValueError(
            f"--alphas {arguments.alpha:g} is what fairgrad trains already: leave one out"
        )
    if arguments.alphas and not arguments.compare and arguments.alpha_fair is not None:
        raise ValueError(
            f"--alpha-fair {arguments.alpha_fair} does not apply to --alphas: leave one out"
        )
    fairgrad = bool(arguments.alphas) or "fairgrad" in names
    for flag, value, default in (
        ("--alpha", arguments.alpha, Arguments.alpha),
        ("--solver", arguments.solver, Arguments.solver),
    ):
        if value != default and not fairgrad:
            raise ValueError(f"{flag} {value} belongs to fairgrad, which is not trained")
    for name in names:
        if "," in name:
            words = " ".join(" ".join(names).replace(",", " ").split())
            raise ValueError(
                f"{name!r} is no combiner: separate names by blanks, --compare {words}"
            )
        check_name("combiner", name, COMBINERS)
    methods = []
    for name in names:
        settings = {"combiner": name, "scale": scale_of(name, arguments)}
        fair = settings | {"alpha_fair": arguments.alpha_fair}
        if arguments.compare or arguments.alpha_fair is None:
            methods.append(Method(name, settings))
        if arguments.alpha_fair is not None:
            methods.append(Method(f"fair-{name}", fair))
    methods += [
        Method(
            f"fairgrad α={alpha:g}",
            {"combiner": "fairgrad", "alpha": alpha, "scale": scale_of("fairgrad", arguments)},
        )
        for alpha in arguments.alphas
    ]
    twice = [m.name for i, m in enumerate(methods) if m.name in [x.name for x in methods[:i]]]
    if twice:
        raise ValueError(f"{', '.join(twice)} would be trained twice: name each method once")
    return methods


def scale_of(combiner: str, arguments: Arguments) -> Scale:
    """The authors' supervised code multiplies FairGrad's direction by the number of tasks."""
    return arguments.scale or ("tasks" if combiner == "fairgrad" else "none")


def choose_baseline(found: type[Benchmark], wanted: str | None, pooling: str = "batch") -> str:
    """Where the baseline comes from.

    Raises:
        ValueError: one that the benchmark does not have.
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


def read_plan(arguments: Arguments) -> dict[str, Any]:
    """The plan in a folder, with the flags that may change.

    Raises:
        RunError, ValueError: there is none, or a flag that would make it another one.
    """
    assert arguments.resume is not None
    path = arguments.resume / PLAN
    free = Arguments(
        resume=arguments.resume,
        data=arguments.data,
        device=arguments.device,
        jobs=arguments.jobs,
        loader_workers=arguments.loader_workers,
    )
    if arguments != free:
        raise RunError(
            f"--resume continues {arguments.resume} as it was configured: only --data, --device,"
            " --jobs and --loader-workers may be given with it"
        )
    if not path.is_file():
        raise RunError(f"there is nothing to resume at {arguments.resume}: no {PLAN} there")
    changes: dict[str, Any] = {}
    if arguments.device is not None:
        changes["device"] = str(resolve_device(arguments.device))
    if arguments.data is not None:
        changes["data"] = str(arguments.data.resolve())
    if arguments.loader_workers is not None:
        changes["loader_workers"] = arguments.loader_workers
    try:
        plan: dict[str, Any] = json.loads(path.read_text())
        for run in plan["runs"]:
            run["config"] |= changes
        plan["jobs"] = arguments.jobs or plan["jobs"]
        check_plan(plan)
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read ({error}): restore the file") from error
    return plan


def check_plan(plan: dict[str, Any]) -> None:
    """Raises ValueError or KeyError unless a plan that was read is one that `make_plan` made."""
    benchmark_class(plan["benchmark"])
    check_name("single_task", plan["single_task"], ("train", "published", "none"))
    if not (isinstance(plan["jobs"], int) and plan["jobs"] >= 1):
        raise ValueError(f"jobs is {plan['jobs']}, expected at least 1")
    folders = [run["folder"] for run in plan["runs"]]
    if not folders or len(set(folders)) < len(folders):
        raise ValueError("each run needs a folder of its own")
    for run in plan["runs"]:
        if Path(run["folder"]).name != run["folder"] or not isinstance(run["method"], str):
            raise ValueError(f"{run['folder']!r} is no name of a run")
        if run["config"]["benchmark"] != plan["benchmark"]:
            raise ValueError(f"{run['folder']} is a run of {run['config']['benchmark']}")


def make_jobs(plan: dict[str, Any], folder: Path) -> list[Job]:
    """One training per run of the plan."""
    return [
        Job(run["folder"], from_dict(run["config"], f"{folder / PLAN}"), folder / run["folder"])
        for run in plan["runs"]
    ]
