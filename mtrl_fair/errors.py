"""The error of values that are not finite."""

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
