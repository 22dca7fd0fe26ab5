"""A run of a trainer that only these tests know."""

from pathlib import Path

from mtrl_fair.runs import RunDirectory, RunKind

CONFIG = {"seed": 3, "length": 10, "tasks": ["a"], "machine": {"device": "cpu"}}
KIND = RunKind(
    ("step", "task", "score"),
    frozenset({"length", "machine.device"}),
    new_flag="--folder",
    resume_flag="--continue",
)


def make_run(folder: Path) -> RunDirectory:
    return RunDirectory.create(folder / "nested" / "run", CONFIG, KIND)
