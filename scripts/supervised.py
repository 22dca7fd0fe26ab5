"""Train supervised multi-task benchmarks and compare methods on them.

python scripts/supervised.py BENCHMARK [--combiner NAME] [--flags]
python scripts/supervised.py BENCHMARK --compare NAME NAME ... --seeds 3
python scripts/supervised.py --resume FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from mtrl_fair import COMBINERS, Scale
from mtrl_fair.names import check_name
from mtrl_fair.runs import RunDirectory, RunError, describe_machine, write_json
from mtrl_fair.supervised.benchmark import Benchmark, metric_directions
from mtrl_fair.supervised.comparison import Comparison, compare
from mtrl_fair.supervised.config import SupervisedConfig, from_dict, to_dict
from mtrl_fair.supervised.data import usable_cores
from mtrl_fair.supervised.registry import BENCHMARKS, benchmark_class
from mtrl_fair.supervised.trainer import RESULTS
from scripts.command_line import (
    fail,
    or_fail,
    parse,
    python,
    resolve_device,
    split_name,
    stop_on_signal,
)
from scripts.comparison_figure import draw_comparison
from scripts.comparison_table import console_table, write_csv, write_markdown
from scripts.training_display import make_display
from scripts.training_jobs import Job, run_jobs

PLAN = "comparison.json"
SINGLE_TASK = "single-task"
DESCRIPTION = (
    "Train supervised multi-task benchmarks. Usage: supervised.py BENCHMARK [--flags]. Benchmarks:"
    f" {', '.join(BENCHMARKS)}."
)


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
    """The combined direction is clipped to this norm."""
    weighted_heads: bool = False
    """Whether heads follow the gradient of the weighted loss instead of their own task's."""
    single_task: Literal["train", "published", "none"] | None = None
    """Where the baseline of Δm% comes from; None: published numbers where there are any, else one
    network per task and seed is trained."""
    data: Path | None = None
    """The folder with the benchmark's files; without it, the error says how it must look."""
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    pooling: Literal["batch", "pixels"] = "batch"
    """Errors of depth and normals (nyuv2, cityscapes): means of batches, averaged, as in papers, or
    over all pixels."""
    run_dir: Path | None = None
    """A new folder for everything; None: runs/BENCHMARK-TIME."""
    resume: Path | None = None
    """Continue in this folder as it was configured; only --data, --device, --jobs and
    --loader-workers may be given."""
    device: str = "auto"
    """auto (CUDA if there is one), cpu, cuda, cuda:1, …"""
    jobs: int | None = None
    """Trainings at a time; None: one per core on a CPU, one with CUDA."""
    threads: int | None = None
    """CPU threads of each training; None: one for small networks, else the cores shared out."""
    loader_workers: int | None = None
    """Processes of each training that load data."""


@dataclass(frozen=True)
class Method:
    """A row of the table."""

    name: str
    settings: dict[str, Any]


def main(words: list[str]) -> None:
    """Checks everything that can be checked, trains, prints and writes the table."""
    name, flags = or_fail(lambda: split_name("benchmark", words, list(BENCHMARKS)))
    arguments = parse(Arguments(), flags, description=DESCRIPTION)
    if arguments.resume is not None:
        if name is not None:
            fail(f"--resume continues {arguments.resume} as it was configured: leave {name} out")
        folder, plan = arguments.resume, or_fail(lambda: read_plan(arguments))
    elif name is None:
        fail(f"name a benchmark first: {', '.join(BENCHMARKS)}")
    else:
        benchmark_name = name
        plan = or_fail(lambda: make_plan(benchmark_name, arguments))
        stamp = time.strftime("%Y%m%d-%H%M%S")
        folder = arguments.run_dir or Path("runs") / f"{name}-{stamp}"
    jobs = or_fail(lambda: make_jobs(plan, folder))
    benchmark = or_fail(jobs[0].config.make_benchmark)
    lock = or_fail(lambda: open_folder(folder, plan, arguments.resume is not None))

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"folder: {lock.path}")
    console.print(f"curves: {python()} -m tensorboard.main --logdir {folder}")
    should_stop = stop_on_signal()
    todo = [job for job in jobs if not (job.path / RESULTS).is_file()]
    processes = arguments.jobs or default_jobs(jobs[0].config.device)
    with make_display(console, todo) as display:
        outcomes = run_jobs(todo, processes, display, should_stop)
    errors = {name: ended.error for name, ended in outcomes.items() if ended.error is not None}
    comparison = or_fail(lambda: read_comparison(plan, jobs, benchmark))
    if comparison.rows:
        console.print(console_table(comparison, plan["benchmark"]))
        write_markdown(folder / "comparison.md", comparison, plan["benchmark"])
        write_csv(folder / "comparison.csv", comparison)
        draw_comparison(folder / "comparison.png", comparison, plan["benchmark"])
        console.print(f"written to {folder / 'comparison'}.md, .csv and .png")
    for name, error in errors.items():
        print(f"error: {name}: {error}", file=sys.stderr)
    unfinished = [job for job in jobs if not (job.path / RESULTS).is_file()]
    if unfinished:
        print(
            f"{len(unfinished)} of {len(jobs)} trainings are not finished. Continue with:"
            f" {python('supervised.py')} --resume {folder}"
        )
        sys.exit(1 if errors else 130)


