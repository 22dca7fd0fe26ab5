"""What a CUDA device would make the host wait for, found on a machine without one.

Device "meta" stands in for the GPU: it has shapes and a device of its own but no values, so that
whatever needs a value fails. `NoHostSync` names the operation and adds what only CUDA waits for. It
says nothing of streams, of memory, or of what libraries such as cuSOLVER do under capture.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
# Their CUDA kernels look at values or error codes on the host, which meta kernels do not.
WAITS = {"is_nonzero", "histc", "multinomial", "masked_scatter", "segment_reduce", "_pin_memory"}
# Linear algebra that surely does not wait; all other routines check error codes, or might.
QUIET_LINALG = {"linalg_vector_norm", "linalg_cross", "linalg_solve_triangular"}


class HostSyncError(Exception):
    """The host would wait for the device, or compute what a captured graph does not repeat."""


class NoHostSync(TorchDispatchMode):
    """Raises `HostSyncError` at operations that wait, or that touch the host at all.

    Keeps what a captured graph freezes: `calls`, every operation with its sizes and numbers;
    `outside`, the storages that were read or written but not made within; and `generators`, the
    identities of those that were drawn from.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.generators: set[int] = set()
        self.outside: dict[int, Any] = {}
        self.made: dict[int, Any] = {}
        self.patches = contextlib.ExitStack()

    def __enter__(self) -> NoHostSync:
        for owner, attribute, value in _refusals():
            self.patches.enter_context(mock.patch.object(owner, attribute, value))
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self.patches.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "profiler":  # an optimiser's step marks itself
            return func(*args, **kwargs)
        leaves = pytree.tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        _check(func, args, kwargs, tensors)
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage._cdata not in self.made:
                self.outside[storage._cdata] = storage  # kept alive: the key stays unique
        drawn_from = {leaf._cdata for leaf in leaves if isinstance(leaf, torch._C.Generator)}
        self.generators |= drawn_from
        sizes = [(tuple(tensor.shape), tensor.dtype) for tensor in tensors]
        numbers = [  # every call wraps a generator anew
            getattr(leaf, "_cdata", leaf) for leaf in leaves if not isinstance(leaf, Tensor)
        ]
        self.calls.append(f"{func} {sizes} {numbers}")
        result = func(*args, **kwargs)
        for tensor in pytree.tree_leaves(result):
            if isinstance(tensor, Tensor):
                if not tensor.is_meta:
                    raise HostSyncError(f"{func} makes a tensor on the host")
                storage = tensor.untyped_storage()
                if storage._cdata not in self.outside:
                    self.made[storage._cdata] = storage
        return result


def _check(func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> None:
    name = func._schema.name.split("::")[1]
    target = kwargs.get("device")
    if not all(tensor.is_meta for tensor in tensors) or (
        target is not None and torch.device(target).type != "meta"
    ):
        raise HostSyncError(f"{func} copies between host and device, or computes on the host")
    if name in INDEXING:
        indices = [x for x in pytree.tree_leaves(args[1]) if isinstance(x, Tensor)]
        if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
            raise HostSyncError(f"{func}: the number of True entries decides a shape")
    elif {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags):
        raise HostSyncError(f"{func} needs values on the host")
    is_linalg = name.lstrip("_").startswith("linalg_") and name not in QUIET_LINALG
    two_tensor_normal = name == "normal" and len(tensors) == 2  # looks at the deviations
    if name in WAITS or is_linalg or two_tensor_normal:
        raise HostSyncError(f"{func} waits for the device")


def _refusals() -> list[tuple[Any, str, Any]]:
    """What copies from or to the host on CUDA without an operation that a mode sees on meta."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise HostSyncError("the host reads values or waits")

    def from_data(make: Any) -> Any:
        @functools.wraps(make)
        def made(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
            *owner, data = args  # new_tensor has an owner
            target = owner[0].device if owner and device is None else device
            on_device = target is not None and torch.device(target).type == "meta"
            if on_device and not isinstance(data, Tensor):
                raise HostSyncError(f"{make.__name__} copies its data from the host")
            return make(*args, device=device, **kwargs)

        return made

    def indexed(access: Any) -> Any:
        @functools.wraps(access)
        def accessed(self: Tensor, index: Any, *value: Any) -> Any:
            parts = index if isinstance(index, tuple) else (index,)
            if self.is_meta and any(isinstance(part, (list, np.ndarray)) for part in parts):
                raise HostSyncError("tensor[list] copies the list from the host")
            if self.is_meta and value and not isinstance(value[0], Tensor):
                raise HostSyncError("tensor[…] = number may copy it from the host: use fill_")
            return access(self, index, *value)

        return accessed

    return [
        (torch, "tensor", from_data(torch.tensor)),
        (torch, "as_tensor", from_data(torch.as_tensor)),
        (Tensor, "new_tensor", from_data(Tensor.new_tensor)),
        (Tensor, "__getitem__", indexed(Tensor.__getitem__)),
        (Tensor, "__setitem__", indexed(Tensor.__setitem__)),
        (torch._tensor_str, "_str", refuse),  # print and f-strings
        (torch.cuda, "synchronize", refuse),
    ]


class _Generator(torch.Generator):
    """A generator of the host that claims to be on the device it was asked for."""

    def __new__(cls, device: Any = "cpu") -> _Generator:
        generator = super().__new__(cls, "cpu")
        generator.claimed = torch.device(device)
        return generator

    device = property(lambda self: self.claimed)


@contextlib.contextmanager
def meta_as_cuda() -> Iterator[None]:
    """Code that asks finds CUDA where it uses device "meta"."""
    adam = importlib.import_module("torch.optim.adam")  # `torch.optim` hides the module
    optimizer = importlib.import_module("torch.optim.optimizer")
    with contextlib.ExitStack() as stack:
        for owner, attribute, value in [
            (Tensor, "is_cuda", property(lambda self: self.device.type == "meta")),
            (torch, "Generator", _Generator),
            (optimizer, "_get_fused_kernels_supported_devices", lambda: ["cpu", "meta"]),
            (optimizer, "_get_foreach_kernels_supported_devices", lambda: ["meta"]),
            (adam, "_get_capturable_supported_devices", lambda supports_xla=True: ["meta"]),
        ]:
            stack.enter_context(mock.patch.object(owner, attribute, value))
        yield


def check_replayable(step: Callable[[], object], warm_up: int) -> NoHostSync:
    """Runs step and raises unless a CUDA graph could repeat it: no host synchronisation, and the
    same operations on the same outside tensors every time. Returns what a step does."""
    with NoHostSync():
        for _ in range(warm_up):  # the first step makes optimiser states
            step()
    with NoHostSync() as first:
        step()
    with NoHostSync() as second:
        step()
    for before, after in zip(first.calls, second.calls, strict=True):
        if before != after:
            raise HostSyncError(f"a number or size changes between steps: {before} -> {after}")
    if first.outside.keys() != second.outside.keys():
        raise HostSyncError("a tensor that lives between steps is replaced: copy into it instead")
    return first
