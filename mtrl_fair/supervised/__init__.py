"""Supervised multi-task learning."""

from mtrl_fair.supervised.scores import delta_m, mean_rank

__all__ = ["delta_m", "mean_rank"]
