"""The last batch of an epoch, which may have one sample only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from mtrl_fair.errors import BatchSizeError
from mtrl_fair.supervised.data import Data


def check_last_batch(data: Data, batch_size: int, try_batch: Callable[[Any, Any], object]) -> None:
    """Raises BatchSizeError if the last batch has one sample, on which the network cannot train.

    Batch normalisation after a linear layer cannot; it would end a training after its first epoch.
    After a convolution it can, so batches of one sample are not refused, nor left out, as such:
    the published code of nyuv2 trains on them.

    Args:
        data: the samples of an epoch.
        try_batch: computes the losses of (inputs, targets) as training does, and changes nothing.
    """
    samples = len(data)
    if (samples - 1) % batch_size != 0:
        return
    inputs, targets = data.batch((0,), None)
    try:
        try_batch(inputs, targets)
    except torch.OutOfMemoryError:
        raise
    except (ValueError, IndexError, RuntimeError) as error:
        larger = range(batch_size + 1, samples + 1)
        fitting = [str(size) for size in larger if (samples - 1) % size != 0][:1]
        raise BatchSizeError(
            f"{samples} samples in batches of {batch_size} leave one for the last batch, on which"
            f" this network cannot train ({str(error).splitlines()[0]}): choose another"
            f" --batch-size{''.join(f', such as {size},' for size in fitting)} in a new run"
        ) from error
