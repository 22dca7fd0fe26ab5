import copy

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from mtrl_fair import make_combiner
from mtrl_fair.errors import DataError
from mtrl_fair.supervised.benchmark import metric_directions, metric_names
from mtrl_fair.supervised.benchmarks.cityscapes import Cityscapes
from mtrl_fair.supervised.benchmarks.dense.losses import depth_loss, normal_loss, segmentation_loss
from mtrl_fair.supervised.benchmarks.nyuv2 import NYUv2
from mtrl_fair.supervised.data import Batches
from tests.mtrl_fair.supervised.mtan_files import write_release

BENCHMARKS = (NYUv2, Cityscapes)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Small data sets of the real layout and shapes."""
    nyuv2, cityscapes = (tmp_path_factory.mktemp(name) for name in ("nyuv2", "cityscapes"))
    write_release(nyuv2, (288, 384), 13)
    write_release(cityscapes, (128, 256), 7, label_folder="label_7", normals=False)
    return {NYUv2: nyuv2, Cityscapes: cityscapes}


def top_left(batch, height, width):
    """A corner of a batch, which makes training cheap."""
    image, targets = batch
    cut = {key: target[..., :height, :width] for key, target in targets.items()}
    return image[..., :height, :width], cut


def train(benchmark, model, batches):
    """One step per batch; the losses [steps, K]."""
    tasks = range(len(benchmark.tasks))
    combiner = make_combiner("fairgrad", num_tasks=len(tasks))
    optimizer = torch.optim.Adam(model.parameters(), lr=benchmark.recipe.learning_rate)
    model.train()
    history = []
    for image, targets in batches:
        losses = torch.stack(
            [benchmark.loss(k, output, targets) for k, output in enumerate(model(image))]
        )
        present = torch.stack([benchmark.present(k, targets) for k in tasks])
        optimizer.zero_grad()
        combiner.backward(losses, model.shared_parameters(), model.task_parameters(), present)
        optimizer.step()
        history.append(losses.detach())
    return torch.stack(history)


@torch.no_grad()
def evaluate(benchmark, model, batches):
    meters = [benchmark.meter(k) for k in range(len(benchmark.tasks))]
    model.eval()
    for image, targets in batches:
        for meter, output in zip(meters, model(image), strict=True):
            meter.update(output, targets)
    return {
        name: value
        for task, meter in zip(benchmark.tasks, meters, strict=True)
        for name, value in zip(metric_names(task), meter.compute(), strict=True)
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", BENCHMARKS)
def test_two_steps_of_training_and_an_evaluation(kind, folders):
    torch.manual_seed(0)
    benchmark = kind(folders[kind])
    splits = benchmark.splits()
    assert (len(splits.train), splits.validation, len(splits.test)) == (3, None, 2)
    model = benchmark.model(range(len(benchmark.tasks)))
    before = copy.deepcopy(model.state_dict())
    size = benchmark.recipe.batch_size
    batches = [top_left(x, 32, 64) for x in Batches(splits.train, min(size, 2), seed=0).epoch()]
    losses = train(benchmark, model, batches)
    assert losses.shape == (2, len(benchmark.tasks))
    assert losses.isfinite().all()
    after = model.state_dict()
    still = [name for name in before if torch.equal(before[name], after[name])]
    assert still == []

    values = evaluate(
        benchmark,
        model,
        [top_left(x, 32, 64) for x in Batches(splits.test, size, seed=None).epoch()],
    )
    assert list(values) == list(benchmark.published_baseline)
    for name, value in values.items():
        limit = 180 if "angle" in name else 1 if "error" not in name else 1e6
        assert 0 <= value <= limit


@pytest.mark.long
@pytest.mark.parametrize("kind", BENCHMARKS)
def test_a_step_of_training_at_the_published_shape(kind, folders):
    """About two minutes on one core, for both."""
    benchmark = kind(folders[kind])
    model = benchmark.model(range(len(benchmark.tasks)))
    batches = list(Batches(benchmark.splits().train, 2, seed=0).epoch())[:1]
    assert tuple(batches[0][0].shape[2:]) == benchmark.size
    assert train(benchmark, model, batches).isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", BENCHMARKS)
def test_a_model_of_some_tasks_has_their_heads(kind, folders):
    benchmark = kind(folders[kind])
    channels = [benchmark.num_classes, 1, 3]
    for k in range(len(benchmark.tasks)):
        model = benchmark.model([k])
        (output,) = model.eval()(torch.rand(1, 3, 32, 32))
        assert output.shape == (1, channels[k], 32, 32)
        assert len(model.trunk.attention) == 1
        if channels[k] == 3:
            torch.testing.assert_close(output.norm(dim=1), torch.ones(1, 32, 32))


def test_losses_are_those_of_the_tasks(folders):
    benchmark = NYUv2(folders[NYUv2])
    _, targets = benchmark.splits().test.batch([0, 1], None)
    generator = torch.Generator().manual_seed(0)
    outputs = [torch.randn(2, c, 288, 384, generator=generator) for c in (13, 1, 3)]
    outputs[2] = F.normalize(outputs[2], dim=1)
    expected = [
        segmentation_loss(outputs[0], targets["label"]),
        depth_loss(outputs[1], targets["depth"]),
        normal_loss(outputs[2], targets["normal"]),
    ]
    assert [benchmark.loss(k, outputs[k], targets) for k in range(3)] == expected


@pytest.mark.slow
def test_a_task_without_a_valid_pixel_is_absent_and_does_not_train(folders):
    torch.manual_seed(0)
    benchmark = NYUv2(folders[NYUv2])
    assert all(benchmark.present(k, benchmark.splits().test.batch([0], None)[1]) for k in range(3))
    image, targets = top_left(benchmark.splits().test.batch([0, 1], None), 32, 32)
    nothing = {"label": -1, "depth": 0, "normal": 0}
    for k, (key, value) in enumerate(nothing.items()):
        emptied = {**targets, key: torch.full_like(targets[key], value)}
        assert [bool(benchmark.present(j, emptied)) for j in range(3)] == [j != k for j in range(3)]
    model = benchmark.model([0, 1, 2])
    before = copy.deepcopy(model.heads[2].state_dict())
    losses = train(benchmark, model, [(image, emptied)])
    assert losses[0, 2] == 0
    assert all(torch.equal(before[name], x) for name, x in model.heads[2].state_dict().items())


def test_pooling_reaches_the_meters_of_depth_and_normals(folders):
    generator = torch.Generator().manual_seed(0)
    depths = torch.rand(2, 1, 1, 8, 8, generator=generator) + 1
    depths[1, ..., 1:, :] = 0
    up = torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    normals = F.normalize(up + 0.4 * torch.randn(2, 1, 3, 8, 8, generator=generator), dim=2)
    normals[1, ..., 1:, :] = 0
    computed = {}
    for pooling in ("batch", "pixels"):
        meters = [NYUv2(folders[NYUv2], pooling).meter(k) for k in (1, 2)]
        for depth, normal in zip(depths, normals, strict=True):
            meters[0].update(torch.ones_like(depth), {"depth": depth})
            meters[1].update(up, {"normal": normal})
        computed[pooling] = [value for meter in meters for value in meter.compute()]
    batch, pixels = computed.values()
    assert all(abs(a - b) > 1e-4 for a, b in zip(batch, pixels, strict=True))
    assert NYUv2(folders[NYUv2]).pooling == "batch"


def test_the_published_baselines_name_every_metric():
    higher = [True, True, False, False, False, False, True, True, True]
    assert list(metric_directions(NYUv2.tasks).values()) == higher
    assert list(metric_directions(Cityscapes.tasks).values()) == higher[:4]
    numbers = [0.3830, 0.6376, 0.6754, 0.2780, 25.01, 19.21, 0.3014, 0.5720, 0.6915]
    assert list(NYUv2.published_baseline.values()) == numbers
    assert list(Cityscapes.published_baseline.values()) == [0.7401, 0.9316, 0.0125, 27.77]
    for kind in BENCHMARKS:
        assert list(kind.published_baseline) == list(metric_directions(kind.tasks))


@pytest.mark.parametrize(("kind", "batch_size"), [(NYUv2, 2), (Cityscapes, 8)])
def test_the_recipe_is_the_published_one(kind, batch_size, folders):
    recipe = kind.recipe
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (200, batch_size, 1e-4)
    assert (recipe.report, recipe.report_epochs, recipe.loader_workers) == ("last", 10, 4)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    scheduler = kind(folders[kind]).scheduler(optimizer)
    rates = []
    for _ in range(recipe.epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == [1e-4] * 100 + [5e-5] * 100


@pytest.mark.parametrize("kind", BENCHMARKS)
def test_without_a_folder_the_message_says_what_it_must_hold(kind, tmp_path):
    with pytest.raises(
        DataError, match=f"^{kind.name}: no folder is given. --data FOLDER: "
    ) as none:
        kind()
    with pytest.raises(
        DataError, match=f"{tmp_path / 'none'} is no folder. --data FOLDER: "
    ) as gone:
        kind(tmp_path / "none")
    for caught in (none, gone):
        for word in ("github.com/lorenmt/mtan", "train/", "val/", *kind.folders.values()):
            assert word in str(caught.value)
        assert str(kind.size)[1:-1] in str(caught.value)
    with pytest.raises(DataError, match=str(tmp_path / "train" / "image" / "0.npy")):
        kind(tmp_path)


def test_an_unknown_pooling_is_refused_first():
    with pytest.raises(ValueError, match="unknown pooling of nyuv2 'batches': did you mean batch?"):
        NYUv2(None, "batches")
