"""The order of batches, and their way to a device."""

import torch

from mtrl_fair.supervised.data import BatchOrder, to_device


def test_every_sample_comes_once_an_epoch_in_an_order_of_its_own():
    order = BatchOrder(23, 5, seed=3)
    epochs = []
    for epoch in (0, 1):
        order.start(epoch)
        batches = list(order)
        assert [len(batch.indices) for batch in batches] == [5, 5, 5, 5, 3]
        assert len(order) == 5
        assert {batch.epoch for batch in batches} == {epoch}
        epochs.append([index for batch in batches for index in batch.indices])
        assert sorted(epochs[-1]) == list(range(23))
        order.start(epoch, first=3)
        assert list(order) == batches[3:]
    assert epochs[0] != epochs[1]
    assert [b.indices for b in BatchOrder(4, 3, None)] == [(0, 1, 2), (3,)]


def test_to_device_takes_nests():
    batch = ({"a": torch.ones(2)}, [torch.zeros(1)])
    moved = to_device(batch, torch.device("meta"))
    assert moved[0]["a"].is_meta
    assert moved[1][0].is_meta
