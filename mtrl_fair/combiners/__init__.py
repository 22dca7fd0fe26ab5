"""Combiners decide how much each task's gradient counts."""

from mtrl_fair.combiners.registry import COMBINERS, make_combiner

__all__ = ["COMBINERS", "make_combiner"]
