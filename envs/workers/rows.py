"""What a pool steps: rows, each with its own way to carry out a command."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

from envs.workers.memory import SharedArrays

Phase: TypeAlias = tuple[str, Callable[[Any], None]]
"""A part of a command: what a report of its failure calls it ("stepping"), and the function that
does it for one row."""


@runtime_checkable
class Row(Protocol):
    """One row of a vector environment, which reads what to do from shared memory and writes its
    results there."""

    PHASES: ClassVar[Mapping[bytes, Sequence[Phase]]]
    """The phases of each command, a single byte. All rows of a process finish a phase before the
    next one begins."""

    @property
    def spec(self) -> RowSpec: ...


@runtime_checkable
class RowSpec(Protocol):
    """A description of a row, which is sent to the process that makes the row.

    It is pickled, so its class must be importable in a new process. Unpickling imports what the row
    needs, and a pool's processes need nothing else.
    """

    @property
    def row(self) -> int:
        """The row's index in the shared arrays."""

    @property
    def name(self) -> str:
        """The row's name in reports of failures."""

    def make(self, arrays: Any) -> Row:
        """Makes the row, which works on the pool's shared arrays."""


class Rows:
    """The rows that one process steps. All must be of one class."""

    def __init__(self) -> None:
        self._task = "importing", "its rows"
        self._rows: list[Row] = []
        self._phases: Mapping[bytes, Sequence[Phase]] = {}

    @property
    def current_task(self) -> str:
        """What is, or was last, under way ("stepping reach-v3"), for reports of failures."""
        return " ".join(self._task)

    def make(self, specs: Sequence[RowSpec], arrays: SharedArrays) -> None:
        """Makes the rows."""
        self._arrays = arrays
        for spec in specs:
            self._task = "making", spec.name
            self._rows.append(spec.make(arrays))
        if self._rows:
            self._phases = self._rows[0].PHASES

    def execute(self, command: bytes) -> None:
        """Carries a command out in the active rows, phase by phase.

        One phase in all rows, then the next: the code and data of the simulation, and those of the
        rewards, each stay in the core's caches. One row after the other would be slower.
        """
        active = self._arrays.active
        rows = [row for row in self._rows if active[row.spec.row]]
        if not rows:
            return
        for task, work in self._phases[command]:
            for row in rows:
                self._task = task, row.spec.name
                work(row)
