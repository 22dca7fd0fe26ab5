"""Finds benchmarks by name."""

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
"""Class names, by the name of the benchmark and of its module. A module is imported when it is
used, because each needs libraries that the others do not."""

NOT_TESTED_ON_REAL_DATA = ("multimnist", "nyuv2", "cityscapes", "celeba", "qm9")
"""Benchmarks that have never been trained on their real data. Their loaders, models and metrics are
tested on small files of the real layout."""


def benchmark_class(name: str) -> type[Benchmark]:
    """Returns the class of a benchmark.

    Raises:
        ValueError: the name is unknown, or a library is not installed.
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
    """Makes a benchmark on the data in a folder.

    Raises:
        ValueError: the name is unknown, the benchmark reads no files, or it does not have the
            pooling.
        DataError: a file is missing or wrong.
    """
    found = benchmark_class(name)
    if folder is not None and found.layout is None:
        raise ValueError(f"{name} reads no files: leave --data {folder} out")
    return found(folder, pooling)
