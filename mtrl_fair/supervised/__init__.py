"""Supervised multi-task learning: what the paper does outside of reinforcement learning."""

from mtrl_fair.supervised.scores import delta_m, mean_rank

__all__ = ["delta_m", "mean_rank"]
