import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, jaccard_score

from mtrl_fair.supervised.benchmarks.dense.meters import DepthMeter, NormalMeter, SegmentationMeter

SIZES = (2, 2, 1)  # of batches; the last is smaller, as at the end of a split


def one_hot(predictions, num_classes):
    logits = torch.nn.functional.one_hot(predictions, num_classes).float()
    return logits.movedim(-1, 1)


def unit(vectors):
    return vectors / vectors.norm(dim=1, keepdim=True)


def normal_batches(seed=0, height=5, width=7):
    """(prediction, targets), with unknown pixels; the second batch has no others."""
    generator = torch.Generator().manual_seed(seed)
    for number, size in enumerate(SIZES):
        truth = unit(torch.randn(size, 3, height, width, generator=generator))
        spread = (0.2 + number) * torch.randn(size, 3, height, width, generator=generator)
        guess = unit(truth + spread)
        truth[:, :, :2, : 3 + number] = 0
        if number == 1:
            truth[:] = 0
        yield guess, {"normal": truth}


def angles_by_hand(guess, truth):
    known = truth.abs().sum(1) > 0
    pairs = zip(guess.movedim(1, -1)[known], truth.movedim(1, -1)[known], strict=True)
    return np.array(
        [math.degrees(math.acos(float((g.double() @ t.double()).clip(-1, 1)))) for g, t in pairs]
    )


def of_angles(angles):
    shares = [np.mean(angles < limit) for limit in (11.25, 22.5, 30)]
    return [np.mean(angles), np.median(angles), *shares]


def test_segmentation_by_hand_over_two_batches():
    meter = SegmentationMeter(4)
    meter.update(
        one_hot(torch.tensor([[[0, 1, 1, 0]]]), 4), {"label": torch.tensor([[[0, 0, 1, -1]]])}
    )
    meter.update(
        one_hot(torch.tensor([[[2, 1, 1, 3]]]), 4), {"label": torch.tensor([[[0, 1, 1, -1]]])}
    )
    # Class 0: 1 of 3. Class 1: 3 of 4. Class 2: predicted once, never right. Class 3: only where
    # nothing is known, so it does not count.
    iou, accuracy = meter.compute()
    assert iou == pytest.approx((1 / 3 + 3 / 4 + 0) / 3)
    assert accuracy == pytest.approx(4 / 6)


def test_a_class_in_neither_labels_nor_predictions_is_left_out():
    meter = SegmentationMeter(5)
    labels = torch.tensor([[[0, 1, 3, 3]]])
    meter.update(one_hot(labels, 5), {"label": labels})
    assert meter.compute() == (1.0, 1.0)


def test_segmentation_is_that_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    meter, truths, guesses = SegmentationMeter(13), [], []
    for size in SIZES:
        logits = torch.randn(size, 13, 6, 8, generator=generator)
        labels = torch.randint(-1, 12, (size, 6, 8), generator=generator)
        logits[:, 12] = -10  # class 12 is in neither
        meter.update(logits, {"label": labels})
        truths.append(labels[labels >= 0])
        guesses.append(logits.argmax(1)[labels >= 0])
    truth, guess = torch.cat(truths), torch.cat(guesses)
    iou, accuracy = meter.compute()
    assert iou == pytest.approx(jaccard_score(truth, guess, average="macro"))
    assert accuracy == pytest.approx(accuracy_score(truth, guess))


@pytest.mark.parametrize(("pooling", "expected"), [("batch", 2), ("pixels", 5 / 3)])
def test_depth_by_hand(pooling, expected):
    meter = DepthMeter(pooling)
    # Errors 1, 1 in the first batch, nothing in the second, 3 in the third.
    for prediction, depth in (([3.0, 9, 3], [2.0, 0, 4]), ([1.0, 1], [0.0, 0]), ([5.0], [2.0])):
        shape = (1, 1, 1, -1)
        meter.update(
            torch.tensor(prediction).view(shape), {"depth": torch.tensor(depth).view(shape)}
        )
    absolute, relative = meter.compute()
    assert absolute == pytest.approx(expected)
    first, third = [1 / 2, 1 / 4], [3 / 2]
    by_pooling = {"batch": (np.mean(first) + np.mean(third)) / 2, "pixels": np.mean(first + third)}
    assert relative == pytest.approx(by_pooling[pooling])


def test_angles_by_hand():
    degrees = [0.0, 10, 20, 29, 31, 180]
    guess = torch.tensor(
        [[math.cos(math.radians(x)), math.sin(math.radians(x)), 0] for x in degrees]
    )
    truth = torch.tensor([[1.0, 0, 0]]).expand(6, 3)
    guess, truth = (x.T.reshape(1, 3, 2, 3) for x in (guess, truth))
    for pooling in ("batch", "pixels"):
        meter = NormalMeter(pooling)
        meter.update(guess, {"normal": truth})
        expected = [270 / 6, 24.5, 2 / 6, 3 / 6, 4 / 6]
        assert meter.compute() == pytest.approx(expected, abs=6e-3)


