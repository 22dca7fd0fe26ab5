"""What a training run writes: its folder, checkpoints and metrics. It knows no trainer."""

from mtrl_fair.errors import RunError
from mtrl_fair.machine import describe_machine
from mtrl_fair.runs.directory import RunDirectory, RunKind
from mtrl_fair.runs.files import flatten, make_folder, write_json, write_text

__all__ = [
    "RunDirectory",
    "RunError",
    "RunKind",
    "describe_machine",
    "flatten",
    "make_folder",
    "write_json",
    "write_text",
]
