"""Train supervised multi-task benchmarks and compare methods on them.

python scripts/supervised.py BENCHMARK [--combiner NAME] [--flags]
python scripts/supervised.py BENCHMARK --compare NAME NAME ... --seeds 3
python scripts/supervised.py --resume FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from mtrl_fair.runs import RunDirectory, RunError, describe_machine, write_json
from mtrl_fair.supervised.benchmark import metric_directions, metric_labels
from mtrl_fair.supervised.comparison import Comparison, compare
from mtrl_fair.supervised.jobs import Job, run_jobs
from mtrl_fair.supervised.registry import BENCHMARKS, benchmark_class
from mtrl_fair.supervised.tables import console_table, write_csv, write_markdown
from mtrl_fair.supervised.trainer import RESULTS
from scripts.command_line import fail, or_fail, parse, python, split_name, stop_on_signal
from scripts.comparing.display import make_display
from scripts.comparing.plan import PLAN, SINGLE_TASK, Arguments, make_jobs, make_plan, read_plan

DESCRIPTION = (
    "Train supervised multi-task benchmarks. Usage: supervised.py BENCHMARK [--flags]. Benchmarks:"
    f" {', '.join(BENCHMARKS)}."
)


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
    todo = [job for job in jobs if not (job.path / RESULTS).is_file()]
    if todo:  # before anything is made: are the files there?
        or_fail(todo[0].config.make_benchmark)
    lock = or_fail(lambda: open_folder(folder, plan, arguments.resume is not None))

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"folder: {lock.path}")
    console.print(f"curves: {python()} -m tensorboard.main --logdir {folder}")
    single = sum(job.config.task is not None for job in todo)
    console.print(f"trainings: {len(todo)} ({single} on a single task), {plan['jobs']} at a time")
    should_stop = stop_on_signal()
    try:
        with make_display(console, todo) as display:
            outcomes = run_jobs(todo, plan["jobs"], display, should_stop)
    except KeyboardInterrupt:
        fail(f"interrupted. Continue from the last epochs with --resume {folder}", code=130)
    failed = any(ended.error is not None for ended in outcomes.values())
    show_comparison(console, folder, plan, jobs)
    unfinished = [job for job in jobs if not (job.path / RESULTS).is_file()]
    if unfinished:
        when = "Where the cause can be mended, continue" if failed else "Continue"
        print(
            f"{len(unfinished)} of {len(jobs)} trainings are not finished. {when} with:"
            f" {python('supervised.py')} --resume {folder}"
        )
        sys.exit(1 if failed else 130)


def show_comparison(console: Console, folder: Path, plan: dict[str, Any], jobs: list[Job]) -> None:
    """Prints and writes the table of what is finished."""
    from mtrl_fair.supervised.figures import draw_comparison

    comparison = or_fail(lambda: read_comparison(plan, jobs))
    title = plan["benchmark"]
    for note in comparison.notes:
        console.print(f"note: {note}")
    if not comparison.rows:
        return
    table = console_table(comparison, title)
    if not console.is_terminal:  # a log has no width that numbers must fit into
        console = Console(
            highlight=False, width=max(80, Console(width=10_000).measure(table).maximum)
        )
    console.print(table)
    write_markdown(folder / "comparison.md", comparison, title)
    write_csv(folder / "comparison.csv", comparison)
    draw_comparison(folder / "comparison.png", comparison, title)
    print(f"written to {folder / 'comparison'}.md, .csv and .png")


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


def read_values(path: Path) -> dict[str, float]:
    """The metrics in a run's `results.json`.

    Raises:
        RunError: it cannot be read.
    """
    try:
        values: dict[str, float] = json.loads(path.read_text())["values"]
        return {name: float(value) for name, value in values.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{path} cannot be read ({error}): remove it, and --resume writes it again"
        ) from error


def read_comparison(plan: dict[str, Any], jobs: list[Job]) -> Comparison:
    """The table of all trainings that are finished.

    Raises:
        RunError, ValueError: a result that cannot be read, or lacks a metric.
    """
    found = benchmark_class(plan["benchmark"])
    directions = metric_directions(found.tasks)
    results: dict[str, dict[int, dict[str, float]]] = {}
    for run, job in zip(plan["runs"], jobs, strict=True):
        path = job.path / RESULTS
        if path.is_file():
            seeds = results.setdefault(run["method"], {})
            seeds.setdefault(job.config.seed, {}).update(read_values(path))
    single = [
        values
        for values in results.pop(SINGLE_TASK, {}).values()
        if values.keys() == directions.keys()
    ]
    name = SINGLE_TASK
    if plan["single_task"] == "published" and found.published_baseline is not None:
        single, name = [dict(found.published_baseline)], f"{SINGLE_TASK} (published)"
    return compare(
        {method: list(seeds.values()) for method, seeds in results.items()},
        directions,
        single,
        name,
        metric_labels(found.tasks),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
