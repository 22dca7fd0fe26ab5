import math

import numpy as np
import pytest
import torch
from PIL import Image

from mtrl_fair import make_combiner
from mtrl_fair.errors import DataError
from mtrl_fair.supervised.benchmark import metric_names
from mtrl_fair.supervised.benchmarks.celeba import ATTRIBUTES, CelebA
from mtrl_fair.supervised.data import Batches
from tests.mtrl_fair.supervised.celeba_files import NAMES, PARTS, make_labels, write_celeba


@pytest.fixture
def folder(tmp_path):
    return write_celeba(tmp_path)


def indices_of(part):
    return [index for index, found in enumerate(PARTS) if found == part]


def test_splits_hold_the_images_and_labels_that_the_partition_gives_them(folder):
    labels = make_labels()
    splits = CelebA(folder).splits()
    for number, data in enumerate((splits.train, splits.validation, splits.test)):
        indices = indices_of(number)
        assert len(data) == len(indices)
        inputs, targets = data.batch(range(len(data)), None)
        assert inputs.shape == (len(indices), 3, 64, 64)
        assert inputs.dtype == targets.dtype == torch.float32
        assert torch.equal(targets, torch.from_numpy(labels[indices] == 1).float())
        for image, index in zip(inputs, indices, strict=True):
            file = Image.open(folder / "img_align_celeba" / NAMES[index])
            expected = np.array(file.resize((64, 64), Image.Resampling.BILINEAR)) / 255
            np.testing.assert_allclose(image.permute(1, 2, 0), expected, atol=1e-7)


def test_the_partition_may_list_the_images_in_another_order(folder):
    path = folder / "list_eval_partition.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(reversed(lines)))
    assert [len(part) for part in CelebA(folder).splits()] == [6, 3, 3]
    assert CelebA(folder).splits().test.names == [NAMES[index] for index in indices_of(2)]


def test_channels_are_red_green_blue_between_0_and_1(folder):
    images = folder / "img_align_celeba"
    Image.new("RGB", (178, 218), (255, 0, 0)).save(images / NAMES[0])
    Image.new("L", (178, 218), 255).save(images / NAMES[3])
    inputs, _ = CelebA(folder).splits().train.batch([0, 1], None)
    red, white = inputs.mean((2, 3))
    torch.testing.assert_close(red, torch.tensor([1.0, 0.0, 0.0]), rtol=0, atol=0.01)
    assert white.tolist() == [1, 1, 1]
    assert inputs.min() >= 0
    assert inputs.max() == 1


@pytest.mark.process
def test_loading_processes_give_the_same_batches(folder):
    train = CelebA(folder).splits().train
    here, there = (Batches(train, 4, seed=0, workers=workers) for workers in (0, 1))
    for first, second in zip(here.epoch(), there.epoch(), strict=True):
        assert torch.equal(first[0], second[0])
        assert torch.equal(first[1], second[1])


def test_tasks_are_the_40_attributes_judged_by_f1(folder):
    benchmark = CelebA(folder)
    names = [name for task in benchmark.tasks for name in metric_names(task)]
    assert len(names) == len(set(names)) == 40
    assert (names[0], names[-1]) == ("5_o_Clock_Shadow/F1", "Young/F1")
    assert list(ATTRIBUTES) == sorted(ATTRIBUTES)  # the official order is alphabetical
    assert benchmark.published_baseline is None
    values = dict.fromkeys(names, 0.5) | {"Young/F1": 0.9}
    assert benchmark.score(values) == pytest.approx(0.51)


def test_the_network(folder):
    model = CelebA(folder).model([3, 7])
    kinds = (torch.nn.Conv2d, torch.nn.MaxPool2d, torch.nn.AdaptiveAvgPool2d, torch.nn.Linear)
    found = [
        getattr(layer, "out_channels", getattr(layer, "out_features", "pool"))
        for layer in model.trunk
        if isinstance(layer, kinds)
    ]
    pool = "pool"
    assert found == [64, pool, 128, 128, pool, 256, 256, pool, 512, 512, pool, 512, 512]
    weights = 9 * (3 * 64 + 64 * 128 + 128**2 + 128 * 256 + 256**2 + 256 * 512 + 512**2)
    norms = 2 * (64 + 2 * 128 + 2 * 256 + 4 * 512)
    count = sum(parameter.numel() for parameter in model.shared_parameters())
    assert count == weights + 2 * 512**2 + norms
    assert [tuple(part.shape) for part in model(torch.rand(2, 3, 64, 64))] == [(2, 1)] * 2
    assert [len(head) for head in model.task_parameters()] == [2, 2]


def test_the_loss_is_the_cross_entropy_of_the_tasks_own_label(folder):
    targets = torch.zeros(2, 40)
    targets[0, 5] = 1
    loss = CelebA(folder).loss(5, torch.tensor([[2.0], [-1.0]]), targets)
    expected = -(math.log(1 / (1 + math.exp(-2))) + math.log(1 - 1 / (1 + math.exp(1)))) / 2
    assert loss.item() == pytest.approx(expected)


