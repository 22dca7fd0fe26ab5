"""Gramians and weighted sums in pieces against single products in float64."""

import pytest
import torch

from mtrl_fair.gradients import gramian as module
from mtrl_fair.gradients.gramian import (
    PIECE,
    concatenated,
    gramian_of,
    upcast_if_small,
    weighted_sum,
)

TYPES = dict.fromkeys([torch.float32, torch.bfloat16, torch.float16], 3e-6) | {torch.float64: 1e-13}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("num_tasks", [1, 3, 33])
@pytest.mark.parametrize("size", [1, PIECE, 2 * PIECE, 2 * PIECE + 7, 9 * PIECE + 5])
def test_they_equal_single_products(dtype, num_tasks, size, monkeypatch):
    monkeypatch.setattr(module, "MOST_UPCAST", 3 * 4 * PIECE)  # some blocks of half precision
    generator = torch.Generator().manual_seed(size)
    parts = {
        name: torch.randn(num_tasks, length, generator=generator).to(dtype)
        for name, length in (("long", size), ("short", 2))
    }
    exact = torch.cat([part.double() for part in parts.values()], 1)
    gramian = gramian_of(parts.values())
    assert gramian.dtype == torch.promote_types(dtype, torch.float32)
    wanted = exact @ exact.mT
    assert (gramian - wanted).abs().max() <= TYPES[dtype] * wanted.diagonal().max()
    weights = torch.rand(num_tasks, generator=generator, dtype=torch.float64)
    sums = weighted_sum(weights, parts)
    assert {name: len(part) for name, part in sums.items()} == {"long": size, "short": 2}
    direction = torch.cat(list(sums.values()))
    assert direction.dtype == gramian.dtype
    torch.testing.assert_close(direction.double(), weights @ exact, rtol=1e-4, atol=1e-4)
    kept = upcast_if_small(parts)
    assert torch.equal(gramian_of(kept.values()), gramian) or dtype != gramian.dtype
    for name, part in parts.items():
        small = part.numel() <= 12 * PIECE
        assert kept[name].dtype == (gramian.dtype if small else dtype)
        assert torch.equal(kept[name].double(), part.double())
    assert torch.equal(concatenated(parts).double(), exact)
    assert torch.equal(concatenated({"long": parts["long"]}).double(), exact[:, :size])
