"""Train supervised multi-task benchmarks and compare methods on them.

python scripts/supervised.py BENCHMARK [--combiner NAME] [--flags]
python scripts/supervised.py BENCHMARK --compare NAME NAME ... --seeds 3
python scripts/supervised.py --resume FOLDER
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from mtrl_fair.errors import WriteError
from mtrl_fair.supervised.jobs import Job, run_jobs
from mtrl_fair.supervised.registry import BENCHMARKS, NOT_TESTED_ON_REAL_DATA
from scripts.command_line import (
    bad_input_is_one_line,
    fail,
    parse,
    python,
    split_name,
    stop_on_signal,
)
from scripts.comparing.arguments import Arguments
from scripts.comparing.display import make_display
from scripts.comparing.folder import open_folder, read_plan
from scripts.comparing.outcome import is_finished, read_comparison, show_comparison
from scripts.comparing.plan import make_jobs, make_plan

DESCRIPTION = (
    "Train supervised multi-task benchmarks. Usage: supervised.py BENCHMARK [--flags]. Benchmarks:"
    f" {', '.join(name for name in BENCHMARKS if name not in NOT_TESTED_ON_REAL_DATA)}; not tested"
    f" on the real data: {', '.join(NOT_TESTED_ON_REAL_DATA)}."
)


def main(words: list[str]) -> None:
    """Checks everything that can be checked, trains, prints and writes the table."""
    with bad_input_is_one_line():
        name, flags = split_name("benchmark", words, list(BENCHMARKS))
        arguments = parse(Arguments(), flags, description=DESCRIPTION)
        path, plan = choose_plan(name, arguments)
        jobs = make_jobs(plan, path)
        todo = [job for job in jobs if not is_finished(job)]
        if todo:  # before anything is made: are the files there?
            todo[0].config.make_benchmark()
        is_resumed = arguments.resume is not None
        # Two comparisons may start in one second.
        numbered = arguments.run_dir is None
        folder = open_folder(path, plan, is_resumed, numbered=numbered)
        if folder.path != path:
            jobs = todo = make_jobs(plan, folder.path)
    try:
        train_and_compare(folder.path, plan, jobs, todo)
    finally:
        folder.unlock()


def train_and_compare(folder: Path, plan: dict[str, Any], jobs: list[Job], todo: list[Job]) -> None:
    """Trains what is left to do, and compares what is finished then.

    The exit code is 1 if a training failed, and 130 if it was asked to stop.
    """
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"folder: {folder}")
    console.print(f"curves: {python()} -m tensorboard.main --logdir {folder}")
    single = sum(job.config.task is not None for job in todo)
    console.print(f"trainings: {len(todo)} ({single} on a single task), {plan['jobs']} at a time")
    should_stop = stop_on_signal()
    try:
        with make_display(console, todo) as display:
            outcomes = run_jobs(todo, plan["jobs"], display, should_stop)
    except KeyboardInterrupt:
        fail(f"interrupted. Continue from the last epochs with --resume {folder}", code=130)
    with bad_input_is_one_line():
        comparison = read_comparison(plan, jobs)
    try:
        show_comparison(console, folder, comparison, plan["benchmark"])
    except WriteError as error:
        fail(f"{error}. --resume {folder} writes it again", code=1)
    unfinished = [job for job in jobs if not is_finished(job)]
    if unfinished:
        failed = any(ended.error is not None for ended in outcomes.values())
        when = "Where the cause can be mended, continue" if failed else "Continue"
        print(
            f"{len(unfinished)} of {len(jobs)} trainings are not finished. {when} with:"
            f" {python('supervised.py')} --resume {folder}"
        )
        sys.exit(1 if failed else 130)


def choose_plan(name: str | None, arguments: Arguments) -> tuple[Path, dict[str, Any]]:
    """Returns the comparison's folder and plan, of an earlier command or a new one.

    Raises:
        RunError, ValueError: an argument is wrong, or there is nothing to resume.
    """
    if arguments.resume is not None:
        if name is not None:
            raise ValueError(
                f"--resume continues {arguments.resume} as it was configured: leave {name} out"
            )
        return arguments.resume, read_plan(arguments)
    if name is None:
        raise ValueError(f"name a benchmark first: {', '.join(BENCHMARKS)}")
    plan = make_plan(name, arguments)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return arguments.run_dir or Path("runs") / f"{name}-{stamp}", plan


if __name__ == "__main__":
    main(sys.argv[1:])
