"""No file makes a command execute what it holds: the payload here would make a marker file."""

import io
import pickle
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from envs.goals import load_or_draw
from mtrl_fair.runs import RunDirectory, RunError
from mtrl_fair.supervised.benchmarks.celeba import CelebA
from mtrl_fair.supervised.benchmarks.dense.mtan_data import MTANFolder
from mtrl_fair.supervised.benchmarks.molecules.graphs import read_molecules
from mtrl_fair.supervised.benchmarks.multimnist import MultiMNIST
from scripts import supervised, table
from tests.mtrl_fair.results.written_runs import make_run, make_zip
from tests.mtrl_fair.supervised.celeba_files import write_celeba
from tests.mtrl_fair.supervised.mnist_files import write_mnist
from tests.mtrl_fair.supervised.mtan_files import write_release
from tests.mtrl_fair.supervised.qm9_files import make_molecules, write_raw
from tests.scripts.commands import run_here
from tests.torture.hostile_files import checked


class Payload:
    """Is unpickled by making a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "x"))


@pytest.fixture
def marker(tmp_path) -> Path:
    return tmp_path / "executed"


@pytest.fixture
def payload(marker) -> Payload:
    return Payload(marker)


def saved(payload: object, **options) -> bytes:
    content = io.BytesIO()
    torch.save(payload, content, **options)
    return content.getvalue()


def compressed(payload: object) -> bytes:
    """A checkpoint as a zip program would pack it."""
    content = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved(payload))) as archive,
        zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    return content.getvalue()


def array(payload: object) -> bytes:
    content = io.BytesIO()
    np.save(content, np.array([payload], object), allow_pickle=True)
    return content.getvalue()


FORMATS = {
    "pickle": pickle.dumps,
    "torch": saved,
    "torch, nested": lambda payload: saved({"format": "mtrl-fair checkpoint 4", "step": payload}),
    "torch, old": partial(saved, _use_new_zipfile_serialization=False),
    "torch, compressed": compressed,
    "numpy": array,
}

every_format = pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)


def test_the_payload_is_one(payload, marker):
    pickle.loads(pickle.dumps(payload)).close()
    assert marker.exists()


@every_format
@pytest.mark.parametrize("mmap", [False, True])
def test_checkpoints(write, mmap, payload, marker, tmp_path):
    run = RunDirectory(Path(make_run(tmp_path, "run")), {})
    run.checkpoint_path("latest").write_bytes(write(payload))
    with pytest.raises(RunError, match="truncated or no checkpoint of mtrl-fair"):
        run.load_checkpoint("latest", mmap=mmap)
    assert not marker.exists()


@every_format
@pytest.mark.parametrize("name", ["config.json", "metadata.json", "metrics.jsonl"])
def test_files_of_runs(write, name, payload, marker, tmp_path):
    run = Path(make_run(tmp_path, "run"))
    (run / name).write_bytes(write(payload) + b"\n")
    for place in (str(run), make_zip(tmp_path / "runs.zip", str(run)), str(run / name)):
        result = run_here(table.main, place)
        assert (result.code, result.errors.count("\n")) == (2, 1)
    assert not marker.exists()


@every_format
def test_plans_of_comparisons(write, payload, marker, tmp_path):
    (tmp_path / "comparison.json").write_bytes(write(payload))
    result = run_here(supervised.main, "--resume", str(tmp_path))
    assert (result.code, result.errors.count("\n")) == (2, 1)
    assert not marker.exists()


@every_format
def test_goal_caches(write, payload, marker, tmp_path, monkeypatch):
    monkeypatch.setenv("MTRL_FAIR_CACHE", str(tmp_path))
    load_or_draw("none", [], 0, list)
    (path,) = (tmp_path / "goals").iterdir()
    path.write_bytes(write(payload))
    with pytest.warns(RuntimeWarning, match="its goals are drawn again"):
        load_or_draw("none", [], 0, list)
    assert not marker.exists()


@every_format
def test_arrays_of_images(write, payload, marker, tmp_path):
    write_release(tmp_path, (12, 16), 5)
    names = {name: name for name in ("image", "label", "depth", "normal")}
    data = MTANFolder(tmp_path, "train", names, (12, 16), 5)
    (tmp_path / "train" / "depth" / "0.npy").write_bytes(write(payload))
    assert checked(lambda: data.sample(0, None)).code == 2
    assert not marker.exists()


@every_format
def test_digits(write, payload, marker, tmp_path):
    folder = write_mnist(tmp_path / "mnist")
    (folder / "train-images-idx3-ubyte").write_bytes(write(payload))
    assert checked(lambda: MultiMNIST(folder)).code == 2
    assert not marker.exists()


@every_format
@pytest.mark.parametrize(
    "name",
    [
        "raw/qm9_v3.pt",
        "processed/data_v3.pt",
        "processed/pre_transform.pt",
        "processed/pre_filter.pt",
    ],
)
def test_molecules(write, name, payload, marker, tmp_path):
    write_raw(tmp_path, make_molecules())
    if name.startswith("processed"):
        read_molecules(tmp_path)  # writes the processed file
    (tmp_path / name).write_bytes(write(payload))
    assert checked(lambda: read_molecules(tmp_path)).code == 2
    assert not marker.exists()


def test_an_image_that_is_a_program_is_not_run(marker, tmp_path, monkeypatch):
    """Pillow gives PostScript to the program `gs`, which is one that makes the marker here."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {marker}\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    celeba = tmp_path / "celeba"
    celeba.mkdir()
    train = CelebA(write_celeba(celeba)).splits().train
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    (celeba / "img_align_celeba" / "000001.jpg").write_bytes(postscript)
    result = checked(lambda: train.batch([0], None))
    assert result.code == 2
    assert "000001.jpg cannot be read as an image" in result.errors
    assert not marker.exists()
