"""The names of all combiners, by kind, and combiners of which two are alike."""

from mtrl_fair import (
    COMBINERS,
    Combiner,
    GramianCombiner,
    JacobianCombiner,
    LossCombiner,
    make_combiner,
)

GRAMIAN = [name for name, kind in COMBINERS.items() if issubclass(kind, GramianCombiner)]
LOSS = [name for name, kind in COMBINERS.items() if issubclass(kind, LossCombiner)]
JACOBIAN = [name for name, kind in COMBINERS.items() if issubclass(kind, JacobianCombiner)]
WEIGHTED = [name for name, kind in COMBINERS.items() if not issubclass(kind, JacobianCombiner)]


def make_alike(name: str, tasks: int, **options) -> Combiner:
    """A combiner; those that draw numbers draw the same ones however often one is made."""
    if name in ("rlw", "pcgrad", "graddrop"):
        options["seed"] = 11
    return make_combiner(name, num_tasks=tasks, **options)
