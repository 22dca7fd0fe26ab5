import shutil

import numpy as np
import pytest
import torch

from mtrl_fair.errors import DataError
from mtrl_fair.supervised.benchmarks.dense.mtan_data import SCALES, MTANFolder, augment
from mtrl_fair.supervised.data import Batches
from tests.mtrl_fair.supervised.mtan_files import write_release

SIZE = (16, 24)
FOLDERS = {"image": "image", "label": "label", "depth": "depth", "normal": "normal"}


@pytest.fixture
def root(tmp_path):
    write_release(tmp_path, SIZE, 13)
    return tmp_path


def folder(root, split="train", folders=FOLDERS):
    return MTANFolder(root, split, folders, SIZE, 13)


def coordinates(height, width):
    """Every pixel says where it is: row and column (image), their number (label, depth)."""
    row = torch.arange(height).view(-1, 1).expand(height, width)
    column = torch.arange(width).expand(height, width)
    number = row * width + column
    return {
        "image": torch.stack((row, column, number)).float(),
        "label": number,
        "depth": number.unsqueeze(0) + 1.0,
        "normal": torch.stack((column + 1, row, number)).float(),
    }


def test_samples_are_the_files(tmp_path):
    written = write_release(tmp_path, SIZE, 13)
    for split, number in (("train", 3), ("val", 2)):
        data = folder(tmp_path, split)
        assert len(data) == number
        for index in range(number):
            image, targets = data.sample(index, None)
            assert list(targets) == ["label", "depth", "normal"]
            found = {"image": image, **targets}
            for key, tensor in found.items():
                array = written[split, key][index]
                expected = array if key == "label" else np.moveaxis(array, -1, 0)
                np.testing.assert_array_equal(tensor.numpy(), expected)
                assert tensor.dtype == (torch.int64 if key == "label" else torch.float32)


def test_folders_have_the_names_given_and_normals_may_be_absent(tmp_path):
    written = write_release(tmp_path, SIZE, 7, label_folder="label_7", normals=False)
    names = {"image": "image", "label": "label_7", "depth": "depth"}
    _, targets = MTANFolder(tmp_path, "train", names, SIZE, 7).sample(2, None)
    assert list(targets) == ["label", "depth"]
    np.testing.assert_array_equal(targets["label"], written["train", "label_7"][2])


@pytest.mark.parametrize("kind", [np.float64, np.float16])
def test_other_floating_point_types_become_float32(root, kind):
    path = root / "train" / "depth" / "0.npy"
    np.save(path, np.load(path).astype(kind))
    assert folder(root).sample(0, None)[1]["depth"].dtype == torch.float32


@pytest.mark.process
def test_batches_with_processes_are_those_without(root):
    alone, helped = (Batches(folder(root), 2, seed=3, workers=workers) for workers in (0, 1))
    for (image, targets), (other, others) in zip(alone.epoch(5), helped.epoch(5), strict=True):
        assert torch.equal(image, other)
        assert all(torch.equal(targets[key], others[key]) for key in others)
    assert image.shape == (1, 3, *SIZE)
    assert {key: tuple(x.shape[1:]) for key, x in targets.items()} == {
        "label": SIZE,
        "depth": (1, *SIZE),
        "normal": (3, *SIZE),
    }


def test_augmentation_only_with_a_generator(root):
    image, _ = folder(root).sample(0, None)
    images = [folder(root).sample(0, np.random.default_rng(seed))[0] for seed in (1, 1, 2)]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
    assert not torch.equal(images[0], image)


def read_back(height, width, seed):
    """(scale, flipped, top, left) of an augmentation, and its parts mirrored back if flipped."""
    parts = augment(coordinates(height, width), np.random.default_rng(seed))
    columns = parts["label"] % width
    flipped = bool(columns[0, 0] > columns[0, -1])
    if flipped:
        parts = {key: part.flip(-1) for key, part in parts.items()}
    ratios = (parts["label"] + 1) / parts["depth"][0]
    (scale,) = [s for s in SCALES if torch.allclose(ratios, torch.tensor(s), rtol=1e-6, atol=0)]
    top, left = divmod(int(parts["label"][0, 0]), width)
    return scale, flipped, top, left, parts


