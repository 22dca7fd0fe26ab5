"""Copy what tables and figures need of training runs to a folder small enough to be committed.

python scripts/archive.py RUN [RUN ...] --output FOLDER [--lines N]
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from mtrl_fair.runs import write_json
from scripts.command_line import fail, or_fail
from scripts.run_results import read_metrics, read_run

METRICS = ("fairness/weight/", "fairness/gradient_norm/")


@dataclass(frozen=True)
class Arguments:
    """Copy configuration, versions and evaluations of runs, and some of their task weights.

    The copies are run directories that plot.py and table.py read; they hold no checkpoint.
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run directories."""
    output: Path
    """The folder that receives one folder per run, under the run's name. A copy that is there is
    replaced."""
    lines: int = 60
    """Lines of weights and gradient norms to keep, spread over the run; 0: none."""


def main(words: list[str]) -> None:
    """Checks all runs, then copies them."""
    arguments = tyro.cli(Arguments, args=words)
    if not arguments.runs:
        fail("no runs: give at least one run directory")
    if arguments.lines < 0:
        fail(f"--lines is {arguments.lines}, expected 0 or more")
    paths = or_fail(lambda: [read_run(folder).path for folder in arguments.runs])
    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        fail(f"two runs have the same name among {', '.join(names)}: rename one")
    for path, name in zip(paths, names, strict=True):
        target = arguments.output / name
        if target.resolve() == path.resolve():
            fail(f"{path} is in {arguments.output} already: choose another --output")
        target.mkdir(parents=True, exist_ok=True)
        archive(path, target, arguments.lines)
        print(f"written to {target}")


def archive(source: Path, target: Path, lines: int) -> None:
    """Writes the copy of a run into an existing folder."""
    for name in ("config.json", "evaluations.csv"):
        shutil.copyfile(source / name, target / name)
    metadata = json.loads((source / "metadata.json").read_text())
    for start in (metadata, *metadata["resumed"]):
        start["command"] = without_folders(start["command"])
    write_json(target / "metadata.json", metadata)
    kept = target / "metrics.jsonl"
    kept.unlink(missing_ok=True)
    if lines:
        metrics = thinned(source, lines)
        kept.write_text("".join(json.dumps(line) + "\n" for line in metrics))


def without_folders(command: list[str]) -> list[str]:
    """A command with files by their names only, for the folders are of the machine it ran on."""
    return [re.sub(r"[^=]*/", "", word) for word in command]


def thinned(source: Path, lines: int) -> list[dict[str, float]]:
    """At most so many lines of task weights and gradient norms, with four digits."""
    found = read_metrics(source, "fairness/")
    return [
        {
            key: value if key == "step" else float(f"{value:.4g}")
            for key, value in line.items()
            if key == "step" or key.startswith(METRICS)
        }
        for line in found[:: -(-len(found) // lines)]
    ]


if __name__ == "__main__":
    main(sys.argv[1:])