@pytest.mark.slow
def test_two_steps_and_an_evaluation(folder):
    torch.manual_seed(0)
    benchmark = CelebA(folder)
    splits, model = benchmark.splits(), benchmark.model(range(40))
    combiner = make_combiner("fairgrad", num_tasks=40)
    optimizer = torch.optim.Adam(model.parameters(), benchmark.recipe.learning_rate)
    before = [parameter.clone() for parameter in model.parameters()]
    for inputs, targets in Batches(splits.train, 3, seed=0).epoch():
        outputs = model(inputs[:, :, ::4, ::4])  # fewer pixels: 40 backwards each
        losses = torch.stack(
            [benchmark.loss(task, output, targets) for task, output in enumerate(outputs)]
        )
        optimizer.zero_grad()
        combiner.backward(losses, model.shared_parameters(), model.task_parameters())
        optimizer.step()
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert parameter.isfinite().all()
        assert not torch.equal(parameter, old)
    meters = [benchmark.meter(task) for task in range(40)]
    model.eval()
    with torch.no_grad():
        for inputs, targets in Batches(splits.test, 2, seed=None).epoch():
            for meter, output in zip(meters, model(inputs), strict=True):
                meter.update(output, targets)
    assert all(0 <= meter.compute()[0] <= 1 for meter in meters)


def test_a_perfect_predictor_has_f1_1_for_its_own_task_only(folder):
    benchmark = CelebA(folder)
    _, targets = benchmark.splits().train.batch(range(6), None)
    for task in range(40):
        meter = benchmark.meter(task)
        meter.update(4 * targets[:, [task]] - 2, targets)
        assert meter.compute() == (1 if targets[:, task].any() else 0,)


def replace_in(name, old, new):
    def change(folder):
        path = folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def remove(name):
    return lambda folder: (folder / name).unlink()


def move_images(folder):
    (folder / "img_align_celeba").rename(folder / "images")


LABELS, PARTITION = "list_attr_celeba.txt", "list_eval_partition.txt"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove(LABELS), "there is no file .*/list_attr_celeba.txt"),
        (remove(PARTITION), "there is no file .*/list_eval_partition.txt"),
        (move_images, "there is no folder .*/img_align_celeba; it must hold the 12 images"),
        (
            lambda folder: [remove(f"img_align_celeba/{name}")(folder) for name in NAMES[3:5]],
            "2 of the 12 images .* are missing, the first is .*/img_align_celeba/000004.jpg",
        ),
        (replace_in(LABELS, "12\n", ""), "list_attr_celeba.txt must begin with a line with the"),
        (replace_in(LABELS, "12\n", "13\n"), "announces 13 images, but lists 12"),
        (
            replace_in(LABELS, "Male Mouth_Slightly_Open", "Mouth_Slightly_Open Male"),
            "must be the names of the 40 attributes, 5_o_Clock_Shadow to Young, but is '5_o_",
        ),
        (replace_in(LABELS, "000002.jpg ", "000002.jpg 1 "), "must give 000002.jpg 40 labels"),
        (replace_in(LABELS, "000002.jpg -1", "000002.jpg 0"), "each 1 or -1, but gives '0 "),
        (replace_in(PARTITION, "000002.jpg 2", "000002.jpg 3"), "one is '000002.jpg 3'"),
        (replace_in(PARTITION, "000002.jpg 2", "000002.jpg"), "one is '000002.jpg'"),
        (
            replace_in(PARTITION, "000002.jpg 2\n", ""),
            "does not say which split 1 images belong to, the first is 000002.jpg",
        ),
        (
            lambda folder: [replace_in(PARTITION, " 1\n", " 0\n")(folder) for _ in range(3)],
            r"list_eval_partition.txt puts no image into the validation split \(1\)",
        ),
    ],
)
def test_wrong_files_are_named_with_the_layout(folder, change, message):
    change(folder)
    with pytest.raises(DataError, match=message) as caught:
        CelebA(folder)
    assert "laid out as FOLDER/img_align_celeba/000001.jpg" in str(caught.value)


def test_no_folder():
    with pytest.raises(
        DataError, match="celeba needs its files: --data FOLDER with FOLDER/img_align"
    ):
        CelebA()


@pytest.mark.parametrize("length", [0, 300, -40])
def test_an_image_that_cannot_be_read_is_named_when_it_is_loaded(folder, length):
    path = folder / "img_align_celeba" / NAMES[3]
    path.write_bytes(path.read_bytes()[:length])
    train = CelebA(folder).splits().train
    train.sample(0, None)
    with pytest.raises(DataError, match="img_align_celeba/000004.jpg cannot be read as an image"):
        train.sample(1, None)
    path.write_text("no image")
    with pytest.raises(DataError, match="000004.jpg cannot be read as an image: cannot identify"):
        train.sample(1, None)
