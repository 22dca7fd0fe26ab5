"""Benchmarks: ratios measured in one run, side by side with the peers.

python scripts/bench.py env [--mt50] [--json PATH] [--docs PATH]
python scripts/bench.py env --costs
python scripts/bench.py update [--json PATH] [--docs PATH]
python scripts/bench.py train [--presets NAME ...] [--json PATH] [--docs PATH]
python scripts/bench.py solver [--json PATH] [--docs PATH]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console

from mtrl_fair.checks import check_name
from scripts.benchmarks import env, solver, train, update
from scripts.benchmarks.measure import Report
from scripts.command_line import bad_input_is_one_line, check_output, fail, parse, writing

BENCHMARKS: dict[str, tuple[type[Any], Callable[[Any, Console], Report]]] = {
    "solver": (solver.SolverArguments, solver.run),
    "env": (env.EnvArguments, env.run),
    "update": (update.UpdateArguments, update.run),
    "train": (train.TrainArguments, train.run),
}


def main(words: list[str]) -> None:
    """Runs the benchmark that the first word names."""
    names = ", ".join(BENCHMARKS)
    if not words or words[0].startswith("-"):
        if {"-h", "--help"} & set(words):
            print(f"{__doc__}\nBenchmarks: {names}. `bench.py NAME --help` shows the flags of one.")
            return
        fail(f"no benchmark: the first argument is one of {names}")
    with bad_input_is_one_line():
        check_name("benchmark", words[0], BENCHMARKS)
        default, run = BENCHMARKS[words[0]]
        arguments = parse(default(), words[1:], default.__doc__)
        path = arguments.json
        if path is not None:
            check_output("--json", path)
    report = run(arguments, Console())
    if path is not None:
        with writing("--json", path):
            report.write_json(path)


if __name__ == "__main__":
    main(sys.argv[1:])
