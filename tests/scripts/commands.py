"""Commands in this process, which costs no interpreter and leaves it as it was."""

import contextlib
import io
import signal
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from mtrl_fair.signals import STOP_SIGNALS


class Result(NamedTuple):
    code: int
    output: str
    errors: str


@contextlib.contextmanager
def restored_process() -> Iterator[None]:
    """Restores what a command changes of its process: signal handlers and threads."""
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        torch.set_num_threads(threads)


def run_here(main: Callable[[list[str]], None], *words: str) -> Result:
    """Calls a command's `main`; what it prints, and its exit code."""
    output, errors, code = io.StringIO(), io.StringIO(), 0
    with (
        restored_process(),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        try:
            main(list(words))
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else 1
    return Result(code, output.getvalue(), errors.getvalue())
