"""How benchmarks measure and what they report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

from mtrl_fair.runs import describe_machine, write_json, write_text

Rows: TypeAlias = list[dict[str, Any]]
"""Measurements, each by the names of its values."""


@dataclass(frozen=True)
class Report:
    """The outcome of a benchmark."""

    rows: Rows
    """One per measurement."""
    ratios: dict[str, float]
    """By the names that DESIGN and the documentation use; larger is better unless they say so."""

    def write_json(self, path: Path) -> None:
        content = {**describe_machine(), "rows": self.rows, "ratios": self.ratios}
        write_json(path, content)


def median_times(
    candidates: Mapping[str, Callable[[], object]], repeats: int, seconds: float = 0.02
) -> dict[str, float]:
    """Median seconds per call of each candidate.

    The candidates take turns, so that a change of the machine's load meets all of them alike. In
    each turn a fast one is called often enough to fill the given time.
    """
    calls = {}
    for name, function in candidates.items():
        function()
        start = time.perf_counter()
        function()
        calls[name] = max(1, int(seconds / max(time.perf_counter() - start, 1e-9)))
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, function in candidates.items():
            start = time.perf_counter()
            for _ in range(calls[name]):
                function()
            samples[name].append((time.perf_counter() - start) / calls[name])
    return {name: median(values) for name, values in samples.items()}


def replace_section(path: Path, name: str, text: str) -> None:
    """Puts text between the comments `<!-- NAME -->` and `<!-- end NAME -->` of a document.

    Raises:
        ValueError: the document has no such section.
    """
    before, after = split_at_section(path, name)
    write_text(path, f"{before}\n\n{text}\n\n{after}")


def split_at_section(path: Path, name: str) -> tuple[str, str]:
    """What stands before and after the section, its comments included."""
    start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
    document = path.read_text() if path.is_file() else ""
    if document.count(start) != 1 or document.count(end) != 1:
        raise ValueError(f"{path} is no document with a section between {start} and {end}")
    return document.split(start)[0] + start, end + document.split(end)[1]
