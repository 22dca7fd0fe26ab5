"""The errors that users of the library may want to catch."""

from __future__ import annotations


class NonFiniteError(ValueError):
    """A loss or gradient is NaN or infinite.

    `tasks` holds the indices of the tasks concerned; it is empty where one backward of a weighted
    sum cannot tell.
    """

    def __init__(self, what: str, tasks: list[int]):
        self.what = what
        self.tasks = tasks
        whose = f" of task {', '.join(map(str, tasks))}" if tasks else ""
        super().__init__(f"the {what}{whose} is not finite")


class LossBoundError(ValueError):
    """A loss is not above the lower bound that the method was given."""


class NotPerTaskError(RuntimeError):
    """A parameter is used in a way for which one backward cannot keep the tasks apart."""


class RunError(Exception):
    """A run directory cannot be used as asked; the message says why and how to mend it."""


class WriteError(RunError):
    """A file could not be written; the message says which, why, and that the old one is kept."""


class DataError(ValueError):
    """A benchmark's files are missing or wrong: which, where, and how they must be."""


class BatchSizeError(ValueError):
    """The last batch of an epoch is too small to train on: how large it is, and which sizes fit."""
