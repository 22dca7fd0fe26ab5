"""What a vector step returns; its infos are gymnasium's for SAME_STEP autoreset."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from numpy.typing import ArrayLike

Step: TypeAlias = tuple[
    Float[np.ndarray, "row obs"],
    Float[np.ndarray, " row"],
    Bool[np.ndarray, " row"],
    Bool[np.ndarray, " row"],
    dict[str, Any],
]
"""What a vector step returns: observation, reward, terminated, truncated, infos."""


def with_masks(columns: Mapping[str, Any], rows: Bool[np.ndarray, " row"]) -> dict[str, Any]:
    """Returns the columns, each with its mask `_key` of the rows that have a value."""
    return {**columns, **{f"_{key}": rows.copy() for key in columns}}


def final_infos(
    ended: Bool[np.ndarray, " row"],
    final_observation: Float[np.ndarray, "row obs"],
    infos: Mapping[str, Shaped[np.ndarray, " row"]],
    returns: Float[np.ndarray, " row"],
    lengths: Int[np.ndarray, " row"],
    seconds: Float[np.ndarray, " row"],
) -> dict[str, Any]:
    """Returns `final_obs` and `final_info` of a step at which episodes ended, with their masks.

    `final_obs` [K] holds objects: an array [obs] where an episode ended, otherwise None.
    `final_info` holds the infos of the last step, and as `episode` what gymnasium's
    `RecordEpisodeStatistics` gives: return `r`, length `l`, and wall-clock seconds `t`.

    Args:
        ended: the rows whose episodes ended; all other rows of what is returned are 0.
        final_observation: their last observations.
        infos: those of the step.
        returns: sums of their episodes' rewards.
        lengths: steps of their episodes.
        seconds: since their episodes' first observations.
    """
    observations = np.full(len(ended), None, dtype=object)
    for row in np.flatnonzero(ended):
        observations[row] = final_observation[row].copy()

    def of_ended(columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
        values = {
            key: np.where(ended, values, 0).astype(values.dtype) for key, values in columns.items()
        }
        return with_masks(values, ended)

    episode = of_ended({"r": returns, "l": lengths, "t": seconds})
    final_info = of_ended(infos) | with_masks({"episode": episode}, ended)
    return with_masks({"final_obs": observations, "final_info": final_info}, ended)


def check_reset_mask(mask: ArrayLike | None, num_rows: int) -> Bool[np.ndarray, " row"]:
    """Returns the rows that `options["reset_mask"]` says are to be reset: all without one.

    Raises:
        ValueError: not a boolean for each row, or no row, which gymnasium refuses, too.
    """
    if mask is None:
        return np.ones(num_rows, bool)
    rows = np.asarray(mask)
    if rows.shape != (num_rows,) or rows.dtype != bool or not rows.any():
        raise ValueError(f"reset_mask must be {num_rows} booleans, at least one true, got {mask!r}")
    return rows


def warn_of_simulator(
    ended: Bool[np.ndarray, " row"], num_warnings: Int[np.ndarray, " row"], names: Sequence[str]
) -> None:
    """Warns of episodes in which MuJoCo did: it may have gone back to its initial state."""
    for row in np.flatnonzero(ended & (num_warnings > 0)).tolist():
        warnings.warn(
            f"MuJoCo gave {num_warnings[row]} warnings in an episode of {names[row]}, such as of an"
            " unstable simulation, after which it starts from its initial state: do not trust this"
            " episode",
            RuntimeWarning,
            stacklevel=4,  # of the caller of `step`
        )
