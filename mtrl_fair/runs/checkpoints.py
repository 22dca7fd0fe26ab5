"""Checkpoint files, and the random generators that travel in them."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mtrl_fair.runs.files import replacing

FORMAT = "mtrl-fair checkpoint 4"
"""What every checkpoint names first. Its number changes when an older state cannot be loaded."""

LATEST, BEST, LAST_FINITE = "latest", "best", "last_finite"
"""Names of checkpoints: the one to resume from, the network of the best evaluation, and the state
in which a training met a value that is not finite."""


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Writes a nest of dicts, lists, numbers, strings, tensors and numpy arrays.

    Arrays come back as tensors.

    Raises:
        WriteError: see `replacing`.
    """
    tensors = pytree.tree_map_only(np.ndarray, torch.from_numpy, dict(state))
    with replacing(path) as file:
        torch.save({"format": FORMAT, **tensors}, file)


def load_checkpoint(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """Reads onto the CPU what `save_checkpoint` wrote; with `mmap`, each tensor when it is used.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, no checkpoint of this project, or one of a version whose
            state this one cannot load.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no checkpoint {path}: the run ended before it had one, the file was moved,"
            " or the run is a copy without checkpoints; start a new run"
        )
    no_checkpoint = (
        f"the checkpoint {path} is truncated or no checkpoint of mtrl-fair: restore the file or"
        " start a new run"
    )
    try:
        # torch would try formats that are no zip archive, and that may hold anything.
        state = zipfile.is_zipfile(path) and torch.load(
            path, map_location="cpu", weights_only=True, mmap=mmap
        )
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError, ValueError) as error:
        raise ValueError(no_checkpoint) from error
    found = state.pop("format", None) if isinstance(state, dict) else None
    if not isinstance(found, str):
        raise ValueError(no_checkpoint)
    if found != FORMAT:
        raise ValueError(
            f"another version of mtrl-fair wrote the checkpoint {path}, in the format {found!r}"
            f" instead of {FORMAT!r}: use the commit that the run's metadata.json names"
        )
    assert isinstance(state, dict)
    return state


def restore_generator(generator: torch.Generator, state: Tensor) -> None:
    """Continues a generator where a saved one stopped.

    Generators of another kind of device have states of another size: a run that moves between CPU
    and GPU goes on with a generator seeded from what was saved, since its exact continuation does
    not exist there.
    """
    state = state.cpu()
    if state.numel() == generator.get_state().numel():
        generator.set_state(state)
    else:
        weights = torch.arange(1, state.numel() + 1)
        generator.manual_seed(int((state.long() * weights).sum()))
