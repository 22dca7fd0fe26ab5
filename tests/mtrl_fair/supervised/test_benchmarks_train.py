"""Every benchmark through the trainer, on small files of the real layout."""

import csv
import json
import math
from dataclasses import replace

import pytest

from mtrl_fair.errors import DataError
from mtrl_fair.supervised.benchmark import metric_directions
from mtrl_fair.supervised.benchmarks.cityscapes import Cityscapes
from mtrl_fair.supervised.benchmarks.dense import segnet_mtan
from mtrl_fair.supervised.benchmarks.nyuv2 import NYUv2
from mtrl_fair.supervised.benchmarks.qm9 import QM9
from mtrl_fair.supervised.config import SupervisedConfig
from mtrl_fair.supervised.registry import BENCHMARKS, benchmark_class
from mtrl_fair.supervised.training import train
from tests.mtrl_fair.supervised.celeba_files import write_celeba
from tests.mtrl_fair.supervised.mnist_files import write_mnist
from tests.mtrl_fair.supervised.mtan_files import write_release
from tests.mtrl_fair.supervised.qm9_files import make_molecules, write_raw

SIDES = (32, 64)  # of the real layout, but small enough to train on in a test


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {name: tmp_path_factory.mktemp(name) for name in BENCHMARKS}
    write_mnist(made["multimnist"] / "data")
    write_release(made["nyuv2"] / "data", SIDES, 13)
    write_release(made["cityscapes"] / "data", SIDES, 7, label_folder="label_7", normals=False)
    (made["celeba"] / "data").mkdir()
    write_celeba(made["celeba"] / "data")
    (made["qm9"] / "data").mkdir()
    write_raw(made["qm9"] / "data", make_molecules())
    return {name: folder / "data" for name, folder in made.items()}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(NYUv2, "size", SIDES)
    monkeypatch.setattr(Cityscapes, "size", SIDES)
    monkeypatch.setattr(QM9, "held_out", 8)
    # The published network writes checkpoints of 300 MB; its own tests train it.
    widths = (64, 8, 8, 8, 8)
    monkeypatch.setattr(segnet_mtan, "WIDTHS", widths)
    monkeypatch.setattr(segnet_mtan, "BELOW", (64, *widths[:-1]))
    monkeypatch.setattr(segnet_mtan, "ABOVE", (*widths[1:], widths[-1]))


# Batch sizes that give at least two steps; celeba's 40 backwards are tested with fewer pixels.
SETTINGS = {
    "toy": {"batch_size": 500},
    "digits": {"batch_size": 5000},
    "multimnist": {"batch_size": 25},
    "nyuv2": {"batch_size": 2},
    "cityscapes": {"batch_size": 2},
    "celeba": {"batch_size": 3, "combiner": "ls"},
    "qm9": {"batch_size": 12},
}


def configuration(name, folders, **changes):
    found = benchmark_class(name)
    config = SupervisedConfig(
        benchmark=name,
        data=None if found.layout is None else str(folders[name]),
        learning_rate=found.recipe.learning_rate,
        max_norm=found.recipe.max_norm,
        **SETTINGS[name],
    )
    return replace(config, **changes)


def evaluations(path):
    with (path / "evaluations.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_it_trains_reports_and_resumes(name, folders, tmp_path):
    config = configuration(name, folders)
    assert train(config, tmp_path / "whole")
    results = json.loads((tmp_path / "whole" / "results.json").read_text())
    assert list(results["values"]) == list(metric_directions(benchmark_class(name).tasks))
    assert all(math.isfinite(value) for value in results["values"].values())
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["step"] >= 2

    assert not train(config, tmp_path / "parts", should_stop=lambda: True)  # after one step
    assert train(config, tmp_path / "parts")
    assert json.loads((tmp_path / "parts" / "results.json").read_text()) == results
    assert evaluations(tmp_path / "parts") == evaluations(tmp_path / "whole")


@pytest.mark.parametrize("name", ["nyuv2", "cityscapes"])
def test_pooling_may_be_chosen(name, folders):
    assert configuration(name, folders, pooling="pixels").make_benchmark().pooling == "pixels"


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.process)])
def test_a_broken_file_is_named_without_a_traceback(folders, tmp_path, workers):
    folder = write_celeba(tmp_path)
    broken = folder / "img_align_celeba" / "000001.jpg"
    broken.write_bytes(b"no image")
    config = configuration("celeba", {"celeba": folder}, loader_workers=workers)
    with pytest.raises(DataError) as caught:
        train(config, tmp_path / "run")
    assert str(caught.value).startswith(f"{broken} cannot be read as an image")
    assert "Traceback" not in str(caught.value)
