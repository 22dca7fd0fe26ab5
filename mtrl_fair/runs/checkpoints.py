"""Checkpoint files, and the random generators that travel in them."""

from __future__ import annotations

import contextlib
import pickle
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mtrl_fair.errors import RunError
from mtrl_fair.runs.files import check_nesting, replacing

FORMAT = "mtrl-fair checkpoint 4"
"""What every checkpoint names first. Its number changes when an older state cannot be loaded."""

LATEST, BEST, LAST_FINITE = "latest", "best", "last_finite"
"""Names of checkpoints: the one to resume from, the network of the best evaluation, and the state
in which a training met a value that is not finite."""

_FOREIGN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)
"""What torch raises for a file or a state that is none of ours, depending on where it notices."""


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
        ValueError: the file is damaged, no checkpoint of this project, or one of a version whose
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
        # First, because torch would try formats that are no zip archive and may hold anything.
        _check_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        check_nesting(state if isinstance(state, dict) else {})
    except _FOREIGN as error:
        raise ValueError(no_checkpoint) from error
    found = state.pop("format", None) if isinstance(state, dict) else None
    if not isinstance(found, str):
        raise ValueError(no_checkpoint)
    if found != FORMAT:
        raise ValueError(
            f"another version of mtrl-fair wrote the checkpoint {path}, in the format {found!r}"
            f" instead of {FORMAT!r}: use the commit that the run's metadata.json names"
        )
    if _is_damaged(path):
        raise ValueError(no_checkpoint)
    assert isinstance(state, dict)
    return state


def _check_archive(path: Path) -> None:
    """Raises ValueError or BadZipFile unless a file is packed as `torch.save` does it: torch does
    not bound what a compressed file unpacks to."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("it is compressed")
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise ValueError("its parts are longer than the file")


def _is_damaged(path: Path) -> bool:
    """Returns whether a part differs from its checksum.

    torch does not compare them: a flipped bit would change the network without a word.
    """
    with zipfile.ZipFile(path) as archive:
        try:
            return archive.testzip() is not None
        except _FOREIGN:  # of a header within the file that differs from the list at its end
            return True


@contextlib.contextmanager
def state_of(path: Path, *others: type[Exception]) -> Iterator[None]:
    """Stands around the loading of a checkpoint's state into the parts of a run.

    Args:
        path: the checkpoint.
        others: errors that say nothing of the state, such as of a worker that was killed.

    Raises:
        RunError: the state does not fit. It says why, as the part does.
    """
    not_of_the_state: tuple[type[Exception], ...] = (torch.OutOfMemoryError, *others)
    try:
        yield
    except not_of_the_state:
        raise
    except _FOREIGN as error:
        if isinstance(error, ValueError):  # mostly our own, which says how to mend it
            raise RunError(f"{error} (in the checkpoint {path})") from error
        raise RunError(
            f"the checkpoint {path} does not fit this run ({type(error).__name__}: {error}):"
            " restore the file or start a new run"
        ) from error


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
