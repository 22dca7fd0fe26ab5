"""Loads batches for a trainer that can be stopped and continued anywhere.

Nothing random is kept between batches: the order of an epoch follows from (seed, epoch), and a
sample's augmentation from (seed, epoch, index). So any number of loading processes gives the same
batches, and a run continues in the middle of an epoch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from mtrl_fair.errors import DataError

AUGMENTATION = 1  # keeps sample 0's seed from being that of the epoch's order

Randomness = Callable[[int], np.random.Generator]
"""A function from a sample's index to the generator of its augmentation."""


class Data(ABC):
    """A data set that returns batches."""

    @abstractmethod
    def __len__(self) -> int:
        """Returns the number of samples."""

    @abstractmethod
    def batch(self, indices: Sequence[int], randomness: Randomness | None) -> tuple[Any, Any]:
        """Returns (inputs, targets) of some samples: pytrees of tensors, first axis the batch.

        Args:
            randomness: the generators of the augmentation; None: no augmentation.
        """


class Samples(Data):
    """A data set that loads one sample after the other."""

    @abstractmethod
    def sample(self, index: int, generator: np.random.Generator | None) -> tuple[Any, Any]:
        """Returns (inputs, targets) of one sample, augmented if there is a generator."""

    def batch(self, indices: Sequence[int], randomness: Randomness | None) -> tuple[Any, Any]:
        samples = [
            self.sample(index, None if randomness is None else randomness(index))
            for index in indices
        ]
        inputs, targets = default_collate(samples)
        return inputs, targets


class BatchKey(NamedTuple):
    """The samples of a batch, and the epoch that decides their augmentation."""

    epoch: int
    indices: tuple[int, ...]


class BatchOrder(Sampler[BatchKey]):
    """Iterates over the batches of an epoch, shuffled with a seed, in order without."""

    def __init__(self, num_samples: int, batch_size: int, seed: int | None):
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.first = 0

    def start(self, epoch: int, first: int = 0) -> None:
        """Chooses the epoch of the next iteration, and the batch that it begins with."""
        self.epoch, self.first = epoch, first

    def __len__(self) -> int:
        return -(-self.num_samples // self.batch_size)

    def __iter__(self) -> Iterator[BatchKey]:
        order = np.arange(self.num_samples)
        if self.seed is not None:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(order)
        for begin in range(self.first * self.batch_size, self.num_samples, self.batch_size):
            yield BatchKey(self.epoch, tuple(order[begin : begin + self.batch_size].tolist()))


class _BatchDataset(Dataset[tuple[Any, Any] | DataError]):
    def __init__(self, data: Data, seed: int | None):
        self.data = data
        self.seed = seed

    def __getitem__(self, key: BatchKey) -> tuple[Any, Any] | DataError:
        try:
            if self.seed is None:
                return self.data.batch(key.indices, None)
            seed = self.seed
            return self.data.batch(
                key.indices,
                lambda index: np.random.default_rng((seed, key.epoch, index, AUGMENTATION)),
            )
        except DataError as error:
            return error  # a loading process would raise it with its whole traceback


class Batches:
    """Loads the batches of a data set, epoch by epoch.

    Args:
        seed: decides order and augmentation; None: in order, without augmentation.
        workers: the number of processes that load; 0: this process loads.
        pinned: whether to copy batches to pinned memory, from which copies to a GPU need no wait.
    """

    def __init__(
        self, data: Data, batch_size: int, seed: int | None, workers: int = 0, pinned: bool = False
    ):
        self.order = BatchOrder(len(data), batch_size, seed)
        self._loader = DataLoader(
            _BatchDataset(data, seed),
            batch_size=None,  # a key is a whole batch
            sampler=self.order,
            num_workers=workers,
            pin_memory=pinned,
            persistent_workers=workers > 0 and seed is not None,
            # Else every epoch would draw from the global generator, which dropout uses.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return len(self.order)

    def epoch(self, epoch: int = 0, first: int = 0) -> Iterator[tuple[Any, Any]]:
        """Yields (inputs, targets) of the batches of an epoch, beginning with batch `first`.

        Raises:
            DataError: a sample's file is missing or wrong.
        """
        self.order.start(epoch, first)
        for batch in self._loader:
            if isinstance(batch, DataError):
                raise batch
            yield batch


def to_device(batch: Any, device: torch.device) -> Any:
    """Moves a pytree of tensors, or of objects with the same `to`, without waiting for it."""
    return pytree.tree_map(lambda leaf: leaf.to(device, non_blocking=True), batch)
