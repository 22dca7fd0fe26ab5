"""Files of benchmarks cannot fill the memory, and what does not fit together is refused."""

import gzip
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from mtrl_fair.errors import DataError
from mtrl_fair.supervised.benchmarks.celeba import CelebA
from mtrl_fair.supervised.benchmarks.dense.mtan_data import MTANFolder
from mtrl_fair.supervised.benchmarks.digit_pairs import idx_files
from mtrl_fair.supervised.benchmarks.molecules.graphs import read_molecules
from tests.mtrl_fair.supervised.celeba_files import write_celeba
from tests.mtrl_fair.supervised.mtan_files import write_release
from tests.mtrl_fair.supervised.qm9_files import make_molecules, write_raw


@pytest.fixture
def dense(tmp_path):
    write_release(tmp_path, (12, 16), 5)
    names = {name: name for name in ("image", "label", "depth", "normal")}
    return MTANFolder(tmp_path, "train", names, (12, 16), 5)


def test_an_array_that_states_a_huge_shape_is_not_allocated(dense):
    path = dense.folders["depth"] / "0.npy"
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (2**40, 16, 1)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(DataError, match=r"0.npy cannot be read as a .npy file"):
        dense.sample(0, None)


def test_numbers_that_float32_cannot_hold(dense):
    np.save(dense.folders["depth"] / "0.npy", np.full((12, 16, 1), 1e300))
    with pytest.raises(DataError, match="not finite, or too large for float32"):
        dense.sample(0, None)


def test_a_small_idx_file_that_unpacks_to_a_large_one(tmp_path, monkeypatch):
    monkeypatch.setattr(idx_files, "MAX_BYTES", 1000)
    content = bytes((0, 0, 8, 1)) + struct.pack(">I", 10_000) + bytes(10_000)
    (tmp_path / "labels.gz").write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match="labels.gz holds more than 1000 bytes"):
        idx_files.read_idx(tmp_path, "labels", 1)


def test_an_image_of_too_many_pixels(tmp_path):
    train = CelebA(write_celeba(tmp_path)).splits().train
    path = tmp_path / "img_align_celeba" / "000001.jpg"
    Image.new("1", (8192, 8192)).save(path, format="PNG")
    with pytest.raises(DataError, match="000001.jpg cannot be read as an image: it has 8192 x"):
        train.batch([0], None)


@pytest.mark.parametrize("key", ["edge_index", "x", "pos", "edge_attr", "y"])
def test_molecules_that_do_not_fit_together(key, tmp_path):
    write_raw(tmp_path, make_molecules())
    read_molecules(tmp_path)
    path = tmp_path / "processed" / "data_v3.pt"
    data, slices, kind = torch.load(path, weights_only=False)
    if key == "edge_index":
        data[key][0, 0] = 10**6
    else:
        data[key] = data[key][:-1]
    torch.save((data, slices, kind), path)
    with pytest.raises(DataError, match="torch_geometric cannot read .*data_v3.pt"):
        read_molecules(tmp_path)
