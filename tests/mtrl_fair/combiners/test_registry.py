"""Combiners by name and from settings, and the options that each of them takes."""

import pytest
import torch

from mtrl_fair import COMBINERS, FairGrad, make_combiner
from mtrl_fair.combiners.registry import (
    combiner_options,
    combiners_with_option,
    make_combiner_from_settings,
)

COMMON = ["scale", "max_norm", "weighted_heads"]
SETTINGS = {"alpha": 1.0, "solver": "sgd", "seed": 7, "min_loss": -5.0, "scale": "tasks"}
"""Those of a run, which are the same whatever its combiner is."""


@pytest.mark.parametrize("name", COMBINERS)
def test_a_combiner_takes_from_the_settings_what_it_has(name):
    combiner = make_combiner_from_settings(name, 3, SETTINGS)
    assert type(combiner) is COMBINERS[name]
    assert (combiner.num_tasks, combiner.scale, combiner.max_norm) == (3, "tasks", None)
    taken = {option for option in SETTINGS if option in combiner_options(COMBINERS[name])}
    given = {option: SETTINGS[option] for option in taken}
    assert combiner.state_dict().keys() == make_combiner(name, 3, **given).state_dict().keys()
    for option in taken - {"seed"}:
        assert getattr(combiner, option) == SETTINGS[option]
    if "seed" in taken:
        assert combiner.randomness.get_extra_state() == {"seed": 7}


def test_fairgrad_gets_its_settings_and_only_a_known_name_is_made():
    combiner = make_combiner_from_settings("fairgrad", 2, SETTINGS)
    assert isinstance(combiner, FairGrad)
    assert (combiner.alpha, combiner.solver) == (1.0, "sgd")
    with pytest.raises(ValueError, match="unknown combiner 'fairgard': did you mean fairgrad"):
        make_combiner_from_settings("fairgard", 2, SETTINGS)
    with pytest.raises(ValueError, match="unknown scale 'nrom'"):
        make_combiner_from_settings("ls", 2, {"scale": "nrom"})


def test_options_are_those_of_the_class_and_of_every_combiner():
    assert combiner_options(COMBINERS["ls"]) == COMMON
    assert combiner_options(COMBINERS["fairgrad"]) == ["alpha", "solver", "precondition", *COMMON]
    assert combiner_options(COMBINERS["dwa"]) == [
        *("temperature", "steps_per_epoch", "min_loss"),
        *COMMON,
    ]


def test_the_combiners_with_an_option_are_found_from_their_classes():
    assert combiners_with_option("min_loss") == ("si", "dwa", "uw", "famo")
    assert combiners_with_option("seed") == ("rlw", "pcgrad", "graddrop")
    assert combiners_with_option("scale") == tuple(COMBINERS)
    assert combiners_with_option("nothing") == ()


def test_combiners_with_a_lower_bound_are_those_that_refuse_losses_below_it_or_learn_from_them():
    """Weights of the others do not depend on whether losses are shifted."""
    for name in COMBINERS.keys() - {"rlw"}:
        found = []
        for shift in (0.0, 3.0):
            options = {"seed": 1} if name in combiners_with_option("seed") else {}
            options |= {"steps_per_epoch": 1} if name == "dwa" else {}
            combiner = make_combiner(name, 3, **options)
            rows = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
            for factor in (1.0, 0.5, 0.3):
                losses = factor * torch.tensor([1.0, 2.0, 4.0]) + shift
                info = combiner.combine(rows, losses)[1]
                for parameter in combiner.parameters():
                    parameter.data -= parameter.grad
            found.append(info.weights)
        assert torch.equal(*found) == (name not in combiners_with_option("min_loss")), name