def test_equal_normals_have_an_angle_although_rounding_takes_cosines_beyond_1():
    truth = unit(torch.randn(1, 3, 20, 20, generator=torch.Generator().manual_seed(0)))
    assert (truth.square().sum(1) > 1).any()
    meter = NormalMeter("batch")
    meter.update(truth, {"normal": truth})
    assert meter.compute() == pytest.approx((0, 0, 1, 1, 1), abs=0.05)


def test_a_prediction_of_length_0_is_at_90_degrees():
    meter = NormalMeter("batch")
    meter.update(torch.zeros(1, 3, 1, 1), {"normal": torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1)})
    assert meter.compute() == pytest.approx((90, 90, 0, 0, 0))


@pytest.mark.parametrize("width", [7, 8])  # an odd and an even number of pixels
def test_normals_per_batch_are_those_of_numpy(width):
    meter, per_batch = NormalMeter("batch"), []
    for guess, targets in normal_batches(width=width):
        meter.update(guess, targets)
        angles = angles_by_hand(guess, targets["normal"])
        if len(angles):
            per_batch.append(of_angles(angles))
    assert len(per_batch) == 2
    assert meter.compute() == pytest.approx(np.mean(per_batch, 0), rel=1e-5)


@pytest.mark.parametrize("width", [7, 8])
def test_normals_over_pixels_are_those_of_numpy(width):
    meter, angles = NormalMeter("pixels"), []
    for guess, targets in normal_batches(width=width):
        meter.update(guess, targets)
        angles.append(angles_by_hand(guess, targets["normal"]))
    mean, median, *shares = meter.compute()
    expected = of_angles(np.concatenate(angles))
    assert [mean, *shares] == pytest.approx([expected[0], *expected[2:]], rel=1e-5)
    assert abs(median - expected[1]) < 5.1e-3  # half a bin


@pytest.mark.parametrize(
    ("meter", "output", "targets"),
    [
        (SegmentationMeter(3), torch.zeros(1, 3, 2, 2), {"label": torch.full((1, 2, 2), -1)}),
        (DepthMeter("batch"), torch.zeros(1, 1, 2, 2), {"depth": torch.zeros(1, 1, 2, 2)}),
        (DepthMeter("pixels"), torch.zeros(1, 1, 2, 2), {"depth": torch.zeros(1, 1, 2, 2)}),
        (NormalMeter("batch"), torch.zeros(1, 3, 2, 2), {"normal": torch.zeros(1, 3, 2, 2)}),
        (NormalMeter("pixels"), torch.zeros(1, 3, 2, 2), {"normal": torch.zeros(1, 3, 2, 2)}),
    ],
)
def test_without_a_valid_pixel_metrics_are_nan(meter, output, targets):
    assert all(math.isnan(value) for value in meter.compute())
    meter.update(output, targets)
    values = meter.compute()
    assert all(isinstance(value, float) and math.isnan(value) for value in values)


def test_outputs_that_are_nan_give_nan_and_no_crash():
    truth = torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1)
    for pooling in ("batch", "pixels"):
        meter = NormalMeter(pooling)
        meter.update(torch.full((1, 3, 1, 1), torch.nan), {"normal": truth})
        assert math.isnan(meter.compute()[0])


def test_an_unknown_pooling_is_refused():
    for meter in (DepthMeter, NormalMeter):
        with pytest.raises(ValueError, match="unknown pooling 'pixel': did you mean pixels?"):
            meter("pixel")


@pytest.mark.gpu
@pytest.mark.parametrize("pooling", ["batch", "pixels"])
def test_a_gpu_gives_what_the_cpu_gives(pooling):
    meters = [NormalMeter(pooling), NormalMeter(pooling)]
    for guess, targets in normal_batches():
        meters[0].update(guess, targets)
        meters[1].update(guess.cuda(), {"normal": targets["normal"].cuda()})
    assert meters[1].compute() == pytest.approx(meters[0].compute(), rel=1e-5)
    labels = torch.randint(-1, 4, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    logits = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    depth = labels.clamp(min=0).unsqueeze(1).float()
    for make, output, targets in (
        (lambda: SegmentationMeter(4), logits, {"label": labels}),
        (lambda: DepthMeter(pooling), logits[:, :1], {"depth": depth}),
    ):
        here, there = make(), make()
        here.update(output, targets)
        there.update(output.cuda(), {key: value.cuda() for key, value in targets.items()})
        assert there.compute() == pytest.approx(here.compute(), rel=1e-5)
