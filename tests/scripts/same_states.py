"""Whether two states of a run are the same, bit for bit."""

import torch
from torch.utils import _pytree as pytree


def assert_same_states(state: dict, other: dict) -> None:
    """All that decides later numbers; the clock and the settings do not."""
    leaves = []
    for each in (state, other):
        loop = {key: value for key, value in each["loop"].items() if key != "seconds"}
        assert len(loop) == len(each["loop"]) - 1
        rest = {key: value for key, value in each.items() if key not in ("loop", "config")}
        leaves.append(pytree.tree_leaves(rest | {"loop": loop}))
    assert len(leaves[0]) == len(leaves[1]) > 50
    for ours, theirs in zip(*leaves, strict=True):
        if isinstance(ours, torch.Tensor):
            assert torch.equal(ours, torch.as_tensor(theirs))
        else:
            assert ours == theirs
