"""Interrupts at chosen lines."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).parents[2]


class Interrupted(BaseException):
    """What a signal handler raises, as Python's own does for Ctrl-C."""


def interrupted_where(condition: Callable[[FrameType], bool], call: Callable[[], object]) -> bool:
    """Interrupts a call at the first line of `envs` whose frame fulfils the condition; returns
    whether there was one."""

    def trace(frame, event, _):
        if not frame.f_code.co_filename.startswith(str(ROOT / "envs")):
            return None
        if event == "line" and condition(frame):
            raise Interrupted
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except Interrupted:
        return True
    finally:
        sys.settrace(before)
    return False


def is_in(file: str, function: str, variable: str) -> Callable[[FrameType], bool]:
    """Whether a frame is in a function of a file, and the variable is already set.

    A name that does not exist any more would never be met, so the test that uses it would fail.
    """
    return lambda frame: (
        frame.f_code.co_filename.endswith(file)
        and frame.f_code.co_name == function
        and variable in frame.f_locals
    )
