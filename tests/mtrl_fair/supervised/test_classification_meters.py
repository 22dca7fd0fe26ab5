import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import accuracy_score, f1_score

from mtrl_fair.supervised.benchmarks.classification.meters import AccuracyMeter, F1Meter


def computed(meter, output, targets, batches):
    for rows in np.array_split(np.arange(len(targets)), batches):
        meter.update(output[rows], targets[rows])
    (value,) = meter.compute()
    return value


@pytest.mark.parametrize("column", [0, 1])
def test_accuracy_equals_sklearn(column):
    generator = torch.Generator().manual_seed(column)
    logits = torch.randn(50, 10, generator=generator)
    targets = torch.randint(10, (50, 2), generator=generator)
    targets[:20, column] = logits[:20].argmax(1)
    value = computed(AccuracyMeter(column), logits, targets, batches=3)
    assert value == accuracy_score(targets[:, column], logits.argmax(1))
    assert value >= 0.4


@pytest.mark.parametrize("positive_share", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("predicted_share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("flat", [True, False])
def test_f1_equals_sklearn(positive_share, predicted_share, flat):
    generator = torch.Generator().manual_seed(0)
    logits = torch.where(
        torch.rand(200, generator=generator) < predicted_share, 1.0, -1.0
    ) * torch.rand(200, generator=generator)
    targets = torch.randint(2, (200, 3), generator=generator)
    targets[:, 1] = torch.rand(200, generator=generator) < positive_share
    value = computed(F1Meter(1), logits if flat else logits.unsqueeze(1), targets, batches=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        expected = f1_score(targets[:, 1], torch.sigmoid(logits) > 0.5)
    assert value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("logits", "labels", "f1"),
    [
        ([1, 1, -1, -1], [1, 0, 1, 0], 0.5),
        ([1, 1, 1, -1], [1, 1, 0, 0], 0.8),
        ([1, -1], [1, 0], 1.0),
        ([1, -1], [0, 1], 0.0),
        ([-1, -1], [0, 0], 0.0),
        ([0.0, 1e-9], [1, 1], 2 / 3),  # a probability of exactly 0.5 is no positive
    ],
)
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_f1_by_hand(logits, labels, f1, dtype):
    meter = F1Meter(0)
    meter.update(torch.tensor(logits).float(), torch.tensor(labels, dtype=dtype).unsqueeze(1))
    assert meter.compute() == (pytest.approx(f1),)


@pytest.mark.parametrize("meter", [AccuracyMeter(0), F1Meter(0)])
def test_no_sample_is_nan(meter):
    assert math.isnan(meter.compute()[0])


def test_counts_stay_on_the_device():
    """No value is asked for before `compute`: on "meta" there are none."""
    targets = torch.zeros(4, 1, dtype=torch.int64, device="meta")
    for meter, width in ((AccuracyMeter(0), 3), (F1Meter(0), 1)):
        meter.update(torch.zeros(4, width, device="meta"), targets)