def make_plan(name: str, arguments: Arguments) -> dict[str, Any]:
    """What will be trained, as it is written to `comparison.json`.

    Raises:
        ValueError: arguments that make no sense.
    """
    found = benchmark_class(name)
    base = base_config(found, arguments)
    methods = make_methods(arguments)
    for label, number in (("--seeds", arguments.seeds), ("--jobs", arguments.jobs)):
        if number is not None and number < 1:
            raise ValueError(f"{label} is {number}, expected at least 1")
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    single_task = choose_baseline(found, arguments.single_task)
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
    return {"benchmark": name, "single_task": single_task, "runs": runs}


def base_config(found: type[Benchmark], arguments: Arguments) -> SupervisedConfig:
    """What all trainings have in common."""
    recipe = found.recipe
    device = str(resolve_device(arguments.device))
    jobs = arguments.jobs or default_jobs(device)
    cores = max(1, usable_cores() // max(1, jobs))
    workers = min(recipe.loader_workers, cores)

    def given(value: Any, published: Any) -> Any:
        return published if value is None else value

    return SupervisedConfig(
        benchmark=found.name,
        data=None if arguments.data is None else str(arguments.data.resolve()),
        alpha=arguments.alpha,
        solver=arguments.solver,
        max_norm=given(arguments.max_norm, recipe.max_norm),
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
    for name in names:
        if "," in name:
            raise ValueError(
                f"{name!r} is no combiner: separate names by blanks, --compare"
                f" {name.replace(',', ' ')}"
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


def choose_baseline(found: type[Benchmark], wanted: str | None) -> str:
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
    return wanted or ("train" if found.published_baseline is None else "published")


def default_jobs(device: str) -> int:
    """Trainings at a time."""
    return usable_cores() if device == "cpu" else 1


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
    changes: dict[str, Any] = {"device": str(resolve_device(arguments.device))}
    if arguments.data is not None:
        changes["data"] = str(arguments.data.resolve())
    if arguments.loader_workers is not None:
        changes["loader_workers"] = arguments.loader_workers
    try:
        plan: dict[str, Any] = json.loads(path.read_text())
        for run in plan["runs"]:
            run["config"] |= changes
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read ({error}): restore the file") from error
    return plan


def make_jobs(plan: dict[str, Any], folder: Path) -> list[Job]:
    """One training per run of the plan."""
    return [
        Job(run["folder"], from_dict(run["config"], f"{folder / PLAN}"), folder / run["folder"])
        for run in plan["runs"]
    ]


def open_folder(folder: Path, plan: dict[str, Any], resumed: bool) -> RunDirectory:
    """Makes the folder, or takes the one to resume, and locks it.

    Raises:
        RunError: it exists, cannot be made, or another process is training there.
    """
    if not resumed:
        if folder.exists():
            raise RunError(
                f"the folder {folder} exists: choose another with --run-dir, or continue what is"
                f" there with --resume {folder}"
            )
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise RunError(
                f"the folder {folder} cannot be made ({error.strerror}): choose another with"
                " --run-dir"
            ) from error
    directory = RunDirectory(folder, plan)
    directory.lock()
    if not resumed:
        write_json(folder / PLAN, plan | describe_machine())
    return directory


def read_comparison(plan: dict[str, Any], jobs: list[Job], benchmark: Benchmark) -> Comparison:
    """The table of all trainings that are finished.

    Raises:
        ValueError: a result that cannot be compared.
    """
    directions = metric_directions(benchmark.tasks)
    results: dict[str, dict[int, dict[str, float]]] = {}
    for run, job in zip(plan["runs"], jobs, strict=True):
        path = job.path / RESULTS
        if path.is_file():
            seeds = results.setdefault(run["method"], {})
            seeds.setdefault(job.config.seed, {}).update(json.loads(path.read_text())["values"])
    single = [
        values
        for values in results.pop(SINGLE_TASK, {}).values()
        if values.keys() == directions.keys()
    ]
    if plan["single_task"] == "published" and benchmark.published_baseline is not None:
        single = [dict(benchmark.published_baseline)]
    return compare(
        {method: list(seeds.values()) for method, seeds in results.items()}, directions, single
    )


if __name__ == "__main__":
    main(sys.argv[1:])
