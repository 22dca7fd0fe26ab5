"""The names of all combiners, by kind."""

from mtrl_fair import COMBINERS, GramianCombiner, JacobianCombiner, LossCombiner

GRAMIAN = [name for name, kind in COMBINERS.items() if issubclass(kind, GramianCombiner)]
LOSS = [name for name, kind in COMBINERS.items() if issubclass(kind, LossCombiner)]
JACOBIAN = [name for name, kind in COMBINERS.items() if issubclass(kind, JacobianCombiner)]
WEIGHTED = [name for name, kind in COMBINERS.items() if not issubclass(kind, JacobianCombiner)]
