"""What a training run writes: its folder, checkpoints and metrics."""

from mtrl_fair.errors import RunError
from mtrl_fair.machine import describe_machine
from mtrl_fair.runs.directory import MAY_CHANGE, RunDirectory, flatten, write_json, write_text

__all__ = [
    "MAY_CHANGE",
    "RunDirectory",
    "RunError",
    "describe_machine",
    "flatten",
    "write_json",
    "write_text",
]
