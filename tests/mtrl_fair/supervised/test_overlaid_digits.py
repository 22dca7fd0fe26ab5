"""Overlaid digits: those of scikit-learn, and MNIST files of the real layout."""

import gzip

import pytest
import torch
from sklearn.datasets import load_digits

from mtrl_fair import make_combiner
from mtrl_fair.errors import DataError
from mtrl_fair.supervised.benchmarks.digit_pairs.overlaid_digits import DigitPairs, random_pairs
from mtrl_fair.supervised.benchmarks.digits import DIGITS, PAIRS, Digits
from mtrl_fair.supervised.benchmarks.multimnist import MultiMNIST
from mtrl_fair.supervised.data import Batches
from tests.mtrl_fair.supervised.mnist_files import write_mnist


def test_the_brighter_pixel_wins_and_corners_are_where_they_belong():
    images = torch.zeros(2, 3, 3, dtype=torch.uint8)
    images[0] = 8
    images[1] = torch.tensor([[16, 0, 0], [0, 4, 0], [0, 0, 12]])
    pairs = DigitPairs(
        images, torch.tensor([5, 7]), torch.tensor([[0, 1]]), offset=1, margin=2, brightest=16
    )
    batch, labels = pairs.batch([0], None)
    wanted = [
        [8, 8, 8, 0, 0],
        [8, 16, 8, 0, 0],
        [8, 8, 8, 0, 0],
        [0, 0, 0, 12, 0],
        [0, 0, 0, 0, 0],
    ]
    assert batch.shape == (1, 1, 5, 5)
    assert (batch[0, 0] * 16).tolist() == wanted
    assert labels.tolist() == [[5, 7]]


def test_pairs_use_the_given_digits_evenly_and_only_them():
    digits = torch.tensor([3, 9, 40, 41])
    pairs = random_pairs(digits, 400, seed=1)
    assert torch.equal(pairs, random_pairs(digits, 400, seed=1))
    assert not torch.equal(pairs, random_pairs(digits, 400, seed=2))
    assert pairs[:, 0].bincount()[digits].tolist() == [100] * 4
    assert (pairs[:, 1].bincount(minlength=42)[digits] > 60).all()
    assert pairs[:, 1].bincount().sum() == pairs[:, 1].bincount()[digits].sum()
    assert len(random_pairs(digits, 6, seed=0)) == 6


def test_digits_come_from_scikit_learn_in_disjoint_splits():
    splits = Digits().splits()
    used = [set(split.pairs.flatten().tolist()) for split in splits]
    assert len(set.union(*used)) == sum(map(len, used))
    assert [len(part) for part in used] == list(DIGITS.values())
    assert [len(split) for split in splits] == list(PAIRS.values())
    source = load_digits()
    inputs, targets = splits.test.batch([7, 9], None)
    first, second = splits.test.pairs[9].tolist()
    assert inputs.shape == (2, 1, 12, 12)
    assert inputs.min() == 0
    assert inputs.max() <= 1
    assert targets[1].tolist() == [source.target[first], source.target[second]]
    corner = torch.from_numpy(source.images[first][:3] / 16).float()  # above the second digit
    assert torch.equal(inputs[1, 0, :3, :8], corner)
    assert torch.equal(
        inputs[1, 0, 8:11, 3:11], torch.from_numpy(source.images[second][5:] / 16).float()
    )


def test_mnist_files_compressed_or_not_become_pairs(tmp_path):
    benchmark = MultiMNIST(write_mnist(tmp_path / "data", compressed=("t10k",)))
    splits = benchmark.splits()
    assert [len(split) for split in splits] == [50, 10, 12]
    train, validation, test = (set(split.pairs.flatten().tolist()) for split in splits)
    assert train | validation == set(range(60))
    assert not train & validation
    assert test == set(range(12))
    inputs, targets = splits.test.batch(range(12), None)
    assert inputs.shape == (12, 1, 36, 36)
    assert inputs.max() == 1
    first, second = splits.test.pairs.T
    assert torch.equal((inputs[:, 0, 0, 0] * 255).round().long(), first)
    assert torch.equal((inputs[:, 0, 6, 6] * 255).round().long(), second)  # 6 pixels further
    assert torch.equal(targets, torch.stack((first % 10, second % 10), 1))
    train_inputs, _ = splits.train.batch([0], None)
    assert round(float(train_inputs[0, 0, 0, 0]) * 255) == 100 + int(splits.train.pairs[0, 0])


@pytest.mark.parametrize("name", ["digits", "multimnist"])
def test_two_steps_and_an_evaluation(tmp_path, name):
    benchmark = Digits() if name == "digits" else MultiMNIST(write_mnist(tmp_path / "data"))
    splits = benchmark.splits()
    torch.manual_seed(0)
    model = benchmark.model([0, 1])
    combiner = make_combiner("fairgrad", num_tasks=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    before = [p.clone() for p in model.parameters()]
    batches = Batches(splits.train, 16, seed=0)
    for (inputs, targets), _ in zip(batches.epoch(), range(2), strict=False):
        outputs = model(inputs)
        assert [output.shape for output in outputs] == [(16, 10)] * 2
        losses = torch.stack([benchmark.loss(k, outputs[k], targets) for k in range(2)])
        optimizer.zero_grad()
        combiner.backward(losses, model.shared_parameters(), model.task_parameters())
        optimizer.step()
    assert all(not torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    model.eval()
    meters = [benchmark.meter(k) for k in range(2)]
    with torch.no_grad():
        for inputs, targets in Batches(splits.validation, 500, None).epoch():
            for meter, output in zip(meters, model(inputs), strict=True):
                meter.update(output, targets)
    assert all(0 <= meter.compute()[0] <= 1 for meter in meters)


def test_the_network_of_multimnist_has_the_literature_s_layers(tmp_path):
    model = MultiMNIST(write_mnist(tmp_path / "data")).model([0, 1])
    shapes = [tuple(p.shape) for p in model.shared_parameters() if p.ndim > 1]
    assert shapes == [(10, 1, 5, 5), (20, 10, 5, 5), (50, 720)]
    heads = [[tuple(p.shape) for p in head if p.ndim > 1] for head in model.task_parameters()]
    assert heads == [[(50, 50), (10, 50)]] * 2


def test_missing_and_wrong_mnist_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"--data FOLDER with the four files"):
        MultiMNIST()
    with pytest.raises(DataError, match=r"there is no file .*nowhere/train-images-idx3-ubyte, nor"):
        MultiMNIST(tmp_path / "nowhere")
    path = write_mnist(tmp_path / "data") / "t10k-labels-idx1-ubyte"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte is truncated: 11 bytes"):
        MultiMNIST(path.parent)
    path.write_bytes(content[:4] + bytes(4))
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte is empty"):
        MultiMNIST(path.parent)
    path.write_bytes(content[:5])
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte is no IDX file"):
        MultiMNIST(path.parent)
    path.write_bytes(content[:-1] + bytes([10]))
    with pytest.raises(DataError, match=r"12 labels up to 10: expected one label from 0 to 9"):
        MultiMNIST(path.parent)
    path.unlink()
    compressed = gzip.compress(content)
    damaged = compressed[:12] + bytes(4) + compressed[16:]
    for wrong in (b"no gzip", compressed[:-9], damaged):
        path.with_name(path.name + ".gz").write_bytes(wrong)
        with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz cannot be read"):
            MultiMNIST(path.parent)