@pytest.mark.parametrize(("height", "width"), [(288, 384), (128, 256)])
@pytest.mark.parametrize("seed", range(8))
def test_everything_moves_together(height, width, seed):
    scale, flipped, top, left, parts = read_back(height, width, seed)
    crop_height, crop_width = int(height / scale), int(width / scale)
    rows = top + torch.arange(height) * crop_height // height
    columns = left + torch.arange(width) * crop_width // width
    assert torch.equal(parts["label"], rows[:, None] * width + columns)
    # Coordinates are linear, so their bilinear interpolation is exact, from corner to corner.
    row = torch.linspace(top, top + crop_height - 1, height).view(-1, 1).expand(height, width)
    column = torch.linspace(left, left + crop_width - 1, width).expand(height, width)
    torch.testing.assert_close(parts["image"][0], row, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(parts["image"][1], column, rtol=1e-5, atol=1e-3)
    sign = -1 if flipped else 1
    torch.testing.assert_close(parts["normal"][0], sign * (column + 1), rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(parts["normal"][1], row, rtol=1e-5, atol=1e-3)
    assert {key: part.shape for key, part in parts.items()} == {
        key: part.shape for key, part in coordinates(height, width).items()
    }


def test_every_scale_flip_and_place_occurs_equally_often():
    number = 900
    drawn = [read_back(12, 24, seed)[:4] for seed in range(number)]
    for scale in SCALES:
        share = np.mean([found == scale for found, *_ in drawn])
        assert abs(share - 1 / 3) < 0.06
        places = {(top, left) for found, _, top, left in drawn if found == scale}
        height, width = 12 - int(12 / scale), 24 - int(24 / scale)
        assert {top for top, _ in places} == set(range(height + 1))
        assert {left for _, left in places} == set(range(width + 1))
    assert abs(np.mean([flipped for _, flipped, *_ in drawn]) - 0.5) < 0.06


def test_values_that_mean_undefined_stay_what_they_are(root):
    for seed in range(6):
        _, targets = folder(root).sample(0, np.random.default_rng(seed))
        assert set(targets["label"].unique().tolist()) <= set(range(-1, 12))
        known = targets["depth"][targets["depth"] != 0]
        assert known.min() > 0.1 / 1.5 - 1e-6  # nothing between 0 and the least depth


def test_a_missing_file_is_named(root):
    path = root / "train" / "depth" / "1.npy"
    path.unlink()
    with pytest.raises(DataError) as caught:
        folder(root)
    assert str(caught.value) == (
        f"{path} is missing: {root / 'train'} must have the folders image, label, depth, normal,"
        " each with the files 0.npy to 2.npy"
    )


@pytest.mark.parametrize("empty", [True, False])
def test_a_missing_or_empty_folder_is_named(root, empty):
    shutil.rmtree(root / "val" / "normal")
    if empty:
        (root / "val" / "normal").mkdir()
    with pytest.raises(DataError, match=str(root / "val" / "normal" / "0.npy") + " is missing"):
        folder(root, "val")


def test_nothing_at_all_is_refused(tmp_path):
    with pytest.raises(DataError, match=str(tmp_path / "train" / "image" / "0.npy")):
        folder(tmp_path)


def test_a_gap_in_the_numbers_is_found_although_all_folders_have_it(root):
    for name in FOLDERS:
        (root / "train" / name / "2.npy").rename(root / "train" / name / "3.npy")
    with pytest.raises(DataError, match=str(root / "train" / "image" / "2.npy")):
        folder(root)


def test_other_files_do_not_count(root):
    (root / "train" / "image" / "notes.txt").touch()
    (root / "train" / "label" / "._0.npy").touch()
    assert len(folder(root)) == 3


@pytest.mark.parametrize(
    ("key", "array", "message"),
    [
        (
            "image",
            np.zeros((3, 16, 24), np.float32),
            r"shape \(3, 16, 24\).*expected \(16, 24, 3\)",
        ),
        ("image", np.zeros((16, 24, 3), np.uint8), "type uint8, expected .* floating point"),
        ("label", np.zeros((16, 24, 1)), r"expected \(16, 24\) and numbers"),
        ("label", np.full((16, 24), 13.0), "the label 13.0, expected whole numbers from -1"),
        ("label", np.full((16, 24), 255, np.uint8), r"the label 255, .*\(undefined\) to 12"),
        ("label", np.full((16, 24), -2), "the label -2"),
        ("label", np.full((16, 24), 0.5), "the label 0.5"),
        ("depth", np.zeros((16, 24, 1), np.uint16), "type uint16, expected .* floating point"),
        ("depth", np.full((16, 24, 1), np.nan), "values that are not finite"),
        ("label", np.full((16, 24), np.inf), "values that are not finite"),
        ("normal", np.zeros((16, 24)), r"shape \(16, 24\) .*expected \(16, 24, 3\)"),
        ("normal", np.array([{}] * 3), "cannot be read as a .npy file: Object arrays"),
    ],
)
def test_a_wrong_file_is_named_when_it_is_loaded(root, key, array, message):
    path = root / "train" / key / "1.npy"
    np.save(path, array)
    data = folder(root)
    data.sample(0, None)
    with pytest.raises(DataError, match=message) as caught:
        data.sample(1, None)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"PK\x03\x04", None])
def test_a_damaged_file_is_named(root, content):
    path = root / "train" / "image" / "0.npy"
    path.write_bytes(path.read_bytes()[:500] if content is None else content)
    with pytest.raises(DataError, match=f"{path} cannot be read as a .npy file"):
        folder(root).sample(0, None)
