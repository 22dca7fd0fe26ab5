"""A last batch of one sample: trained on where the network can, refused at the start where not."""

import pytest
import torch
from torch import nn

from mtrl_fair.errors import BatchSizeError
from mtrl_fair.supervised import jobs
from mtrl_fair.supervised.last_batch import check_last_batch
from mtrl_fair.supervised.model import MultiTaskModel
from tests.mtrl_fair.supervised.small_benchmark import Numbers, Plain, SmallBenchmark, config
from tests.mtrl_fair.supervised.trainer_runs import make_trainer

SAMPLES = 23  # of the small benchmark


class WithoutBatchNorm(Plain):
    def model(self, tasks):
        return MultiTaskModel(nn.Linear(4, 8), [nn.Linear(8, 1) for _ in tasks])


class OneByOne(WithoutBatchNorm):
    def loss(self, task, output, targets):
        return super().loss(task, output.squeeze()[:, None], targets)  # of 1 sample: no dimension


@pytest.mark.parametrize("batch_size", [1, 2, 11, 22])
def test_it_is_refused_before_training_with_a_size_that_fits(tmp_path, batch_size):
    message = (
        rf"{SAMPLES} samples in batches of {batch_size} leave one .* network cannot train"
        r" \(Expected more than 1 value per channel .*\): choose another --batch-size, such as \d"
    )
    with pytest.raises(BatchSizeError, match=message) as error:
        make_trainer(tmp_path / "run", config(batch_size=batch_size))
    assert "\n" not in str(error.value)
    fitting = int(str(error.value).split("such as ")[1].split(",")[0])
    assert fitting > batch_size
    assert make_trainer(tmp_path / "fitting", config(batch_size=fitting)).run()


@pytest.mark.parametrize("batch_size", [5, 21, SAMPLES, 40])
def test_other_sizes_train(tmp_path, batch_size):
    assert make_trainer(tmp_path / "run", config(batch_size=batch_size)).run()


def test_a_loss_that_cannot_take_one_sample_is_refused_as_well(tmp_path):
    with pytest.raises(BatchSizeError, match=r"leave one .* \(too many indices"):
        make_trainer(tmp_path / "run", config(batch_size=2), OneByOne)


def test_a_network_that_can_train_on_one_sample_does(tmp_path):
    trainer = make_trainer(tmp_path / "run", config(batch_size=2), WithoutBatchNorm)
    assert trainer.run()
    assert trainer.step == 3 * 12


def test_a_data_set_of_one_sample_has_no_size_that_fits():
    def refuse(inputs, targets):
        assert len(inputs) == 1
        raise ValueError("one\nand more")

    with pytest.raises(BatchSizeError, match=r"\(one\): choose another --batch-size in a new run"):
        check_last_batch(Numbers(0, 1), 8, refuse)


def test_what_is_no_fault_of_the_batch_passes_as_it_is():
    def out_of_memory(inputs, targets):
        raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError, match="full"):
        check_last_batch(Numbers(0, 3), 2, out_of_memory)


def test_looking_changes_nothing(tmp_path):
    """Dropout draws, and batch norm counts, as if the sample had not been tried."""

    class OfImages(SmallBenchmark):  # whose batch norm has several values per channel
        def model(self, tasks):
            trunk = nn.Sequential(
                nn.Unflatten(1, (2, 2)), nn.BatchNorm1d(2), nn.Dropout(0.3), nn.Flatten()
            )
            return MultiTaskModel(trunk, [nn.Linear(4, 1) for _ in tasks])

    states = []
    for batch_size in (2, 3):  # a last batch of one sample, and of two
        trainer = make_trainer(tmp_path / str(batch_size), config(batch_size=batch_size), OfImages)
        assert int(trainer.model.trunk[1].num_batches_tracked) == 0
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_a_comparison_says_it_in_one_line(tmp_path, monkeypatch):
    def refused(*arguments):
        raise BatchSizeError("23 samples")

    monkeypatch.setattr(jobs, "train", refused)
    job = jobs.Job("x", config(), tmp_path / "run")
    assert jobs.run_job(job, lambda progress: None, lambda: False) == jobs.Ended(
        False, "23 samples"
    )
