"""Benchmarks by name."""

from __future__ import annotations

import importlib
from pathlib import Path

from mtrl_fair.checks import check_name
from mtrl_fair.supervised.benchmark import Benchmark

BENCHMARKS = {
    "toy": "ToyBenchmark",
    "digits": "Digits",
    "multimnist": "MultiMNIST",
    "nyuv2": "NYUv2",
    "cityscapes": "Cityscapes",
    "celeba": "CelebA",
    "qm9": "QM9",
}
"""Class names by the name of the benchmark and of its module, which is imported when it is used:
each needs libraries that the others do not."""


def benchmark_class(name: str) -> type[Benchmark]:
    """The class of a benchmark.

    Raises:
        ValueError: an unknown name, or a library that is not installed.
    """
    check_name("benchmark", name, BENCHMARKS)
    try:
        module = importlib.import_module(f"mtrl_fair.supervised.benchmarks.{name}")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the benchmark {name} needs {error.name}: install it; the extra, pip install"
            " '.[supervised]', has what ours need"
        ) from error
    found: type[Benchmark] = getattr(module, BENCHMARKS[name])
    return found


def make_benchmark(name: str, folder: Path | None = None, pooling: str = "batch") -> Benchmark:
    """A benchmark on the data in a folder.

    Raises:
        ValueError: an unknown name, a folder for a benchmark that has none, a pooling it has not.
        DataError: a file is missing or wrong.
    """
    found = benchmark_class(name)
    if folder is not None and found.layout is None:
        raise ValueError(f"{name} reads no files: leave --data {folder} out")
    return found(folder, pooling)
